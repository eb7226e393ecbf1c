"""A CSV file as chunks of raw text in bounded memory, with the unreadable rows as rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from io import BufferedReader
from operator import or_
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from crm_core.drops.csv_header import (
    COLUMNS,
    HEADER_BYTES,
    KNOWN,
    REASONS,
    REMARKS,
    Header,
    read_header,
    without_end_of_file,
)
from crm_core.drops.csv_records import CUT, RECORD_BYTES, Split, Splitter, raw_of, record_at
from crm_core.errors import DropRefused, DropUnreadable
from crm_core.model import Reason, Reject
from crm_core.values.hashing import normal_forms

BLOCK_BYTES = 8 << 20
NAMELESS = "\0"  # the beginning of the name that a nameless column gets


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Some rows of a drop, as they were in the file."""

    # line Int64 (the header is line 1), each of COLUMNS as String (null where empty or absent), and a String column for
    # each detail type that the header names, by its code in lower case, and for each further source (`further_key`).
    frame: pl.DataFrame
    rejects: list[Reject] = field(default_factory=list)  # rows that cannot be read, in order of their lines
    bytes_read: int = 0  # of the file, so far
    block: bytes = b""  # the bytes that the rows were read from
    first_line: int = 1  # of the block
    header: str = ""  # of the drop, unchanged
    is_whole: bool = True  # False: the file ends in the middle of a line

    def only(self, lines: npt.NDArray[np.int64]) -> RawChunk:
        """Return the chunk with only those rows and rejects that start on the given lines, which are in order."""

        def among(found: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            are: npt.NDArray[np.bool_] = np.append(lines, -1)[np.searchsorted(lines, found)] == found
            return are

        is_wanted = among(np.array([reject.line for reject in self.rejects], np.int64))
        return replace(
            self,
            frame=self.frame.filter(among(self.frame["line"].to_numpy())),
            rejects=[reject for reject, is_one in zip(self.rejects, is_wanted, strict=True) if is_one],
        )

    def raw(self, lines: Sequence[int]) -> list[str]:
        """Return the records that start on the given lines as rejects keep them: unchanged, but cut if long."""
        starts = np.concatenate(([0], np.flatnonzero(np.frombuffer(self.block, np.uint8) == ord("\n")) + 1))
        return [raw_of(record_at(self.block, int(starts[line - self.first_line])), line) for line in lines]


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, which identifies a drop; raise DropRefused."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_drop(
    path: Path,
    *,
    sha256: str | None = None,
    detail_types: Iterable[str] = (),
    sources: Iterable[str] = (),
    block_bytes: int = BLOCK_BYTES,
    record_bytes: int = RECORD_BYTES,
) -> Iterator[RawChunk]:
    """Read a drop in chunks of about `block_bytes`, rows in order; memory does not grow with the file.

    A column may be a detail type, or hold keys of a source, named by its code. Raises DropRefused if the file is not a
    drop, or no longer has the given fingerprint.
    """
    with _opened(path) as file:
        start = file.read(HEADER_BYTES)
        header = read_header(path, start, detail_types, sources)
        columns = ["line", *COLUMNS, *(name for name in header.columns if name not in KNOWN)]
        file.seek(header.size)
        digest = hashlib.sha256(start[: header.size])
        splitter = Splitter(len(header.columns), record_bytes)
        line, rest, in_long_line = header.next_line, b"", False
        is_last, is_whole = False, True
        while not is_last:
            read = file.read(block_bytes)
            digest.update(read)
            is_last = len(read) < block_bytes
            if is_last and sha256 is not None and digest.hexdigest() != sha256:
                raise DropUnreadable(path, "changed while it was read; drop it again when it is complete")
            block = rest + (read.replace(b"\r", b"\n") if header.ends_with_cr else read)
            if is_last and not block.endswith(b"\n"):
                block = without_end_of_file(block)
                is_whole = not block or block.endswith(b"\n")
                block += b"\n"
            split = splitter.split(block, line, is_last=is_last, in_long_line=in_long_line)
            if split.lines or split.rejects:
                rows = _rows(split, header)
                chunk = RawChunk(rows.select(columns), split.rejects, file.tell(), block, line, header.text, is_whole)
                yield _without_faulty(chunk, _faults(rows, header))
            line, rest, in_long_line = split.next_line, block[split.end :], split.in_long_line


def _rows(split: Split, header: Header) -> pl.DataFrame:
    columns = [name or f"{NAMELESS}{place}" for place, name in enumerate(header.columns)]
    rows = pl.read_csv(split.sound, has_header=False, schema=dict.fromkeys(columns, pl.String), raise_if_empty=False)
    assert rows.height == len(split.lines), "Polars and the grammar disagree on what a record is"
    absent = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in header.columns]
    present = pl.col(columns).replace({"": None})  # empty quotes are empty too
    return rows.select(pl.Series("line", split.lines, pl.Int64), present, *absent)


def _faults(rows: pl.DataFrame, header: Header) -> dict[Reason, pl.Series]:
    """Return rows that can be read but are not valid rows of this drop: a Boolean column for each reason."""
    faults: dict[Reason, pl.Series] = {}
    if "" in header.columns:
        nameless = [column for column in rows if column.name.startswith(NAMELESS)]
        faults[Reason.WRONG_FIELD_COUNT] = reduce(or_, (normal_forms(column).is_not_null() for column in nameless))
    if (
        REASONS in header.columns
    ):  # a file of rejects: what was not UTF-8 still stands as \\xNN, or the end is still cut off
        texts = pl.exclude("line", *REMARKS)
        is_written = pl.any_horizontal(texts.str.contains(r"\\x[0-9a-f]{2}"))
        is_cut = pl.any_horizontal(texts.str.contains(CUT, literal=True))
        was = pl.col(REASONS).fill_null("")
        found = rows.select(
            written=(was.str.contains(Reason.INVALID_ENCODING) & is_written).fill_null(value=False),
            cut=((was != "") & is_cut).fill_null(value=False),
        )
        faults |= {Reason.INVALID_ENCODING: found["written"], Reason.VALUE_TOO_LONG: found["cut"]}
    return faults


def _without_faulty(chunk: RawChunk, faults: dict[Reason, pl.Series]) -> RawChunk:
    """Move faulty rows of a chunk to its rejects."""
    if not any(is_so.any() for is_so in faults.values()):
        return chunk
    is_bad = reduce(or_, faults.values())
    lines = chunk.frame["line"].filter(is_bad).to_list()
    reasons = [
        tuple(reason for reason, is_so in zip(faults, row, strict=True) if is_so)
        for row in pl.DataFrame([*faults.values()]).filter(is_bad).rows()
    ]
    rejects = [Reject(*found) for found in zip(lines, reasons, chunk.raw(lines), strict=True)]
    return replace(
        chunk,
        frame=chunk.frame.filter(~is_bad),
        rejects=sorted([*chunk.rejects, *rejects], key=lambda reject: reject.line),
    )


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
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
