"""The file of a backup: a zip with a dump of PostgreSQL's custom format, and a manifest that says what is in it.

The dump is stored as it is, so `unzip` and `pg_restore` read it too. The list of a zip is at its end: a file that was
cut off has none, and is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from crm_core.errors import BackupRefused

DUMP, MANIFEST = "crm.dump", "manifest.json"
FORMAT = 1  # of the manifest
BLOCK = 1 << 20  # bytes
NO_BACKUP = "is not a backup of crm, or was cut off; take one that `crm backup` has finished"

Bytes = Callable[[int], None]  # called with how many are done


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds, and what it was made from and by."""

    version: str  # of crm
    revision: str  # of the schema
    taken_at: datetime  # everything recorded up to then is in it, and nothing of later
    server: int  # the major version of PostgreSQL
    pg_dump: int  # its major version: pg_restore must not be older
    rows: Mapping[str, int]  # of each table, by schema.name
    size: int  # of the dump, in bytes
    sha256: str  # of the dump

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"format": FORMAT} | asdict(self) | {"taken_at": self.taken_at.isoformat()}, indent=1)

    @classmethod
    def read(cls, text: bytes) -> Manifest:
        """Return what `text` wrote; raise ValueError for anything else."""
        try:
            said = json.loads(text)
            if said.pop("format") != FORMAT:
                raise ValueError
            return cls(**said | {"taken_at": datetime.fromisoformat(said["taken_at"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError from error


@contextmanager
def written_beside(file: Path, *, is_replaced: bool) -> Iterator[IO[bytes]]:
    """Yield a new file that gets its name when the block has ended without an error and everything is on the disk.

    Until then it is beside, named `.NAME.part`; what a killed process left there is written over. Raises BackupRefused
    if the file exists and may not be replaced, or another process writes it, and OSError.
    """
    part = file.with_name(f".{file.name}.part")
    _require_free(file, is_replaced=is_replaced)
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as opened:
        with suppress(BlockingIOError):
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = part.exists() and part.samefile(
                f"/dev/fd/{opened.fileno()}"
            )  # else it has got its name meanwhile
        if not is_ours:
            raise BackupRefused(file, "another process is writing it; wait until it has ended")
        opened.truncate()
        try:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            _require_free(file, is_replaced=is_replaced)
            part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_free(file: Path, *, is_replaced: bool) -> None:
    if file.is_dir():
        raise BackupRefused(file, "is a folder; give the name of a file")
    if file.exists() and not is_replaced:
        raise BackupRefused(file, "exists already; give another name, or --force to replace it")


@dataclass(frozen=True, slots=True)
class Digest:
    """How long a stream of bytes was, and its SHA-256."""

    bytes: int
    sha256: str


def copied(source: IO[bytes], write: Callable[[bytes], object], on_bytes: Bytes = lambda _: None) -> Digest:
    """Copy a stream to its end in blocks, and return its digest."""
    digest, done = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        write(block)
        digest.update(block)
        done += len(block)
        on_bytes(done)
    return Digest(done, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Backup:
    """An opened backup: its manifest was read, its dump not yet."""

    file: Path
    manifest: Manifest
    archive: zipfile.ZipFile

    def dump(self) -> IO[bytes]:
        """Open the dump."""
        return self.archive.open(DUMP)

    def require_sound(self, on_bytes: Bytes = lambda _: None) -> None:
        """Read the whole dump; raise BackupRefused unless it is as it was written."""
        try:
            with self.dump() as dump:
                found = copied(dump, lambda _: None, on_bytes)
        except (OSError, zipfile.BadZipFile):
            found = None
        if found != Digest(self.manifest.size, self.manifest.sha256):
            raise BackupRefused(self.file, "is damaged: its SHA-256 is not that of its manifest; take another backup")


@contextmanager
def opened_backup(file: Path) -> Iterator[Backup]:
    """Open a backup and read its manifest; raise BackupRefused for a file that is not one, or cannot be read."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            manifest = Manifest.read(archive.read(MANIFEST))
            archive.getinfo(DUMP)
        except OSError as error:
            raise BackupRefused(file, f"cannot be read ({error.strerror}); check its path and its rights") from None
        except (zipfile.BadZipFile, KeyError, ValueError):
            raise BackupRefused(file, NO_BACKUP) from None
        yield Backup(file, manifest, archive)
