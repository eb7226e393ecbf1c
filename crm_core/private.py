"""Folders and files that nobody else reads, and that nobody leads elsewhere by a symbolic link."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger("crm")
_OTHERS = 0o077


def private_folder(path: Path) -> Path:
    """Make a folder for us alone, with what is missing above it; one that others may enter is closed to them.

    Somebody else's folder is left as it is. Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    tighten(path, 0o700)
    return path


def tighten(path: Path, mode: int) -> None:
    """Take from a folder of ours the rights beyond `mode`, and say so in the log."""
    with directory(path) as opened:
        found = os.fstat(opened)
        wide = stat.S_IMODE(found.st_mode) & ~mode
        if wide and found.st_uid == os.geteuid():
            os.fchmod(opened, stat.S_IMODE(found.st_mode) & mode)
            LOG.warning("%s could be entered by others, and now has the mode %o", path, mode)


@contextmanager
def directory(path: Path, owners: Collection[int] | None = None) -> Iterator[int]:
    """Open a folder itself, and no link to one, as a descriptor; raises OSError, also for another owner's."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _require_owner(opened, path, owners)
        yield opened
    finally:
        os.close(opened)


def open_private(folder: int, name: str, flags: int, owners: Collection[int]) -> int:
    """Open a plain file of a folder, a new one for its owner alone; raises OSError for a link, or another owner's."""
    opened = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise PermissionError(None, "it is no plain file with one name", name)
        _require_owner(opened, Path(name), owners)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & _OTHERS:
            os.fchmod(opened, 0o600)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _require_owner(opened: int, path: Path, owners: Collection[int] | None) -> None:
    owner = os.fstat(opened).st_uid
    if owners is not None and owner not in owners:
        raise PermissionError(None, f"it belongs to user {owner}", str(path))
