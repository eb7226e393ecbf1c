"""One entity's past as the timeline picture shows it: a lane for each field, and what was believed of a field when.

A field is `display_name`, `entity_type` or `details.<code>`; the blank field is whether the entity exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
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
class Shape:
    """How fine the picture of a past is."""

    columns: int = 100  # of the window: runs that are too short are gathered, one for each column in which some begin
    parts: int = 400  # of the window: what is shorter than one is too short
    moments: int = 400  # 2 or more


@dataclass(frozen=True, slots=True)
class Past:
    """An entity's past."""

    extent: Extent
    moments: tuple[datetime, ...]  # at which it changes, in order; of very many, some of them, evenly spread
    lanes: tuple[Run, ...]  # that overlap the window or hold at the instant that was asked for, by field and time
    values: tuple[
        Run, ...
    ]  # a page of what the fields have had, the newest first; Extent.count says how many there are


class Stretch(NamedTuple):
    """A time for which one value was believed, or several such times that are too short to be shown each."""

    value: str | None  # None of several; cut after LONGEST characters
    valid_from: datetime
    valid_to: datetime | None  # None: until further notice
    runs: int = 1  # how many there are


@dataclass(frozen=True, slots=True)
class Belief:
    """What was believed of a field from one recording on, until the next."""

    source: Source
    runs: tuple[Stretch, ...]  # in order of time


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What was believed of a field, the newest first."""

    beliefs: tuple[Belief, ...]
    is_all: bool  # otherwise older recordings were not looked at
    looked_at: int  # recordings


def past(
    connection: Connection,
    entity_uid: UUID,
    now: datetime,
    *,
    at: datetime | None = None,
    known_at: datetime | None = None,
    window: tuple[datetime | None, datetime | None] = (None, None),
    shape: Shape | None = None,
    offset: int = 0,
    limit: int = 20,
) -> Past:
    """Read the past of an entity: all of it in short, its runs in a window of time, and a page of its values.

    The window is `[since, until)`; without one of them it begins at the first moment, or ends at the last, with `at`
    and `now` in it. `at` is the instant that the page is about (None: now). `offset` and `limit` are of the values.
    """
    shape = shape or Shape()
    since, until = window
    values: Values = {"entity_uid": entity_uid, "at": at, "since": since, "until": until, "now": now}
    values |= {"columns": shape.columns, "parts": shape.parts, "moments": shape.moments, "longest": LONGEST}
    with as_known(connection, known_at):
        found = rows(connection, "entity_past", values | {"offset": offset, "limit": limit})
    parts: dict[str, list[TupleRow]] = {"field": [], "moment": [], "lane": [], "value": []}
    for part, *row in found:
        parts[part].append(tuple(row))
    moments = tuple(row[3] for row in parts["moment"])
    lanes = sorted(map(_run, parts["lane"]), key=lambda run: (_in_order(run.field), run.valid_from))
    page = sorted(map(_run, parts["value"]), key=lambda run: run.field)
    page.sort(key=lambda run: run.valid_from, reverse=True)
    return Past(_extent(parts["field"], moments), moments, tuple(lanes), tuple(page))


def _extent(fields: Sequence[TupleRow], moments: Sequence[datetime]) -> Extent:
    if not moments:
        return Extent(None, None, None, None, (), 0, is_open=False)
    lives = {field: (before, after, is_open) for field, _, _, after, before, _, is_open, *_ in fields}
    before, after, is_open = lives.pop("")
    count = sum(count for field, _, _, _, _, count, *_ in fields if field)
    return Extent(moments[0], moments[-1], before, after, tuple(sorted(lives, key=_in_order)), count, is_open)


def beliefs(
    connection: Connection,
    entity_uid: UUID,
    field: str,
    *,
    window: tuple[datetime, datetime] | None = None,
    shape: Shape | None = None,
) -> Beliefs:
    """Read what was believed of a field after each recording that changed it, the newest first.

    Of a window `[since, until)`, that is the runs that overlap it, with those gathered that are too short to be
    seen; without one, all runs. Only the last recordings are looked at: MOST_BELIEFS of them, or fewer of an entity
    with many changes.
    """
    shape = shape or Shape()
    since, until = window or (None, None)
    values: Values = {"entity_uid": entity_uid, "field": field, "since": since, "until": until, "longest": LONGEST}
    values |= {"columns": shape.columns, "parts": shape.parts}
    values |= {"fewest": FEWEST_BELIEFS, "most": MOST_BELIEFS, "most_folded": MOST_FOLDED}
    with connection.transaction():
        found = rows(connection, "beliefs", values)
    last, looked_at, recordings = None, 0, 0
    distinct: list[Belief] = []  # the oldest first
    for recording, some in groupby(reversed(found), key=itemgetter(slice(0, 9))):
        *source, recordings, digest = recording
        looked_at += 1
        if digest != last:
            runs = [Stretch(*run) for run in (row[9:] for row in some) if run[1] is not None]
            distinct.append(Belief(_source(source), tuple(reversed(runs))))
        last = digest
    return Beliefs(tuple(reversed(distinct)), recordings <= looked_at, looked_at)


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
