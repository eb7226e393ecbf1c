"""The states before and after changes, as they were when the changes were recorded.

They follow from a walk: the changes of each entity are read once in recording order, and a state is then looked up. Of
a long past, what was said before all changes that are asked for, and of instants before theirs, comes as one state.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.model import Compares, Op, Retracting
from crm_core.postgres.connection import Connection
from crm_core.reading.known import rows
from crm_core.reading.lists import Values
from crm_core.values.hashing import compared_form

LONG = 500  # changes of an entity: of more, it is worth finding where the walk can start

_Place = tuple[datetime, int, int]  # change_ts, batch_id, row_no: the order in which changes are walked
State = dict[str, object]
_Details = Mapping[str, str | None] | None
DETAILS = "details."
LAST = (1 << 63, 1 << 31)  # batch_id and row_no: behind every change of an instant
BY_SNAPSHOT = (0, 0)  # comes before every change of an instant


@dataclass(slots=True)
class _Said:
    """What was said of one field so far, in the order of valid time; one value for each place."""

    places: list[_Place] = field(default_factory=list)
    values: list[str | None] = field(default_factory=list)
    compares: Compares = "exact"  # "text" is as good: the values are in normal form
    spelled: dict[str | None, str] = field(default_factory=dict)  # one of the values, by what they compare as
    is_varied: bool = False  # some values compare equal, and are not the same

    def add(self, place: _Place, value: str | None = None) -> None:
        """Add a statement; most are later in valid time than all before."""
        index = bisect_right(self.places, place) if self.places and place < self.places[-1] else len(self.places)
        self.places.insert(index, place)
        self.values.insert(index, value)
        if value is not None and self.compares == "casefold":
            self.is_varied |= self.spelled.setdefault(self._compared(value), value) != value

    def before(self, place: _Place) -> int:
        """Return how many statements are before a place."""
        return bisect_left(self.places, place)

    def standing(self, place: _Place, since: _Place) -> str | None:
        """Return what stands just before a place, of what was said since another; of equal neighbours the first."""
        last = self.before(place) - 1
        if last < 0 or self.places[last] < since:
            return None
        value, instant = self.values[last], self.places[last][0]
        for index in range(last - 1, -1, -1) if self.is_varied else ():
            if self.places[index] < since or value is None:
                break
            if self.places[index][0] == instant:
                continue  # superseded
            if self._compared(self.values[index]) != self._compared(value):
                break
            value, instant = self.values[index], self.places[index][0]
        return value

    def _compared(self, value: str | None) -> str | None:
        return None if value is None else compared_form(value, self.compares)


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

    compares: Mapping[str, Compares]  # by the codes of the detail types
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
            name = f"{DETAILS}{detail_type}"
            if name not in self.fields:
                self.fields[name] = _Said(compares=self.compares[detail_type])
            self.fields[name].add(place, value)

    def state(self, instant: datetime) -> State | None:
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
            if (value := said.standing(place, since)) is not None:
                values[name] = value
        return values


def _recorded(change: TupleRow) -> tuple[int, int]:
    return change[2], change[3]


def states_of(
    connection: Connection, changes: Sequence[TupleRow]
) -> dict[tuple[int, int, UUID], tuple[State | None, State | None]]:
    """Return the states before and after changes, by the batch_id, row_no and entity_uid of each.

    A change is an entity_uid, change_ts, batch_id and row_no. A state is display_name, entity_type and details, a value
    for each code; None: the entity did not exist.
    """
    wanted = {(batch_id, row_no, uid): at for uid, at, batch_id, row_no in changes}
    last = {change[0]: change for change in sorted(changes, key=_recorded)}
    compares = {kind[1]: kind[5] for kind in rows(connection, "detail_types", {})}
    walks = {uid: _Walk(compares) for uid in last}
    starts = _starts(connection, changes, walks)
    asked: Values = {
        "entity_uids": [*last],
        "batch_ids": [batch_id for _, _, batch_id, _ in last.values()],
        "row_nos": [row_no for *_, row_no in last.values()],
        "starts": [starts.get(uid) for uid in last],
    }
    states: dict[tuple[int, int, UUID], tuple[State | None, State | None]] = {}
    for uid, at, batch_id, row_no, op, name, code, details, promoted_by, of_batches, scope, source_id in rows(
        connection, "audit_walk", asked
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


def _starts(
    connection: Connection, changes: Sequence[TupleRow], walks: Mapping[UUID, _Walk]
) -> dict[UUID, datetime | None]:
    """Return from which instant on the changes of entities with a long past have to be walked; without one, all.

    Into these walks comes what stood before, as one complete change of the microsecond before.
    """
    starts: dict[UUID, datetime | None] = {}
    for (uid,) in rows(connection, "audit_long", {"entity_uids": [*walks], "most": LONG}):
        places = sorted(_recorded(change) for change in changes if change[0] == uid)
        (first_batch, first_row), (last_batch, last_row) = places[0], places[-1]
        values: Values = {"entity_uid": uid, "first_batch": first_batch, "first_row": first_row}
        found = rows(connection, "audit_start", values | {"last_batch": last_batch, "last_row": last_row})
        for since, name, code, details in found:
            starts[uid] = since
            if name is not None:
                place = (since - timedelta.resolution, 0, 0)
                walks[uid].record(_Change(place, "upsert", name, code, details, None))
    return starts
