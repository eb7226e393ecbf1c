"""A change by request: validated as a row of a drop is, made under conditions, once for its key, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Literal, assert_never
from uuid import UUID

from crm_core.errors import ChangeRefused, EntityAbsent, EntityExists, EntityStale, KeyReused, UnknownEntity
from crm_core.model import Change, Op, Reason, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading.keys import SourceKey
from crm_core.reference import held_types
from crm_core.resources import statement
from crm_core.values.hashing import (
    NAME_CHARACTERS,
    NOBODY,
    VALUE_BYTES,
    code_key,
    detail_hashdiff,
    entity_hashdiff,
    is_name_too_long,
    is_storable,
    is_value_too_long,
    normal_form,
    stored_form,
)
from crm_core.values.instants import CLOCK_SKEW, parse_instant

Fault = tuple[Reason, str, str]  # the code, the field, what is wrong and the cure
Outcome = Literal["created", "changed", "deleted"]
Refusal = Literal["exists", "unknown", "absent", "stale", "key_reused"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who makes a change, and by which request: written to the ledger."""

    actor: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold for a change to be made."""

    only_if: Sequence[str] | None = None  # ETags (MD5 of the document), of which the entity's must be one; "*" is any
    key: str | None = None  # the same actor's same request under this key is made once within a day
    fingerprint: bytes | None = None  # by which the same request is recognized


NO_PRECONDITIONS = Preconditions()


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A change as it is asked for; `validate_change` brings it into the form that is stored."""

    op: Op
    entity_uid: UUID
    provenance: Provenance
    change_ts: str | None = None  # ISO 8601; None or blank: the moment when it is recorded
    display_name: str | None = None  # None: not set, which only a patch may
    entity_type: str | None = None  # as display_name
    details: Sequence[tuple[str, str | None]] = ()  # code and value; None ends the detail
    preconditions: Preconditions = NO_PRECONDITIONS
    named_by: SourceKey | None = None  # then an upsert creates the entity of the key, or changes it

    @property
    def is_dated(self) -> bool:
        """Return whether it says from when on it holds."""
        return normal_form(self.change_ts or "") is not None


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What a change did."""

    outcome: Outcome
    document: str | None  # JSON: the entity as it is now, or as it was at the change if it has ended since
    was_replayed: bool  # this is the result of the first request under its key


def apply_change(
    connection: Connection, types: ReferenceTypes, request: ChangeRequest, *, now: datetime, time_zone: tzinfo
) -> ChangeResult:
    """Validate a change and make it unless the state of its entity forbids it.

    An upsert creates an entity that does not exist now; one by the key of a source creates the entity that the key
    names, or changes it. `now` bounds how far ahead it may lie, `time_zone` reads an instant without offset. `types`
    may be a little old: those of the details are read again and held.
    Raises ChangeRefused, EntityExists, UnknownEntity, EntityAbsent, EntityStale or KeyReused; nothing is recorded then.
    """
    codes = [code for code, _ in request.details]
    with connection.transaction() if codes or request.named_by else nullcontext():
        types = held_types(connection, types, codes) if codes else types
        if request.named_by is not None:
            request = replace(request, entity_uid=lock_key(connection, request.named_by))
        change = validate_change(request, types, now=now, time_zone=time_zone)
        return _record(connection, types, change, request)


def lock_key(connection: Connection, key: SourceKey) -> UUID:
    """Lock a key and the entity that it names until the transaction ends; return the uid of the entity."""
    ((uid,),) = connection.execute(statement("change/lock_key_of_source"), {"key_uid": key.key_uid})
    found: UUID = uid
    return found


def _record(connection: Connection, types: ReferenceTypes, change: Change, request: ChangeRequest) -> ChangeResult:
    type_ids = {kind.code: kind.entity_type_id for kind in types.entity_types}
    compares = {kind.code: kind.compares for kind in types.detail_types}
    name, code = change.display_name, change.entity_type
    listed = [
        (code, value, None if value is None else detail_hashdiff(code, value, compares[code]))
        for code, value in change.details.items()
    ]
    codes, texts, hashdiffs = (list(column) for column in zip(*listed, strict=True)) if listed else (None, None, None)
    change_ts, conditions = change.change_ts if request.is_dated else None, request.preconditions
    values: dict[str, object] = {
        "entity_uid": change.entity_uid,
        "change_ts": change_ts,
        "op": change.op,
        "display_name": name,
        "entity_type_id": code and type_ids[code],
        "hashdiff": entity_hashdiff(name, code) if name and code else None,
        "detail_types": codes,
        "detail_values": texts,
        "detail_hashdiffs": hashdiffs,
        "actor": request.provenance.actor,
        "request_id": request.provenance.request_id,
        "only_if": None if conditions.only_if is None else list(conditions.only_if),
        "key": conditions.key,
        "fingerprint": conditions.fingerprint,
        "source_id": request.named_by and request.named_by.source.source_id,
        "source_key": request.named_by and request.named_by.source_key,
        "key_uid": request.named_by and request.named_by.key_uid,
    }
    row = connection.execute(statement("change/request_change"), values).fetchone()
    assert row is not None
    outcome, document, ended_at, was_replayed = row
    if outcome in ("created", "changed", "deleted"):
        return ChangeResult(outcome, document, was_replayed)
    raise _refusal(outcome, change.entity_uid, change_ts, ended_at, conditions.key or "")


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


def validate_change(request: ChangeRequest, types: ReferenceTypes, *, now: datetime, time_zone: tzinfo) -> Change:
    """Return the change with names, codes and values as they are stored; the rules are those of `contract.validate`.

    An undated change has `now` as its `change_ts`. Raises ChangeRefused with every fault.
    """
    faults: list[Fault] = []
    if request.op == "upsert" and request.entity_uid in NOBODY:
        faults.append(
            (Reason.INVALID_UID, "entity_uid", "is reserved, and names no entity; leave it out, and one is made")
        )
    at = _instant(request.change_ts, now, time_zone, faults)
    is_complete = request.op == "upsert"
    name = _name(request.display_name, faults, is_needed=is_complete)
    code = _entity_type(request.entity_type, types, faults, is_needed=is_complete)
    details = _details(request.details, types, faults)
    if faults:
        raise ChangeRefused(faults)
    return Change(request.entity_uid, at, request.op, name, code, details)


def _instant(text: str | None, now: datetime, time_zone: tzinfo, faults: list[Fault]) -> datetime:
    text = normal_form(text or "")
    if text is None:
        return now
    try:
        at = parse_instant(text, time_zone)
    except ValueError as error:
        faults.append((Reason.INVALID_CHANGE_TS, "change_ts", str(error)))
        return now
    if at > now + CLOCK_SKEW:
        said = f"{text} is in the future; give the time from when on it is true"
        faults.append((Reason.FUTURE_CHANGE_TS, "change_ts", said))
    return at


def _name(name: str | None, faults: list[Fault], *, is_needed: bool) -> str | None:
    if name is not None and not is_storable(name):
        faults.append((Reason.INVALID_ENCODING, "display_name", "has a NUL or half a surrogate pair; remove it"))
        return None
    stored = None if name is None else normal_form(name)
    if stored is None and (is_needed or name is not None):
        faults.append((Reason.MISSING_DISPLAY_NAME, "display_name", "is missing or blank; give the entity a name"))
    elif stored is not None and is_name_too_long(stored):
        said = f"has {len(stored):,} characters; a name has at most {NAME_CHARACTERS}"
        faults.append((Reason.VALUE_TOO_LONG, "display_name", said))
    return stored


def _entity_type(code: str | None, types: ReferenceTypes, faults: list[Fault], *, is_needed: bool) -> str | None:
    active = [kind.code for kind in types.entity_types if kind.is_active]
    found = next((known for known in active if code_key(known) == code_key(code or "")), None)
    if found is None and (is_needed or code is not None):
        said = "is missing" if code is None else f"{code!r} is not an active entity type"
        faults.append((Reason.UNKNOWN_ENTITY_TYPE, "entity_type", f"{said}; choose one of: {', '.join(active)}"))
    return found


def _details(
    details: Sequence[tuple[str, str | None]], types: ReferenceTypes, faults: list[Fault]
) -> dict[str, str | None]:
    known = {code_key(kind.code): kind for kind in types.detail_types if kind.is_active}
    stored: dict[str, str | None] = {}
    listed: set[str] = set()
    for place, (code, value) in enumerate(details):
        field, key = f"details[{place}]", code_key(code)
        kind, is_text = known.get(key), value is None or is_storable(value)
        if kind is None:
            active = ", ".join(kind.code for kind in known.values())
            said = f"{code!r} is not an active detail type; choose one of: {active}"
            faults.append((Reason.UNKNOWN_DETAIL_TYPE, f"{field}.detail_type", said))
        if key in listed:
            said = f"{kind.code if kind else repr(code)} is listed twice; list each type once"
            faults.append((Reason.DUPLICATE_DETAIL_TYPE, f"{field}.detail_type", said))
        if not is_text:
            said = "has a NUL or half a surrogate pair; remove it"
            faults.append((Reason.INVALID_DETAIL_VALUE, f"{field}.detail_value", said))
        listed.add(key)
        if kind is not None and is_text:
            stored[kind.code] = None if value is None else stored_form(value, kind.compares)
            if is_value_too_long(stored[kind.code] or ""):
                said = f"is longer than {VALUE_BYTES:,} bytes; keep it elsewhere, and store a link to it"
                faults.append((Reason.VALUE_TOO_LONG, f"{field}.detail_value", said))
    return stored
