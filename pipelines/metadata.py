"""The metadata of the assets: numbers, which the UI plots over runs, and small tables without personal values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import dagster as dg

from crm_core.drops.undo import Retracted
from crm_core.model import CloudPath
from crm_core.report.numbers import FieldChanges, ReasonCount, Report
from crm_core.timeline.invariants import Check
from pipelines import table_schemas
from pipelines.folder import shown
from pipelines.ingestion import Refused, Taken, Waiting

MAX_TABLE_ROWS = 20  # of a table: more would be too much for the event log

Metadata: TypeAlias = dict[str, dg.MetadataValue | dg.TableColumnLineage | str | int | float]


def of_drop(taken: Taken) -> Mapping[str, Metadata]:
    """Return the metadata of each asset, by its name: what a drop did to it; assets in the order of the flow."""
    done, drop, sizes = taken.report, taken.drop, taken.sizes
    did = done if taken.is_repeat else drop  # a drop that is run again shows what it did, and not that it is known
    file: Metadata = {
        "bytes": drop.bytes,
        "sha256": drop.sha256,
        "this_run": dg.MetadataValue.json(done.as_json()),
    }
    if taken.file is not None:
        file["path"] = _path(taken.file.path)
        file["arrived_at"] = dg.MetadataValue.timestamp(taken.file.modified_at)
        if taken.file.profile:
            file["profile"] = taken.file.profile
    if taken.is_repeat:
        file["same_bytes_as"] = drop.file_name
    staged: Metadata = {
        "status": done.status,
        "rows_read": did.rows_read,
        "rows_accepted": did.rows_accepted,
        "rows_changed": did.rows_changed,
        "rows_unchanged": did.rows_unchanged,
        "rows_late": did.rows_late,
        "rows_superseded": did.rows_superseded,
        "entities_ended": did.entities_ended,
        "rows_ending_nobody": did.rows_ending_nobody,
        "rows_fallen_together": did.rows_fallen_together,
        "notes": dg.MetadataValue.json(list(did.notes)),
        "seconds": did.seconds,
        "dagster/partition_row_count": did.rows_accepted,
        "dagster/row_count": sizes.changes,
    }
    rejected: Metadata = {
        "rows_rejected": did.rows_rejected,
        "reject_share": round(drop.reject_share or 0.0, 4),
        "dagster/partition_row_count": did.rows_rejected,
    }
    if drop.reasons:
        rejected["reasons"] = _reasons(drop.reasons)
        rejected["first_rows"] = _table([{"line": row.line, "reasons": ", ".join(row.reasons)} for row in done.rejects])
    entities: Metadata = {
        "entity_versions_added": did.entity_versions_added,
        "dagster/partition_row_count": did.entity_versions_added,
        "dagster/row_count": sizes.entity_versions,
    }
    details: Metadata = {
        "detail_versions_added": did.detail_versions_added,
        "dagster/partition_row_count": did.detail_versions_added,
        "dagster/row_count": sizes.detail_versions,
    }
    for metadata, of_details in ((entities, False), (details, True)):
        changes = [one for one in drop.field_changes if one.field.startswith("details.") is of_details]
        if changes:
            metadata["changed_fields"] = _fields(changes)
    of_asset = {
        "drop_file": file,
        "staged_changes": staged,
        "rejected_rows": rejected,
        "entity_versions": entities,
        "detail_versions": details,
    }
    for asset, lineage in table_schemas.LINEAGE.items():
        of_asset[asset]["dagster/column_lineage"] = lineage
    return of_asset


def of_retraction(one: Retracted) -> Metadata:
    """Return the metadata of a drop that was undone or reinstated."""
    return {
        "status": "undone" if one.kind == "undo" else "merged",
        "by": one.actor,
        "reason": shown(one.reason),
        "sha256": one.sha256,
        "recorded_at": dg.MetadataValue.timestamp(one.recorded_at),
    }


def of_waiting(waiting: Waiting) -> Metadata:
    """Return the metadata of a snapshot that is held: what it would end, without names."""
    metadata: Metadata = {
        "status": "held",
        "sha256": waiting.report.sha256 or "",
        "path": _path(waiting.file.path),
        "bytes": waiting.file.bytes,
        "rows_read": waiting.report.rows_read,
    }
    if waiting.report.unlisted is not None:
        metadata["entities_that_would_end"] = waiting.report.unlisted.would_end
        metadata["entities_in_scope"] = waiting.report.unlisted.in_scope
    return metadata


def of_refusal(refused: Refused) -> Metadata:
    """Return the metadata of a refused drop."""
    metadata: Metadata = {"status": "refused", "error": refused.fault}
    if refused.sha256 is not None:
        metadata["sha256"] = refused.sha256
    if refused.file is not None:
        metadata["path"] = _path(refused.file.path)
        metadata["bytes"] = refused.file.bytes
        metadata["arrived_at"] = dg.MetadataValue.timestamp(refused.file.modified_at)
    return metadata


def of_invariants(found: Sequence[Check], seconds: float) -> Metadata:
    """Return the metadata of the invariants."""
    return {
        "breaches": sum(one.breaches for one in found),
        "seconds": round(seconds, 3),
        "invariants": _table([{"invariant": one.invariant, "breaches": one.breaches} for one in found]),
    }


def of_report(report: Report, page: Path, numbers: Path) -> Metadata:
    """Return the most important numbers of the data-quality report, and the paths of its files."""
    totals = report.totals
    metadata: Metadata = {
        "page": dg.MetadataValue.path(page),
        "json": dg.MetadataValue.path(numbers),
        "drops_merged": totals.drops_merged,
        "drops_refused": totals.drops_refused,
        "rows_read": totals.rows_read,
        "rows_rejected": totals.rows_rejected,
        "reject_share": round(totals.reject_share or 0.0, 4),
        "rows_changed": totals.rows_changed,
        "rows_late": totals.rows_late,
        "rows_superseded": totals.rows_superseded,
        "books_breaches": report.books.breaches,
        "drops": _table(
            [
                {
                    "drop": drop.file_name,
                    "status": drop.status,
                    "read": drop.rows_read,
                    "rejected": drop.rows_rejected,
                    "changed": drop.rows_changed,
                    "unchanged": drop.rows_unchanged,
                    "late": drop.rows_late,
                }
                for drop in report.drops
            ]
        ),
        "completeness": _table(
            [
                {"entity_type": one.entity_type, "detail_type": one.detail_type, "have_it": _percent(one.share)}
                for one in report.completeness
            ]
        ),
    }
    if report.reasons:
        metadata["reasons"] = _reasons(report.reasons)
    if report.field_changes:
        metadata["changed_fields"] = _fields(report.field_changes)
    return metadata


def _path(path: Path | CloudPath) -> dg.PathMetadataValue:
    return dg.MetadataValue.path(shown(str(path)))


def _reasons(counts: Sequence[ReasonCount]) -> dg.TableMetadataValue:
    return _table([{"reason": str(one.reason), "rows": one.rows} for one in counts])


def _fields(changes: Sequence[FieldChanges]) -> dg.TableMetadataValue:
    return _table(
        [{"field": one.field, "created": one.created, "changed": one.changed, "ended": one.ended} for one in changes]
    )


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _table(rows: Sequence[Mapping[str, str | int]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows[:MAX_TABLE_ROWS]])
