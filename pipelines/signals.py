"""Ctrl-C and SIGTERM while Dagster runs, which otherwise reach neither psycopg nor its caller."""

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
    """Inside the block, an interrupt raises KeyboardInterrupt, so psycopg cancels its query.

    Outside it, Dagster's own handlers apply. This is for work of the core in a step: on Dagster's own interrupt psycopg
    would leave a query behind that waits for a lock for ever, on a connection that cannot be rolled back.
    """
    if threading.current_thread() is not threading.main_thread():  # signals never come to this thread
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
    """Deliver the interrupts that came during the block once more at its end, to the earlier handlers.

    This is for a job that runs in the main thread: Dagster makes a failed run of an interrupt, or overlooks it, and
    returns.
    """
    handlers = {number: signal.getsignal(number) for number in INTERRUPTS}
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno())  # Python writes each signal there, whatever handler it has
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():  # Dagster sets SIGINT's handler for SIGTERM too
                signal.signal(number, handler)
        with suppress(BlockingIOError):  # no signal came
            for came in reader.recv(4096):
                if came in handlers:
                    signal.raise_signal(came)
