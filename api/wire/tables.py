"""Lists as files for a spreadsheet: a line of JSON becomes a row, or one for each field that it says has changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Cell = str | int | float | None
Row = Sequence[Cell]
Rows = Callable[[Mapping[str, Any]], Iterable[Row]]  # of one document
SOURCE = ("source", "drop_sha256", "file_name", "line", "request_id")
AUDIT = ("recorded_at", "actor", "op", "entity_uid", "display_name", "change_ts", *SOURCE, "field", "before", "after")
ENTITY_AUDIT = tuple(name for name in AUDIT if name != "display_name")
DIFF = ("entity_uid", "action", "field", "from", "to")
TRANSITIONS = ("at", *DIFF, "recorded_at", "actor", *SOURCE)


def as_table(blocks: Iterable[bytes], columns: Sequence[str], rows_of: Rows) -> Iterator[bytes]:
    """Write lines of JSON as CSV, with a header."""
    yield written([columns])
    for block in blocks:
        yield written(row for line in block.splitlines() for row in rows_of(json.loads(line)))


def written(rows: Iterable[Row]) -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def audit_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for each field that a change changed when it was recorded, or one without a field."""
    changed = changed_fields(entry["before"], entry["after"])
    names = [entry["display_name"]] if "display_name" in entry else []
    head = [entry["recorded_at"], entry["actor"], entry["op"], entry["entity_uid"], *names, entry["change_ts"]]
    for field, before, after in changed or [("", None, None)]:
        yield [*head, *_source(entry["source"]), field, before, after]


def diff_rows(difference: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for each field of a net change."""
    for change in difference["changes"]:
        yield [difference["entity_uid"], difference["action"], change["field"], change["from"], change["to"]]


def transition_rows(transition: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for each field of a transition."""
    tail = [transition["recorded_at"], transition["actor"], *_source(transition["source"])]
    for row in diff_rows(transition):
        yield [transition["at"], *row, *tail]


def changed_fields(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[tuple[str, str | None, str | None]]:
    """Return the fields that differ between two states of an audit, with both values; None: it did not exist."""
    was, became = _fields(before), _fields(after)
    names = sorted({**was, **became}, key=_place)
    return [(name, was.get(name), became.get(name)) for name in names if was.get(name) != became.get(name)]


def _fields(state: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the values of a state by field, as a diff names them."""
    if state is None:
        return {}
    details = {f"details.{code}": value for code, value in state["details"].items()}
    return {"display_name": state["display_name"], "entity_type": state["entity_type"], **details}


def _place(field: str) -> tuple[bool, str]:
    return field.startswith("details."), field


def _source(source: Mapping[str, Any]) -> Row:
    return [source["kind"], *(source.get(name) for name in ("sha256", "file_name", "line", "request_id"))]
