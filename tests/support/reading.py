"""Drops as the reader reads them: all that came of a file at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crm_core.model import Reject
from crm_core.rows.reader import read_drop

HEADER = "display_name,entity_type,details\n"
MANY = 8 << 20

Row = tuple[int, str | None, str | None, str | None]  # line, display_name, entity_type, details


@dataclass(frozen=True, slots=True)
class Read:
    """All that came of a file."""

    rows: list[Row]
    rejects: list[Reject]
    raw: list[str]  # of the rows


def read(path: Path, content: str | bytes, *, block_bytes: int = MANY, record_bytes: int = MANY) -> Read:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    result = Read([], [], [])
    for chunk in read_drop(path, block_bytes=block_bytes, record_bytes=record_bytes):
        result.rows.extend(chunk.frame.select("line", "display_name", "entity_type", "details").iter_rows())
        result.rejects.extend(chunk.rejects)
        result.raw.extend(chunk.raw(chunk.frame["line"].to_list()))
    return result
