"""Ctrl-C and SIGTERM while Dagster runs: it takes them for its own, and neither psycopg nor its caller hear of them."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt be a KeyboardInterrupt inside, upon which psycopg cancels the query, and Dagster's own outside.

    For work of the core in a step. Of Dagster's own interrupt psycopg knows nothing: it would leave a query behind that
    waits for a lock for ever, on a connection that cannot be rolled back.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal comes here
        yield
        return
    of_dagster = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in of_dagster:
            signal.signal(number, signal.default_int_handler)
        yield
    except KeyboardInterrupt:
        raise dg.DagsterExecutionInterruptedError from None
    finally:
        for number, handler in of_dagster.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Deliver the interrupts that came meanwhile once more at the end, to whom they were for before.

    For a run of a job in the main thread: Dagster makes a failed run of them, or overlooks them, and returns.
    """
    handlers = {number: signal.getsignal(number) for number in INTERRUPTS}
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno())  # Python writes there what comes, whoever handles it
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():  # Dagster leaves SIGTERM with the handler of SIGINT
                signal.signal(number, handler)
        with suppress(BlockingIOError):  # nothing came
            for came in reader.recv(4096):
                if came in handlers:
                    signal.raise_signal(came)
