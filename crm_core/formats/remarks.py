"""Files of rejected rows, which come back corrected: their further columns, and rows in them that are still damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path

import polars as pl

from crm_core.formats.chunk import RawChunk
from crm_core.formats.csv_records import CUT, UTF_8_MARK
from crm_core.model import Reason, Reject
from crm_core.values.hashing import normal_forms

LINE, REASONS = "reject_line", "reject_reasons"
REMARKS = (LINE, REASONS)  # the further columns; they are for people and say nothing about the entity
NAMELESS = "\0"  # the beginning of the name that a nameless column gets; nothing may be in such a column


def is_of_rejects(path: Path) -> bool:
    """Return whether a file is one of rejected rows: CSV whose first column is reject_line."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LINE) + 8)
    except OSError:
        return False  # reading it will say why
    return start.removeprefix(UTF_8_MARK).lstrip(b'"').lower().startswith(LINE.encode())


def distinct(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of columns with a name for each that has none."""
    return tuple(name or f"{NAMELESS}{place}" for place, name in enumerate(columns))


def without_damaged(chunk: RawChunk) -> RawChunk:
    """Move rows to the rejects that have something in a nameless column, or are still damaged since a rejection."""
    return without_faulty(chunk, _faults(chunk.frame))


def without_faulty(chunk: RawChunk, faults: Mapping[Reason, pl.Series]) -> RawChunk:
    """Move rows of a chunk to its rejects: a Boolean column for each reason says which."""
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


def _faults(rows: pl.DataFrame) -> dict[Reason, pl.Series]:
    faults: dict[Reason, pl.Series] = {}
    nameless = [column for column in rows if column.name.startswith(NAMELESS)]
    if nameless:
        faults[Reason.WRONG_FIELD_COUNT] = reduce(or_, (normal_forms(column).is_not_null() for column in nameless))
    if REASONS in rows.columns:  # what was not UTF-8 still stands as \\xNN, or the end is still cut off
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
