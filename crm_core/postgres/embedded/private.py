"""Private folders and files that no other user can read or redirect by a link.

Root also works in folders of other users, who may put links there. So a folder is opened itself, its files are opened
relative to it, and anything with an unexpected owner is refused.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger("crm")


# The entries of a home; a folder with any other entry may be used by others too, and is not closed to them.
OURS = {
    "postgres",
    "postgres.lock",
    "postgres.users",
    "up.lock",
    "drops",
    "logs",
    "dagster",
    "reports",
    "uploads",
    "limits",
}


def private_folder(path: Path) -> Path:
    """Create a folder for this user alone, unless it exists. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def tighten(home: Path, group: int | None = None) -> None:
    """Close a home to other users, and say so in the log; a `group` may pass through it but not list it.

    A home that also holds things of others is left as it is, and the log says what to do.
    """
    mode = 0o700 if group is None else 0o710
    with directory(home) as folder:
        found = os.fstat(folder)
        is_open = stat.S_IMODE(found.st_mode) & ~mode != 0
        if found.st_uid != os.geteuid():
            return
        names = {name for name in os.listdir(folder) if not name.startswith("postgres.new")}  # noqa: PTH208
        if found.st_mode & 0o077 and not names <= OURS:
            if is_open:
                LOG.warning("%s is open to other users and holds personal data; close it with chmod %o", home, mode)
            return
        if group is not None:
            os.fchown(folder, -1, group)
        os.fchmod(folder, mode)
        if is_open:
            LOG.warning("%s was open to other users; it now has the mode %o", home, mode)


def short_folder(name: str, owner: tuple[int, int] | None) -> Path:
    """Create a private folder among the temporary ones, for `owner` (uid and gid) or else for this user.

    Raises OSError if it exists and is not private: anyone can create a folder there.
    """
    folder = Path(tempfile.gettempdir()) / name
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        with directory(folder) as opened:
            found = os.fstat(opened)
        if found.st_uid != (owner[0] if owner else os.geteuid()) or found.st_mode & 0o077:
            _refuse(str(folder), "it exists and is not private; remove it")
        return folder
    folder.chmod(0o700)  # whatever the umask
    if owner:
        os.chown(folder, *owner, follow_symlinks=False)
    return folder


def let_pass(path: Path, uid: int, gid: int) -> None:
    """Let an account pass through a folder if it cannot yet, and say so in the log, for others can then pass too."""
    found = path.stat()
    bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
    if not found.st_mode & bit:
        path.chmod(stat.S_IMODE(found.st_mode) | bit)
        LOG.warning("%s can now be passed through, but not read, by the embedded server's user (number %d)", path, uid)


def permit(path: Path, bits: int) -> None:
    """Add permission bits to a path of ours if they are missing."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


@contextmanager
def directory(path: Path, owners: Collection[int] | None = None) -> Iterator[int]:
    """Open a folder itself, not a link to one, as a descriptor. Raises OSError, also for another owner."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _require_owner(opened, path, owners)
        yield opened
    finally:
        os.close(opened)


def open_private(folder: int, name: str, flags: int, owners: Collection[int]) -> int:
    """Open a regular file in a folder; a new one is readable by its owner only.

    Raises OSError for symbolic and hard links, and for files whose owner is not one of `owners`.
    """
    opened = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            _refuse(name, "it is not a regular file with a single name")
        _require_owner(opened, Path(name), owners)
        if os.geteuid() in (0, found.st_uid):
            os.fchmod(opened, 0o600)
    except BaseException:
        os.close(opened)
        raise
    return opened


def read_private(path: Path, name: str, owners: Collection[int], *, since: int = 0) -> bytes | None:
    """Read a regular file in a folder from an offset, a negative one from its end; None if it is missing.

    Raises OSError as `open_private` does.
    """
    try:
        with directory(path, owners) as folder:
            opened = open_private(folder, name, os.O_RDONLY, owners)
    except FileNotFoundError:
        return None
    with os.fdopen(opened, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(since if since >= 0 else max(0, size + since))
        return file.read()


def write_private(path: Path, name: str, content: bytes, owner: tuple[int, int] | None) -> None:
    """Write a regular file in a folder, for its owner only (uid and gid; None: this user). Raises OSError."""
    owners = {os.geteuid(), owner[0]} if owner else {os.geteuid()}
    with (
        directory(path, owners) as folder,
        os.fdopen(open_private(folder, name, os.O_WRONLY | os.O_CREAT, owners), "wb") as file,
    ):
        if owner:
            os.fchown(file.fileno(), *owner)
        file.truncate(0)
        file.write(content)


def turn_over(path: Path, name: str, most: int, owners: Collection[int]) -> int:
    """Return the length of the log; one longer than `most` bytes is first set aside, and a new one begun."""
    with directory(path, owners) as folder:
        try:
            length = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0
        if length > most:
            os.rename(name, f"{name}.1", src_dir_fd=folder, dst_dir_fd=folder)
            return 0
        return length


def _require_owner(opened: int, path: Path, owners: Collection[int] | None) -> None:
    owner = os.fstat(opened).st_uid
    if owners is not None and owner not in owners:
        _refuse(str(path), f"it belongs to user {owner}")


def _refuse(path: str, fault: str) -> None:
    raise PermissionError(1, fault, path)
