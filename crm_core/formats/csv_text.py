"""A CSV text in UTF-8: its header, and its rows in chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.chunk import RawChunk
from crm_core.formats.csv_records import (
    COMMA,
    UTF_8_MARK,
    Split,
    Splitter,
    as_text,
    end_of_text,
    fields_of,
    record_at,
)
from crm_core.formats.files import Rejoined, Stream

HEADER_BYTES = 1 << 16  # a header must end within these bytes
END_OF_FILE = b"\x1a"  # Ctrl-Z, which old systems append to a text
_HINT = re.compile(rb'"?sep=(.)"?,*\r?\n', re.IGNORECASE)  # the line that tells a spreadsheet the separator
_ENDS_WITH_CR = re.compile(rb'[^"\r\n]*+(?:(?>"[^"]*+"[^"\r\n]*+))*+\r(?!\r*\n)')  # outside quotes


@dataclass(frozen=True, slots=True)
class Header:
    """The first record of a CSV text."""

    names: tuple[str, ...]  # of the columns, without quotes and outer white space
    size: int  # bytes, from the start of the text to the first row
    next_line: int  # the line of the first row
    text: str  # unchanged, with the byte order mark if it has one
    ends_with_cr: bool  # lines end with CR alone, as on old Macintosh systems
    hint: str | None  # the separator that the text itself names
    is_sound: bool  # False: a quote in it is not closed
    body: bytes  # what was seen of the text, from the header on


def read_header(path: Path, start: bytes, separator: str = COMMA, skip: int = 0) -> Header | None:
    """Read the header from the first HEADER_BYTES of a text, below `skip` lines; None if the text is empty.

    Raises DropRefused for a header that is not text.
    """
    mark = UTF_8_MARK if start.startswith(UTF_8_MARK) else b""
    text = start.removeprefix(mark)
    ends_with_cr = _ENDS_WITH_CR.match(text.lstrip(b"\r\n")) is not None
    if ends_with_cr:
        text = text.replace(b"\r", b"\n")
    if len(start) < HEADER_BYTES and not text.endswith(b"\n"):
        text = without_end_of_file(text) + b"\n"
    body = text
    for _ in range(skip):
        body = body[body.find(b"\n") + 1 :]
    body = body.lstrip(b"\r\n")
    hint = _HINT.match(body)
    if hint:
        body = body[hint.end() :].lstrip(b"\r\n")
    if not body:
        return None
    blank = text[: len(text) - len(body)]
    record = record_at(body, 0, separator)
    line = record or body[: body.find(b"\n") + 1]
    return Header(
        names=_names(path, line, separator, is_sound=bool(record)),
        size=min(len(start), len(mark) + len(blank) + len(record)),
        next_line=1 + blank.count(b"\n") + record.count(b"\n"),
        text=as_text(mark + record),
        ends_with_cr=ends_with_cr,
        hint=hint[1].decode(errors="replace") if hint else None,
        is_sound=bool(record),
        body=body,
    )


def read_rows(
    stream: Stream,
    header: Header,
    columns: Sequence[str],
    *,
    separator: str = COMMA,
    block_bytes: int,
    record_bytes: int,
    tell: Callable[[], int],
) -> Iterator[RawChunk]:
    """Read a text in chunks of about `block_bytes`, rows in order; memory does not grow with the text.

    `columns` are the distinct names of the header's columns, in its order.
    """
    stream = Rejoined(stream.read(HEADER_BYTES)[header.size :], stream)
    splitter = Splitter(len(columns), record_bytes, separator)
    line, rest, in_long_line = header.next_line, b"", False
    is_last, is_whole = False, True
    while not is_last:
        read = stream.read(block_bytes)
        is_last = len(read) < block_bytes
        block = rest + (read.replace(b"\r", b"\n") if header.ends_with_cr else read)
        if is_last and not block.endswith(b"\n"):
            block = without_end_of_file(block)
            is_whole = not block or block.endswith(b"\n")
            block += b"\n"
        split = splitter.split(block, line, is_last=is_last, in_long_line=in_long_line)
        if split.lines or split.rejects:
            rows = _rows(split, columns, separator)
            yield RawChunk(rows, split.rejects, tell(), block, line, header.text, separator, is_whole)
        line, rest, in_long_line = split.next_line, block[split.end :], split.in_long_line


def without_end_of_file(text: bytes) -> bytes:
    """Return the last bytes of a file without the Ctrl-Z that old systems append to a text."""
    return text.rstrip(END_OF_FILE)


def _rows(split: Split, columns: Sequence[str], separator: str) -> pl.DataFrame:
    schema = dict.fromkeys(columns, pl.String)
    rows = pl.read_csv(split.sound, has_header=False, schema=schema, separator=separator, raise_if_empty=False)
    assert rows.height == len(split.lines), "Polars and the grammar disagree on what a record is"
    present = pl.col(columns).replace({"": None})  # empty quotes are empty too
    return rows.select(pl.Series("line", split.lines, pl.Int64), present)


def _names(path: Path, record: bytes, separator: str, *, is_sound: bool) -> tuple[str, ...]:
    if b"\0" in record:
        raise DropRefused(path, "has NUL bytes in its header; is it UTF-16? save it as UTF-8")
    if end_of_text(record) < len(record):
        raise DropRefused(path, "has a header that is not UTF-8; save it as UTF-8, or name its encoding in a profile")
    cells = fields_of(record, separator) if is_sound else record.split(separator.encode())
    return tuple(cell.decode().strip().removeprefix('"').removesuffix('"').replace('""', '"') for cell in cells)
