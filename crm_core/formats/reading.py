"""A file of any format as chunks of its own columns, in bounded memory, with the unreadable rows as rejects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crm_core.errors import DropRefused
from crm_core.formats.chunk import RawChunk
from crm_core.formats.csv_records import RECORD_BYTES
from crm_core.formats.csv_text import HEADER_BYTES, Header, read_header, read_rows
from crm_core.formats.files import Rejoined, Source, Stream, in_utf_8, opened, unpacked
from crm_core.formats.json_text import read_json_lines
from crm_core.formats.kinds import IN_WORDS, Kind, table_kind, text_kind
from crm_core.formats.layout import Layout, Naming
from crm_core.formats.parquet import open_parquet
from crm_core.formats.remarks import LINE, distinct, without_damaged
from crm_core.formats.tables import read_table
from crm_core.formats.workbook import open_workbook

BLOCK_BYTES = 8 << 20


def read_file(
    path: Path,
    naming: Naming,
    layout: Layout | None = None,
    *,
    sha256: str | None = None,
    block_bytes: int = BLOCK_BYTES,
    record_bytes: int = RECORD_BYTES,
) -> Iterator[RawChunk]:
    """Read a file in chunks of about `block_bytes`, rows in order; memory does not grow with the file.

    Raises DropRefused if the file cannot be read, is not laid out so, or no longer has the given SHA-256.
    """
    layout = layout or Layout()
    with opened(path) as file:
        source = Source(path, file)
        start, stream, packed = unpacked(source)
        match table_kind(path, start, packed):
            case "parquet" | "xlsx" as kind:
                _require_kind(path, kind, layout)
                chunks = _table(path, kind, naming, layout)
            case _:
                chunks = _text(source, stream, naming, layout, block_bytes, record_bytes)
        for chunk in chunks:
            yield without_damaged(chunk)
        source.require(sha256)


def _table(path: Path, kind: Kind, naming: Naming, layout: Layout) -> Iterator[RawChunk]:
    table = open_parquet(path) if kind == "parquet" else open_workbook(path, layout.sheet, layout.skip)
    yield from read_table(path, table, distinct(naming.columns(table.names, None)), layout.separator)


def _text(
    source: Source, stream: Stream, naming: Naming, layout: Layout, block_bytes: int, record_bytes: int
) -> Iterator[RawChunk]:
    path, tell = source.path, source.file.tell
    stream = in_utf_8(stream, layout.encoding)
    start = stream.read(HEADER_BYTES)
    stream = Rejoined(start, stream)
    kind = text_kind(path, start)
    if kind == "ndjson":
        _require_kind(path, kind, layout)
        yield from read_json_lines(stream, naming.member, block_bytes=block_bytes, record_bytes=record_bytes, tell=tell)
        return
    header = _header(path, start, layout)
    columns = distinct(naming.columns(header.names if header else (), header))
    assert header is not None, "a file without a header is refused"
    yield from read_rows(
        stream,
        header,
        columns,
        separator=layout.separator,
        block_bytes=block_bytes,
        record_bytes=record_bytes,
        tell=tell,
    )


def _header(path: Path, start: bytes, layout: Layout) -> Header | None:
    """Read the header of CSV; a file of rejects has no lines above it, and any other kind of file has it as CSV."""
    header = read_header(path, start, layout.separator)
    if header and header.names[0].strip().lower() == LINE:
        return header
    _require_kind(path, "csv", layout)
    return read_header(path, start, layout.separator, layout.skip) if layout.skip else header


def _require_kind(path: Path, kind: Kind, layout: Layout) -> None:
    if layout.kind not in (None, kind):
        raise DropRefused(
            path, f'is {IN_WORDS[kind]}, but its profile says format = "{layout.kind}"; correct one of them'
        )
