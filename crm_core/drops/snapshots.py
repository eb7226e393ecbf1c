"""Snapshot drops: their scope and instant, by what they are known, and the guard that holds what would end too much."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from pathlib import Path

from crm_core.errors import DropRefused, DropUnreadable, SnapshotRefused
from crm_core.formats.remarks import is_of_rejects
from crm_core.model import MergeReport, ReferenceTypes, Unlisted
from crm_core.postgres.connection import Connection
from crm_core.profiles.mapping import instant_of
from crm_core.profiles.profile import Profile
from crm_core.resources import statement
from crm_core.timeline.merge import Scope
from crm_core.utc import utc_text
from crm_core.values.hashing import code_key
from crm_core.values.instants import CLOCK_SKEW, parse_instant

LIMIT = 0.05  # the share of its scope that a snapshot may end, unless a setting says otherwise
PART_BYTES = 1 << 20  # of a held drop, in a row of the database
NAMED = 10  # entities that would end, of which the names are kept
SHOWN = 3  # of them, in a sentence
BY_SOURCE = "source="  # a scope of this and the code of a source


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """The options for taking in a drop as a snapshot: of its scope there is nothing else at its instant."""

    scope: str  # codes of entity types, separated by commas, that entities are of just before; or source=CODE
    at: datetime | None = None  # aware; None: when the drop was first seen


@dataclass(frozen=True, slots=True)
class Approval:
    """Who lets a held drop in, and why."""

    by: str
    reason: str | None = None


def snapshot_of(profile: Profile | None, path: Path, name: str, time_zone: tzinfo) -> SnapshotOptions | None:
    """Return the snapshot that a file is by its profile, perhaps of the instant in its name; None if it is not one.

    A file of corrected rejects is not one. Raises DropRefused if there is no such instant.
    """
    if profile is None or profile.mode == "delta" or is_of_rejects(path):
        return None
    instant = instant_of(profile, path, name)
    try:
        at = None if instant is None else parse_instant(instant, profile.zone or time_zone)
    except ValueError as error:
        raise DropRefused(path, f"is of an instant that cannot be: {error}; rename it") from error
    return SnapshotOptions(",".join(profile.scope), at)


def known_as(content: str, snapshot: SnapshotOptions | None) -> str:
    """Return by what a drop is known: the SHA-256 of its bytes, or of that, the scope and the instant of a snapshot."""
    if snapshot is None:
        return content
    codes = sorted({code_key(code) for code in _parts(snapshot.scope)})
    at = "" if snapshot.at is None else str(snapshot.at.timestamp())
    return hashlib.sha256("\n".join(("snapshot", ",".join(codes), at, content)).encode()).hexdigest()


def scope_of(text: str, types: ReferenceTypes) -> Scope:
    """Return the scope that a text means: entity types, or one source; raises SnapshotRefused for any other text."""
    parts = _parts(text)
    if any(part.lower().startswith(BY_SOURCE) for part in parts):
        return _of_source(text, parts, types)
    kinds = {code: [kind for kind in types.entity_types if code_key(kind.code) == code_key(code)] for code in parts}
    choose = f"choose from: {', '.join(kind.code for kind in types.entity_types) or 'none is loaded'}"
    if not kinds:
        fault = f"a snapshot needs a scope of entity types, separated by commas, or source=CODE; {choose}"
        raise SnapshotRefused(fault)
    fault = "; ".join(
        f"{code!r} in the scope is not an entity type, {choose}" for code, kind in kinds.items() if not kind
    )
    if fault:
        raise SnapshotRefused(fault)
    ids = {kind.code: kind.entity_type_id for found in kinds.values() for kind in found}
    return Scope(",".join(ids), entity_type_ids=tuple(ids.values()))


def _of_source(text: str, parts: Sequence[str], types: ReferenceTypes) -> Scope:
    if len(parts) > 1:
        fault = f"the scope {text!r} names a source and more; name one source alone, or entity types"
        raise SnapshotRefused(fault)
    code = parts[0][len(BY_SOURCE) :]
    for source in types.sources:
        if code_key(source.code) == code_key(code):
            return Scope(f"{BY_SOURCE}{source.code}", source_id=source.source_id)
    known = ", ".join(source.code for source in types.sources) or "none is loaded"
    fault = f"{code!r} in the scope is not a source; choose from: {known}"
    raise SnapshotRefused(fault)


def require_past(at: datetime, now: datetime) -> None:
    """Raise SnapshotRefused for an instant that is more than a little ahead of now."""
    if at > now + CLOCK_SKEW:
        fault = f"a snapshot of {utc_text(at)} is in the future; give the time of which it is true"
        raise SnapshotRefused(fault)


def why_held(unlisted: Unlisted, rows: int, limit: float) -> str | None:
    """Return why a snapshot with this number of rows waits for somebody to decide; None if it may go in."""
    if not rows:
        return f"the file has no rows, and {would_end(unlisted)}"
    if unlisted.would_end > limit * unlisted.in_scope:
        return f"{would_end(unlisted)}, which is more than {100 * limit:.4g} % (CRM_SNAPSHOT_LIMIT)"
    return None


def would_end(unlisted: Unlisted) -> str:
    """Return how many entities of the scope a snapshot would end, and which first."""
    names = [each.display_name for each in unlisted.first[:SHOWN]]
    names += ["…"] if unlisted.would_end > len(names) else []
    named = f" ({', '.join(names)})" if unlisted.would_end else ""
    return f"{unlisted.would_end:,} of {unlisted.in_scope:,} entities would end{named}"


class Held(Exception):
    """A snapshot would end so much that nothing of it goes in: this ends its transaction, and has the report on it."""

    def __init__(self, report: MergeReport, unlisted: Unlisted, why: str, sha256: str) -> None:
        super().__init__()
        approve = f"crm approve {sha256[:12]} lets it in, and with --decline it stays out"
        error = f"held, and nothing was changed: {why}; {approve}"
        self.report = replace(report, status="held", error=error, unlisted=unlisted)


def has_bytes(connection: Connection, sha256: str) -> bool:
    """Return whether the bytes of a drop that was held are still kept; those of a declined one go after a time."""
    return connection.execute(statement("drop/has_bytes"), {"sha256": sha256}).fetchone() == (True,)


def declined(connection: Connection, sha256: str) -> MergeReport:
    """Report on a drop that somebody has declined."""
    ((by, at, reason),) = connection.execute(statement("drop/decision"), {"sha256": sha256})
    error = (
        f"declined by {by} on {at:%Y-%m-%d} ({reason}), so nothing was changed;"
        f" to let it in after all, approve it: crm approve {sha256[:12]}"
    )
    return MergeReport(file="", sha256=None, status="declined", error=error)


def hold(
    connection: Connection,
    path: Path,
    content: str,
    report: MergeReport,
    *,
    sent_by: str,
    is_strict: bool,
    now: datetime,
) -> None:
    """Keep a snapshot drop and its bytes until somebody decides, in one transaction.

    Raises DropUnreadable if the file has not the given fingerprint any more.
    """
    assert report.unlisted is not None
    values = report.as_json() | {"sent_by": sent_by, "is_strict": is_strict, "now": now}
    values |= {"would_end": report.unlisted.would_end, "in_scope": report.unlisted.in_scope}
    values["uids"] = [each.entity_uid for each in report.unlisted.first]
    values["names"] = [each.display_name for each in report.unlisted.first]
    with connection.transaction():
        connection.execute(statement("drop/forget_held_parts"), values)
        connection.execute(statement("drop/record_held"), values)
        digest = hashlib.sha256()
        for number, part in enumerate(_blocks(path)):
            digest.update(part)
            kept = {"sha256": report.sha256, "part_no": number, "bytes": part}
            connection.execute(statement("drop/keep_held_part"), kept)
        if digest.hexdigest() != content:
            raise DropUnreadable(path, "changed while it was read; drop it again when it is complete")


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(PART_BYTES):
            yield block


def _parts(scope: str) -> list[str]:
    parts = [re.sub(r"\s*=\s*", "=", part.strip()) for part in scope.split(",")]
    return [part for part in parts if part]
