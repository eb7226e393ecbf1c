"""The first page: what there is, what changed, what came in, what was learnt about the past, and what waits."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.time_bar import instant_of
from crm_core.drops import registry
from crm_core.postgres.connection import Connection
from crm_core.reading.moments import DayOfChange
from crm_core.reading.summaries import LateFact, TypeCount, count_by_type, learnt_of_the_past
from crm_core.report.numbers import Books, Freshness, Totals, books, freshness, totals

DROPS_SHOWN = 6
DROPS_SEARCHED = 50  # for what waits for a decision
WAITING_SHOWN = 5
LATE_SHOWN = 8
LEARNT_SINCE = timedelta(days=1)
HEIGHT, FOOT = 160, 20  # of the picture of changes, in pixels; what lies across it is in percent
MOST_BARS = 120
TOWERING = 4  # times the second highest bar: so high a bar is cut, so that the others can be seen
EARLY = 0.02  # the share of all changes that the picture leaves out at its beginning


@dataclass(frozen=True, slots=True)
class Bar:
    """The changes of some consecutive days, as a bar."""

    x: float
    width: float
    height: float
    changes: int
    is_cut: bool  # it would be higher than the picture
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Intake:
    """What came in."""

    drops: Sequence[dict[str, object]]  # as the API tells them, newest first
    waiting: Sequence[dict[str, object]]  # those of which rows were rejected, or that were refused
    totals: Totals
    books: Books
    freshness: Freshness


async def show_overview(opened: Page) -> Response:
    """Show the overview at the instant of the time bar."""
    now = datetime.now(UTC)
    as_of = opened.bar.as_of or now
    days = await opened.days_of_change()
    against = instant_of(opened.request.query_params, "against", opened.state.settings.time_zone)
    against = against or await opened.year_earlier(as_of)
    known_at = opened.bar.known_at

    def counted(at: datetime, connection: Connection) -> list[TypeCount]:
        return count_by_type(connection, at, known_at=known_at)

    here = await opened.soon(("types", opened.bar.as_of, known_at), partial(counted, as_of))
    day = against.replace(minute=0, second=0, microsecond=0)
    there = await opened.soon(("types", day, known_at), partial(counted, against))
    shown = densest(days)
    before = {count.code: count.entities for count in there or ()}
    counts = [(count, count.entities - before.get(count.code, 0)) for count in here or ()]
    return opened.show(
        "overview.html",
        counts=None if here is None or there is None else counts,
        against=against,
        bars=bars(shown),
        earlier=sum(day.begun + day.ended for day in days) - sum(day.begun + day.ended for day in shown),
        intake=await opened.cached("intake", partial(_intake, now)),
        late=await opened.cached("late", partial(_late, now)),
        height=HEIGHT,
        foot=FOOT,
        line=place_of(shown, as_of),
        ticks=ticks(shown),
    )


routes = [Route("/", page("reader", show_overview), methods=["GET"])]


def densest(days: Sequence[DayOfChange]) -> Sequence[DayOfChange]:
    """Return the days without the few early ones that would leave most of the picture empty."""
    every, early = sum(day.begun + day.ended for day in days), 0
    for place, day in enumerate(days):
        early += day.begun + day.ended
        if early > every * EARLY:
            return days[place:]
    return days


def bars(days: Sequence[DayOfChange], most: int = MOST_BARS) -> list[Bar]:
    """Return the changes over time as bars, each of an equal part of the time; empty ones are left out."""
    if not days:
        return []
    first, span = days[0].last_at, _span(days)
    number = min(most, max(1, len(days)))
    slots: dict[int, list[DayOfChange]] = {}
    for day in days:
        slots.setdefault(min(int((day.last_at - first) / span * number), number - 1), []).append(day)
    changes = {slot: sum(day.begun + day.ended for day in some) for slot, some in slots.items()}
    top, width = _top(changes.values()), 100 / number
    return [
        Bar(
            x=round(slot * width + width * 0.1, 3),
            width=round(width * 0.8, 3),
            height=round(max(2.0, min(1.0, changes[slot] / top) * (HEIGHT - FOOT - 10)), 2),
            changes=changes[slot],
            is_cut=changes[slot] > top,
            first_at=some[0].last_at,
            last_at=some[-1].last_at,
        )
        for slot, some in slots.items()
    ]


def _top(changes: Collection[int]) -> float:
    """Return how many changes the highest bar stands for; a first load that is far larger than all else is cut off."""
    highest, second, *_ = [*sorted(changes, reverse=True), 0]
    return second * 1.25 if second and highest > second * TOWERING else highest


def place_of(days: Sequence[DayOfChange], at: datetime) -> float | None:
    """Return where an instant is in the picture; None outside of it."""
    if not days:
        return None
    share = (at - days[0].last_at) / _span(days)
    return round(share * 100, 3) if 0 <= share <= 1 else None


def ticks(days: Sequence[DayOfChange], most: int = 8) -> list[tuple[float, str]]:
    """Return where years (of a short time: months) begin in the picture, with their names."""
    if not days:
        return []
    first, last = days[0].last_at, days[-1].last_at
    if (last.year - first.year) >= 3:
        step = max(1, (last.year - first.year) // most + 1)
        begun = [(datetime(year, 1, 1, tzinfo=UTC), str(year)) for year in range(first.year + 1, last.year + 1, step)]
    else:
        months = range(first.year * 12 + first.month, last.year * 12 + last.month)
        step = max(1, len(months) // most + 1)
        begun = [
            (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC), f"{month // 12}-{month % 12 + 1:02}")
            for month in months[::step]
        ]
    return [(x, name) for at, name in begun if (x := place_of(days, at)) is not None]


def _span(days: Sequence[DayOfChange]) -> timedelta:
    return max(days[-1].last_at - days[0].last_at, timedelta(seconds=1))


def _intake(now: datetime, connection: Connection) -> Intake:
    drops = [json.loads(document) for document in registry.drops(connection, limit=DROPS_SEARCHED).documents]
    waiting = [drop for drop in drops if drop["rows_rejected"] or drop["status"] in ("refused", "held")]
    return Intake(
        drops[:DROPS_SHOWN],
        waiting[:WAITING_SHOWN],
        totals(connection),
        books(connection),
        freshness(connection, now=now),
    )


def _late(now: datetime, connection: Connection) -> list[LateFact]:
    return learnt_of_the_past(connection, now - LEARNT_SINCE, limit=LATE_SHOWN)
