"""The header of a drop: which columns it has, in which order; or why the file is no drop."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crm_core.csv_records import as_text, end_of_text, fields_of, record_at
from crm_core.errors import DropRefused

REQUIRED = ("display_name", "entity_type", "details")
REASONS = "reject_reasons"
REMARKS = ("reject_line", REASONS)  # what a file of rejects has beside: for people, they say nothing of the entity
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts", "op")
HEADER_BYTES = 1 << 16  # a header ends within these

UTF_8_MARK = b"\xef\xbb\xbf"
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
_RULE = f"the first line of a drop names its columns: {', '.join(COLUMNS)}"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a drop."""

    columns: tuple[str, ...]  # in the order of the file
    size: int  # bytes, from the start of the file to the first row
    next_line: int  # the line of the first row
    text: str  # as it stood, with the mark of UTF-8 if it has one
    ends_with_cr: bool  # lines end with CR alone, as on a Macintosh of old


def read_header(path: Path, start: bytes) -> Header:
    """Read the header from the first HEADER_BYTES of a file; raises DropRefused if it is none of a drop."""
    for magic, kind in _OTHER_KINDS:
        if start.startswith(magic):
            raise DropRefused(path, f"is {kind}")
    mark = UTF_8_MARK if start.startswith(UTF_8_MARK) else b""
    text = start.removeprefix(mark)
    ends_with_cr = b"\n" not in text and b"\r" in text
    if ends_with_cr:
        text = text.replace(b"\r", b"\n")
    if len(start) < HEADER_BYTES and not text.endswith(b"\n"):
        text += b"\n"
    body = text.lstrip(b"\r\n")
    if not body:
        raise DropRefused(path, f"is empty; {_RULE}")
    blank = text[: len(text) - len(body)]
    record = record_at(body, 0)
    return Header(
        columns=_columns(path, record or body[: body.find(b"\n") + 1], is_sound=bool(record)),
        size=min(len(start), len(mark) + len(blank) + len(record)),
        next_line=1 + blank.count(b"\n") + record.count(b"\n"),
        text=as_text(mark + record),
        ends_with_cr=ends_with_cr,
    )


def _columns(path: Path, record: bytes, *, is_sound: bool) -> tuple[str, ...]:
    if b"\0" in record:
        raise DropRefused(path, "has NUL bytes in its header; is it UTF-16? save it as UTF-8")
    if end_of_text(record) < len(record):
        raise DropRefused(path, "has a header that is not UTF-8; save it as UTF-8")
    cells = fields_of(record) if is_sound else record.split(b",")
    columns = tuple(cell.decode().strip().removeprefix('"').removesuffix('"').strip().lower() for cell in cells)
    if faults := _faults(columns) or ([] if is_sound else ["has a quote in its header that is not closed"]):
        raise DropRefused(path, f"{'; '.join(faults)}; {_RULE}")
    return columns


def _faults(columns: tuple[str, ...]) -> list[str]:
    if not set(columns) & set(COLUMNS):
        for separator in _SEPARATORS:
            if any({part.strip(' "') for part in cell.split(separator)} & set(COLUMNS) for cell in columns):
                return [f"has no commas in its header; is {separator!r} the separator? a drop uses commas"]
        return ["has no header row"]
    faults = [f"has the column {name} {times} times" for name, times in Counter(columns).items() if times > 1]
    for name in dict.fromkeys(columns):
        if name not in (*COLUMNS, *REMARKS):
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            shown = repr(name if len(name) <= 40 else name[:39] + "…")
            faults.append(f"has an unknown column {shown}" + (f", is it {close[0]}?" if close else ""))
    if missing := [name for name in REQUIRED if name not in columns]:
        faults.append(f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    return faults
