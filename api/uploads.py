"""Uploaded files: written to a private folder of this process, and deleted once they were read.

The folder of a process is locked while the process lives. What a killed process left behind is removed when the next
one starts, or with the next upload. Only this user may read the folders.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import anyio
import anyio.to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.body import require_unpacked, require_utf8
from api.problems import Refusal, refuse

CSV = "text/csv"
FORM = "multipart/form-data"
KINDS = (  # what a file may be said to be; what it is, it says itself
    CSV,
    "application/csv",
    "application/octet-stream",
    "text/plain",
    "text/tab-separated-values",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "application/jsonl",
    "application/x-ndjson",
    "application/vnd.apache.parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)
SEND = "send the CSV file as the part `file`: curl -F file=@drop.csv"
FIELD_LENGTH = 1_000  # characters of another field of a form
NAME_BYTES = 200  # bytes of a file's name that are kept
BLOCK_BYTES = 1 << 20  # bytes that are written at once


class Uploads:
    """The folders that files are sent into."""

    def __init__(self, root: Path) -> None:
        """Use the folder of all processes, which need not exist yet."""
        self._root = root
        self._own: tuple[Path, int] | None = None  # the folder of this process, and the lock on it
        self._making = Lock()

    def sweep(self) -> None:
        """Remove the folders of processes that have ended."""
        with suppress(FileNotFoundError), _alone(self._root):
            _sweep(self._root)

    def close(self) -> None:
        """Remove the folder of this process."""
        if self._own is not None:
            own, lock = self._own
            shutil.rmtree(own, ignore_errors=True)
            os.close(lock)
            self._own = None

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """Yield a new folder for one file; raise Refusal if there is no room for it."""
        with room():
            folder = await anyio.to_thread.run_sync(self._new)
        try:
            yield folder
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))

    def file(self) -> BinaryIO:
        """Return a new file without a name, deleted when it is closed; raise Refusal if there is no room."""
        with room():
            return tempfile.TemporaryFile(dir=self._ours())

    def _new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._ours()))

    def _ours(self) -> Path:
        """Return the folder of this process, and remove those of processes that have ended."""
        with self._making:
            if self._own is not None and self._own[0].is_dir():
                self.sweep()
                return self._own[0]
            self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root.mkdir(mode=0o700, exist_ok=True)
            self._root.chmod(0o700)  # an earlier release made it readable by others
            with _alone(self._root):
                _sweep(self._root)
                own = Path(tempfile.mkdtemp(prefix="process-", dir=self._root))
                self._own = own, _locked(own)
            return own


async def receive(http: Request, folder: Path, given_name: str | None, fields: dict[str, str] | None = None) -> Path:
    """Write the file that a request brings into the folder, and return its path.

    A form may also have the short `fields` that are given by name, whose values are filled in.
    Raises Refusal for a body that cannot be a drop, and ClientDisconnect for one that does not arrive completely.
    """
    content_type = http.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind != FORM and kind not in KINDS:
        refuse("header.Content-Type", f"is {kind or 'missing'}; send it as {CSV}, or as the part `file` of a form")
    require_utf8(content_type, "header.Content-Type")
    part = folder / ".part"
    with room(), os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        taken = _Form(content_type, file, fields or {}) if kind == FORM else _Raw(file)
        block = bytearray()
        async for some in http.stream():
            block += some
            if len(block) >= BLOCK_BYTES:
                await anyio.to_thread.run_sync(taken.feed, bytes(block))
                block.clear()
        await anyio.to_thread.run_sync(taken.feed, bytes(block))
        name = taken.finish()
    return part.rename(folder / _file_name(given_name or name))


@contextmanager
def room() -> Iterator[None]:
    """Turn an error of the disk into a Refusal."""
    try:
        yield
    except OSError as error:
        logging.getLogger("crm.api").warning("an upload cannot be stored: %s", error)  # clients must not see the path
        said = f"this server cannot store the file now ({error.strerror}), and nothing was changed; "
        said += "make room on its disk or tell its operator, then send it again"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": "60"}) from error


class _Raw:
    """A body that is the file itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def feed(self, block: bytes) -> None:
        """Write a block."""
        self._file.write(block)

    def finish(self) -> str | None:
        """Return None: a raw body does not name its file."""
        return None


class _Form:
    """A form whose part `file` is the file; its parts are written as they arrive."""

    def __init__(self, content_type: str, file: BinaryIO, fields: dict[str, str]) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            refuse("header.Content-Type", f"names no boundary, so the parts cannot be told apart; {SEND}")
        self._file, self._fields = file, fields
        self._field: str | None = None  # the one whose value is being read
        self._header = self._value = b""
        self._headers: dict[str, str] = {}
        self._name: str | None = None  # of the file
        self._others: list[str] = []  # names of unknown parts
        self._is_file = self._is_whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            refuse("header.Content-Type", f"is not valid for a form: {error}; {SEND}")

    def feed(self, block: bytes) -> None:
        """Parse a block; raise Refusal if it is malformed."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            refuse("body", f"cannot be read as a form: {error}; {SEND}")

    def finish(self) -> str | None:
        """Return the name of the file; raise Refusal if there is none, or the form did not arrive completely."""
        if not self._is_whole:
            refuse("body", "ends before its last boundary, so a part of the file is missing; send it again")
        if self._name is None:
            refuse("body.file", f"is missing; {SEND}")
        for other in self._others:
            refuse(f"body.{other}", f"is unknown here; {SEND}, and options in the address: ?dry_run=true")
        return self._name

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        name = _text(options.get(b"name", b""))
        self._is_file = name == "file" and bool(options.get(b"filename"))
        self._field = name if name in self._fields else None
        if not self._is_file:
            if self._field is None:
                self._others.append(name)
            return
        if self._name is not None:
            refuse("body.file", "is given twice; send one drop at a time")
        self._name = _text(options[b"filename"])
        require_utf8(self._headers.get("content-type", ""), "body.file.Content-Type")
        require_unpacked(self._headers, "body.file.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.write(data[start:end])
        elif self._field is not None and len(self._fields[self._field]) < FIELD_LENGTH:
            self._fields[self._field] += data[start:end].decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._is_whole = True


def _text(name: bytes) -> str:
    """Decode a name in a form: browsers send UTF-8, but some clients do not."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _file_name(given: str | None) -> str:
    """Return a safe name for a file: not a path, not an option, without unprintable characters."""
    name = "".join(char for char in Path((given or "").replace("\\", "/")).name if char.isprintable())
    name = name.encode(errors="ignore")[:NAME_BYTES].decode(errors="ignore").strip().lstrip(".")
    return name or "upload.csv"


def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> int:
    """Return a descriptor that locks a folder until it is closed; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Lock the root folder for a moment, so that no other process sweeps or adds folders."""
    descriptor = _locked(root)
    try:
        yield
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    for folder in [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]:
        with suppress(OSError):  # it is locked if its process is alive
            lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
