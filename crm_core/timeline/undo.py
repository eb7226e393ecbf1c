"""Undo and reinstate batches: everything is as if they had not come, or had not been undone.

That is recorded as a batch of its own. The ledger keeps everything; the entities that are touched are folded again by
the statements of a merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.errors import UnknownBatch
from crm_core.model import Difference, Retracting
from crm_core.postgres.connection import Connection
from crm_core.reading.reads import snapshot
from crm_core.resources import statement
from crm_core.timeline.merge import staging, staging_snapshot
from crm_core.utc import utc_text

Kind = Retracting
Values = dict[str, str | int | bool | datetime | list[int] | None]
MOMENTS = 50  # at which differences are looked for
SHOWN = 10  # differences


@dataclass(frozen=True, slots=True)
class Who:
    """Who undoes or reinstates, and why."""

    actor: str
    reason: str
    request_id: str | None = None
    traceparent: str | None = None  # of the request (W3C Trace Context)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands."""

    batch_id: int
    source: str
    drop_sha256: str | None
    is_undone: bool


@dataclass(frozen=True, slots=True)
class Retraction:
    """What an undo or a reinstatement did, or would do."""

    kind: Kind
    batch_id: int  # that records it
    batches: tuple[int, ...]  # that are undone or reinstated
    changes: int  # of these batches
    repeats: int  # that stand in the place of what they repeat
    entities: int  # of which a version differs
    entity_versions_added: int
    entity_versions_removed: int
    detail_versions_added: int
    detail_versions_removed: int
    differences: tuple[Difference, ...]  # the first

    def as_json(self) -> dict[str, object]:
        """Return the result as the object that the command line and the API show."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def locked_batches(connection: Connection, batches: Sequence[int]) -> list[Batch]:
    """Lock batches for an undo until the transaction ends, and return them; raises UnknownBatch."""
    values: Values = {"batches": list(batches)}
    connection.execute(statement("undo/lock_batches"), values)
    found = [Batch(*row) for row in connection.execute(statement("undo/batches"), values)]
    for missing in sorted({*batches} - {batch.batch_id for batch in found}):
        raise UnknownBatch(missing)
    return found


def retract(connection: Connection, kind: Kind, batches: Sequence[int], who: Who) -> Retraction:
    """Undo or reinstate batches that are locked (see `locked_batches`), in the caller's transaction."""

    def run(step: str, **values: str | int | bool | datetime | list[int] | None) -> int:
        return connection.execute(statement(step), values or None).rowcount

    its: list[int] = list(batches)
    (has_snapshots,) = _row(connection, "undo/11_has_snapshots", {"batches": its})
    if has_snapshots:
        run("merge/20_lock_all")
    else:
        run("undo/10_lock_entities", batches=its)
    batch_id, recorded_at = _row(connection, "merge/21_record_batch", _origin(kind, who))
    is_reinstated = kind == "reinstate"
    run("undo/20_record_retraction", batches=its, batch_id=batch_id, is_reinstated=is_reinstated, reason=who.reason)
    with staging(connection), staging_snapshot(connection):
        run("undo/30_create_affected")
        run("undo/31_find_affected", batches=its)
        run("undo/32_find_unlisted", batches=its)
        run("undo/40_mark")
        run("undo/41_promote", batch_id=batch_id)
        run("undo/42_forget_promoted")
        run("undo/43_mark_snapshots", batches=its, is_reinstated=is_reinstated)
        run("undo/44_link_again", batches=its)
        run("undo/50_name_entities")
        run("merge/60_reopen_changes")
        run("merge/61_end_by_snapshots")
        run("merge/62_fold_entities")
        run("merge/63_fold_details")
        moments = [(at, uid) for at, uid in connection.execute(statement("undo/moments"), {"limit": MOMENTS})]
        before = _states(connection, moments)
        entities_removed = run("merge/70_delete_entities")
        run("merge/71_end_entities", recorded_at=recorded_at)
        entities_added = run("merge/72_insert_entities", recorded_at=recorded_at)
        details_removed = run("merge/73_delete_details")
        run("merge/74_end_details", recorded_at=recorded_at)
        details_added = run("merge/75_insert_details", recorded_at=recorded_at)
        run("merge/81_keep_effects", batch_id=batch_id)
        changes, repeats, entities = _row(connection, "undo/80_count", {})
        run("undo/90_drop_affected")
    differences = _differences(moments, before, _states(connection, moments))
    return Retraction(
        kind,
        batch_id,
        tuple(its),
        changes,
        repeats,
        entities,
        entities_added,
        entities_removed,
        details_added,
        details_removed,
        tuple(islice(differences, SHOWN)),
    )


def _origin(kind: Kind, who: Who) -> Values:
    return {"actor": who.actor, "source": kind, "drop_sha256": None, "request_id": who.request_id}


def _row(connection: Connection, step: str, values: Values) -> TupleRow:
    row = connection.execute(statement(step), values or None).fetchone()
    assert row is not None, step
    return row


def _states(connection: Connection, moments: Sequence[tuple[datetime, UUID]]) -> list[dict[str, str]]:
    """Read the values of entities at moments, by field; none where an entity does not exist."""
    return [_fields(snapshot(connection, uid, as_of=at)) for at, uid in moments]


def _fields(document: str | None) -> dict[str, str]:
    if document is None:
        return {}
    entity = json.loads(document)
    details = {f"details.{detail['detail_type']}": detail["detail_value"] for detail in entity["details"]}
    return {"display_name": entity["display_name"], "entity_type": entity["entity_type"], **details}


def _differences(
    moments: Sequence[tuple[datetime, UUID]], before: Sequence[dict[str, str]], after: Sequence[dict[str, str]]
) -> Iterator[Difference]:
    for (at, uid), old, new in zip(moments, before, after, strict=True):
        for field in dict.fromkeys([*old, *new]):
            if old.get(field) != new.get(field):
                yield Difference(str(uid), field, utc_text(at), old.get(field), new.get(field))
