"""Tables in files that are not text, such as Parquet and Excel, as chunks of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.chunk import MARK, RawChunk, TableChunk, as_raw, csv_record
from crm_core.formats.csv_records import COMMA
from crm_core.formats.remarks import without_faulty
from crm_core.model import Reason, Reject

ROWS = 20_000  # of a part
MAX_COLUMNS = 2_000


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table, in order."""

    rows: pl.DataFrame  # line Int64, and a column of String for each of the table, named by its place: 0, 1, …
    too_wide: Sequence[tuple[int, list[str | None]]] = ()  # lines and cells of rows with more cells than the header


@dataclass(frozen=True, slots=True)
class Table:
    """An open table."""

    names: tuple[str, ...]  # of its columns, as they stand
    parts: Iterator[Part]
    height: int  # about how many rows it has, to tell how far it was read


def read_table(path: Path, table: Table, columns: Sequence[str], separator: str = COMMA) -> Iterator[RawChunk]:
    """Read a table in chunks; `columns` are distinct names for its columns, in their order.

    Rejects become records of CSV with the separator.
    """
    header = MARK + csv_record(table.names, separator)
    size, done = path.stat().st_size, 0
    names = {str(place): name for place, name in enumerate(columns)}
    for part in table.parts:
        rows = part.rows.rename(names)
        done += rows.height
        frame = rows.with_columns(pl.col(columns).replace({"": None})) if columns else rows
        read = min(size, size * done // max(table.height, 1))
        rejects = [
            Reject(line, (Reason.WRONG_FIELD_COUNT,), as_raw(cells, line, separator)) for line, cells in part.too_wide
        ]
        chunk = TableChunk(frame, rejects, read, header=header, separator=separator, source=rows)
        yield _without_nul(chunk)


def require_few(path: Path, columns: int) -> None:
    """Raise DropRefused for a table with too many columns."""
    if columns > MAX_COLUMNS:
        raise DropRefused(path, f"has more than {MAX_COLUMNS:,} columns; leave out those that are not needed")


def broken(path: Path, kind: str, error: Exception) -> DropRefused:
    """Return the refusal of a file that cannot be read as what it seems to be."""
    said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return DropRefused(path, f"cannot be read as {kind}: {said}; save it again, or export it as CSV UTF-8")


def _without_nul(chunk: TableChunk) -> RawChunk:
    """Reject rows with the character NUL, which PostgreSQL cannot store."""
    has_nul = chunk.frame.select(pl.any_horizontal(pl.exclude("line").str.contains("\0", literal=True))).to_series()
    return without_faulty(chunk, {Reason.INVALID_ENCODING: has_nul.fill_null(value=False)})
