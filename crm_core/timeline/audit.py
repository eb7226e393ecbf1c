"""What was recorded: of one entity or of all, each change with the state before and after it, as it did when recorded.

The states follow from a walk: the changes of each entity of a page, up to its last one there, are read once in
recording order. A state is then looked up, so a page costs as much as these changes, and not that for each of its rows.
"""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.model import Op
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.timeline.known import lines, rows
from crm_core.timeline.lists import Document, PageOf, Values

FEW = 0.01  # of all changes: so few are found from the changes themselves, more of them from the batches
PART = 500  # changes that a stream reads at once

_Place = tuple[datetime, int, int]  # change_ts, batch_id, row_no: the order in which changes are walked
_State = dict[str, object]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Which changes an audit of all entities lists; every part that is given must hold."""

    actor: str | None = None
    from_: datetime | None = None  # recorded then or later
    to: datetime | None = None  # recorded before
    drop: str | None = None  # the SHA-256, or the name of the file under which it first came
    op: Op | None = None
    detail_type: str | None = None  # the canonical code: changes that state a detail of it, or its end
    entity_uid: UUID | None = None


@dataclass(frozen=True, slots=True)
class RecordedPosition:
    """Where a page of an audit of all entities ended: the next begins behind it."""

    recorded_at: datetime
    batch_id: int
    entity_uid: UUID
    row_no: int


def audit_of_all(
    connection: Connection,
    which: Recorded | None = None,
    *,
    after: RecordedPosition | None = None,
    offset: int = 0,
    limit: int = 20,
) -> PageOf[RecordedPosition]:
    """Read a page of what was recorded, each change with the state before and after it.

    The batch that was recorded last comes first, and within a batch the changes are in falling order of entity_uid.
    A page begins behind a position, or `offset` changes from the newest. A document is that of an entity's own audit
    and the entity's name as it is now, or was last.
    """
    values = _values(connection, which or Recorded())
    name = "audit_of_few" if _are_few(connection, values) else "audit_of_all"
    found = rows(connection, name, values | _start(after) | {"offset": offset, "limit": limit + 1})
    shown = _with_names(connection, [row[:3] for row in found[:limit]])
    positions = [RecordedPosition(at, batch_id, uid, row_no) for uid, batch_id, row_no, at in found]
    return PageOf(tuple(shown), positions[limit - 1] if len(found) > limit else None)


def count_audit_of_all(connection: Connection, which: Recorded | None = None, *, at_most: int | None = None) -> int:
    """Count what `audit_of_all` lists; counting stops at `at_most`, so that this answer means so many or more."""
    values = _values(connection, which or Recorded())
    name = "count_audit_of_few" if _are_few(connection, values) else "count_audit_of_all"
    ((count,),) = rows(connection, name, values | {"at_most": at_most})
    return int(count)


def stream_audit_of_all(connection: Connection, which: Recorded | None = None) -> Iterator[bytes]:
    """Read all that `audit_of_all` lists, in the same order: lines of JSON, in blocks of some of them."""

    def found() -> Iterator[Document]:
        values = _values(connection, which or Recorded())
        name = "audit_of_few" if _are_few(connection, values) else "audit_of_all"
        with connection.cursor("recorded") as cursor:
            cursor.execute(statement(f"query/{name}"), values | _start(None) | {"offset": 0, "limit": None})
            while some := cursor.fetchmany(PART):
                yield from _with_names(connection, [row[:3] for row in some])

    return lines(connection, None, found())


def documents(connection: Connection, changes: Sequence[TupleRow]) -> list[Document]:
    """Return changes, each an entity_uid, batch_id and row_no, as an audit shows them, in the order given."""
    if not changes:
        return []
    states = _states(connection, changes)
    entries = rows(connection, "audit_entries", _columns(changes))
    return [_whole(head, states[batch_id, row_no, uid]) for head, uid, batch_id, row_no in entries]


def _with_names(connection: Connection, changes: Sequence[TupleRow]) -> list[Document]:
    names: dict[UUID, str] = dict(rows(connection, "last_names", {"entity_uids": [uid for uid, *_ in changes]}))
    return [
        f'{document[:-1]},"display_name":{_json(names.get(uid))}}}'
        for document, (uid, *_) in zip(documents(connection, changes), changes, strict=True)
    ]


@dataclass(slots=True)
class _Walk:
    """What is recorded of one entity so far, by the place of each statement in the order of valid time."""

    ends: list[_Place] = field(default_factory=list)
    begins: list[_Place] = field(default_factory=list)
    said: dict[str, list[tuple[_Place, str | None]]] = field(
        default_factory=dict
    )  # display_name, entity_type, details.…

    def record(self, place: _Place, op: Op, values: Mapping[str, str | None]) -> None:
        """Add a change, later in recording order than all before."""
        if op == "delete":
            insort(self.ends, place)
        elif op == "upsert":
            insort(self.begins, place)
        for name, value in values.items():
            insort(self.said.setdefault(name, []), (place, value), key=_place)

    def state(self, at: datetime) -> _State | None:
        """Return the state at an instant: what was said last since the entity began stands. None: it did not exist."""
        ended = bisect_right(self.ends, at, key=_instant)
        began = bisect_right(self.begins, self.ends[ended - 1]) if ended else 0
        if began == len(self.begins) or self.begins[began][0] > at:
            return None
        since = self.begins[began]
        values: dict[str, str] = {}
        for name, said in self.said.items():
            last = bisect_right(said, at, key=_instant_said)
            if last and said[last - 1][0] >= since and (value := said[last - 1][1]) is not None:
                values[name] = value
        details = {name.removeprefix(_DETAILS): values[name] for name in sorted(values) if name.startswith(_DETAILS)}
        return {"display_name": values["display_name"], "entity_type": values["entity_type"], "details": details}


_DETAILS = "details."


def _place(said: tuple[_Place, str | None]) -> _Place:
    return said[0]


def _instant(place: _Place) -> datetime:
    return place[0]


def _instant_said(said: tuple[_Place, str | None]) -> datetime:
    return said[0][0]


def _states(
    connection: Connection, changes: Sequence[TupleRow]
) -> dict[tuple[int, int, UUID], tuple[_State | None, _State | None]]:
    """Return the states before and after each change, by its batch_id, row_no and entity_uid."""
    wanted = {(batch_id, row_no, uid) for uid, batch_id, row_no in changes}
    last = {uid: (batch_id, row_no) for batch_id, row_no, uid in sorted(wanted)}
    walks = {uid: _Walk() for uid in last}
    states: dict[tuple[int, int, UUID], tuple[_State | None, _State | None]] = {}
    for uid, at, batch_id, row_no, op, name, code, details in rows(
        connection, "audit_walk", _columns([(uid, *place) for uid, place in last.items()])
    ):
        walk, is_wanted = walks[uid], (batch_id, row_no, uid) in wanted
        before = walk.state(at) if is_wanted else None
        named = {"display_name": name, "entity_type": code}
        values = {key: value for key, value in named.items() if value is not None}
        walk.record((at, batch_id, row_no), op, values | {f"{_DETAILS}{key}": v for key, v in (details or {}).items()})
        if is_wanted:
            states[batch_id, row_no, uid] = before, walk.state(at)
    return states


def _whole(head: Document, states: tuple[_State | None, _State | None]) -> Document:
    before, after = map(_json, states)
    return f'{head[:-1]},"before":{before},"after":{after}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _columns(changes: Sequence[TupleRow]) -> Values:
    uids, batch_ids, row_nos = (list(column) for column in zip(*changes, strict=True))
    return {"entity_uids": uids, "batch_ids": batch_ids, "row_nos": row_nos}


def _values(connection: Connection, which: Recorded) -> Values:
    drops = None if which.drop is None else [sha for (sha,) in rows(connection, "drops_named", {"name": which.drop})]
    return {
        "actor": which.actor,
        "from": which.from_,
        "to": which.to,
        "drops": drops,
        "op": which.op,
        "detail_type": which.detail_type,
        "entity_uid": which.entity_uid,
    }


def _start(after: RecordedPosition | None) -> Values:
    if after is None:
        return {"after_at": None, "after_batch": None, "after_uid": None, "after_row": None}
    return {
        "after_at": after.recorded_at,
        "after_batch": after.batch_id,
        "after_uid": after.entity_uid,
        "after_row": after.row_no,
    }


def _are_few(connection: Connection, values: Values) -> bool:
    """Return whether few changes pass a filter: they are found from the changes, many from the batches."""
    if values["entity_uid"] is not None:
        return True
    if values["op"] in (None, "upsert") and values["detail_type"] is None:
        return False
    ((share,),) = rows(connection, "share_of_changes", values)
    return bool(share < FEW)
