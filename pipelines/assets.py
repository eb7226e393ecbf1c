"""The assets in order of the flow: a drop, then what its one transaction staged, refused and turned into versions."""

# No `from __future__ import annotations`: Dagster reads the annotations of an asset's arguments, and takes no text.

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg

from crm_core.drops import fingerprint
from crm_core.errors import DropRefused
from crm_core.ingest import Options, ingest
from crm_core.rejects import rejects
from crm_core.settings import Settings
from pipelines.resources import CrmDatabase, DropFolder

SAMPLE = 10  # rejected rows shown, without their text: the event log is no place for what may be personal
TOLD: Mapping[str, tuple[str, ...]] = {  # which asset's metadata tell which fields of the merge report
    "staged_changes": (
        "status",
        "rows_read",
        "rows_accepted",
        "rows_changed",
        "rows_unchanged",
        "rows_late",
        "rows_superseded",
        "seconds",
    ),
    "rejected_rows": ("rows_rejected",),
    "entity_versions": ("entity_versions_added",),
    "detail_versions": ("detail_versions_added",),
}

DROPS = "drops"
drops = dg.DynamicPartitionsDefinition(name=DROPS)  # one partition a file; its key is drop_key(file name)


@dg.asset(partitions_def=drops, group_name="drops", kinds={"csv"})
def drop_file(context: dg.AssetExecutionContext, drop_folder: DropFolder) -> dg.MaterializeResult[None]:
    """A CSV file that arrived in the drop folder."""
    path = _path(context, drop_folder)
    try:
        sha256 = fingerprint(path)
    except DropRefused as refusal:
        raise _failure(str(refusal)) from None
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(path), "bytes": path.stat().st_size, "sha256": sha256},
        data_version=dg.DataVersion(sha256),
    )


@dg.multi_asset(
    partitions_def=drops,
    group_name="timelines",
    specs=[
        dg.AssetSpec(
            "staged_changes",
            deps=["drop_file"],
            kinds={"polars"},
            description="The rows of the drop that keep its contract, in normal form and hashed.",
        ),
        dg.AssetSpec(
            "rejected_rows",
            deps=["drop_file"],
            kinds={"postgres"},
            description="The rows that were refused, each with its line, its text and a reason code for every fault.",
        ),
        dg.AssetSpec(
            "entity_versions",
            deps=["staged_changes"],
            kinds={"postgres"},
            description="What each entity was called and which type it had, from when to when.",
        ),
        dg.AssetSpec(
            "detail_versions",
            deps=["staged_changes"],
            kinds={"postgres"},
            description="Which value each detail of an entity had, from when to when.",
        ),
    ],
)
def timelines(
    context: dg.AssetExecutionContext, crm_database: CrmDatabase, drop_folder: DropFolder
) -> Iterator[dg.MaterializeResult[None]]:
    """Take the drop into the ledger and bring the versions up to it, in one transaction."""
    path = _path(context, drop_folder)
    options = Options(actor="dagster", time_zone=Settings.from_environment().time_zone)
    with crm_database.open() as database:
        report = ingest(database, path, options)
        if report.sha256 is None or report.error is not None:
            raise _failure(report.error)
        with database.connect() as connection:
            first = rejects(connection, report.sha256, limit=SAMPLE)
    values = report.as_json()
    for asset, fields in TOLD.items():
        metadata: dict[str, dg.MetadataValue | str | int | float | None] = {name: values[name] for name in fields}
        if asset == "rejected_rows" and first:
            rows = [dg.TableRecord({"line": row.line, "reasons": ", ".join(row.reasons)}) for row in first]
            metadata["first_rows"] = dg.MetadataValue.table(rows)
        yield dg.MaterializeResult(asset_key=asset, metadata=metadata)


def _path(context: dg.AssetExecutionContext, drop_folder: DropFolder) -> Path:
    key = context.partition_key
    path = drop_folder.drops().get(key)
    if path is None:
        error = f"{key}: there is no such drop in {drop_folder.path()}; put the file there, then run it again"
        raise _failure(error)
    return path


def _failure(error: str | None) -> dg.Failure:
    """Answer what ends a run with one line; trying again would end the same."""
    return dg.Failure(error, allow_retries=False)
