"""A small model of the rules of time (docs/semantics.md) that is obviously right: slow, in memory, from the text.

It keeps the batches of changes in recording order and answers every question by walking them from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from crm_core.model import Change, Compares

T = TypeVar("T")

COMPARES: dict[str, Compares] = {
    "email": "casefold",
    "phone": "text",
    "address": "text",
    "website": "text",
    "note": "exact",
}


Moment = tuple[UUID, datetime]
FOREVER = datetime.max.replace(tzinfo=UTC)


def _moment(change: Change) -> Moment:
    return change.entity_uid, change.change_ts


def compared(detail_type: str, value: str) -> str:
    """What of a value decides whether it equals another."""
    return value.casefold() if COMPARES.get(detail_type) == "casefold" else value


@dataclass(frozen=True)
class SaidBy(Change):
    """A change that a source says; who says it makes no difference to what is said."""

    source: str | None = field(default=None, compare=False)


def said_by(source: str | None, change: Change) -> Change:
    """A change as a source says it, or nobody in particular."""
    said = change.entity_uid, change.change_ts, change.op, change.display_name, change.entity_type, change.details
    return SaidBy(*said, source)


def source_of(change: Change) -> str | None:
    """The source that says a change."""
    return change.source if isinstance(change, SaidBy) else None


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot says besides its rows: of its scope there is nothing else at its instant."""

    at: datetime
    types: frozenset[str]
    listed: frozenset[UUID]
    source: str | None = None  # its scope instead of types: what this source names before


@dataclass
class State:
    """What is known of one entity at a point of the walk."""

    exists: bool = False
    display_name: str = ""
    entity_type: str = ""
    details: dict[str, str] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Rules 1 to 3 of the walk."""
        if change.op == "delete":
            self.exists, self.display_name, self.entity_type, self.details = False, "", "", {}
            return
        if change.op == "patch" and not self.exists:
            return
        self.exists = True
        self.display_name = change.display_name or self.display_name
        self.entity_type = change.entity_type or self.entity_type
        for detail_type, value in change.details.items():
            if value is None:
                self.details.pop(detail_type, None)
            else:
                self.details[detail_type] = value

    def meet(self, snapshot: Snapshot, uid: UUID, *, is_named: bool) -> None:
        """Rule 6 of the walk."""
        is_in_scope = self.entity_type in snapshot.types or is_named
        if self.exists and is_in_scope and uid not in snapshot.listed:
            self.exists, self.display_name, self.entity_type, self.details = False, "", "", {}


@dataclass
class Batch:
    """What one transaction recorded."""

    said: list[Change] = field(default_factory=list)  # in order
    repeats: set[int] = field(default_factory=set)  # the places in `said` of what was a repeat then
    undoes: set[int] = field(default_factory=set)  # the places of batches that do not act from now on
    reinstates: set[int] = field(default_factory=set)  # and of those that are reinstated
    snapshot: Snapshot | None = None

    @property
    def news(self) -> list[Change]:
        """What it said but for the repeats."""
        return [change for place, change in enumerate(self.said) if place not in self.repeats]


@dataclass
class Model:
    """The batches in the order in which they were recorded."""

    batches: list[Batch] = field(default_factory=list)

    @property
    def undone(self) -> set[int]:
        """The places of the batches that do not act."""
        undone: set[int] = set()
        for batch in self.batches:
            undone = (undone | batch.undoes) - batch.reinstates
        return undone

    @property
    def acting(self) -> list[tuple[int, int]]:
        """The places of the changes that act, of their batch and in it, in the order in which they were recorded.

        A repeat stands in the place of what it repeats: it acts if no earlier batch that is not undone said the same of
        that instant, or a repeat before it in its batch is news of that instant so.
        """
        acting, said = list[tuple[int, int]](), list[Change]()
        for place, batch in enumerate(self.batches):
            if place in self.undone:
                continue
            news: set[Moment] = set()
            for number, change in enumerate(batch.said):
                if number not in batch.repeats or _moment(change) in news or change not in said:
                    news.add(_moment(change))
                    acting.append((place, number))
            said += batch.said
        return acting

    @property
    def changes(self) -> list[Change]:
        """The changes that act, in the order in which they were recorded."""
        return [self.batches[place].said[number] for place, number in self.acting]

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots that act."""
        return [b.snapshot for place, b in enumerate(self.batches) if b.snapshot and place not in self.undone]

    def record(self, *changes: Change, snapshot: Snapshot | None = None) -> list[Change]:
        """Record a batch of a drop or of fixtures: its changes in order; return those that are no repeats.

        A change is a repeat if an earlier batch said the same of the same instant and nothing before it in this batch
        is news of that instant. A change that says what the change before it at its instant says, for the same source,
        is recorded once.
        """
        earlier = [c for place, batch in enumerate(self.batches) if place not in self.undone for c in batch.said]
        batch, news = Batch(snapshot=snapshot), set[Moment]()
        last: dict[Moment, Change] = {}  # of this batch
        for change in changes:
            moment = _moment(change)
            if last.get(moment) == change and source_of(last[moment]) == source_of(change):
                continue
            if moment not in news and change in earlier:
                batch.repeats.add(len(batch.said))
            else:
                news.add(moment)
            last[moment] = change
            batch.said.append(change)
        self.batches.append(batch)
        return batch.news

    def request(self, *changes: Change) -> None:
        """Record changes by request, which are never repeats; a partial one that names nothing is nothing."""
        said = [c for c in changes if c.op != "patch" or c.display_name or c.entity_type or c.details]
        if said:
            self.batches.append(Batch(said))

    def undo(self, *places: int) -> None:
        """Undo batches."""
        self.batches.append(Batch(undoes={*places}))

    def reinstate(self, *places: int) -> None:
        """Reinstate batches that are undone."""
        self.batches.append(Batch(reinstates={*places}))

    def refuses(self, change: Change) -> str | None:
        """Say why a request is refused; None if it is not."""
        of_entity = self.walk(change.entity_uid)
        if change.op == "upsert":
            return "exists" if self.state(change.entity_uid, FOREVER).exists else None
        if not of_entity:
            return "unknown"
        if change.op == "delete" and any(c.op == "delete" and c.change_ts == change.change_ts for c in of_entity):
            return None  # a deletion again
        if self.state(change.entity_uid, change.change_ts).exists:
            return None
        return "absent" if self.entity_versions(change.entity_uid) else "unknown"

    def known_after(self, count: int) -> Model:
        """The model as it was when only the first `count` batches were recorded."""
        return Model(self.batches[:count])

    def events(self) -> list[tuple[UUID, datetime, str]]:
        """The feed: for each batch its entities by uid, since when, and what was said of the latest instant.

        A batch that undoes others, or reinstates them, has an event for each entity of which one of them said anything
        that acted at any time so far. There are events too of the entities that end at a snapshot because of a batch,
        or do not any more.
        """
        events = []
        for place, batch in enumerate(self.batches):
            is_retraction = batch.undoes or batch.reinstates
            parts: list[tuple[list[Change], str | None]] = [] if is_retraction else [(batch.news, None)]
            acted = {at for count in range(place + 2) for at in self.known_after(count).acting}
            for kind, others in (("undo", batch.undoes), ("reinstate", batch.reinstates)):
                for other in sorted(others):
                    said = self.batches[other].said
                    parts.append(([change for number, change in enumerate(said) if (other, number) in acted], kind))
            effects = self.effects(place)
            for changes, told in parts:
                found: dict[UUID, tuple[datetime, str]] = {}
                for uid in {change.entity_uid for change in changes}:
                    said = [change for change in changes if change.entity_uid == uid]
                    last = max(reversed(said), key=lambda change: change.change_ts)
                    found[uid] = min(change.change_ts for change in said), told or last.op
                for uid, since in effects.items():
                    if uid not in found or since < found[uid][0]:
                        found[uid] = since, told or (found[uid][1] if uid in found else "snapshot")
                events += [(uid, *found[uid]) for uid in sorted(found)]
        return events

    def effects(self, place: int) -> dict[UUID, datetime]:
        """The entities that a batch made differ, and since when."""
        before, after = self.known_after(place), self.known_after(place + 1)
        effects = {}
        for uid in {*before.uids(), *after.uids()}:
            instants = sorted({*before._instants(uid), *after._instants(uid)})
            differing = [at for at in instants if before.state(uid, at) != after.state(uid, at)]
            if before.versions(uid) != after.versions(uid):
                effects[uid] = differing[0]
        return effects

    def is_named(self, uid: UUID, source: str | None, before: datetime) -> bool:
        """Whether a source has said anything of an entity for an earlier instant."""
        return source is not None and any(
            change.entity_uid == uid and source_of(change) == source and change.change_ts < before
            for place, batch in enumerate(self.batches)
            if place not in self.undone
            for change in batch.said
        )

    def uids(self) -> list[UUID]:
        """All entities ever named."""
        return sorted({change.entity_uid for change in self.changes})

    def walk(self, uid: UUID) -> list[Change]:
        """One entity's changes in the order of the walk: by instant, then as recorded."""
        return sorted((c for c in self.changes if c.entity_uid == uid), key=lambda c: c.change_ts)  # stable

    def state(self, uid: UUID, at: datetime) -> State:
        """What is true of an entity at an instant."""
        state = State()
        steps: list[tuple[datetime, Change | Snapshot]] = [(each.at, each) for each in self.snapshots]
        steps += [(change.change_ts, change) for change in self.walk(uid)]
        for instant, step in sorted(steps, key=lambda each: each[0]):  # stable: a snapshot comes before its instant
            if instant > at:
                break
            if isinstance(step, Snapshot):
                state.meet(step, uid, is_named=self.is_named(uid, step.source, step.at))
            else:
                state.apply(step)
        return state

    def versions(self, uid: UUID) -> list[object]:
        """All versions of an entity and its details."""
        return [self.entity_versions(uid), *(self.detail_versions(uid, detail_type) for detail_type in COMPARES)]

    def entity_versions(self, uid: UUID) -> list[tuple[str, str, datetime, datetime | None]]:
        """(display_name, entity_type, valid_from, valid_to) in order."""
        values = [(at, self.state(uid, at)) for at in self._instants(uid)]
        runs = _runs([(at, (s.display_name, s.entity_type) if s.exists else None) for at, s in values], key=lambda v: v)
        return [(*value, start, end) for value, start, end in runs]

    def detail_versions(self, uid: UUID, detail_type: str) -> list[tuple[str, datetime, datetime | None]]:
        """(detail_value, valid_from, valid_to) in order."""
        values = [(at, self.state(uid, at).details.get(detail_type)) for at in self._instants(uid)]
        return _runs(values, key=lambda value: compared(detail_type, value))

    def as_of(self, at: datetime) -> dict[UUID, tuple[str, str, dict[str, str]]]:
        """What every entity was at an instant; a value is shown as it was asserted first in its version."""
        answer = {}
        for uid in self.uids():
            for display_name, entity_type, start, end in self.entity_versions(uid):
                if start <= at and (end is None or at < end):
                    details = {
                        detail_type: value
                        for detail_type in COMPARES
                        for value, begin, finish in self.detail_versions(uid, detail_type)
                        if begin <= at and (finish is None or at < finish)
                    }
                    answer[uid] = (display_name, entity_type, details)
        return answer

    def diff(self, from_: datetime, to: datetime) -> dict[UUID, tuple[str, dict[str, tuple[str | None, str | None]]]]:
        """The net changes between two instants: action and, a field, the values at both."""
        before, after = self.as_of(from_), self.as_of(to)
        answer = {}
        for uid in before.keys() | after.keys():
            old, new = _fields(before.get(uid)), _fields(after.get(uid))
            changes = {
                name: (old.get(name), new.get(name))
                for name in old.keys() | new.keys()
                if _identity(name, old.get(name)) != _identity(name, new.get(name))
            }
            if changes:
                action = "created" if not old else "ended" if not new else "changed"
                answer[uid] = (action, changes)
        return answer

    def transitions(
        self, from_: datetime, to: datetime
    ) -> list[tuple[datetime, UUID, str, dict[str, tuple[str | None, str | None]]]]:
        """Every moment of the window at which something changes, in order of (instant, uid), and what."""
        instants = sorted({at for uid in self.uids() for at in self._instants(uid) if from_ < at <= to})
        return [
            (at, uid, *change)
            for at in instants
            for uid, change in sorted(self.diff(at - timedelta.resolution, at).items())
        ]

    def _instants(self, uid: UUID) -> list[datetime]:
        return sorted({change.change_ts for change in self.walk(uid)} | {each.at for each in self.snapshots})


def _runs(
    values: Iterable[tuple[datetime, T | None]], key: Callable[[T], object]
) -> list[tuple[T, datetime, datetime | None]]:
    """Make runs of equal neighbours: (value of the first, start, end or None); None values are gaps."""
    runs: list[tuple[T, datetime, datetime | None]] = []
    for at, value in values:
        if runs and runs[-1][2] is None:
            last_value, start, _ = runs[-1]
            if value is not None and key(last_value) == key(value):
                continue
            runs[-1] = (last_value, start, at)
        if value is not None:
            runs.append((value, at, None))
    return runs


def _fields(snapshot: tuple[str, str, dict[str, str]] | None) -> dict[str, str]:
    if snapshot is None:
        return {}
    display_name, entity_type, details = snapshot
    return {"display_name": display_name, "entity_type": entity_type} | {f"details.{k}": v for k, v in details.items()}


def _identity(name: str, value: str | None) -> str | None:
    if value is None or not name.startswith("details."):
        return value
    return compared(name.removeprefix("details."), value)
