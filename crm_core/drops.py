"""A CSV file → batches of raw text in bounded memory, with the rows that cannot be read as rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path

import numpy as np
import polars as pl

from crm_core.csv_header import COLUMNS, HEADER_BYTES, REASONS, Header, read_header
from crm_core.csv_records import RECORD_BYTES, Split, Splitter, as_text, record_at
from crm_core.errors import DropRefused, DropUnreadable
from crm_core.model import Reason, Reject

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Some rows of a drop, as they stood."""

    frame: pl.DataFrame  # line Int64 (the header is line 1), and each of COLUMNS as String: null where empty or absent
    rejects: list[Reject] = field(default_factory=list)  # rows that cannot be read, in order of their lines
    bytes_read: int = 0  # of the file, so far
    block: bytes = b""  # the bytes that the rows were read from
    first_line: int = 1  # of the block
    header: str = ""  # of the drop, as it stood

    def raw(self, lines: Sequence[int]) -> list[str]:
        """Answer the records that start on the given lines, as they stood."""
        starts = np.concatenate(([0], np.flatnonzero(np.frombuffer(self.block, np.uint8) == ord("\n")) + 1))
        return [as_text(record_at(self.block, int(starts[line - self.first_line]))) for line in lines]


def fingerprint(path: Path) -> str:
    """Answer the SHA-256 of a file's bytes in hexadecimal digits: what a drop is known by; raises DropRefused."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_drop(
    path: Path, *, sha256: str | None = None, block_bytes: int = BLOCK_BYTES, record_bytes: int = RECORD_BYTES
) -> Iterator[RawBatch]:
    """Read a drop in batches of about `block_bytes`, rows in order; memory does not grow with the file.

    Raises DropRefused if the file is no drop, or is not the file that had the given fingerprint.
    """
    with _opened(path) as file:
        start = file.read(HEADER_BYTES)
        header = read_header(path, start)
        file.seek(header.size)
        digest = hashlib.sha256(start[: header.size])
        splitter = Splitter(len(header.columns), record_bytes)
        line, rest, in_long_line = header.next_line, b"", False
        is_last = False
        while not is_last:
            read = file.read(block_bytes)
            digest.update(read)
            is_last = len(read) < block_bytes
            if is_last and sha256 is not None and digest.hexdigest() != sha256:
                raise DropUnreadable(path, "changed while it was read; drop it again when it is complete")
            block = rest + (read.replace(b"\r", b"\n") if header.ends_with_cr else read)
            if is_last and not block.endswith(b"\n"):
                block += b"\n"
            split = splitter.split(block, line, is_last=is_last, in_long_line=in_long_line)
            if split.lines or split.rejects:
                rows = _rows(split, header)
                batch = RawBatch(rows.select("line", *COLUMNS), split.rejects, file.tell(), block, line, header.text)
                yield _without_uncorrected(batch, rows) if REASONS in header.columns else batch
            line, rest, in_long_line = split.next_line, block[split.end :], split.in_long_line


def _rows(split: Split, header: Header) -> pl.DataFrame:
    rows = pl.read_csv(
        split.sound, has_header=False, schema=dict.fromkeys(header.columns, pl.String), raise_if_empty=False
    )
    assert rows.height == len(split.lines), "Polars and the grammar do not agree on what a record is"
    absent = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in header.columns]
    present = pl.col(header.columns).replace({"": None})  # a quoted nothing is nothing too
    return rows.select(pl.Series("line", split.lines, pl.Int64), present, *absent)


def _without_uncorrected(batch: RawBatch, rows: pl.DataFrame) -> RawBatch:
    r"""Reject again the rows of a file of rejects whose bytes that were not UTF-8 still stand as \xNN."""
    is_written = pl.any_horizontal(pl.col(*COLUMNS).str.contains(r"\\x[0-9a-f]{2}"))
    lines = rows.filter(pl.col(REASONS).str.contains(Reason.INVALID_ENCODING) & is_written)["line"].to_list()
    again = [Reject(line, (Reason.INVALID_ENCODING,), raw) for line, raw in zip(lines, batch.raw(lines), strict=True)]
    return replace(
        batch,
        frame=batch.frame.filter(~pl.col("line").is_in(lines)),
        rejects=sorted([*batch.rejects, *again], key=lambda reject: reject.line),
    )


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        if path.is_dir():
            raise DropRefused(path, "is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise DropRefused(path, "is no regular file; save it as one, so that a replay can be known")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise DropUnreadable(path, "does not exist; is the name spelled right?") from error
    except OSError as error:
        raise DropUnreadable(path, f"cannot be read: {error.strerror}") from error
