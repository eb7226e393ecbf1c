"""Validation of a single change from a request: the drop contract, for one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from uuid import UUID

from crm_core.errors import ChangeRefused
from crm_core.model import Change, Op, Reason, ReferenceTypes
from crm_core.values.hashing import (
    NAME_CHARACTERS,
    NOBODY,
    VALUE_BYTES,
    code_key,
    is_name_too_long,
    is_value_too_long,
    normal_form,
    stored_form,
)
from crm_core.values.instants import CLOCK_SKEW, parse_instant

Fault = tuple[Reason, str, str]  # the code, the field, what is wrong and the cure


def valid_change(
    op: Op,
    entity_uid: UUID,
    types: ReferenceTypes,
    *,
    now: datetime,
    time_zone: tzinfo,
    change_ts: str | None = None,
    display_name: str | None = None,
    entity_type: str | None = None,
    details: Sequence[tuple[str, str | None]] = (),
) -> Change:
    """Return the change with names, codes and values in their stored form, by the rules of the drop contract.

    `change_ts` None or blank means the moment of recording, and is returned as `now`. In a patch, a name or type that
    is None is not set. Raises ChangeRefused with every fault.
    """
    faults: list[Fault] = []
    if op == "upsert" and entity_uid in NOBODY:
        faults.append(
            (Reason.INVALID_UID, "entity_uid", "is reserved, and names no entity; leave it out, and one is made")
        )
    at = _instant(change_ts, now, time_zone, faults)
    name = None if display_name is None or not _is_text(display_name) else normal_form(display_name)
    if display_name is not None and not _is_text(display_name):
        faults.append((Reason.INVALID_ENCODING, "display_name", "has a NUL or half a surrogate pair; remove it"))
    elif name is None and (op == "upsert" or display_name is not None):
        faults.append((Reason.MISSING_DISPLAY_NAME, "display_name", "is missing or blank; give the entity a name"))
    elif name is not None and is_name_too_long(name):
        said = f"has {len(name):,} characters; a name has at most {NAME_CHARACTERS}"
        faults.append((Reason.VALUE_TOO_LONG, "display_name", said))
    code = _entity_type(entity_type, types)
    if code is None and (op == "upsert" or entity_type is not None):
        known = ", ".join(kind.code for kind in types.entity_types if kind.is_active)
        said = "is missing" if entity_type is None else f"{entity_type!r} is not an active entity type"
        faults.append((Reason.UNKNOWN_ENTITY_TYPE, "entity_type", f"{said}; choose one of: {known}"))
    stored = _details(details, types, faults)
    if faults:
        raise ChangeRefused(faults)
    return Change(entity_uid, at, op, name, code, stored)


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


def _entity_type(code: str | None, types: ReferenceTypes) -> str | None:
    wanted = code_key(code or "")
    return next((kind.code for kind in types.entity_types if kind.is_active and code_key(kind.code) == wanted), None)


def _details(
    details: Sequence[tuple[str, str | None]], types: ReferenceTypes, faults: list[Fault]
) -> dict[str, str | None]:
    known = {code_key(kind.code): kind for kind in types.detail_types if kind.is_active}
    stored: dict[str, str | None] = {}
    listed: set[str] = set()
    for place, (code, value) in enumerate(details):
        field, key = f"details[{place}]", code_key(code)
        kind, is_text = known.get(key), value is None or _is_text(value)
        if kind is None:
            there_are = ", ".join(kind.code for kind in known.values())
            said = f"{code!r} is not an active detail type; choose one of: {there_are}"
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


def _is_text(value: str) -> bool:
    """Return whether PostgreSQL can store the text."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
