"""What was recorded, of one entity or of all: each change with the states before and after it when it was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.model import Effect, Op
from crm_core.postgres.connection import Connection
from crm_core.reading.audit_walk import State, states_of
from crm_core.reading.known import lines, rows
from crm_core.reading.lists import Document, PageOf, Values
from crm_core.resources import statement

FEW = 0.01  # of all changes: so few are found from the changes themselves, more of them from the batches
PART = 500  # changes that a stream reads at once


@dataclass(frozen=True, slots=True)
class Recorded:
    """Which changes an audit of all entities lists; every part that is given must hold."""

    actor: str | None = None
    from_: datetime | None = None  # recorded then or later
    to: datetime | None = None  # recorded before
    drop: str | None = None  # the SHA-256, or the name of the file under which it first came; also its undo
    op: Op | Effect | None = None
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
    found, position = _found(connection, which, after, offset, limit)
    return PageOf(tuple(_with_names(connection, found)), position)


def ledger(
    connection: Connection,
    which: Recorded | None = None,
    *,
    after: RecordedPosition | None = None,
    limit: int = 20,
) -> PageOf[RecordedPosition]:
    """Read a page of the rows of the ledger as they stand there, in the order of `audit_of_all`.

    A document has batch_id, row_no, entity_uid, change_ts, recorded_at, op, actor, source, and in `asserted` the
    display_name, entity_type and details that the change states; null: it says nothing of them.
    """
    found, position = _found(connection, which, after, 0, limit)
    return PageOf(tuple(_raw(connection, found)), position)


def stream_ledger(connection: Connection, which: Recorded | None = None) -> Iterator[bytes]:
    """Read all that `ledger` lists, in the same order: lines of JSON, in blocks of some of them."""
    return _stream(connection, which, _raw)


def count_audit_of_all(connection: Connection, which: Recorded | None = None, *, at_most: int | None = None) -> int:
    """Count what `audit_of_all` lists; counting stops at `at_most`, which then means that many or more."""
    values = _values(connection, which or Recorded())
    name = "count_audit_of_few" if _are_few(connection, values) else "count_audit_of_all"
    ((count,),) = rows(connection, name, values | {"at_most": at_most})
    return int(count)


def stream_audit_of_all(connection: Connection, which: Recorded | None = None) -> Iterator[bytes]:
    """Read all that `audit_of_all` lists, in the same order: lines of JSON, in blocks of some of them."""
    return _stream(connection, which, _with_names)


def documents(connection: Connection, changes: Sequence[TupleRow]) -> list[Document]:
    """Return changes, each an entity_uid, change_ts, batch_id and row_no, as an audit shows them, in their order.

    Of one entity, what was recorded earlier is known earlier, so this reads the ledger itself, also with `known_at`.
    """
    if not changes:
        return []
    states = states_of(connection, changes)
    entries = rows(connection, "audit_entries", _columns(changes))
    return [_whole(head, states[batch_id, row_no, uid]) for head, uid, batch_id, row_no in entries]


def _found(
    connection: Connection, which: Recorded | None, after: RecordedPosition | None, offset: int, limit: int
) -> tuple[list[TupleRow], RecordedPosition | None]:
    """Find the changes of a page (entity_uid, change_ts, batch_id, row_no), and where the next page begins."""
    values = _values(connection, which or Recorded())
    name = "audit_of_few" if _are_few(connection, values) else "audit_of_all"
    found = rows(connection, name, values | _start(after) | {"offset": offset, "limit": limit + 1})
    positions = [RecordedPosition(at, batch_id, uid, row_no) for uid, _, batch_id, row_no, at in found]
    return [row[:4] for row in found[:limit]], positions[limit - 1] if len(found) > limit else None


def _stream(
    connection: Connection,
    which: Recorded | None,
    documents_of: Callable[[Connection, Sequence[TupleRow]], Iterable[Document]],
) -> Iterator[bytes]:
    def found() -> Iterator[Document]:
        values = _values(connection, which or Recorded())
        name = "audit_of_few" if _are_few(connection, values) else "audit_of_all"
        with connection.cursor("recorded") as cursor:
            cursor.execute(statement(f"query/{name}"), values | _start(None) | {"offset": 0, "limit": None})
            while some := cursor.fetchmany(PART):
                yield from documents_of(connection, [row[:4] for row in some])

    return lines(connection, None, found())


def _raw(connection: Connection, changes: Sequence[TupleRow]) -> list[Document]:
    if not changes:
        return []
    entries = rows(connection, "audit_entries", _columns(changes))
    return [f'{head[:-1]},"batch_id":{batch_id},"row_no":{row_no}}}' for head, _, batch_id, row_no in entries]


def _with_names(connection: Connection, changes: Sequence[TupleRow]) -> list[Document]:
    names: dict[UUID, str] = dict(rows(connection, "last_names", {"entity_uids": [uid for uid, *_ in changes]}))
    return [
        f'{document[:-1]},"display_name":{_json(names.get(uid))}}}'
        for document, (uid, *_) in zip(documents(connection, changes), changes, strict=True)
    ]


def _whole(head: Document, states: tuple[State | None, State | None]) -> Document:
    before, after = map(_json, states)
    return f'{head[:-1]},"before":{before},"after":{after}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _columns(changes: Sequence[TupleRow]) -> Values:
    uids, instants, batch_ids, row_nos = (list(column) for column in zip(*changes, strict=True))
    return {"entity_uids": uids, "instants": instants, "batch_ids": batch_ids, "row_nos": row_nos}


def _values(connection: Connection, which: Recorded) -> Values:
    batches = None
    if which.drop is not None:
        batches = [batch_id for (batch_id,) in rows(connection, "batches_of_drops", {"name": which.drop})]
    return {
        "actor": which.actor,
        "from": which.from_,
        "to": which.to,
        "batches": batches,
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
