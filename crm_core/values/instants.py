"""Instants: ISO 8601 is read, UTC with microseconds is written; one value in Python, columns in Polars."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

import polars as pl

from crm_core.values.columns import map_distinct

CLOCK_SKEW = timedelta(minutes=5)  # by how much a change_ts may be ahead of now

_END = (  # of a second, and of the time
    r"(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:(?P<utc>Z)|(?P<sign>[+-])(?P<zone_h>[01]\d|2[0-3])(?::?(?P<zone_m>[0-5]\d))?)?)?"
)
_FORMS = (
    re.compile(r"(?ai)(?P<y>\d{4})-(?P<mo>\d\d)-(?P<d>\d\d)(?:[T ](?P<h>\d\d):(?P<mi>\d\d)(?::(?P<s>\d\d)" + _END),
    re.compile(r"(?ai)(?P<y>\d{4})(?P<mo>\d\d)(?P<d>\d\d)(?:T(?P<h>\d\d)(?P<mi>\d\d)(?:(?P<s>\d\d)" + _END),
)
_USUAL_FORM = "%Y-%m-%dT%H:%M:%S%.f"
_USUAL = r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,9})?"


def parse_instant(text: str, time_zone: tzinfo) -> datetime:
    """Parse a date (its first instant) or a date and time; without an offset it is read in the zone.

    Digits after microseconds are cut off. Raises ValueError for what is not ISO 8601, is not in the calendar, does not
    exist in the zone or exists twice there, or is outside the years 1 to 9999 of UTC.
    """
    match = next((match for form in _FORMS if (match := form.fullmatch(text.strip()))), None)
    if match is None:
        fault = f"{text!r} is not ISO 8601, such as 2024-01-31T09:30:00Z"
        raise ValueError(fault)
    year, month, day, hour, minute, second = (int(match[part] or 0) for part in ("y", "mo", "d", "h", "mi", "s"))
    microsecond = int((match["fraction"] or "").ljust(6, "0")[:6])
    clock = datetime(year, month, day, hour, minute, second, microsecond, UTC)  # the time on a wall clock
    try:
        return clock - _offset(clock, match, time_zone)
    except OverflowError as error:
        fault = f"{text!r} is outside the years 1 to 9999"
        raise ValueError(fault) from error


def instants(texts: pl.Series, time_zone: tzinfo) -> pl.Series:
    """Return `parse_instant` of each String, as Datetime(us, UTC); null for null and where it raises."""

    def parsed(text: str) -> datetime | None:
        try:
            return parse_instant(text, time_zone)
        except ValueError:
            return None

    z = "Z?" if str(time_zone) in ("UTC", "Etc/UTC") else "Z"
    is_usual = texts.str.contains(f"{_USUAL}{z}$").fill_null(value=True)
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(texts))
    usual, other = texts.zip_with(is_usual, nothing), nothing.zip_with(is_usual, texts)
    clock = usual.str.strip_suffix("Z").str.replace(" ", "T", literal=True)
    quick = clock.str.to_datetime(_USUAL_FORM, time_unit="us", time_zone="UTC", strict=False)
    return quick.zip_with(is_usual, map_distinct(other, parsed, pl.Datetime("us", "UTC")))


def _offset(clock: datetime, match: re.Match[str], time_zone: tzinfo) -> timedelta:
    if match["utc"]:
        return timedelta()
    if match["sign"]:
        ahead = timedelta(hours=int(match["zone_h"]), minutes=int(match["zone_m"] or 0))
        return ahead if match["sign"] == "+" else -ahead
    first, second = _offsets(clock, time_zone)
    if first == second:
        return first
    if match["h"] is None and (start := _start_of_day(clock, first, second, time_zone)) is not None:
        return clock - start
    what = f"{clock:%Y-%m-%d}" if match["h"] is None else f"{clock:%Y-%m-%d %H:%M}"
    fault = f"{what} does not exist in {time_zone}, or exists twice"
    raise ValueError(fault)


def _offsets(clock: datetime, time_zone: tzinfo) -> tuple[timedelta, timedelta]:
    """Return the zone's offset when a clock there first shows this time, and when it shows it for the second time."""
    first, second = (clock.replace(tzinfo=time_zone, fold=fold).utcoffset() for fold in (0, 1))
    assert first is not None
    assert second is not None
    return first, second


def _start_of_day(midnight: datetime, before: timedelta, after: timedelta, time_zone: tzinfo) -> datetime | None:
    """Return the start of a day whose midnight comes twice or never; None for a day that was skipped."""
    if before > after:  # twice
        return midnight - before
    # The clocks are put forward between `early` and `late`.
    early, late = midnight - after, midnight - before
    while late - early > timedelta(microseconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(time_zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late if late.astimezone(time_zone).date() == midnight.date() else None
