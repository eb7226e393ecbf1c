"""What was recorded: of one entity or of all, each change with the state before and after it, as it did when recorded.

The states follow from a walk: the changes of each entity of a page, up to its last one there, are read once in
recording order. A state is then looked up, so a page costs as much as these changes, and not that for each of its rows.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.model import Effect, Op, Retracting
from crm_core.postgres.connection import Connection
from crm_core.reading.known import lines, rows
from crm_core.reading.lists import Document, PageOf, Values
from crm_core.resources import statement

FEW = 0.01  # of all changes: so few are found from the changes themselves, more of them from the batches
PART = 500  # changes that a stream reads at once

_Place = tuple[datetime, int, int]  # change_ts, batch_id, row_no: the order in which changes are walked
_State = dict[str, object]
_Details = Mapping[str, str | None] | None
DETAILS = "details."
LAST = (1 << 63, 1 << 31)  # batch_id and row_no: behind every change of an instant
BY_SNAPSHOT = (0, 0)  # comes before every change of an instant


@dataclass(frozen=True, slots=True)
class Recorded:
    """Which changes an audit of all entities lists; every part that is given must hold."""

    actor: str | None = None
    from_: datetime | None = None  # recorded then or later
    to: datetime | None = None  # recorded before
    drop: str | None = None  # the SHA-256, or the name of the file under which it first came
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
    states = _states(connection, changes)
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


@dataclass(slots=True)
class _Said:
    """What was said of one field so far, in the order of valid time; one value for each place."""

    places: list[_Place] = field(default_factory=list)
    values: list[str | None] = field(default_factory=list)

    def add(self, place: _Place, value: str | None = None) -> None:
        """Add a statement; most are later in valid time than all before."""
        index = bisect_right(self.places, place) if self.places and place < self.places[-1] else len(self.places)
        self.places.insert(index, place)
        self.values.insert(index, value)

    def before(self, place: _Place) -> int:
        """Return how many statements are before a place."""
        return bisect_left(self.places, place)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one entity."""

    place: _Place
    op: Op
    name: str | None
    code: str | None
    details: _Details
    promoted_by: int | None  # the batch since when a repeat stands in the place of another

    def says_as(self, other: _Change) -> bool:
        """Return whether it says the same as another change of its instant."""
        mine, its = ((c.place[0], c.op, c.name, c.code, c.details) for c in (self, other))
        return mine == its


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot that does not list an entity."""

    at: datetime
    batch_id: int
    scope: Sequence[str]  # codes of types; none if it is of a source
    source_id: int | None


@dataclass(slots=True)
class _Walk:
    """What was recorded of one entity so far, and which of it acts."""

    changes: list[_Change] = field(default_factory=list)
    snapshots: list[_Snapshot] = field(default_factory=list)  # that do not list the entity
    names: list[tuple[int, datetime, int]] = field(
        default_factory=list
    )  # source_id, change_ts, batch_id of rows of sources
    undone: set[int] = field(default_factory=set)  # batches

    deletions: _Said = field(default_factory=_Said)
    ends: _Said | None = None  # these and the ends by snapshots; None: they have to be found
    begins: _Said = field(default_factory=_Said)
    fields: dict[str, _Said] = field(default_factory=lambda: defaultdict(_Said))  # display_name, entity_type, details.…

    def record(self, change: _Change) -> None:
        """Add a change, which is later in recording order than all before; a repeat does not act yet."""
        self.changes.append(change)
        if change.promoted_by is None:
            self._say(change)
        self.ends = None

    def name(self, source_id: int, instant: datetime, batch_id: int) -> None:
        """Take note of a row of a source that names the entity."""
        self.names.append((source_id, instant, batch_id))
        self.ends = None

    def end_by(self, snapshot: _Snapshot) -> None:
        """Add a snapshot that does not list the entity."""
        self.snapshots.append(snapshot)
        self.snapshots.sort(key=lambda each: (each.at, each.batch_id))
        self.ends = None

    def retract(self, op: Retracting, of_batches: Sequence[int], by: int) -> None:
        """Undo batches, or reinstate them: their changes no longer count, or count again."""
        self.undone = self.undone | {*of_batches} if op == "undo" else self.undone - {*of_batches}
        self.ends, self.deletions, self.begins, self.fields = None, _Said(), _Said(), defaultdict(_Said)
        for change in self.changes:
            if self._acts(change, by):
                self._say(change)

    def _found_ends(self) -> _Said:
        """Return where the entity ends: snapshots end it that have it, as of just before, in their scope."""
        if not self.snapshots:
            return self.deletions
        ends = _Said([*self.deletions.places], [*self.deletions.values])
        for snapshot in self.snapshots:
            place = (snapshot.at, *BY_SNAPSHOT)
            before = None if snapshot.batch_id in self.undone else self._values(place, ends)
            if before is not None and (before["entity_type"] in snapshot.scope or self._is_named_before(snapshot)):
                ends.add(place)
        return ends

    def _is_named_before(self, snapshot: _Snapshot) -> bool:
        return any(
            source_id == snapshot.source_id and instant < snapshot.at and batch_id not in self.undone
            for source_id, instant, batch_id in self.names
        )

    def _acts(self, change: _Change, now: int) -> bool:
        """Return whether a change acts; of repeats see `ledger_as_known` in sql/routines."""
        if change.place[1] in self.undone:
            return False
        if change.promoted_by is None or change.promoted_by > now:
            return change.promoted_by is None
        instant, batch, row = change.place
        live = [c for c in self.changes if c.place[0] == instant and c.place[1] not in self.undone]
        return any(
            s.place[1] == batch and s.place[2] <= row and not any(e.place[1] < batch and e.says_as(s) for e in live)
            for s in live
        )

    def _say(self, change: _Change) -> None:
        place = change.place
        if change.op == "delete":
            self.deletions.add(place)
        elif change.op == "upsert":
            self.begins.add(place)
        if change.name is not None:
            self.fields["display_name"].add(place, change.name)
        if change.code is not None:
            self.fields["entity_type"].add(place, change.code)
        for detail_type, value in (change.details or {}).items():
            self.fields[f"{DETAILS}{detail_type}"].add(place, value)

    def state(self, instant: datetime) -> _State | None:
        """Return the state at an instant: what was said last since the entity began stands. None: it did not exist."""
        self.ends = self.ends or self._found_ends()
        values = self._values((instant, *LAST), self.ends)
        if values is None:
            return None
        details = {name.removeprefix(DETAILS): values[name] for name in sorted(values) if name.startswith(DETAILS)}
        return {"display_name": values["display_name"], "entity_type": values["entity_type"], "details": details}

    def _values(self, place: _Place, ends: _Said) -> dict[str, str] | None:
        """Return what stands just before a place, by field; None: the entity does not exist there."""
        ended = ends.before(place)
        began = bisect_right(self.begins.places, ends.places[ended - 1]) if ended else 0
        if began >= self.begins.before(place):
            return None
        since = self.begins.places[began]
        values: dict[str, str] = {}
        for name, said in self.fields.items():
            last = said.before(place) - 1
            if last >= 0 and said.places[last] >= since and (value := said.values[last]) is not None:
                values[name] = value
        return values


def _recorded(change: TupleRow) -> tuple[int, int]:
    return change[2], change[3]


def _states(
    connection: Connection, changes: Sequence[TupleRow]
) -> dict[tuple[int, int, UUID], tuple[_State | None, _State | None]]:
    """Return the states before and after each change, by its batch_id, row_no and entity_uid."""
    wanted = {(batch_id, row_no, uid): at for uid, at, batch_id, row_no in changes}
    last = {change[0]: change for change in sorted(changes, key=_recorded)}
    walks = {uid: _Walk() for uid in last}
    states: dict[tuple[int, int, UUID], tuple[_State | None, _State | None]] = {}
    for uid, at, batch_id, row_no, op, name, code, details, promoted_by, of_batches, scope, source_id in rows(
        connection, "audit_walk", _columns([*last.values()])
    ):
        walk, instant = walks[uid], wanted.get((batch_id, row_no, uid))
        before = None if instant is None else walk.state(instant)
        if scope is not None:
            walk.end_by(_Snapshot(at, batch_id, scope, source_id))
        elif of_batches is not None:
            walk.retract(op, of_batches, batch_id)
        else:
            if source_id is not None:
                walk.name(source_id, at, batch_id)
            if op != "name":
                walk.record(_Change((at, batch_id, row_no), op, name, code, details, promoted_by))
        if instant is not None:  # of a batch that names the entity in several repeats there are several
            first, _ = states.get((batch_id, row_no, uid), (before, None))
            states[batch_id, row_no, uid] = first, walk.state(instant)
    return states


def _whole(head: Document, states: tuple[_State | None, _State | None]) -> Document:
    before, after = map(_json, states)
    return f'{head[:-1]},"before":{before},"after":{after}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _columns(changes: Sequence[TupleRow]) -> Values:
    uids, instants, batch_ids, row_nos = (list(column) for column in zip(*changes, strict=True))
    return {"entity_uids": uids, "instants": instants, "batch_ids": batch_ids, "row_nos": row_nos}


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
