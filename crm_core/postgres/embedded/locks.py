"""Locks on open files, by which commands take turns; the kernel drops them however a command ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def held(turn: IO[str]) -> Iterator[None]:
    """Wait for our turn, and hold it for the block."""
    fcntl.flock(turn, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(turn, fcntl.LOCK_UN)


@contextmanager
def held_if_free(turn: IO[str]) -> Iterator[bool]:
    """Hold our turn for the block unless somebody else does; yield whether it is ours."""
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(turn, fcntl.LOCK_UN)


def is_last(users: IO[str]) -> bool:
    """Return whether nobody else holds the users' lock; ours is gone afterwards, one way or the other."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
