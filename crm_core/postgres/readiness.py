"""Whether a database can be used now: it answers, it is migrated, and it takes writes."""

from __future__ import annotations

from dataclasses import dataclass

from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.schema_version import require_schema
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a database that answers and is migrated accepts writes."""

    is_read_only: bool
    waiting_seconds: float  # seconds that a write has waited for others; 0: none waits


def readiness(database: Database) -> Readiness:
    """Return how ready a database is, over a new connection: a pooled one may be lost without knowing it yet.

    Raises DatabaseError if it does not answer, SchemaTooOld or SchemaTooNew if its schema is not that of this release.
    """
    with database.connect(autocommit=True) as connection:
        require_schema(connection)
        return _of_writes(connection)


def _of_writes(connection: Connection) -> Readiness:
    row = connection.execute(statement("server/writes")).fetchone()
    assert row is not None
    is_read_only, waiting_seconds = row
    return Readiness(is_read_only, waiting_seconds or 0.0)
