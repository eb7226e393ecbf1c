"""The header of a drop: which columns it has, in which order; or why the file is not a drop."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

from crm_core.drops.csv_records import UTF_8_MARK, as_text, end_of_text, fields_of, record_at
from crm_core.errors import DropRefused
from crm_core.values.hashing import normal_form

REQUIRED = ("display_name", "entity_type", "details")
OF_A_DELETION = ("entity_uid", "op")  # a file with these two may lack the required columns: it can only delete
REASONS = "reject_reasons"
# Further columns of a file of rejects; they are for people and say nothing about the entity.
REMARKS = ("reject_line", REASONS)
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts", "op")
KNOWN = {"", *COLUMNS, *REMARKS}
HEADER_BYTES = 1 << 16  # a header must end within these bytes

_OTHER_KINDS = (  # what a file starts with → what it is and what to do
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV UTF-8"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"(\xb5/\xfd", "a Zstandard archive; unpack it first"),
    (b"PAR1", "a Parquet file; export it as CSV"),
    (b"%PDF", "a PDF document; a drop is a CSV file"),
    (b"\xff\xfe\x00\x00", "in UTF-32; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "in UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "in UTF-16; save it as UTF-8"),
)
_SEPARATORS = (";", "\t", "|")
_HINT = re.compile(rb'"?sep=(.)"?,*\r?\n', re.IGNORECASE)  # the line that tells a spreadsheet the separator
_ENDS_WITH_CR = re.compile(rb'[^"\r\n]*+(?:(?>"[^"]*+"[^"\r\n]*+))*+\r(?!\r*\n)')  # outside quotes
_END_OF_FILE = b"\x1a"  # Ctrl-Z, which old systems append to a text
SEARCHED = 20  # lines that are searched for a header that is not in the first one
CLOSE = 0.75  # the similarity from which on an unknown column counts as a misspelling of a known one
_RULE = f"the first line of a drop names its columns: {', '.join(COLUMNS)}, and detail types by their codes"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a drop."""

    columns: tuple[str, ...]  # in the order of the file; "" stands for empty nameless columns at the end
    size: int  # bytes, from the start of the file to the first row
    next_line: int  # the line of the first row
    text: str  # unchanged, with the byte order mark if it has one
    ends_with_cr: bool  # lines end with CR alone, as on old Macintosh systems


def read_header(path: Path, start: bytes, detail_types: Iterable[str] = ()) -> Header:
    """Read the header from the first HEADER_BYTES of a file; a column may be a detail type, named by its code.

    Raises DropRefused if it is not the header of a drop.
    """
    codes = {code.lower() for code in detail_types}
    for magic, kind in _OTHER_KINDS:
        if start.startswith(magic):
            raise DropRefused(path, f"is {kind}")
    mark = UTF_8_MARK if start.startswith(UTF_8_MARK) else b""
    text = start.removeprefix(mark)
    ends_with_cr = _ENDS_WITH_CR.match(text.lstrip(b"\r\n")) is not None
    if ends_with_cr:
        text = text.replace(b"\r", b"\n")
    if len(start) < HEADER_BYTES and not text.endswith(b"\n"):
        text = without_end_of_file(text) + b"\n"
    body = text.lstrip(b"\r\n")
    if hint := _HINT.match(body):
        if hint[1] != b",":
            raise DropRefused(path, f"{_separated_by(hint[1].decode(errors='replace'))}; {_RULE}")
        body = body[hint.end() :].lstrip(b"\r\n")
    if not body:
        raise DropRefused(path, f"is empty; {_RULE}")
    blank = text[: len(text) - len(body)]
    record = record_at(body, 0)
    return Header(
        columns=_columns(path, record or body[: body.find(b"\n") + 1], codes, body, is_sound=bool(record)),
        size=min(len(start), len(mark) + len(blank) + len(record)),
        next_line=1 + blank.count(b"\n") + record.count(b"\n"),
        text=as_text(mark + record),
        ends_with_cr=ends_with_cr,
    )


def without_end_of_file(text: bytes) -> bytes:
    """Return the last bytes of a file without the Ctrl-Z that old systems append to a text."""
    return text.rstrip(_END_OF_FILE)


def _columns(path: Path, record: bytes, codes: Set[str], body: bytes, *, is_sound: bool) -> tuple[str, ...]:
    if b"\0" in record:
        raise DropRefused(path, "has NUL bytes in its header; is it UTF-16? save it as UTF-8")
    if end_of_text(record) < len(record):
        raise DropRefused(path, "has a header that is not UTF-8; save it as UTF-8")
    cells = fields_of(record) if is_sound else record.split(b",")
    texts = (cell.decode().strip().removeprefix('"').removesuffix('"') for cell in cells)
    columns = tuple(_column(text, KNOWN | codes) for text in texts)
    if not set(columns) & set(COLUMNS) and (above := _lines_above_header(body)):
        lines = "a line" if above == 1 else f"{above} lines"
        raise DropRefused(path, f"has {lines} above its header; remove what is above it; {_RULE}")
    if faults := _faults(columns, codes) or ([] if is_sound else ["has a quote in its header that is not closed"]):
        raise DropRefused(path, f"{'; '.join(faults)}; {_RULE}")
    return columns


def _lines_above_header(body: bytes) -> int:
    """Count the lines, such as a title, above what looks like a header; 0 if nothing near the start does."""
    for above, line in enumerate(body.split(b"\n", SEARCHED)[:SEARCHED]):
        if len({cell.strip(b' "\r').lower() for cell in line.split(b",")} & {name.encode() for name in COLUMNS}) > 1:
            return above
    return 0


def _column(text: str, known: Set[str]) -> str:
    """Return the name of a column: the known spelling, or else the text in lower case."""
    name = (normal_form(text) or "").lower()
    return name if name in known else text.strip().lower()


def _faults(columns: tuple[str, ...], codes: Set[str]) -> list[str]:
    if not set(columns) & set(COLUMNS):
        if len(columns) == 1 and {part.strip(' "') for part in columns[0].split(",")} & set(COLUMNS):
            return ["has each line in quotes, as a single cell; take the outer quotes away, or save it as CSV again"]
        for separator in _SEPARATORS:
            if any({part.strip(' "') for part in cell.split(separator)} & set(COLUMNS) for cell in columns):
                return [f"has no commas in its header; {_separated_by(separator)}"]
        seen = next((f"; {_separated_by(one)}" for one in _SEPARATORS if len(columns) == 1 and one in columns[0]), "")
        return [f"has no header row with a column that is known{seen}" if seen else "has no header row"]
    named = _without_nameless(columns)
    faults = [f"has the column {name} {times} times" for name, times in Counter(named).items() if times > 1 and name]
    if "" in named:
        faults.append(f"has no name for column {named.index('') + 1}, give it one or remove the column")
    for name in dict.fromkeys(named):
        if name not in KNOWN | codes:
            close = difflib.get_close_matches(name, [*COLUMNS, *sorted(codes)], n=1, cutoff=CLOSE)
            shown = repr(name if len(name) <= 40 else name[:39] + "…")
            faults.append(f"has an unknown column {shown}" + (f", is it {close[0]}?" if close else ""))
    missing = [name for name in REQUIRED if name not in named and not (name == "details" and codes & set(named))]
    if missing and not set(OF_A_DELETION) <= set(named):
        faults.append(f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    return faults


def _without_nameless(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns without the nameless ones at the end, which spreadsheets leave behind."""
    last = max((place for place, name in enumerate(columns) if name), default=-1)
    return columns[: last + 1]


def _separated_by(separator: str) -> str:
    return f"is {separator!r} the separator? a drop uses commas"
