"""Drops that were merged by others than the pipeline: sent over HTTP, ingested by command, or approved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from crm_core.postgres.connection import Connection
from crm_core.reading.known import settled
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class Sent:
    """A drop that somebody else has merged."""

    merged_at: datetime
    sha256: str
    file_name: str  # under which it first came
    actor: str  # who merged it
    traceparent: str | None  # of the request that did, if it has one (W3C Trace Context)


def sent_drops(connection: Connection, *, but_by: str, after: datetime, limit: int = 100) -> list[Sent]:
    """Read the drops that others than one actor have merged since an instant, in order of `merged_at`."""
    values = {"actor": but_by, "after": after, "limit": limit}

    def read(until: datetime | str) -> list[Sent]:
        return [Sent(*row) for row in connection.execute(statement("drop/sent"), values | {"until": until})]

    return settled(connection, read, attrgetter("merged_at"))
