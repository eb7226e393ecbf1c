"""Rejected rows, as they are kept beside the drop that they came in."""

from __future__ import annotations

from crm_core.database import Connection, statement
from crm_core.model import Reason, Reject


def rejects(connection: Connection, sha256: str, limit: int = 10) -> list[Reject]:
    """Read the first rejected rows of a drop, in order of their lines."""
    rows = connection.execute(statement("drop/rejects"), {"sha256": sha256, "limit": limit})
    return [Reject(line, tuple(map(Reason, reasons)), raw) for line, reasons, raw in rows]
