"""Changes as lines of JSON: each an object with the columns of a drop as its members."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from crm_core.errors import ChangesRefused, LineFault
from crm_core.formats.chunk import RawChunk
from crm_core.formats.csv_records import raw_of
from crm_core.formats.json_text import NO_TEXT, each_once
from crm_core.model import Reason
from crm_core.rows.header import COLUMNS, further_key
from crm_core.values.hashing import code_key


@dataclass(frozen=True, slots=True)
class LinesOfJson(RawChunk):
    """Lines of JSON as the rows of a drop; the first line is 1."""

    def raw(self, lines: Sequence[int]) -> list[str]:
        """Return lines as they stood, long ones cut."""
        parts = self.block.split(b"\n")
        return [raw_of(parts[line - 1], line) for line in lines]


def read_lines(body: bytes, detail_types: Iterable[str], sources: Iterable[str] = ()) -> LinesOfJson:
    """Read all changes of a text in UTF-8, one a line; blank lines are passed over.

    Members are the columns of a drop: `details` is a list of objects, and any of the detail types may be a member of
    its own, named by its code, as may keys of further sources. Other values are texts; null and blank say nothing.
    Raises ChangesRefused for lines that are not such objects.
    """
    columns = [*COLUMNS, *map(code_key, detail_types), *map(further_key, sources)]
    rows: list[tuple[int | str | None, ...]] = []
    faults: list[LineFault] = []
    for line, record in enumerate(body.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not record.strip():
            continue
        members, found = _members(record, columns)
        faults += [LineFault(line, said, reason) for said, reason in found]
        rows.append((line, *(members.get(column) or None for column in columns)))
    if faults:
        raise ChangesRefused(faults)
    schema: dict[str, type[pl.DataType]] = {"line": pl.Int64, **dict.fromkeys(columns, pl.String)}
    return LinesOfJson(pl.DataFrame(rows, schema, orient="row"), block=body.removeprefix(b"\xef\xbb\xbf"))


def _members(record: bytes, columns: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, Reason | None]]]:
    """Return the members of one line as the cells of a drop, and what is wrong with the line."""
    try:
        value: object = json.loads(record.decode(), object_pairs_hook=each_once)
    except UnicodeDecodeError:
        return {}, [("is not UTF-8; send UTF-8", Reason.INVALID_ENCODING)]
    except (ValueError, RecursionError) as error:
        return {}, [(f"is not JSON that can be read: {error}; send one object on each line", None)]
    if not isinstance(value, dict):
        return {}, [("is not a JSON object; send one on each line", None)]
    return {code_key(name): _cell(item) for name, item in value.items()}, list(_faults(value, columns))


def _faults(members: Mapping[str, object], columns: Sequence[str]) -> Iterator[tuple[str, Reason | None]]:
    seen: set[str] = set()
    for name, value in members.items():
        key, shown = code_key(name), repr(name if len(name) <= 40 else f"{name[:39]}…")
        if key not in columns:
            yield f"has an unknown member {shown}; there are: {', '.join(columns)}", None
        elif key in seen:
            yield f"has {shown} twice; give it once", None
        elif isinstance(value, str) and NO_TEXT.search(value):
            yield f"has a NUL or half a surrogate pair in {shown}; remove it", Reason.INVALID_ENCODING
        elif key != "details" and value is not None and not isinstance(value, str):
            yield f"has no text in {shown}; write it as a JSON string", None
        seen.add(key)


def _cell(value: object) -> str:
    """Write a value as the cell of a drop; details are JSON there."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
