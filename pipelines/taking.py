"""A drop taken in by the core, and what can be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crm_core.database import Connection
from crm_core.ingest import Options, ingest_over
from crm_core.model import MergeReport
from crm_core.quality import Check, RowCounts, check, entities_of_drop, row_counts
from crm_core.report import DropReport, collect_drop
from crm_core.settings import Settings
from pipelines.resources import DropFolder

ACTOR = "dagster"
FIELDS_BELOW = 20_000  # changed rows, up to which it is quickly found out what a drop changed by field


@dataclass(frozen=True, slots=True)
class Taken:
    """A drop that is in, by this run or an earlier one."""

    path: Path
    arrived_at: datetime
    report: MergeReport  # of this run: a replay has changed nothing
    drop: DropReport  # of the run that merged it
    invariants: Mapping[str, Check]  # by name, over entities of the drop
    entities: int  # over so many
    counts: RowCounts

    @property
    def summary(self) -> str:
        """Answer one line about it."""
        done = self.report
        return (
            f"{self.path.name}: {done.status}, {done.rows_read:,} rows read, {done.rows_rejected:,} rejected,"
            f" {done.rows_changed:,} changed, {done.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A drop of which nothing went in."""

    fault: str  # one line that names the file


def take_in(connection: Connection, key: str, folder: DropFolder) -> Taken | Refused:
    """Take the drop of a partition in, in one transaction, and look at what it did.

    Raises DatabaseError, or what psycopg raises; nothing of the drop has gone in then.
    """
    path = folder.find(key)
    if path is None:
        return Refused(f"{key}: there is no such drop in {folder.path()}; put the file there, then run it again")
    report = ingest_over(connection, path, Options(ACTOR, Settings.from_environment().time_zone))
    if report.sha256 is None or report.error is not None:
        return Refused(report.error or f"{path}: cannot be read")
    uids = entities_of_drop(connection, report.sha256)
    with_field_changes = report.status == "merged" and report.rows_changed <= FIELDS_BELOW
    return Taken(
        path=path,
        arrived_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        report=report,
        drop=collect_drop(connection, report.sha256, with_field_changes=with_field_changes),
        invariants={found.name: found for found in check(connection, uids=uids)},
        entities=len(uids),
        counts=row_counts(connection),
    )
