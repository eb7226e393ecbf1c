"""Some rows of a file as text, whatever the format of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from crm_core.formats.csv_records import COMMA, UTF_8_MARK, raw_of, record_at
from crm_core.model import Reject

MARK = UTF_8_MARK.decode()


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Some rows of a file: as they were read, and later with the columns of the standard form."""

    # line Int64, and columns of String (null where empty or absent). In the standard form these are COLUMNS, and one
    # for each detail type that the file names, by its code in lower case; the text ENDS there ends the detail.
    frame: pl.DataFrame
    rejects: list[Reject] = field(default_factory=list)  # rows that cannot be read, in order of their lines
    bytes_read: int = 0  # of the file, so far
    block: bytes = b""  # the text that the rows were read from, in UTF-8
    first_line: int = 1  # of the block
    header: str = ""  # the line with the names of the columns, for a file of rejects; lines of JSON have none
    separator: str = COMMA  # of the fields in the block and in the header
    is_whole: bool = True  # False: the file ends in the middle of a line
    is_partial: bool = False  # its rows set only what they name

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
        """Return the rows that start on the given lines as rejects keep them: unchanged, but cut if long."""
        starts = np.concatenate(([0], np.flatnonzero(np.frombuffer(self.block, np.uint8) == ord("\n")) + 1))
        return [raw_of(self._record_at(int(starts[line - self.first_line])), line) for line in lines]

    def marked(self) -> RawChunk:
        """Return the chunk with the mark of UTF-8 in its header, by which a spreadsheet knows a file of rejects."""
        return replace(self, header=MARK + self.header.removeprefix(MARK)) if self.header else self

    def _record_at(self, start: int) -> bytes:
        return record_at(self.block, start, self.separator)


ENDS = "\0"  # the text of a detail's column that ends the detail; no text of a file has the character NUL


@dataclass(frozen=True, slots=True)
class LineChunk(RawChunk):
    """Rows of which each is one line."""

    def _record_at(self, start: int) -> bytes:
        return self.block[start : self.block.find(b"\n", start) + 1 or None]


@dataclass(frozen=True, slots=True)
class TableChunk(RawChunk):
    """Rows of a file that is not text; rejects keep them as records of CSV."""

    source: pl.DataFrame = field(default_factory=pl.DataFrame)  # the rows as they were read: line, and all columns

    def raw(self, lines: Sequence[int]) -> list[str]:
        """Return rows as records of CSV, cut if long."""
        rows = self.source.filter(pl.col("line").is_in(list(lines))).rows()
        return [as_raw(cells, line, self.separator) for line, *cells in rows]


def as_raw(cells: Iterable[str | None], line: int, separator: str) -> str:
    """Return the row of a table as rejects keep it."""
    return raw_of(csv_record(cells, separator).encode(), line)


def csv_record(cells: Iterable[str | None], separator: str = COMMA) -> str:
    """Return a record of CSV, without its line end."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()
