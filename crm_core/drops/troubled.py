"""Drops that somebody should look at: refused, or held until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from crm_core.postgres.connection import Connection
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class TroubledDrop:
    """A drop that did not go in."""

    file_name: str
    sha256: str
    status: str  # refused or held
    error: str | None
    first_seen_at: datetime


def troubled_drops(connection: Connection, since: datetime) -> Sequence[TroubledDrop]:
    """Return the drops that are held, and those that were refused since an instant, at most 1,000.

    A drop whose name came again later is not among them.
    """
    with connection.cursor(row_factory=class_row(TroubledDrop)) as cursor:
        return cursor.execute(statement("drop/troubled"), {"since": since}).fetchall()
