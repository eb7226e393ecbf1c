"""One entity's past as the timeline picture shows it: a lane for each field, and what was believed of a field when.

A field is `display_name`, `entity_type` or `details.<code>`; the blank field is whether the entity exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.postgres.connection import Connection
from crm_core.reading.known import as_known, rows
from crm_core.reading.lists import Values

LONGEST = 2_000  # characters of a value that are read
MOST_FOLDED = 30_000  # changes that are folded for what was believed
FEWEST_BELIEFS, MOST_BELIEFS = 4, 60  # instants of recording that are looked at


@dataclass(frozen=True, slots=True)
class Source:
    """What recorded something: a row of a drop, a request, or fixtures."""

    recorded_at: datetime
    actor: str
    kind: str  # drop, request or fixture
    sha256: str | None = None  # of a drop, like the next two
    file_name: str | None = None
    line: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A time for which a field had one value, or several such times that are too short to be shown each."""

    field: str
    value: str | None  # None of several; cut after LONGEST characters
    is_whole: bool  # the value was not cut
    valid_from: datetime
    valid_to: datetime | None  # None: until further notice
    count: int  # how many there are
    holds: bool  # at the instant that was asked for
    is_late: bool  # learnt more than a day after it began, when something later was known already; of several: some
    source: Source | None  # that said it first; None of several, and of whether the entity exists


@dataclass(frozen=True, slots=True)
class Extent:
    """The whole of an entity's past."""

    began_at: datetime | None  # None: it never existed
    last_at: datetime | None  # of a change
    ended_before: datetime | None  # the end of its last existence before the instant that was asked for
    begins_after: datetime | None  # its first beginning after that instant
    fields: tuple[str, ...]  # that ever had a value: name, type, then details by their code
    count: int  # of values
    is_open: bool  # it exists until further notice


@dataclass(frozen=True, slots=True)
class Belief:
    """What was believed of a field from one recording on, until the next."""

    source: Source
    runs: tuple[tuple[str, datetime, datetime | None], ...]  # value, valid_from, valid_to; in order of time


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What was believed of a field, the newest first."""

    beliefs: tuple[Belief, ...]
    is_all: bool  # otherwise older recordings were not looked at
    looked_at: int  # recordings


def extent(
    connection: Connection, entity_uid: UUID, *, at: datetime | None = None, known_at: datetime | None = None
) -> Extent:
    """Read from when to when there is something to show, and when the entity existed next to an instant (None: now)."""
    with as_known(connection, known_at):
        (row,) = rows(connection, "field_extent", {"entity_uid": entity_uid, "at": at})
    began, last, before, after, fields, count, is_open = row
    return Extent(began, last, before, after, tuple(sorted(fields, key=_in_order)), count, is_open)


def lanes(
    connection: Connection,
    entity_uid: UUID,
    since: datetime,
    until: datetime,
    *,
    at: datetime | None = None,
    known_at: datetime | None = None,
    columns: int = 100,
    parts: int = 400,
) -> list[Run]:
    """Read the runs that overlap `[since, until)`, and those that hold at an instant (None: now), by field and time.

    Runs shorter than one of `parts` of the window are gathered by the one of its `columns` in which they begin.
    """
    values: Values = {"entity_uid": entity_uid, "since": since, "until": until, "at": at, "longest": LONGEST}
    with as_known(connection, known_at):
        found = rows(connection, "lanes", values | {"columns": columns, "parts": parts})
    return sorted(map(_run, found), key=lambda run: (_in_order(run.field), run.valid_from))


def values_page(
    connection: Connection,
    entity_uid: UUID,
    *,
    at: datetime | None = None,
    known_at: datetime | None = None,
    offset: int = 0,
    limit: int = 20,
) -> list[Run]:
    """Read a page of the values that the fields have had, the newest first; `Extent.count` says how many there are."""
    values: Values = {"entity_uid": entity_uid, "at": at, "longest": LONGEST, "offset": offset, "limit": limit}
    with as_known(connection, known_at):
        return list(map(_run, rows(connection, "field_values", values)))


def moments_of(
    connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None, at_most: int = 400
) -> list[datetime]:
    """Read the instants at which the entity changes, in order; of more than `at_most`, that many, evenly spread."""
    with as_known(connection, known_at):
        found = rows(connection, "field_moments", {"entity_uid": entity_uid, "most": at_most})
    return [at for (at,) in found]


def beliefs(connection: Connection, entity_uid: UUID, field: str) -> Beliefs:
    """Read what was believed of a field after each recording that changed it, the newest first.

    Only the last recordings are looked at: MOST_BELIEFS of them, or fewer of an entity with many changes.
    """
    values: Values = {"entity_uid": entity_uid, "field": field, "limit": MOST_BELIEFS + 1}
    found = rows(connection, "recordings", values)
    most = max(FEWEST_BELIEFS, min(MOST_BELIEFS, MOST_FOLDED // max(1, found[0][-1] if found else 1)))
    recordings = [_source(row[:-1]) for row in found[:most]]
    by_recording: dict[datetime, list[tuple[str, datetime, datetime | None]]] = {}
    instants = [recording.recorded_at for recording in recordings]
    with connection.transaction():
        for at, value, valid_from, valid_to in rows(
            connection, "beliefs", {"entity_uid": entity_uid, "field": field, "instants": instants, "longest": LONGEST}
        ):
            by_recording.setdefault(at, []).append((value, valid_from, valid_to))
    distinct: list[Belief] = []  # the oldest first
    for recording in reversed(recordings):
        belief = Belief(recording, tuple(by_recording.get(recording.recorded_at, ())))
        if belief.runs != (distinct[-1].runs if distinct else ()):
            distinct.append(belief)
    return Beliefs(tuple(reversed(distinct)), len(found) <= most, len(recordings))


def _run(row: TupleRow) -> Run:
    field, value, is_whole, valid_from, valid_to, count, holds, is_late, *recorded = row
    source = _source(recorded) if recorded[0] else None
    return Run(field, value, is_whole, valid_from, valid_to, count, holds, is_late, source)


def _source(recorded: Sequence[Any]) -> Source:
    recorded_at, actor, kind, sha256, file_name, line, request_id = recorded
    return Source(recorded_at, actor, kind, sha256, file_name, line if kind == "drop" else None, request_id)


def _in_order(field: str) -> tuple[int, str]:
    """Order fields: whether the entity exists, its name, its type, then its details by their codes."""
    places = {"": 0, "display_name": 1, "entity_type": 2}
    return places.get(field, 3), field
