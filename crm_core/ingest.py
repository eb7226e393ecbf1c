"""A drop from file to versions: drop → valid rows + rejects → hashed rows → ledger → versions, one transaction a drop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from crm_core.database import Connection, Database, statement
from crm_core.drops import fingerprint, read_drop
from crm_core.errors import DropRefused
from crm_core.merge import Origin, merge, stage, staging
from crm_core.model import MergeReport, Reject
from crm_core.reference import reference_types
from crm_core.schema import validate

Progress = Callable[[int, int], None]  # bytes read so far, bytes in all


@dataclass(frozen=True, slots=True)
class Options:
    """How a drop is taken in."""

    actor: str = "crm"  # written to the ledger
    time_zone: ZoneInfo = ZoneInfo("UTC")  # of naive change_ts
    dry_run: bool = False  # do everything, keep nothing
    strict: bool = False  # refuse the drop if a row is bad


class _DryRun(Exception):  # noqa: N818  # not an error: it rolls the transaction back
    """Ends a dry run's transaction."""


def ingest(
    database: Database, path: Path, options: Options | None = None, progress: Progress = lambda _done, _all: None
) -> MergeReport:
    """Take one drop in, whole or not at all, and answer what it did; a refusal is an answer too.

    Raises DatabaseError when the database cannot be used; nothing of the drop has gone in then.
    """
    options = options or Options()
    started = time.monotonic()
    report = MergeReport(file=str(path), sha256=None, status="refused")
    try:
        sha256 = fingerprint(path)
        report = replace(report, sha256=sha256)
        with database.connect() as connection:
            report = _ingest(connection, path, sha256, options, progress, started)
    except DropRefused as refusal:
        report = replace(report, status="refused", error=str(refusal), seconds=_since(started))
        if report.sha256 and not options.dry_run:
            _record_refusal(database, path, report)
    return report


def _ingest(
    connection: Connection, path: Path, sha256: str, options: Options, progress: Progress, started: float
) -> MergeReport:
    now = datetime.now(UTC)
    with connection.transaction():
        if not options.dry_run:
            connection.execute(
                statement("drop/see"),
                {"sha256": sha256, "file_name": path.name, "bytes": path.stat().st_size, "now": now},
            )
    report = MergeReport(file=str(path), sha256=sha256, status="merged")
    try:
        with connection.transaction():
            first_seen, earlier = _seen(connection, sha256, now)
            if earlier is not None:
                return replace(earlier, file=str(path), seconds=_since(started))
            read = rejected = 0
            with staging(connection):
                types = reference_types(connection)
                connection.execute(statement("drop/forget_rejects"), {"sha256": sha256})
                for batch in read_drop(path, sha256=sha256):
                    valid = validate(batch, types, first_seen=first_seen, now=now, time_zone=options.time_zone)
                    stage(connection, valid.changes, valid.details)
                    read += valid.changes.height + len(valid.rejects)
                    rejected += len(valid.rejects)
                    if not options.dry_run:
                        _keep_rejects(connection, sha256, valid.rejects)
                    progress(batch.bytes_read, path.stat().st_size)
                if rejected and options.strict:
                    rows = "1 row is" if rejected == 1 else f"{rejected} rows are"
                    fault = f"{rows} bad and --strict was asked for; nothing went in"
                    raise DropRefused(path, fault)
                merged = merge(connection, Origin(options.actor, "drop", drop_sha256=sha256))
            report = replace(
                report,
                rows_read=read,
                rows_accepted=read - rejected,
                rows_rejected=rejected,
                rows_changed=merged.rows_changed,
                rows_unchanged=read - rejected - merged.rows_changed,
                rows_late=merged.rows_late,
                rows_superseded=merged.rows_superseded,
                entity_versions_added=merged.entity_versions_added,
                detail_versions_added=merged.detail_versions_added,
                seconds=_since(started),
            )
            if options.dry_run:
                raise _DryRun
            _record_outcome(connection, report, merged.batch_id, merged.recorded_at)
    except _DryRun:
        pass
    return report


def _seen(connection: Connection, sha256: str, now: datetime) -> tuple[datetime, MergeReport | None]:
    """Answer when the drop was first seen and, if it is merged already, the report of this replay."""
    row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
    if row is None:  # a dry run of a new drop
        return now, None
    first_seen, status, read, accepted, rejected = row
    if status != "merged":
        return first_seen, None
    return first_seen, MergeReport(
        file="",
        sha256=sha256,
        status="replayed",
        rows_read=read,
        rows_accepted=accepted,
        rows_rejected=rejected,
        rows_unchanged=accepted,
    )


def _keep_rejects(connection: Connection, sha256: str, rejects: list[Reject]) -> None:
    if not rejects:
        return
    with connection.cursor() as cursor, cursor.copy(statement("drop/copy_rejects")) as copy:
        for reject in rejects:
            copy.write_row((sha256, reject.line, [str(reason) for reason in reject.reasons], reject.raw))


def _record_outcome(connection: Connection, report: MergeReport, batch_id: int, merged_at: datetime) -> None:
    values = report.as_json() | {"file_name": Path(report.file).name, "batch_id": batch_id, "merged_at": merged_at}
    connection.execute(statement("drop/record_merged"), values)


def _record_refusal(database: Database, path: Path, report: MergeReport) -> None:
    with database.transaction() as connection:
        connection.execute(
            statement("drop/record_refused"),
            {
                "sha256": report.sha256,
                "file_name": path.name,
                "bytes": path.stat().st_size,
                "now": datetime.now(UTC),
                "error": report.error,
            },
        )


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
