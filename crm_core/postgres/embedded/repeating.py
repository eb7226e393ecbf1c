"""Repeat some work in a thread for as long as a block lasts, for example to start a server again that was killed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crm_core.errors import CrmError

PAUSE_SECONDS = 0.5  # between two rounds
LONGEST_SECONDS = 30.0  # to which the pause doubles while it fails, as on a disk that stays full
LOG = logging.getLogger("crm")


@contextmanager
def repeated(work: Callable[[], None]) -> Iterator[None]:
    """Do the work in a thread, with pauses, until the block ends; a CrmError is logged, and the work tried again."""
    done = threading.Event()

    def repeat() -> None:
        pause = PAUSE_SECONDS
        while not done.wait(pause):
            try:
                work()
                pause = PAUSE_SECONDS
            except CrmError as error:
                LOG.warning("%s", error)
                pause = min(2 * pause, LONGEST_SECONDS)

    thread = threading.Thread(target=repeat, name="repeating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
