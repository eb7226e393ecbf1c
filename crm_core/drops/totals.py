"""How many drops came, and what their rows did, for the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from crm_core.postgres.connection import Connection
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class DropTotals:
    """The drops of one status, with the sums of their rows."""

    status: str
    drops: int
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    rows_changed: int
    rows_unchanged: int
    rows_late: int
    last_seen_at: datetime


def drop_totals(connection: Connection) -> Sequence[DropTotals]:
    """Return the totals of each status that a drop has."""
    return [DropTotals(*row) for row in connection.execute(statement("drop/totals"))]
