"""The days on which something changed, to go from one to the next; and what was recorded last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from crm_core.postgres.connection import Connection
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class DayOfChange:
    """A day on which versions of entities or details began or ended."""

    last_at: datetime  # the last of these instants: as of then, all changes of the day are there
    begun: int
    ended: int


def days_of_change(connection: Connection, time_zone: ZoneInfo) -> list[DayOfChange]:
    """Read every day of change, in order of time; the days are those of a time zone. It reads all versions."""
    values = {"time_zone": time_zone.key}
    return [DayOfChange(*row) for row in connection.execute(statement("query/days_of_change"), values)]


def last_recording(connection: Connection) -> tuple[datetime | None, datetime | None, int]:
    """Read when something was last recorded, when the last drop came, and how many drops were refused."""
    ((recorded_at, first_seen_at, refused),) = connection.execute(statement("query/last_recording"))
    return recorded_at, first_seen_at, refused
