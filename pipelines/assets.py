"""The assets in the order of the flow: a drop, what its transaction made of it, the report."""

# No `from __future__ import annotations`: Dagster needs the annotations of an asset's arguments as types, not as text.

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from crm_core.report.numbers import as_json, collect
from crm_core.report.page import as_html
from crm_core.settings import Settings
from crm_core.timeline.invariants import check
from pipelines import checks, metadata, pools, table_schemas
from pipelines.folder import DropFolder
from pipelines.ingestion import DROP_TAG, FILE_TAG, Refused, Waiting, show, take_in
from pipelines.partitions import drops
from pipelines.resources import CrmDatabase
from pipelines.signals import interruptible

OWNERS = ["team:crm"]

DROP_ASSETS = (
    dg.AssetSpec(
        "drop_file",
        description="A file that arrived in the drop folder (CRM_DROP_DIR). It is known by its SHA-256, and by its "
        "profile if it has one.",
        group_name="drops",
        kinds={"csv"},
        metadata={"dagster/column_schema": table_schemas.DROP},
    ),
    dg.AssetSpec(
        "staged_changes",
        deps=["drop_file"],
        description="The valid rows, in normal form and with their hashes, in table `ledger`.",
        group_name="drops",
        kinds={"polars", "postgres"},
        metadata={"dagster/column_schema": table_schemas.LEDGER, "dagster/table_name": "public.ledger"},
    ),
    dg.AssetSpec(
        "rejected_rows",
        deps=["drop_file"],
        description="The rejected rows, with line, text and a reason code for each fault, in table `reject`.",
        group_name="drops",
        kinds={"polars", "postgres"},
        metadata={"dagster/column_schema": table_schemas.REJECT, "dagster/table_name": "public.reject"},
    ),
    dg.AssetSpec(
        "entity_versions",
        deps=["staged_changes"],
        description="The name and the type of each entity, from when to when, in table `entity`.",
        group_name="timelines",
        kinds={"postgres"},
        metadata={"dagster/column_schema": table_schemas.ENTITY, "dagster/table_name": "public.entity"},
    ),
    dg.AssetSpec(
        "detail_versions",
        deps=["staged_changes"],
        description="The value of each detail of an entity, from when to when, in table `entity_detail`.",
        group_name="timelines",
        kinds={"postgres"},
        metadata={"dagster/column_schema": table_schemas.ENTITY_DETAIL, "dagster/table_name": "public.entity_detail"},
    ),
)


@dg.multi_asset(
    specs=[spec.replace_attributes(owners=OWNERS, skippable=True) for spec in DROP_ASSETS],
    check_specs=checks.OF_DROPS,
    partitions_def=drops,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=pools.MERGE,
)
def drop_to_versions(
    context: dg.AssetExecutionContext, crm_database: CrmDatabase, drop_folder: DropFolder
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation | dg.Output[None]]:
    """Take drops in, one transaction each, and report what each did as soon as it is done.

    The reports are events of their own: a result would report all drops only at the end of the run, and none after a
    refusal. A refused drop does not stop the others; the step fails at its end and names it. A snapshot that is held
    is no failure: a check warns of it until somebody has decided. A run for a drop that somebody else has merged shows
    what that did.
    """
    refusals: list[str] = []
    asked, sent = context.run.tags.get(FILE_TAG), context.run.tags.get(DROP_TAG)
    with crm_database.connect(context.retry_number) as connection:
        for key in context.partition_keys:
            with interruptible():
                taken = (
                    show(connection, key, drop_folder, sent)
                    if sent
                    else take_in(connection, context.instance, key, drop_folder, asked, context.log.info)
                )
            if isinstance(taken, Refused):
                context.log.error(taken.fault)
                refusals.append(taken.fault)
                yield dg.AssetObservation("drop_file", partition=key, metadata=metadata.of_refusal(taken))
                yield from checks.checks_of_refused(context.instance, key, taken)
                continue
            if isinstance(taken, Waiting):
                context.log.warning(taken.summary)
                yield dg.AssetObservation("drop_file", partition=key, metadata=metadata.of_waiting(taken))
                yield from checks.checks_of_waiting(context.instance, key, taken)
                continue
            context.log.info(taken.summary)
            for asset, fields in metadata.of_drop(taken).items():
                tags = {"dagster/data_version": taken.drop.sha256}
                yield dg.AssetMaterialization(asset, partition=key, metadata=fields, tags=tags)
            yield from checks.checks_of_drop(context.instance, key, taken)
    if refusals:
        raise _refused(refusals, len(context.partition_keys))
    for spec in checks.OF_DROPS:
        yield dg.Output(None, spec.get_python_identifier())


def _refused(refusals: list[str], of: int) -> dg.Failure:
    """Return the failure of the step; a retry would end in the same way."""
    if of == 1:
        return dg.Failure(refusals[0], allow_retries=False)
    text = f"{len(refusals)} of {of} drops were refused, the others are in; {'; '.join(refusals)}"
    return dg.Failure(text, allow_retries=False)


# When an asset of a drop was updated and none is being updated.
AFTER_DROPS = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)
BROKEN = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
)


@dg.asset(
    deps=["entity_versions", "detail_versions"],
    group_name="quality",
    kinds={"postgres"},
    owners=OWNERS,
    automation_condition=(AFTER_DROPS & dg.AutomationCondition.missing()).with_label("after the first drops"),
    check_specs=checks.OF_ALL,
)
def invariants(context: dg.AssetExecutionContext, crm_database: CrmDatabase) -> Iterator[dg.MaterializeResult[None]]:
    """Everything that must hold for all data, recomputed from the tables, as in `crm check`."""
    started = time.monotonic()
    with crm_database.connect(context.retry_number) as connection, interruptible():
        found = list(check(connection))
    yield dg.MaterializeResult(
        metadata=metadata.of_invariants(found, time.monotonic() - started),
        check_results=[checks.invariant_result(one) for one in found],
    )


@dg.asset(
    deps=["rejected_rows", "entity_versions", "detail_versions", "invariants"],
    group_name="quality",
    kinds={"html", "json"},
    owners=OWNERS,
    automation_condition=(AFTER_DROPS & ~BROKEN).with_label("after drops, unless an invariant is broken"),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=checks.FRESH),
    check_specs=[checks.DROPS_KEEP_COMING],
)
def data_quality_report(
    context: dg.AssetExecutionContext, crm_database: CrmDatabase
) -> Iterator[dg.MaterializeResult[None]]:
    """The quality of the data, drop by drop and overall, as a page to mail and as JSON.

    Both files are in CRM_HOME/reports.
    """
    with crm_database.connect(context.retry_number) as connection, interruptible():
        report = collect(connection, now=datetime.now(UTC))
    folder = Settings.from_environment().home / "reports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    page = _write(folder / "data-quality.html", as_html(report))
    numbers = _write(folder / "data-quality.json", as_json(report))
    yield dg.MaterializeResult(
        metadata=metadata.of_report(report, page, numbers),
        check_results=[checks.freshness_result(report.freshness.drop_age_seconds)],
    )


def _write(path: Path, text: str) -> Path:
    """Write a file completely or not at all, because someone may be reading it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


ASSETS = (drop_to_versions, invariants, data_quality_report)
