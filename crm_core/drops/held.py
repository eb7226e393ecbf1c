"""Held drops: snapshots that would end so much that somebody has to let them in, or decline them."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from crm_core.drops.ingest import Options, Progress, ingest_on
from crm_core.drops.snapshots import Approval, SnapshotOptions, has_bytes
from crm_core.errors import BytesGone, DecisionRefused, UnknownDrop
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection
from crm_core.profiles.toml import read_profile
from crm_core.resources import statement
from crm_core.timeline.undo import Who


def approve(
    connection: Connection,
    sha256: str,
    who: Who,
    *,
    time_zone: tzinfo = UTC,
    folder: Path | None = None,
    progress: Progress = lambda _phase, _done, _all: None,
) -> MergeReport:
    """Take in a held drop, or a declined one, as it was sent, whatever it ends; return what it did.

    The bytes that were kept are forgotten then; meanwhile they are in `folder`, or in the system's for such files.
    Raises UnknownDrop, DecisionRefused for a drop that does not wait, and BytesGone for one that was declined long ago.
    """
    row = connection.execute(statement("drop/held"), {"sha256": sha256}).fetchone()
    if row is None:
        raise UnknownDrop(sha256)
    status, name, content, scope, at, is_strict, profile, toml = row
    if status not in ("held", "declined"):
        raise DecisionRefused(sha256, status)
    if not has_bytes(connection, sha256):
        raise BytesGone(sha256)
    with tempfile.TemporaryDirectory(prefix="crm-held-", dir=folder) as own:
        path = Path(own) / (Path(name).name or "drop")
        with path.open("wb") as file, connection.cursor() as cursor:
            for (part,) in cursor.stream(statement("drop/held_parts"), {"sha256": sha256}):
                file.write(part)
        options = Options(
            who.actor,
            time_zone,
            strict=is_strict,
            shown_as=name,
            sha256=content,
            known_as=sha256,
            snapshot=SnapshotOptions(scope, at),
            profile=read_profile(profile, toml, f"{profile}.toml") if profile else None,
            approval=Approval(who.actor, who.reason or None),
            traceparent=who.traceparent,
        )
        return ingest_on(connection, path, options, progress)


def decline(connection: Connection, sha256: str, who: Who) -> None:
    """Decline a held drop: it stays out, also when it is sent again. Its bytes are kept for a time (see
    `housekeeping`), so it can still be approved; when they are gone, it is held again if it is sent again.

    Raises UnknownDrop, and DecisionRefused for a drop that is not held.
    """
    with connection.transaction():
        row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
        if row is None:
            raise UnknownDrop(sha256)
        if row[1] != "held":
            raise DecisionRefused(sha256, row[1])
        values = {"sha256": sha256, "by": who.actor, "reason": who.reason, "now": datetime.now(UTC)}
        connection.execute(statement("drop/decline"), values)
