"""Undo a drop, or reinstate it: all the batches that it recorded, however long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from crm_core.errors import UndoRefused, UnknownDrop
from crm_core.postgres.connection import Connection
from crm_core.reading.known import settled
from crm_core.resources import statement
from crm_core.timeline.undo import Kind, Retraction, Who, locked_batches, retract

_HAS = {"undo": "merged", "reinstate": "undone"}  # the status that a drop has before
_GETS = {"undo": "undone", "reinstate": "merged"}


@dataclass(frozen=True, slots=True)
class Retracted:
    """A drop that was undone or reinstated, and by whom."""

    recorded_at: datetime
    batch_id: int
    kind: Kind
    actor: str
    reason: str
    sha256: str
    file_name: str  # under which it first came


def retracted_drops(
    connection: Connection, *, after: tuple[datetime, int] | None = None, limit: int = 100
) -> list[Retracted]:
    """Read the undos and reinstatements of drops as they were recorded, from behind one (recorded_at, batch_id)."""
    at, batch_id = after or ("-infinity", 0)
    values = {"after_at": at, "after_batch": batch_id, "limit": limit}

    def read(until: datetime | str) -> list[Retracted]:
        return [Retracted(*row) for row in connection.execute(statement("drop/retractions"), values | {"until": until})]

    return settled(connection, read, attrgetter("recorded_at"))


def undo_drop(connection: Connection, sha256: str, kind: Kind, who: Who, *, dry_run: bool = False) -> Retraction:
    """Undo what a merged drop recorded, or reinstate it, in one transaction; a dry run does it and rolls it back.

    What is reinstated is what the last undo of the drop undid. Raises UnknownDrop, and UndoRefused for a drop that is
    not merged, or not undone.
    """
    with connection.transaction(force_rollback=dry_run):
        row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
        if row is None:
            raise UnknownDrop(sha256)
        if row[1] != _HAS[kind]:
            raise UndoRefused(_why(f"drop {sha256[:12]}", kind, row[1]))
        batches = connection.execute(statement("undo/batches_of_drop"), {"sha256": sha256}).fetchall()
        last = max((undone_by for _, undone_by in batches if undone_by is not None), default=None)
        its = [batch for batch, undone_by in batches if undone_by == (None if kind == "undo" else last)]
        locked_batches(connection, its)
        retraction = retract(connection, kind, its, who)
        connection.execute(statement("undo/set_drop_status"), {"sha256": sha256, "status": _GETS[kind]})
        return retraction


def undo_batch(connection: Connection, batch_id: int, kind: Kind, who: Who, *, dry_run: bool = False) -> Retraction:
    """Undo what a request or a fixture recorded, or reinstate it, in one transaction.

    Raises UnknownBatch, and UndoRefused for a batch of a drop, for one that undoes another, and for one that is undone
    already, or is not undone.
    """
    with connection.transaction(force_rollback=dry_run):
        (batch,) = locked_batches(connection, [batch_id])
        if batch.drop_sha256 is not None:
            message = f"batch {batch_id} is of the drop {batch.drop_sha256}; {kind} the drop"
            raise UndoRefused(message)
        if batch.source in ("undo", "reinstate"):
            other = "reinstate" if batch.source == "undo" else "undo"
            message = f"batch {batch_id} has changed which batches act ({batch.source}); {other} those themselves"
            raise UndoRefused(message)
        status = "undone" if batch.is_undone else "merged"
        if status != _HAS[kind]:
            raise UndoRefused(_why(f"batch {batch_id}", kind, status))
        return retract(connection, kind, [batch_id], who)


def _why(what: str, kind: Kind, status: str) -> str:
    match kind, status:
        case "undo", "undone":
            return f"{what} is undone already; reinstate it if it is to count again"
        case "reinstate", "merged":
            return f"{what} is not undone, so there is nothing to reinstate; see what it did in the list of drops"
        case _:
            return f"nothing of {what} was recorded (it is {status}), so there is nothing to {kind}"
