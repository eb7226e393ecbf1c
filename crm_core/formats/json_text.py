"""Lines of JSON in UTF-8, in chunks: one object a line, and each of its members is a column."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar, cast

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
class _Columns:
    """The columns that the members of the lines so far fill."""

    select: Select
    of: dict[str, str | None] = field(default_factory=dict)  # a member's name → the column, None for none
    names: dict[str, list[str]] = field(default_factory=dict)  # a column → the names of its members
    are_shared: bool = False  # some have several names, such as Email and email

    def meet(self, members: dict[str, str], line: int) -> None:
        """Choose columns for the members that are new."""
        for name in members:
            if name in self.of:
                continue
            column = self.of[name] = self.select(name, line)
            if column is not None:
                self.names.setdefault(column, []).append(name)
                self.are_shared = self.are_shared or len(self.names[column]) > 1

    def give_each_once(self, members: dict[str, str]) -> bool:
        """Return whether no two members are of one column."""
        return not self.are_shared or all(
            sum(name in members for name in names) < 2 for names in self.names.values() if len(names) > 1
        )

    def cells(self, column: str, rows: list[dict[str, str]]) -> list[str | None]:
        """Return the cells of a column."""
        first, *others = self.names[column]
        if not others:
            return [row.get(first) or None for row in rows]
        return [next((row[name] for name in (first, *others) if name in row), None) or None for row in rows]


@dataclass(slots=True)
class _Lines:
    """What has been read of a block."""

    rows: list[dict[str, str]] = field(default_factory=list)  # the members, by their names
    lines: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_json_lines(
    stream: Stream, select: Select, *, block_bytes: int, record_bytes: int, tell: Callable[[], int]
) -> Iterator[LineChunk]:
    """Read a text in chunks of about `block_bytes`, rows in order; blank lines are skipped.

    Members of objects in an object are named by their path, such as `address.city`; lists are columns of JSON. A line
    that is not one JSON object, or has two members of one column, is a reject. `select` is called once for each name of
    a member.
    """
    columns = _Columns(select)
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
                _read_line(record, number, record_bytes, found, columns)
        first, line = line, line + block.count(b"\n")
        if len(rest) > record_bytes:
            if not is_long:
                found.rejects.append(Reject(line, (Reason.WRONG_FIELD_COUNT,), raw_of(rest[:record_bytes], line)))
            rest, is_long = b"", True
        if found.lines or found.rejects:
            cells = {name: columns.cells(name, found.rows) for name in columns.names}
            schema = {"line": pl.Int64, **dict.fromkeys(columns.names, pl.String)}
            frame = pl.DataFrame({"line": found.lines, **cells}, schema)
            yield LineChunk(frame, found.rejects, tell(), block, first, is_whole=is_whole)


def _read_line(record: bytes, line: int, record_bytes: int, found: _Lines, columns: _Columns) -> None:
    record = record.removeprefix(UTF_8_MARK).strip(b" \t\r\x1a")
    if not record:
        return
    members = Reason.WRONG_FIELD_COUNT if len(record) > record_bytes else members_of(record)
    if isinstance(members, dict):
        if not columns.of.keys() >= members.keys():
            columns.meet(members, line)
        if columns.give_each_once(members):
            found.rows.append(members)
            found.lines.append(line)
            return
        members = Reason.WRONG_FIELD_COUNT
    found.rejects.append(Reject(line, (members,), raw_of(record[:record_bytes], line)))


def members_of(record: bytes) -> dict[str, str] | Reason:
    """Read one line: the members of its object as texts, by their paths; or why it is rejected."""
    try:
        text = record.decode()
        value, end = _DECODER.raw_decode(text)
        if end != len(text) or not isinstance(value, dict):
            return Reason.WRONG_FIELD_COUNT
        members = _members(value)
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


# One of each for all lines: to make it takes as long as to read a line.
_DECODER = json.JSONDecoder(object_pairs_hook=each_once, parse_float=Decimal, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=float)


def _members(value: dict[str, object]) -> dict[str, str]:
    kinds = {*map(type, value.values())}
    if dict in kinds:
        return each_once([*_flat(value, "")])
    if kinds == {str}:
        return cast("dict[str, str]", value)
    return {name: item if isinstance(item, str) else _text(item) for name, item in value.items()}


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
            return _ENCODER.encode(value)


def _number(value: Decimal) -> str:
    if abs(value.adjusted()) > _LARGEST_EXPONENT:
        return str(value)
    return str(int(value)) if value == value.to_integral_value() else format(value, "f")
