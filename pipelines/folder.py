"""The drop folder: the files in it that may be drops, and what is skipped there, with the reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from crm_core.settings import Settings
from pipelines.partitions import drop_key

IN_THE_MAKING = (".tmp", ".part", ".filepart", ".crdownload")  # names of files that are still to be renamed
_WHY = {  # by the end of the name, in lower case
    (".xlsx", ".xls", ".xlsm", ".ods"): "a spreadsheet is not a drop; save it as CSV UTF-8",
    (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".tar", ".tgz"): "an archive is not a drop; unpack it",
}
OTHERWISE = "only files that end with .csv are drops; rename it if it is one"


@dataclass(frozen=True, slots=True)
class DropFile:
    """A file that may be a drop, as it was when the folder was listed."""

    path: Path
    key: str  # of its partition
    bytes: int
    modified_ns: int  # nanoseconds since 1970

    @property
    def content(self) -> str:
        """Return a text that identifies the content without reading it: name, size and time of the file."""
        return f"{self.key} {self.bytes} {self.modified_ns}"

    @property
    def modified_at(self) -> datetime:
        """Return when the file was last written, in UTC."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An entry of the folder that is skipped."""

    key: str  # distinguishes it from others, and from a later file of the same name
    name: str  # in a form that is safe to show
    why: str  # the fault and the cure

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of the folder, in order of names."""

    files: tuple[DropFile, ...]
    passed_over: tuple[PassedOver, ...]


class DropFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder in which drops arrive: CRM_DROP_DIR, unless another is configured."""

    folder: str | None = None

    def path(self) -> Path:
        """Return where the folder is."""
        return Path(self.folder) if self.folder else Settings.from_environment().drop_dir

    def listing(self) -> Listing:
        """List the folder without hidden files and files still to be renamed. Raises OSError if it cannot be listed."""
        with os.scandir(self.path()) as entries:
            found = [_look_at(entry) for entry in sorted(entries, key=lambda entry: entry.name) if _is_complete(entry)]
        return Listing(
            tuple(one for one in found if isinstance(one, DropFile)),
            tuple(one for one in found if isinstance(one, PassedOver)),
        )

    def find(self, key: str) -> DropFile | None:
        """Return the file with this partition key as it is now, or None."""
        path = self.path() / key
        # A name like others, not a path that leads out of the folder.
        if drop_key(key) == key and path.name == key and (file := _drop_file(path)):
            return file
        try:
            return next((_drop_file(Path(entry)) for entry in self._entries() if drop_key(entry.name) == key), None)
        except OSError:
            return None

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.path()) as entries:
            yield from filter(_is_complete, entries)


def shown(name: str) -> str:
    """Return a file's name as text that is safe to store and to show on a terminal."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(char if char.isprintable() else "�" for char in text)


def _is_complete(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and not entry.name.lower().endswith(IN_THE_MAKING)


def _look_at(entry: os.DirEntry[str]) -> DropFile | PassedOver | None:
    """Return the kind of an entry of the folder; None if it has disappeared."""
    try:
        found = entry.stat()
    except OSError:
        if not entry.is_symlink():
            return None
        return PassedOver(
            drop_key(entry.name), shown(entry.name), "a link that leads nowhere; put the file itself here"
        )
    key = drop_key(entry.name)
    if stat.S_ISDIR(found.st_mode):
        return PassedOver(key, shown(entry.name), "subfolders are not read; put its files here")
    file = DropFile(Path(entry.path), key, found.st_size, found.st_mtime_ns)
    name = entry.name.lower()
    if not name.endswith(".csv"):
        why = next((why for ends, why in _WHY.items() if name.endswith(ends)), OTHERWISE)
        return PassedOver(file.content, shown(entry.name), why)
    if not stat.S_ISREG(found.st_mode):
        return PassedOver(file.content, shown(entry.name), "not a regular file; save it as one")
    if not os.access(entry.path, os.R_OK):
        return PassedOver(
            file.content, shown(entry.name), "it cannot be read; give Dagster's user the right to read it"
        )
    return file


def _drop_file(path: Path) -> DropFile | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (
        DropFile(path, drop_key(path.name), found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
    )
