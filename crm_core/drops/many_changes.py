"""Many changes in one call: lines of JSON become one batch, all of them or none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, tzinfo

from crm_core.drops.stated_keys import stage_keys
from crm_core.errors import ChangesRefused, KeyReused, LineFault
from crm_core.postgres.connection import Connection
from crm_core.reference import held_types
from crm_core.resources import statement
from crm_core.rows.contract import ValidChunk, validate
from crm_core.rows.json_lines import LinesOfJson, read_lines
from crm_core.timeline.merge import Origin, encoded, merge, stage, staging
from crm_core.values.hashing import normal_forms


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends many changes, with which Idempotency-Key; see `single_change.Provenance`."""

    actor: str
    request_id: str
    key: str | None = None
    fingerprint: bytes = b""  # by which the same request is known


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of many changes."""

    document: str  # JSON: batch_id, rows_accepted and so on, and the entity_uid of each line
    was_replayed: bool = False  # this is what the first request under its key was answered


def record_lines(connection: Connection, body: bytes, sender: Sender, *, now: datetime, time_zone: tzinfo) -> Recorded:
    """Record all changes of a text of JSON lines as one batch of a request, in one transaction.

    The lines obey the contract of a drop. As in any request they are not repeats; a change without change_ts is later
    than all that is known of its entity. Raises ChangesRefused with the faults of every bad line, and KeyReused;
    nothing was recorded then.
    """
    with connection.transaction():
        if sender.key is not None and (answered := _answered(connection, sender)) is not None:
            return answered
        types = held_types(connection)
        codes = [kind.code for kind in types.detail_types if kind.is_active]
        chunk = read_lines(body, codes, [source.code for source in types.sources if source.is_active])
        if chunk.frame.is_empty():
            raise ChangesRefused([LineFault(1, "is missing; send one JSON object on each line")])
        valid = validate(chunk, types, first_seen=now, now=now, time_zone=time_zone)
        _require_good(valid)
        undated = chunk.frame.filter(normal_forms(chunk.frame["change_ts"]).is_null())["line"].to_list()
        document = _merged(connection, chunk, valid, undated, sender)
        if sender.key is not None:
            values = _key(sender) | {"fingerprint": sender.fingerprint, "outcome": "recorded", "document": document}
            connection.execute(statement("change/keep_answer"), values)
        return Recorded(document)


def _require_good(valid: ValidChunk) -> None:
    if valid.rejects:
        raise ChangesRefused([LineFault(each.line, each.raw, ", ".join(each.reasons)) for each in valid.rejects])


def _merged(connection: Connection, chunk: LinesOfJson, valid: ValidChunk, undated: list[int], sender: Sender) -> str:
    with staging(connection):
        _require_good(stage_keys(connection, chunk, valid))
        stage(connection, encoded(valid.changes, valid.details))
        connection.execute(statement("merge/15_follow_keys"))
        connection.execute(statement("merge/20_lock_entities"))
        uids = [str(uid) for (uid,) in connection.execute(statement("change/staged_uids"))]
        if undated:
            connection.execute(statement("change/date_undated"), {"lines": undated})
        merged = merge(connection, Origin(sender.actor, "request", request_id=sender.request_id))
    rows = valid.changes.height
    fields = {
        "batch_id": merged.batch_id,
        "rows_accepted": rows,
        "rows_changed": merged.rows_changed,
        "rows_unchanged": rows - merged.rows_changed,
        "rows_late": merged.rows_late,
        "rows_superseded": merged.rows_superseded,
        "entity_versions_added": merged.entity_versions_added,
        "detail_versions_added": merged.detail_versions_added,
        "entity_uids": uids,
    }
    return json.dumps(fields, separators=(",", ":"))


def _answered(connection: Connection, sender: Sender) -> Recorded | None:
    """Return what was answered under the key before; raises KeyReused if that was another request."""
    connection.execute(statement("change/lock_key"), _key(sender))
    row = connection.execute(statement("change/answered"), _key(sender)).fetchone()
    if row is None:
        return None
    if row[0] != sender.fingerprint:
        raise KeyReused(sender.key or "")
    return Recorded(row[1], was_replayed=True)


def _key(sender: Sender) -> dict[str, str | bytes | None]:
    return {"actor": sender.actor, "key": sender.key}
