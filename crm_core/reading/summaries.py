"""All data at a glance: how many entities there are, and what was learnt about the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from crm_core.model import Op
from crm_core.postgres.connection import Connection
from crm_core.reading.known import as_known, rows
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class TypeCount:
    """How many entities of a type existed at an instant."""

    code: str
    name: str
    entities: int


@dataclass(frozen=True, slots=True)
class LateFact:
    """A change that, when it was recorded, was about an earlier time than what was known of its entity."""

    entity_uid: UUID
    display_name: str  # of the entity now, or else as it was called last
    change_ts: datetime
    op: Op
    recorded_at: datetime
    actor: str
    source: Literal["drop", "request"]
    file_name: str | None  # of a drop
    drop_sha256: str | None
    line: int
    request_id: str | None  # of a request


def count_by_type(connection: Connection, as_of: datetime, *, known_at: datetime | None = None) -> list[TypeCount]:
    """Count the entities of each type at an instant, in order of the code; it reads all versions or all changes."""
    name = "count_by_type" if known_at is None else "count_by_type_known"
    with as_known(connection, known_at):
        return [TypeCount(*row) for row in rows(connection, name, {"as_of": as_of})]


def learnt_of_the_past(connection: Connection, since: datetime, *, limit: int = 10) -> list[LateFact]:
    """Read the late facts that were recorded since an instant, newest first."""
    values = {"since": since, "limit": limit}
    return [LateFact(*row) for row in connection.execute(statement("query/learnt_of_the_past"), values)]


def names_of(connection: Connection, uids: Sequence[str]) -> dict[str, str]:
    """Read the names of some entities, now or last, by their uid; one that was never known is left out."""
    if not uids:
        return {}
    rows = connection.execute(statement("query/last_names"), {"entity_uids": list(uids)})
    return {str(uid): name for uid, name in rows}
