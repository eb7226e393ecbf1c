"""The time bar of every page: as of which instant, and as known at which; both stand in the address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from urllib.parse import urlencode

from api.problems import refuse
from crm_core.values.instants import parse_instant

STOPS = 400  # of the slider


@dataclass(frozen=True, slots=True)
class TimeBar:
    """The two instants of a page."""

    as_of: datetime | None = None  # None: now
    known_at: datetime | None = None  # None: as it is known now
    moments: Sequence[datetime] | None = ()  # at which something changed: where the slider stops; None: not read yet

    @property
    def is_past(self) -> bool:
        """Return whether the page shows something else than now."""
        return self.as_of is not None or self.known_at is not None

    def params(self) -> dict[str, str]:
        """Return what an address says of the bar."""
        given = {"as_of": self.as_of, "known_at": self.known_at}
        return {name: iso(at) for name, at in given.items() if at is not None}


def time_bar(query: Mapping[str, str], time_zone: tzinfo) -> TimeBar:
    """Return the bar of an address, in which an empty instant is none; raises Refusal for one that cannot be read."""
    return TimeBar(instant_of(query, "as_of", time_zone), instant_of(query, "known_at", time_zone))


def instant_of(query: Mapping[str, str], name: str, time_zone: tzinfo) -> datetime | None:
    """Return an instant of an address, None if it is empty or missing; raises Refusal for one that cannot be read."""
    text = query.get(name, "").strip()
    try:
        return parse_instant(text, time_zone) if text else None
    except ValueError as error:
        refuse(name, str(error))


def iso(at: datetime) -> str:
    """Write an instant for an address, as short as it goes: 2024-01-31 is a day's first instant in UTC."""
    text = at.isoformat().replace("+00:00", "Z")
    return text.removesuffix("T00:00:00Z") if at.utcoffset() is not None and text.endswith("T00:00:00Z") else text


def address(root: str, path: str, bar: TimeBar, params: Mapping[str, object]) -> str:
    """Return the address of a page at the instants of the bar, unless `params` say otherwise (None: without)."""
    said = bar.params() | {name: value for name, value in params.items() if value is None or value != ""}
    query = urlencode(
        {name: iso(v) if isinstance(v, datetime) else str(v) for name, v in said.items() if v is not None}
    )
    return f"{root}{path}?{query}" if query else f"{root}{path}"


def thinned(instants: Sequence[datetime], most: int = STOPS) -> list[datetime]:
    """Return at most so many of the instants, evenly, with the first and the last."""
    if len(instants) <= most:
        return list(instants)
    return [instants[round(place * (len(instants) - 1) / (most - 1))] for place in range(most)]
