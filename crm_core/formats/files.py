"""Files as they are read: opened, recognized by their SHA-256, unpacked, and brought into UTF-8, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

from crm_core.errors import DropRefused, DropUnreadable
from crm_core.formats.csv_records import UTF_8_MARK

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how such files start
LARGEST_WINDOW = 27  # as a power of 2: the memory that unpacking Zstandard may take, 128 MiB
SMALL = 64 << 20  # bytes that any packed file may unpack to
TIMES = 250  # how many times its size a packed file may unpack to; tables rarely shrink to less than a thirtieth
_BLOCK_BYTES = 1 << 18
_ESCAPED = "crm-escaped"  # our way to treat bytes that are not text in their encoding
# The encodings of files; Python has others that are none, such as idna.
_ENCODINGS = re.compile(r"utf-?(8|16|32)|ascii|cp\d|iso8859|latin|mac|koi8|ptcp|shift_jis|euc|gb|big5|johab|hz|tis")


class Stream(Protocol):
    """Bytes that are read one after the other."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer than `size` only at the end."""
        ...


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file; raise DropRefused, or DropUnreadable if it cannot be read."""
    try:
        if path.is_dir():
            raise DropRefused(path, "is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise DropRefused(path, "is not a regular file; save it as one, so that a replay can be recognized")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise DropUnreadable(path, "does not exist; check how its name is spelled") from error
    except OSError as error:
        raise DropUnreadable(path, f"cannot be read: {error.strerror}") from error


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; raise DropRefused."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Source:
    """An open file that works out its SHA-256 while it is read from start to end."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path, self.file = path, file
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer than `size` only at the end."""
        block = self.file.read(size)
        self._digest.update(block)
        return block

    def require(self, sha256: str | None) -> None:
        """Read what is left; raise DropUnreadable if the whole file has another SHA-256 than the given one."""
        if sha256 is None:
            return
        while self.read(_BLOCK_BYTES):
            pass
        if self._digest.hexdigest() != sha256:
            raise DropUnreadable(self.path, "changed while it was read; drop it again when it is complete")


class Rejoined:
    """A stream whose first bytes were read already to look at them."""

    def __init__(self, start: bytes, rest: Stream) -> None:
        self._start, self._rest = start, rest

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer than `size` only at the end."""
        if not self._start:
            return self._rest.read(size)
        block, self._start = self._start[:size], self._start[size:]
        return block + self._rest.read(size - len(block)) if len(block) < size else block


class _Unpacked:
    """The content of a file that is packed with gzip or Zstandard."""

    def __init__(self, source: Source, packed: Stream, start: bytes) -> None:
        self._source, self._size, self._given = source, source.path.stat().st_size, 0
        self._kind = "gzip" if start.startswith(GZIP) else "Zstandard"
        whole = Rejoined(start, packed)
        limit = {zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW}
        # They are typed as if they seek, which they do to rewind alone.
        if self._kind == "gzip":
            self._file: BinaryIO = gzip.GzipFile(fileobj=whole)  # type: ignore[call-overload]
        else:
            self._file = zstd.ZstdFile(whole, options=limit)  # type: ignore[call-overload]

    def read(self, size: int, /) -> bytes:
        try:
            block = b""
            while len(block) < size and (more := self._file.read(min(size - len(block), _BLOCK_BYTES))):
                block += more
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
            fault = f"is a broken {self._kind} archive ({_one_line(error)}); it may be cut off: send it again, whole"
            raise DropRefused(self._source.path, fault) from error
        self._given += len(block)
        if self._given > max(SMALL, self._size * TIMES):
            fault = f"unpacks to more than {TIMES} times its size, as no table does; if it is one, unpack it first"
            raise DropRefused(self._source.path, fault)
        return block


def unpacked(source: Source) -> tuple[bytes, Stream, str | None]:
    """Return the first bytes of what a file holds, a stream of all of it, and how it is packed, if it is."""
    start = source.read(_BLOCK_BYTES)
    if not start.startswith((GZIP, ZSTD)):
        return start, Rejoined(start, source), None
    inner = _Unpacked(source, source, start)
    first = inner.read(_BLOCK_BYTES)
    return first, Rejoined(first, inner), "gzip" if start.startswith(GZIP) else "Zstandard"


def is_encoding(name: str) -> bool:
    """Return whether text of files can be read in an encoding of this name."""
    try:
        return _ENCODINGS.match(codecs.lookup(name).name) is not None
    except LookupError:
        return False


class Transcoded:
    """A text in UTF-8, from another encoding; bytes that are invalid there become bytes that are not UTF-8."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._stream, self._ready, self._is_last = stream, bytearray(), False
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_ESCAPED)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer than `size` only at the end."""
        while len(self._ready) < size and not self._is_last:
            block = self._stream.read(_BLOCK_BYTES)
            self._is_last = len(block) < _BLOCK_BYTES
            self._ready += self._decoder.decode(block, final=self._is_last).encode(errors="surrogateescape")
        block = bytes(self._ready[:size])
        del self._ready[:size]
        return block


def in_utf_8(stream: Stream, encoding: str) -> Stream:
    """Return a text of an encoding in UTF-8; one that begins with UTF-8's mark is in UTF-8 already."""
    start = stream.read(len(UTF_8_MARK))
    stream = Rejoined(start, stream)
    if start == UTF_8_MARK or codecs.lookup(encoding).name == "utf-8":
        return stream
    return Transcoded(stream, encoding)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Replace bytes that are not text by halves of surrogate pairs, which `surrogateescape` writes as bytes again."""
    assert isinstance(error, UnicodeDecodeError)
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + max(byte, 0x80)) for byte in bad), error.end


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


codecs.register_error(_ESCAPED, _escaped)
