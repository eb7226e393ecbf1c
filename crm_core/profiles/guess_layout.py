"""Guess how a file is laid out: its format, and the encoding, the separator and the header's line of a text."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crm_core.formats.csv_records import UTF_8_MARK
from crm_core.formats.files import Source, opened, unpacked
from crm_core.formats.kinds import table_kind, text_kind
from crm_core.formats.layout import Layout
from crm_core.formats.workbook import lines_above

SEEN_BYTES = 1 << 18  # of the file
SEEN_RECORDS = 200
SEPARATORS = ",;\t|"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLD = ("cp1252", "cp850")  # in order of how frequent they are
_SURE = 0.9  # the share of records with as many fields as the header


@dataclass(frozen=True, slots=True)
class LayoutGuess:
    """A layout, and what is not certain of it."""

    layout: Layout
    notes: tuple[str, ...] = ()


def guess_layout(path: Path) -> LayoutGuess:
    """Guess the layout of a file from its beginning; raise DropRefused if it is nothing that can be read."""
    with opened(path) as file:
        start, stream, packed = unpacked(Source(path, file))
        if kind := table_kind(path, start, packed):
            return LayoutGuess(Layout(kind, skip=lines_above(path) if kind == "xlsx" else 0))
        start = stream.read(SEEN_BYTES)
    encoding = guess_encoding(start)
    text = start.removeprefix(UTF_8_MARK).decode(encoding, errors="replace")
    notes = () if encoding.startswith("utf") else (f"the text is not UTF-8, so {encoding} is assumed: look at ä, é, ß",)
    if text_kind(path, text.encode()[:1024]) == "ndjson":
        return LayoutGuess(Layout("ndjson", encoding), notes)
    separator, skip = guess_separator(text)
    return LayoutGuess(Layout("csv", encoding, separator, skip), notes)


def guess_encoding(start: bytes) -> str:
    """Guess the encoding of a text from its first bytes."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if start.count(0) > len(start) // 4:
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return max(_OLD, key=lambda encoding: _score(start.decode(encoding, errors="replace")))
    return "utf-8"


def _score(text: str) -> int:
    """Return how much a text looks like words: letters speak for it, other signs within words against it."""
    score = 0
    for place, char in enumerate(text):
        if char.isascii():
            continue
        is_letter = unicodedata.category(char)[0] == "L"
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        in_word = before.isalpha() or after.isalpha()
        score += 1 if is_letter and in_word else -3 if in_word else -1
    return score


def guess_separator(text: str) -> tuple[str, int]:
    """Guess the separator of CSV, and how many lines are above the header."""
    first = text.lstrip("\r\n").splitlines()[:1]
    if first and first[0].strip('"').lower().startswith("sep=") and len(first[0].strip('"')) == 5:
        return first[0].strip('"')[4], 0
    best, found = (0.0, 0), (",", 0)
    for separator in SEPARATORS:
        records = _records(text, separator)
        widths = Counter(len(cells) for _, cells in records)
        if not widths:
            continue
        width, times = widths.most_common(1)[0]
        share = times / len(records)
        worth = (share if share >= _SURE else share / 10, width)
        if width > 1 and (worth[0] >= _SURE, width, worth[0]) > (best[0] >= _SURE, best[1], best[0]):
            best, found = worth, (separator, _lines_above(records, width))
    return found


def _records(text: str, separator: str) -> Sequence[tuple[int, list[str]]]:
    """Return the first records that are not blank, each with the number of lines above it."""
    whole = text[: text.rfind("\n") + 1] or text
    reader = csv.reader(io.StringIO(whole, newline=""), delimiter=separator)
    records, above = [], 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((above, cells))
            above = reader.line_num
            if len(records) >= SEEN_RECORDS:
                break
    except csv.Error:  # a field of more than 128 KiB: what was read before has to do
        pass
    return records


def _lines_above(records: Sequence[tuple[int, list[str]]], width: int) -> int:
    """Return how many lines are above the first record that fills most of its fields."""
    for above, cells in records:
        if len(cells) == width and sum(bool(cell.strip()) for cell in cells) > width // 2:
            return above
    return 0
