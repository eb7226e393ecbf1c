"""The timeline picture of an entity: where each bar, gap and tick goes, in per cent of the width; see timeline.html."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from crm_core.reading.lanes import Extent, Run

MARGIN = timedelta(days=40)  # so that neither zones nor ticks lead beyond the years that there are
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC) + MARGIN, datetime.max.replace(tzinfo=UTC) - MARGIN
BEYOND = 2.0  # per cent at the end, for bars that go on
EDGE = -0.2  # per cent at the beginning, so that the text of a bar can be seen there too
NARROWEST = timedelta(milliseconds=1)  # window
BEFORE, AFTER = 0.02, 0.06  # parts of the whole that are left free at its sides
MOST_TICKS = 8
HOUR, DAY, YEAR = 3_600.0, 86_400.0, 365.2425 * 86_400.0
STEPS: tuple[tuple[str, float, float], ...] = (  # between ticks: unit, how many, about how many seconds
    *(("second", n, n) for n in (0.001, 0.01, 0.1, 1, 5, 15, 60, 300, 900, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)),
    *(("day", n, n * DAY) for n in (1, 2, 7, 14)),
    *(("month", n, n * YEAR / 12) for n in (1, 3, 6)),
    *(("month", n * 12, n * YEAR) for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)),
)


@dataclass(frozen=True, slots=True)
class Window:
    """The time that the picture shows."""

    since: datetime
    until: datetime

    @property
    def width(self) -> timedelta:
        """Return how long it is."""
        return self.until - self.since

    def place(self, at: datetime | None) -> float:
        """Return where an instant lies, in per cent of the width; None is beyond the end."""
        if at is None:
            return 100 + BEYOND
        return min(max((at - self.since) / self.width * 100, EDGE), 100 + BEYOND)

    def has(self, at: datetime | None) -> bool:
        """Return whether the instant is in the picture."""
        return at is not None and self.since <= at <= self.until

    def moved(self, by: float) -> Window:
        """Return the window moved by a fraction of its width."""
        return Window(_shifted(self.since, self.width * by), _shifted(self.until, self.width * by))

    def zoomed(self, by: float, around: datetime | None = None) -> Window:
        """Return the window with its width multiplied by `times`, around an instant in it or else around its middle."""
        centre = around if around is not None and self.has(around) else self.since + self.width / 2
        wide = Window(_shifted(centre, (self.since - centre) * by), _shifted(centre, (self.until - centre) * by))
        return wide if wide.width >= NARROWEST else self


@dataclass(frozen=True, slots=True)
class Bar:
    """A run in its lane."""

    run: Run
    x: float
    width: float
    until: datetime  # where it ends in the picture; an open one goes on, fading
    is_open: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """A field with its bars."""

    field: str
    colour: str
    shown: Run | None  # the value at the instant of the time bar
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which the entity did not exist, after it had."""

    began: datetime
    ended: datetime | None
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on the axis."""

    at: datetime
    x: float
    label: str
    is_long: bool
    anchor: str  # of its label, which must not leave the picture


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn."""

    window: Window
    now: datetime
    lanes: tuple[Lane, ...]
    gaps: tuple[Gap, ...]
    ticks: tuple[Tick, ...]


def picture(runs: Sequence[Run], extent: Extent, window: Window, now: datetime, zone: ZoneInfo) -> Picture:
    """Return the picture of the runs that overlap a window or hold at the instant of the time bar."""
    lanes = []
    colours = {"display_name": "name", "entity_type": "type"}
    for number, field in enumerate(extent.fields):
        of_field = [run for run in runs if run.field == field]
        shown = next((run for run in of_field if run.holds), None)
        colour = colours.get(field, f"detail-{number % 6}")
        lanes.append(Lane(field, colour, shown, tuple(_bars(of_field, window, now))))
    lives = [run for run in runs if run.field == "" and _overlaps(run, window)]
    return Picture(window, now, tuple(lanes), tuple(_gaps(lives, extent, window)), tuple(ticks(window, zone)))


def fitting(extent: Extent, now: datetime, at: datetime | None) -> Window:
    """Return the window in which everything is to be seen."""
    known = [instant for instant in (extent.began_at, extent.last_at, now, at) if instant is not None]
    whole = max(max(known) - min(known), timedelta(hours=1))
    return Window(_shifted(min(known), -BEFORE * whole), _shifted(max(known), AFTER * whole))


def ticks(window: Window, zone: ZoneInfo) -> Iterator[Tick]:
    """Return the ticks of a window, at most about MOST_TICKS: round instants of the zone."""
    seconds = window.width.total_seconds()
    unit, size, _ = next((step for step in STEPS if seconds / step[2] <= MOST_TICKS), STEPS[-1])
    for clock in _clocks(max(window.since, EARLIEST).astimezone(zone).replace(tzinfo=None), unit, size):
        at = clock.replace(tzinfo=zone).astimezone(UTC)
        if at > window.until:
            return
        if at >= window.since:
            label = _label(clock, unit, size)
            x = window.place(at)
            yield Tick(at, x, label, len(label) > 5, "start" if x < 3 else "end" if x > 97 else "middle")


def _clocks(first: datetime, unit: str, size: float) -> Iterator[datetime]:
    """Yield the local times of ticks, from one before `first` on."""
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "month":
        months = first.year * 12 + first.month - 1
        for month in range(months - months % int(size), LATEST.year * 12 + 12, int(size)):
            if month >= 12:
                yield midnight.replace(year=month // 12, month=month % 12 + 1, day=1)
        return
    if unit == "day":
        step = timedelta(days=size)
        clock = midnight - timedelta(days=(midnight.toordinal() - 1) % size)  # weeks begin on Mondays
    else:
        step = timedelta(seconds=size)
        clock = midnight + (first - midnight) // step * step
    while clock <= LATEST.replace(tzinfo=None):
        yield clock
        clock += step


def _label(clock: datetime, unit: str, size: float) -> str:
    if unit == "month":
        return f"{clock.year:04}" if size % 12 == 0 else f"{clock.year:04}-{clock.month:02}"
    if unit == "day" or (clock.hour, clock.minute, clock.second, clock.microsecond) == (0, 0, 0, 0):
        return clock.date().isoformat()
    if size >= 60:
        return clock.strftime("%H:%M")
    return clock.strftime("%H:%M:%S") if size >= 1 else f"{clock:%H:%M:%S}.{clock.microsecond // 1000:03}"


def _bars(runs: Iterable[Run], window: Window, now: datetime) -> Iterator[Bar]:
    for run in runs:
        if _overlaps(run, window):
            ends = max(now, run.valid_from) if run.valid_to is None else run.valid_to
            x = window.place(run.valid_from)
            yield Bar(run, x, window.place(ends) - x, ends, run.valid_to is None)


def _gaps(lives: Sequence[Run], extent: Extent, window: Window) -> Iterator[Gap]:
    """Return the times in the window in which the entity did not exist: between its lives, before and after them."""
    began = extent.began_at
    if began is None or began >= window.until:
        return
    free = max(began, window.since)  # where the entity may not exist
    for life in lives:
        if life.valid_from > free:
            yield _gap(window, free, life.valid_from)
        if life.valid_to is None:
            return
        free = life.valid_to
    if free < window.until:
        yield _gap(window, free, None)


def _gap(window: Window, began: datetime, ended: datetime | None) -> Gap:
    x = window.place(began)
    return Gap(began, ended, x, window.place(ended) - x)


def _overlaps(run: Run, window: Window) -> bool:
    return run.valid_from < window.until and (run.valid_to is None or run.valid_to > window.since)


def _shifted(at: datetime, by: timedelta) -> datetime:
    """Return an instant moved by a duration, within the years that datetime supports."""
    try:
        return min(max(at + by, EARLIEST), LATEST)
    except OverflowError:
        return LATEST if by > timedelta(0) else EARLIEST
