"""The time bar of every page: as of which instant, and as known at which; both stand in the address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from urllib.parse import urlencode

from api.problems import refuse
from crm_core.utc import utc_text
from crm_core.values.instants import parse_instant

STOPS = 400  # of the slider


@dataclass(frozen=True, slots=True)
class TimeBar:
    """The two instants of a page."""

    as_of: datetime | None = None  # None: now
    known_at: datetime | None = None  # None: as it is known now
    moments: Sequence[datetime] | None = ()  # at which something changed: where the slider stops; None: not read yet
    zone: tzinfo = UTC  # in which a day of an address begins

    @property
    def is_past(self) -> bool:
        """Return whether the page shows another instant than now."""
        return self.as_of is not None or self.known_at is not None

    def params(self) -> dict[str, str]:
        """Return the parameters of an address that stand for the bar."""
        given = {"as_of": self.as_of, "known_at": self.known_at}
        return {name: iso(at, self.zone) for name, at in given.items() if at is not None}


def time_bar(query: Mapping[str, str], time_zone: tzinfo) -> TimeBar:
    """Return the time bar of an address, where an empty instant counts as missing; raises Refusal."""
    as_of, known_at = (instant_of(query, name, time_zone) for name in ("as_of", "known_at"))
    return TimeBar(as_of, known_at, zone=time_zone)


def instant_of(query: Mapping[str, str], name: str, time_zone: tzinfo) -> datetime | None:
    """Return an instant of an address, None if it is empty or missing; raises Refusal for one that cannot be read."""
    text = typed(query.get(name, ""))
    try:
        return parse_instant(text, time_zone) if text else None
    except ValueError as error:
        is_day = re.match(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text)
        refuse(name, str(error) if is_day else f"{text!r} is not an instant; write 2024-01-31 or 2024-01-31 14:30")


def typed(text: str) -> str:
    """Return as ISO 8601 what people type: 31.01.2024, a month (2024-01) or a year; blank for `now` and `today`."""
    text = text.strip()
    if text.lower() in ("now", "today"):
        return ""
    if match := re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})((?:[T ].*)?)", text):
        day, month, year, rest = match.groups()
        return f"{year}-{month:>02}-{day:>02}{rest}"
    if match := re.fullmatch(r"([0-9]{4})(?:-([0-9]{2}))?", text):
        return f"{match[1]}-{match[2] or '01'}-01"
    return text


def on_the_clock(at: datetime, zone: tzinfo) -> datetime:
    """Return an instant in the zone, or in UTC if the zone's clock shows no year from 1 to 9999 then."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.astimezone(UTC)


def iso(at: datetime, zone: tzinfo) -> str:
    """Return an instant in its shortest form for an address: 2024-01-31 is the first instant of a day in the zone."""
    day = on_the_clock(at, zone).date().isoformat()
    with suppress(ValueError):
        if parse_instant(day, zone) == at:
            return day
    return utc_text(at)


def address(root: str, path: str, bar: TimeBar, params: Mapping[str, object]) -> str:
    """Return the address of a page at the instants of the bar; `params` replace them, and None removes one."""
    said = bar.params() | {name: value for name, value in params.items() if value is None or value != ""}
    query = urlencode(
        {name: iso(v, bar.zone) if isinstance(v, datetime) else str(v) for name, v in said.items() if v is not None}
    )
    return f"{root}{path}?{query}" if query else f"{root}{path}"


def thinned(instants: Sequence[datetime], most: int = STOPS) -> list[datetime]:
    """Return at most `most` of the instants, evenly spread, with the first and the last."""
    if len(instants) <= most:
        return list(instants)
    return [instants[round(place * (len(instants) - 1) / (most - 1))] for place in range(most)]
