"""The drop folder: the files in it that may be drops, and what is skipped there, with the reason.

Files in it have the standard form; those in a subfolder are read by the profile of its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from crm_core.formats.cloud import CloudFile, copied, list_folder
from crm_core.model import CloudPath
from crm_core.profiles import store
from crm_core.settings import Settings
from pipelines.partitions import drop_key

IN_THE_MAKING = (".tmp", ".part", ".filepart", ".crdownload")  # names of files that are still to be renamed
_PACKED = ("", ".gz", ".zst")
DROPS = (*(f"{kind}{packed}" for kind in (".csv", ".ndjson", ".jsonl") for packed in _PACKED), ".parquet", ".xlsx")
DROPS_OF_A_PROFILE = (*DROPS, *(f"{kind}{packed}" for kind in (".txt", ".tsv", ".dat", ".asc") for packed in _PACKED))
_WHY = {  # by the end of the name, in lower case
    (".xls", ".xlsm", ".xlsb", ".ods"): "not a spreadsheet that can be read; save it as .xlsx, or as CSV UTF-8",
    (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".tar", ".tgz"): "an archive is not a drop; unpack it",
}
NO_PROFILE = "no profile has the name of this subfolder; make one, or put its files here"
OTHERWISE = "drops end with .csv, .ndjson, .parquet or .xlsx, or such a text with .gz or .zst; rename it if it is one"


@dataclass(frozen=True, slots=True)
class DropFile:
    """A file that may be a drop, as it was when the folder was listed."""

    path: Path | CloudPath
    key: str  # of its partition
    bytes: int
    modified_ns: int  # nanoseconds since 1970
    profile: str | None = None  # by which it is read: the name of its subfolder
    tag: str = ""  # in the cloud: of its content

    @property
    def name(self) -> str:
        """Return its name in the drop folder: `a.csv`, or `erp/a.csv` in a subfolder."""
        return f"{self.profile}/{self.path.name}" if self.profile else self.path.name

    @property
    def content(self) -> str:
        """Return a text that identifies the content without reading it: name, size and time, and its tag if any."""
        return " ".join(filter(None, (self.key, self.tag, str(self.bytes), str(self.modified_ns))))

    @property
    def modified_at(self) -> datetime:
        """Return when the file was last written, in UTC."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """Yield where it can be read: itself, or a copy of a file in the cloud; raise DropUnreadable."""
        if isinstance(self.path, Path):
            yield self.path
            return
        with copied(self.path, Settings.from_environment().home, self.tag) as copy:
            yield copy


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

    def path(self) -> Path | CloudPath:
        """Return where the folder is."""
        return (
            (CloudPath.parse(self.folder) or Path(self.folder)) if self.folder else Settings.from_environment().drop_dir
        )

    def listing(self) -> Listing:
        """List the folder without hidden files and files still to be renamed.

        Raises OSError, or DropUnreadable for one in the cloud, if it cannot be listed.
        """
        path, profiles = self.path(), self.profiles()
        found: list[DropFile | PassedOver | None] = []
        if isinstance(path, CloudPath):
            found += [_judged(file) for file in _in_the_cloud(path, profiles)]
        else:
            for entry in _sorted(path):
                if entry.name in profiles and entry.is_dir():
                    found += [_look_at(inner, entry.name) for inner in _sorted(entry.path)]
                else:
                    found.append(_look_at(entry))
        return Listing(
            tuple(one for one in found if isinstance(one, DropFile)),
            tuple(one for one in found if isinstance(one, PassedOver)),
        )

    def find(self, key: str) -> DropFile | None:
        """Return the file with this partition key as it is now, or None; raise DropUnreadable in the cloud."""
        folder = self.path()
        if isinstance(folder, Path):
            path = folder / key
            # A name like others, not a path that leads out of the folder.
            if drop_key(key) == key and path.name == key and (file := _drop_file(path)):
                return file
        try:
            return next((file for file in self._files() if file.key == key), None)
        except OSError:
            return None

    def profiles(self) -> list[str]:
        """Return the names of the profiles, and so of the subfolders that are read."""
        return store.names(Settings.from_environment().profile_dir)

    def _files(self) -> Iterator[DropFile]:
        path, profiles = self.path(), self.profiles()
        if isinstance(path, CloudPath):
            yield from (file for file in _in_the_cloud(path, profiles) if isinstance(file, DropFile))
            return
        for entry in _sorted(path):
            if entry.name in profiles and entry.is_dir():
                yield from filter(None, (_drop_file(Path(inner), entry.name) for inner in _sorted(entry.path)))
            elif file := _drop_file(Path(entry)):
                yield file


def shown(name: str) -> str:
    """Return a file's name as text that is safe to store and to show on a terminal."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(char if char.isprintable() else "�" for char in text)


def _sorted(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are complete, in order of names; raise OSError if it cannot be listed."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if _is_complete(entry.name)), key=lambda entry: entry.name)


def _is_complete(name: str) -> bool:
    return not name.startswith((".", "~$")) and not name.lower().endswith(IN_THE_MAKING)


def _in_the_cloud(folder: CloudPath, profiles: Sequence[str]) -> Iterator[DropFile | PassedOver]:
    """Yield the files of a folder and of the profiles' folders in it, and the folders of no profile."""
    folders, files = list_folder(folder)
    yield from _drop_files(files)
    for name in filter(_is_complete, folders):
        if name in profiles:
            yield from _drop_files(list_folder(folder / name)[1], name)
        else:
            yield PassedOver(drop_key(name), shown(name), NO_PROFILE)


def _drop_files(files: Sequence[CloudFile], profile: str | None = None) -> Iterator[DropFile]:
    for file in files:
        if _is_complete(name := file.path.name):
            key = drop_key(f"{profile}/{name}" if profile else name)
            yield DropFile(file.path, key, file.bytes, file.modified_ns, profile, file.tag)


def _look_at(entry: os.DirEntry[str], profile: str | None = None) -> DropFile | PassedOver | None:
    """Return the kind of an entry of the folder, or of a profile's subfolder; None if it has disappeared."""
    key = drop_key(f"{profile}/{entry.name}" if profile else entry.name)
    said = shown(f"{profile}/{entry.name}" if profile else entry.name)
    try:
        found = entry.stat()
    except OSError:
        if not entry.is_symlink():
            return None
        return PassedOver(key, said, "a link that leads nowhere; put the file itself here")
    if stat.S_ISDIR(found.st_mode):
        return PassedOver(key, said, NO_PROFILE)
    file = DropFile(Path(entry.path), key, found.st_size, found.st_mtime_ns, profile)
    if isinstance(judged := _judged(file), PassedOver):
        return judged
    if not stat.S_ISREG(found.st_mode):
        return PassedOver(file.content, said, "not a regular file; save it as one")
    if not os.access(entry.path, os.R_OK):
        return PassedOver(file.content, said, "it cannot be read; give Dagster's user the right to read it")
    return file


def _judged(file: DropFile | PassedOver) -> DropFile | PassedOver:
    """Return a file, or why it is skipped for its name."""
    if isinstance(file, PassedOver):
        return file
    name = file.path.name.lower()
    if name.endswith(DROPS_OF_A_PROFILE if file.profile else DROPS):
        return file
    why = next((why for ends, why in _WHY.items() if name.endswith(ends)), OTHERWISE)
    return PassedOver(file.content, shown(file.name), why)


def _drop_file(path: Path, profile: str | None = None) -> DropFile | None:
    try:
        found = path.stat()
    except OSError:
        return None
    key = drop_key(f"{profile}/{path.name}" if profile else path.name)
    return DropFile(path, key, found.st_size, found.st_mtime_ns, profile) if stat.S_ISREG(found.st_mode) else None
