"""What keeps something running for as long as it is used: a thread that looks, again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crm_core.errors import CrmError

LOOK_SECONDS = 0.5  # between two looks
LONGEST_SECONDS = 30.0  # to which the pause doubles while it fails, as on a disk that stays full
LOG = logging.getLogger("crm")


@contextmanager
def repeated(work: Callable[[], None]) -> Iterator[None]:
    """Do the work in a thread, with pauses, until the block ends; what fails is logged and tried again."""
    done = threading.Event()

    def repeat() -> None:
        pause = LOOK_SECONDS
        while not done.wait(pause):
            try:
                work()
                pause = LOOK_SECONDS
            except CrmError as error:
                LOG.warning("%s", error)
                pause = min(2 * pause, LONGEST_SECONDS)

    thread = threading.Thread(target=repeat, name="keeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
