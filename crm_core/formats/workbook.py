"""Sheets of Excel workbooks, read row by row; the texts of a workbook are in memory, so its size is limited."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.sheet import Row, rows_of
from crm_core.formats.tables import ROWS, Part, Table, broken, require_few

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

WORKBOOK_BYTES = 256 << 20  # unpacked
SHEET_ROWS = 1 << 20  # that Excel has
SEARCHED = 50  # rows that are searched for a header
_KIND = "an Excel workbook"
_BLOCK_BYTES = 1 << 20


def open_workbook(path: Path, sheet: str | None = None, skip: int = 0) -> Table:
    """Open a sheet of a workbook, the first one unless one is named, below the first `skip` rows.

    The first of the other rows that is not blank names the columns; rows have the numbers that Excel shows. Raises
    DropRefused for a workbook that cannot be read or is too large, or has no such sheet.
    """
    _require_size(path)
    rows = (row for row in _rows(path, sheet) if row[0] > skip and any(row[1]))
    header = next(rows, None)
    if header is None:
        raise DropRefused(path, "has nothing in its sheet; save the table as the first sheet, or name it in a profile")
    names = [name or "" for name in header[1]]
    while not names[-1]:
        names.pop()
    require_few(path, len(names))
    return Table(tuple(names), _parts(rows, len(names)), 0)


def lines_above(path: Path) -> int:
    """Return how many rows of the first sheet, such as a title, are above the first one that fills most columns."""
    _require_size(path)
    rows = [(line, sum(map(bool, row))) for line, row in islice(_rows(path, None), SEARCHED)]
    widest = max((filled for _, filled in rows), default=0)
    return next((line - 1 for line, filled in rows if filled * 2 > widest), 0)


def _rows(path: Path, sheet: str | None) -> Iterator[Row]:
    from openpyxl import load_workbook  # takes a third of a second to import

    # It warns of styles and other things that are not read.
    warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
    with path.open("rb") as file:
        try:
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
            rows = rows_of(book, _sheet(path, book, sheet))
            while row := next(rows, None):
                if row[0] > SHEET_ROWS:
                    fault = f"has a sheet of more than {SHEET_ROWS:,} rows, which Excel cannot have made"
                    raise DropRefused(path, fault)
                yield row
        except DropRefused:
            raise
        except Exception as error:  # whatever a damaged workbook makes the libraries stumble over
            raise broken(path, _KIND, error) from error


def _sheet(path: Path, book: Workbook, sheet: str | None) -> ReadOnlyWorksheet:
    sheets = {found.title: found for found in book.worksheets}
    if sheet is not None and sheet not in sheets:
        raise DropRefused(path, f"has no sheet {sheet!r}; it has: {', '.join(sheets) or 'none'}")
    if not sheets:
        raise DropRefused(path, "has no sheet; save the table as a sheet, or as CSV UTF-8")
    return sheets[sheet] if sheet is not None else book.worksheets[0]


def _parts(rows: Iterator[Row], width: int) -> Iterator[Part]:
    schema = dict.fromkeys(map(str, range(width)), pl.String)
    while some := list(islice(rows, ROWS)):
        too_wide = [(line, row) for line, row in some if any(row[width:])]
        fitting = [(line, row) for line, row in some if not any(row[width:])]
        cells = [row[:width] + [None] * (width - len(row)) for _, row in fitting]
        lines = pl.Series("line", [line for line, _ in fitting], pl.Int64)
        yield Part(pl.DataFrame(cells, schema, orient="row").select(lines, pl.all()), too_wide)


def _require_size(path: Path) -> None:
    """Unpack a workbook once and keep nothing of it: what it says of its size need not be true."""
    size = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    while block := file.read(_BLOCK_BYTES):
                        size += len(block)
                        if size > WORKBOOK_BYTES:
                            fault = f"unpacks to more than {WORKBOOK_BYTES >> 20} MiB, the most for a workbook"
                            raise DropRefused(path, f"{fault}; save its sheet as CSV UTF-8, which may be of any size")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise broken(path, _KIND, error) from error
