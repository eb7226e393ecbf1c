"""What a file is, by how it starts, whatever its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from crm_core.errors import DropRefused
from crm_core.formats.csv_records import UTF_8_MARK

Kind = Literal["csv", "ndjson", "parquet", "xlsx"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TABLES: dict[bytes, Kind] = {b"PAR1": "parquet", b"PK\x03\x04": "xlsx"}  # how they start
IN_WORDS: dict[Kind, str] = {
    "csv": "a CSV file",
    "ndjson": "a file of JSON lines",
    "parquet": "a Parquet file",
    "xlsx": "an Excel workbook or another zip archive",
}
_OTHER_KINDS = (  # what a file starts with → what it is and what to do
    (b"\x1f\x8b", "packed twice; unpack it once"),
    (b"(\xb5/\xfd", "packed twice; unpack it once"),
    (b"\xd0\xcf\x11\xe0", "an old or encrypted Excel workbook; save it as .xlsx without a password, or as CSV UTF-8"),
    (b"BZh", "a bzip2 archive; unpack it, or pack it with gzip or Zstandard"),
    (b"\xfd7zXZ", "an xz archive; unpack it, or pack it with gzip or Zstandard"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"%PDF", "a PDF document; a drop is a table"),
    (b"ARROW1", "an Arrow file; save it as Parquet"),
    (b"Obj\x01", "an Avro file; save it as Parquet"),
)
_UTF_32 = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def table_kind(path: Path, start: bytes, packed: str | None) -> Kind | None:
    """Return the kind of a file that is not text; None if it may be text. Raises DropRefused if it cannot be a drop."""
    for magic, other in _OTHER_KINDS:
        if start.startswith(magic):
            raise DropRefused(path, f"is {other}")
    kind = next((kind for magic, kind in TABLES.items() if start.startswith(magic)), None)
    if kind is not None and packed:
        raise DropRefused(path, f"is {IN_WORDS[kind]} packed with {packed}; it is packed in itself: unpack it first")
    return kind


def text_kind(path: Path, text: bytes) -> Kind:
    """Return the kind of a text in UTF-8 from its first bytes. Raises DropRefused if it cannot be a drop."""
    if wide := "UTF-32" if text.startswith(_UTF_32) else "UTF-16" if text.startswith(_UTF_16) else None:
        raise DropRefused(path, f'is in {wide}; save it as UTF-8, or say so in a profile: encoding = "{wide.lower()}"')
    body = text.removeprefix(UTF_8_MARK).lstrip(b" \t\r\n")
    if body.startswith(b"["):
        raise DropRefused(path, "is a JSON list; write one object a line, as `jq -c '.[]'` does")
    return "ndjson" if body.startswith(b"{") else "csv"
