"""One change by a request: with its conditions, once for its key, answered with the entity as it is then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never
from uuid import UUID

from crm_core.errors import EntityAbsent, EntityExists, EntityStale, KeyReused, UnknownEntity
from crm_core.model import Change, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.values.hashing import detail_hashdiff, entity_hashdiff

Outcome = Literal["created", "changed", "deleted"]
Refusal = Literal["exists", "unknown", "absent", "stale", "key_reused"]


@dataclass(frozen=True, slots=True)
class Requested:
    """Who asks for a change, and on which conditions."""

    actor: str  # written to the ledger
    request_id: str  # written to the ledger too
    is_dated: bool = True  # False: the change takes effect when it is recorded, whatever its change_ts
    only_if: Sequence[str] | None = None  # ETags (MD5 of the document); the entity's must be one of them; "*" means any
    key: str | None = None  # within a day the same request of the same actor with this key is carried out once
    fingerprint: bytes | None = None  # a digest that identifies the request


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a change."""

    outcome: Outcome
    document: str | None  # JSON: the entity as it is now, or as it was at the change if it has ended since
    was_replayed: bool  # this is the answer of the first request with its key


def request(connection: Connection, types: ReferenceTypes, change: Change, asked: Requested) -> Answer:
    """Make one valid change (see `changes.valid_change`) if the state of its entity allows it, in one statement.

    An upsert creates an entity that does not exist now. Raises EntityExists, UnknownEntity, EntityAbsent, EntityStale
    or KeyReused; nothing was recorded then.
    """
    type_ids = {kind.code: kind.entity_type_id for kind in types.entity_types}
    compares = {kind.code: kind.compares for kind in types.detail_types}
    name, code = change.display_name, change.entity_type
    listed = [
        (code, value, None if value is None else detail_hashdiff(code, value, compares[code]))
        for code, value in change.details.items()
    ]
    codes, texts, hashdiffs = (list(column) for column in zip(*listed, strict=True)) if listed else (None, None, None)
    values: dict[str, object] = {
        "entity_uid": change.entity_uid,
        "change_ts": change.change_ts if asked.is_dated else None,
        "op": change.op,
        "display_name": change.display_name,
        "entity_type_id": change.entity_type and type_ids[change.entity_type],
        "hashdiff": entity_hashdiff(name, code) if name and code else None,
        "detail_types": codes,
        "detail_values": texts,
        "detail_hashdiffs": hashdiffs,
        "actor": asked.actor,
        "request_id": asked.request_id,
        "only_if": None if asked.only_if is None else list(asked.only_if),
        "key": asked.key,
        "fingerprint": asked.fingerprint,
    }
    row = connection.execute(statement("change/request_change"), values).fetchone()
    assert row is not None
    outcome, document, ended_at, was_replayed = row
    if outcome in ("created", "changed", "deleted"):
        return Answer(outcome, document, was_replayed)
    at = change.change_ts if asked.is_dated else None
    raise _refusal(outcome, change.entity_uid, at, ended_at, asked.key or "")


def _refusal(
    outcome: Refusal, uid: UUID, at: datetime | None, ended_at: datetime | None, key: str
) -> EntityExists | UnknownEntity | EntityAbsent | EntityStale | KeyReused:
    match outcome:
        case "exists":
            return EntityExists(uid)
        case "unknown":
            return UnknownEntity(uid)
        case "absent":
            return EntityAbsent(uid, at, ended_at)
        case "stale":
            return EntityStale(uid)
        case "key_reused":
            return KeyReused(key)
        case _:
            assert_never(outcome)
