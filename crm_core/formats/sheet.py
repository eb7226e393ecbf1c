"""The rows of a sheet, read from its XML as it is unpacked; openpyxl, which is slower, reads the rest of a workbook."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.parsers import expat

from crm_core.formats.cells import text

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

LAST_COLUMN = 1 << 14  # that Excel has
_BLOCK_BYTES = 1 << 18
_ZEROS = re.compile("0+")  # the format of a number that keeps its leading zeros
_ESCAPED = re.compile("_x(00[01][0-9A-F]|005F)_", re.IGNORECASE)  # a control character in a text, or its escape
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main "
_ROW, _CELL, _VALUE, _TEXT, _PHONETIC = (_MAIN + name for name in ("row", "c", "v", "t", "rPh"))

Row = tuple[int, list[str | None]]  # its number in the sheet, and its cells


def rows_of(book: Workbook, sheet: ReadOnlyWorksheet) -> Iterator[Row]:
    """Yield the rows of a sheet that are there, in order, with their cells as a person sees them.

    Raises ValueError, or what expat and zipfile raise, for a damaged sheet.
    """
    reading = _Reading(_Values(book, sheet))
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reading.start, reading.end
    parser.CharacterDataHandler = reading.characters
    parser.StartDoctypeDeclHandler = _refuse
    with sheet._get_source() as source:  # it has no public way to the file
        while block := source.read(_BLOCK_BYTES):
            parser.Parse(block, False)
            yield from reading.rows
            reading.rows = []
        parser.Parse(b"", True)


class _Values:
    """The texts of cells by their kind and style."""

    def __init__(self, book: Workbook, sheet: ReadOnlyWorksheet) -> None:
        self.sheet, self.strings, self.epoch = sheet, sheet._shared_strings, book.epoch
        self.dates, self.spans = book._date_formats, book._timedelta_formats
        self.widths: dict[int, int] = {}  # by style: how many digits a whole number has at least

    def shown(self, kind: str, style: int, value: str) -> str | None:
        """Return the text of a cell, given its value as it is stored."""
        match kind:
            case "n":
                return self._number(style, value)
            case "s":
                return text(_unescaped(self.strings[int(value)]))
            case "b":
                return text(bool(int(value)))
            case "d":
                from openpyxl.utils.datetime import from_ISO8601

                return text(from_ISO8601(value))
            case _:
                return _unescaped(value)

    def _number(self, style: int, value: str) -> str | None:
        number = float(value) if "." in value or "e" in value.lower() else int(value)
        if style in self.dates:
            return self._instant(style, number)
        if isinstance(number, float):
            return text(float(f"{number:.15g}"))  # as many digits as Excel shows
        return str(number).zfill(self._width(style)) if number >= 0 else str(number)

    def _instant(self, style: int, number: float) -> str | None:
        from openpyxl.utils.datetime import from_excel

        try:
            return text(from_excel(number, self.epoch, timedelta=style in self.spans))
        except (OverflowError, ValueError):
            return "#VALUE!"  # as Excel shows what is no date

    def _width(self, style: int) -> int:
        from openpyxl.cell.read_only import ReadOnlyCell

        if style not in self.widths:
            shown = ReadOnlyCell(self.sheet, 1, 1, None, "n", style).number_format
            self.widths[style] = len(shown) if _ZEROS.fullmatch(shown or "") else 0
        return self.widths[style]


class _Reading:
    """What expat calls: it collects the rows that are complete."""

    def __init__(self, values: _Values) -> None:
        self.values, self.rows = values, list[Row]()
        self.line, self.cells = 0, list[str | None]()
        self.column, self.kind, self.style = 0, "n", 0  # of the cell that is being read
        self.parts, self.is_text, self.is_phonetic = list[str](), False, False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _CELL:
            place = attributes.get("r")
            self.column = _column(place.rstrip("0123456789")) if place else self.column + 1
            self.kind, self.style = attributes.get("t", "n"), int(attributes.get("s", 0))
            self.parts = []
        elif name == _VALUE:
            self.is_text = self.kind != "inlineStr"
        elif name == _TEXT:
            self.is_text = self.kind == "inlineStr" and not self.is_phonetic
        elif name == _ROW:
            before, self.line = self.line, int(float(attributes.get("r", self.line + 1)))
            if self.line <= before:
                message = f"its row {self.line} comes after row {before}"
                raise ValueError(message)
            self.cells, self.column = [], 0
        elif name == _PHONETIC:
            self.is_phonetic = True

    def characters(self, part: str) -> None:
        if self.is_text:
            self.parts.append(part)

    def end(self, name: str) -> None:
        if name == _CELL:
            value = "".join(self.parts)
            if value:
                self._put(self.values.shown(self.kind, self.style, value))
        elif name in (_VALUE, _TEXT):
            self.is_text = False
        elif name == _ROW:
            self.rows.append((self.line, self.cells))
        elif name == _PHONETIC:
            self.is_phonetic = False

    def _put(self, shown: str | None) -> None:
        missing = self.column - len(self.cells)
        if missing > 0:
            self.cells += [None] * missing
        self.cells[self.column - 1] = shown


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), value)


@functools.cache
def _column(letters: str) -> int:
    """Return the number of a column, such as 28 for AB; raise ValueError if Excel has none of that name."""
    number = 0
    for letter in letters:
        number = number * 26 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter) + 1
        if number > LAST_COLUMN:
            break
    if not 0 < number <= LAST_COLUMN:
        message = f"it has a column {letters[:10]!r}"
        raise ValueError(message)
    return number


def _refuse(*_: object) -> None:
    message = "it declares a document type, which no workbook does"
    raise ValueError(message)
