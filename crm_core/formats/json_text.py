"""Lines of JSON in UTF-8, in chunks: one object a line, and each of its members is a column."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import polars as pl

from crm_core.formats.chunk import LineChunk
from crm_core.formats.csv_records import UTF_8_MARK, raw_of
from crm_core.formats.files import Stream
from crm_core.model import Reason, Reject

V = TypeVar("V")

Select = Callable[[str, int], str | None]  # the name of a member and its line → the column that it fills, or None
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # PostgreSQL stores neither NUL nor half a surrogate pair
_LARGEST_EXPONENT = 40  # of a number that is written out: 1e400 is not


@dataclass(slots=True)
class _Lines:
    """What has been read of a block."""

    rows: list[dict[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_json_lines(
    stream: Stream, select: Select, *, block_bytes: int, record_bytes: int, tell: Callable[[], int]
) -> Iterator[LineChunk]:
    """Read a text in chunks of about `block_bytes`, rows in order; blank lines are skipped.

    Members of objects in an object are named by their path, such as `address.city`; lists are columns of JSON. A line
    that is not one JSON object is a reject. `select` is called once for each name of a member.
    """
    columns: dict[str, str | None] = {}
    line, rest, is_long, is_last, is_whole = 1, b"", False, False, True
    while not is_last:
        read = stream.read(block_bytes)
        is_last = len(read) < block_bytes
        block = rest + read
        if is_last and block and not block.endswith(b"\n"):
            is_whole = False
            block += b"\n"
        end = block.rfind(b"\n") + 1
        block, rest = block[:end], block[end:]
        found = _Lines()
        for number, record in enumerate(block.split(b"\n")[:-1], line):
            if is_long and number == line:  # the end of a line that was rejected for its length
                is_long = False
            else:
                _read_line(record, number, record_bytes, found, columns, select)
        first, line = line, line + block.count(b"\n")
        if len(rest) > record_bytes:
            if not is_long:
                found.rejects.append(Reject(line, (Reason.WRONG_FIELD_COUNT,), raw_of(rest[:record_bytes], line)))
            rest, is_long = b"", True
        if found.lines or found.rejects:
            names = [name for name in dict.fromkeys(columns.values()) if name is not None]
            cells = {name: [row.get(name) or None for row in found.rows] for name in names}
            frame = pl.DataFrame({"line": found.lines, **cells}, {"line": pl.Int64, **dict.fromkeys(names, pl.String)})
            yield LineChunk(frame, found.rejects, tell(), block, first, is_whole=is_whole)


def _read_line(
    record: bytes, line: int, record_bytes: int, found: _Lines, columns: dict[str, str | None], select: Select
) -> None:
    record = record.removeprefix(UTF_8_MARK).strip(b" \t\r\x1a")
    if not record:
        return
    members = None if len(record) > record_bytes else members_of(record)
    if not isinstance(members, dict):
        found.rejects.append(Reject(line, (members or Reason.WRONG_FIELD_COUNT,), raw_of(record[:record_bytes], line)))
        return
    row: dict[str, str] = {}
    for name, text in members.items():
        if name not in columns:
            columns[name] = select(name, line)
        if (column := columns[name]) is not None:
            row[column] = text
    found.rows.append(row)
    found.lines.append(line)


def members_of(record: bytes) -> dict[str, str] | Reason:
    """Read one line: the members of its object as texts, by their paths; or why it is rejected."""
    try:
        value: object = json.loads(
            record.decode(), object_pairs_hook=each_once, parse_float=Decimal, parse_constant=_refuse
        )
        if not isinstance(value, dict):
            return Reason.WRONG_FIELD_COUNT
        members = dict(each_once([*_flat(value, "")]))
    except UnicodeDecodeError:
        return Reason.INVALID_ENCODING
    except (ValueError, RecursionError):
        return Reason.WRONG_FIELD_COUNT
    if b"\\u" in record and any(NO_TEXT.search(text) for pair in members.items() for text in pair):
        return Reason.INVALID_ENCODING
    return members


def each_once(pairs: list[tuple[str, V]]) -> dict[str, V]:
    """Return the members of an object; raise ValueError for one that is given twice."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen = set[str]()
    for name, _ in pairs:
        if name in seen:
            message = f"the member {name[:40]!r} is given twice"
            raise ValueError(message)
        seen.add(name)
    return members


def _refuse(name: str) -> float:
    raise ValueError(name)


def _flat(members: dict[str, object], path: str) -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        if isinstance(value, str):
            yield path + name, value
        elif isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name, _text(value)


def _text(value: object) -> str:
    """Write a value as a person would."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return _number(value)
        case _:
            return json.dumps(value, ensure_ascii=False, default=float)


def _number(value: Decimal) -> str:
    if abs(value.adjusted()) > _LARGEST_EXPONENT:
        return str(value)
    return str(int(value)) if value == value.to_integral_value() else format(value, "f")
