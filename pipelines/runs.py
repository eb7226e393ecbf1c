"""Run the job in this process, one drop after the other, without a daemon, a Dagster home or files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import dagster as dg

from crm_core.model import MergeReport
from pipelines.definitions import defs
from pipelines.folder import DropFolder
from pipelines.jobs import ingest_drop
from pipelines.partitions import drop_key, drops
from pipelines.signals import interrupts_kept

REPORT = {field.name for field in fields(MergeReport)} - {"rejects"}


def run_drops(paths: Iterable[Path]) -> Iterator[MergeReport]:
    """Run the job for each drop as a partition of its own, and return the metadata of the assets."""
    job = defs().resolve_job_def(ingest_drop.name)
    with dg.DagsterInstance.ephemeral() as instance:
        for path in paths:
            key = drop_key(path.name)
            instance.add_dynamic_partitions(drops.name or "", [key])
            config = dg.RunConfig(
                resources={"drop_folder": DropFolder(folder=str(path.parent))},
                loggers={"console": {"config": {"log_level": "CRITICAL"}}},
                execution={"config": {"retries": {"disabled": {}}}},  # the caller decides whether to try again
            )
            with interrupts_kept():
                result = job.execute_in_process(config, instance, partition_key=key, raise_on_error=False)
            yield _report(path, result)


def _report(path: Path, result: dg.ExecuteInProcessResult) -> MergeReport:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            own_message = failure.user_failure_data and failure.user_failure_data.description
            error = own_message or (failure.error.message.strip() if failure.error else "the run failed")
            return MergeReport(str(path), None, "refused", error=error)
    (fields,) = (
        cast("Mapping[str, Any]", event.step_materialization_data.materialization.metadata["this_run"].value)
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("drop_file")
    )
    return MergeReport(**{name: value for name, value in fields.items() if name in REPORT} | {"file": str(path)})
