"""The job here and now: no daemon, no home of Dagster's, no files, one drop after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg

from crm_core.model import MergeReport
from pipelines.assets import DROPS
from pipelines.definitions import defs, ingest_drop
from pipelines.resources import DropFolder, drop_key

REPORT = {field.name for field in fields(MergeReport)}


def run_drops(paths: Iterable[Path]) -> Iterator[MergeReport]:
    """Run the job for each drop, as a partition of its own, and answer what the assets' metadata tell of it."""
    job = defs.resolve_job_def(ingest_drop.name)
    with dg.DagsterInstance.ephemeral() as instance:
        for path in paths:
            key = drop_key(path.name)
            instance.add_dynamic_partitions(DROPS, [key])
            config = dg.RunConfig(
                resources={"drop_folder": DropFolder(folder=str(path.parent))},
                loggers={"console": {"config": {"log_level": "CRITICAL"}}},
            )
            try:
                result = job.execute_in_process(config, instance, partition_key=key)
            except dg.DagsterExecutionInterruptedError:
                raise KeyboardInterrupt from None
            except dg.Failure as failure:
                yield MergeReport(str(path), None, "refused", error=failure.description)
            else:
                yield _report(path, result)


def _report(path: Path, result: dg.ExecuteInProcessResult) -> MergeReport:
    told: dict[str, Any] = {
        name: value.value
        for event in result.get_asset_materialization_events()
        for name, value in event.step_materialization_data.materialization.metadata.items()
        if name in REPORT
    }
    return MergeReport(file=str(path), **told)
