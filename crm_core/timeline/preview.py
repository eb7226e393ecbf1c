"""What a change would do, the past included: it is made, compared with what was before, and rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from uuid import UUID

from crm_core.model import Difference, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading.history import VersionPosition, versions_since
from crm_core.reading.lists import Document
from crm_core.reading.reads import transitions_at
from crm_core.resources import statement
from crm_core.timeline.single_change import ChangeRequest, Outcome, apply_change, lock_key
from crm_core.values.hashing import normal_form
from crm_core.values.instants import parse_instant


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """A version of an entity or of a detail that a change would add, cut, prolong, replace or remove."""

    field: str  # entity, or details.<code>
    before: Document | None  # as a history lists it now; None: there is no version from this instant on
    after: Document | None  # as a history would list it; None: it would be gone


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What a change would do; nothing of it was recorded."""

    entity_uid: UUID
    outcome: Outcome
    change_ts: datetime  # from when on it would be so
    entity: Document | None  # the entity as it would be then, or at the change if it has ended since; None: deleted
    versions: tuple[VersionDifference, ...]  # in order of valid_from
    differences: tuple[Difference, ...]  # the fields that would change at change_ts, as a dry run of a drop shows them
    past_versions: int  # versions that exist now and would not hold any more at an instant before now

    @property
    def versions_added(self) -> int:
        """Return how many versions would be new."""
        return sum(version.before is None for version in self.versions)

    @property
    def versions_removed(self) -> int:
        """Return how many versions would be gone."""
        return sum(version.after is None for version in self.versions)

    @property
    def versions_changed(self) -> int:
        """Return how many versions would end at another instant, or have another value."""
        return len(self.versions) - self.versions_added - self.versions_removed


def preview_change(
    connection: Connection, types: ReferenceTypes, request: ChangeRequest, *, now: datetime, time_zone: tzinfo
) -> ChangePreview:
    """Return what `apply_change` would do, under the same conditions; its key is not looked at, and none is used up.

    The entity is locked meanwhile, as for the change itself. Raises what `apply_change` raises.
    """
    at = _instant(request, time_zone)
    since = min(at or now, now)
    asked = replace(request, preconditions=replace(request.preconditions, key=None, fingerprint=None))
    with connection.transaction(force_rollback=True):
        uid = request.entity_uid if request.named_by is None else lock_key(connection, request.named_by)
        connection.execute(statement("change/lock_entity"), {"entity_uid": uid})
        stored = versions_since(connection, uid, since)
        result = apply_change(connection, types, asked, now=now, time_zone=time_zone)
        versions = tuple(_differences(stored, versions_since(connection, uid, since)))
        ((latest,),) = connection.execute(statement("change/last_instant"), {"entity_uid": uid})
        differences = tuple(_fields(connection, uid, at or latest)) if versions else ()
    past = sum(_loses_past(version, now) for version in versions) if request.is_dated else 0
    return ChangePreview(uid, result.outcome, at or latest, result.document, versions, differences, past)


def _instant(request: ChangeRequest, time_zone: tzinfo) -> datetime | None:
    try:
        return parse_instant(normal_form(request.change_ts or "") or "", time_zone) if request.is_dated else None
    except ValueError:
        return None  # apply_change says what is wrong


def _differences(
    stored: dict[VersionPosition, Document], made: dict[VersionPosition, Document]
) -> Iterator[VersionDifference]:
    for position in sorted({**stored, **made}, key=lambda each: (each.valid_from, each.code)):
        before, after = stored.get(position), made.get(position)
        if before != after:
            yield VersionDifference(f"details.{position.code}" if position.code else "entity", before, after)


def _fields(connection: Connection, uid: UUID, at: datetime) -> Iterator[Difference]:
    for transition in map(json.loads, transitions_at(connection, [(at, uid)])):
        for change in transition["changes"]:
            yield Difference(transition["entity_uid"], change["field"], transition["at"], change["from"], change["to"])


def _loses_past(version: VersionDifference, now: datetime) -> bool:
    """Return whether a version that exists now would not hold any more at an instant before now."""
    if version.before is None:
        return False
    before = json.loads(version.before)
    if version.after is None:
        return datetime.fromisoformat(before["valid_from"]) < now
    after = json.loads(version.after)
    if after["hashdiff"] != before["hashdiff"]:
        return datetime.fromisoformat(before["valid_from"]) < now
    if after["valid_to"] is None:
        return False
    ends_at = datetime.fromisoformat(after["valid_to"])
    return ends_at < now and (before["valid_to"] is None or ends_at < datetime.fromisoformat(before["valid_to"]))
