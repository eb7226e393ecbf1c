"""Ticks of the drop-folder sensor, over a folder and a Dagster instance of their own."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from crm_core.postgres.connection import Database
from pipelines.folder import DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.partitions import drops, remember_read
from pipelines.resources import CrmDatabase
from pipelines.sensors import drop_folder

SHA = "ab" * 32
FAILED, DONE, ENDED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED
UNDER_WAY = dg.DagsterRunStatus.STARTED


class Ticks:
    """The daemon's part: it keeps the cursor, adds the partitions and starts one run for each run key."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.cursor: str | None = None
        self.runs: dict[str, dg.DagsterRun] = {}  # by run key
        self.said: list[str] = []  # in the log

    def tick(self, *, dies: bool = False) -> list[str | None]:
        """Tick, and return the partitions that were asked for; one that dies has added partitions and no more."""
        result = self.evaluate()
        for added in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        if dies:
            return []
        self.cursor = result.cursor
        asked = [request for request in result.run_requests or [] if request.run_key not in self.runs]
        known = self.instance.get_dynamic_partitions(drops.name or "")
        assert all(request.partition_key in known for request in asked)
        for request in asked:
            run = create_run_for_test(self.instance, "ingest_drop", tags=dict(request.tags), status=UNDER_WAY)
            self.runs[request.run_key or ""] = run
        return [request.partition_key for request in asked]

    def ticks(self, times: int) -> list[str | None]:
        return [key for _ in range(times) for key in self.tick()]

    def evaluate(self) -> dg.SensorResult:
        resources = {"drop_folder": DropFolder(folder=str(self.folder)), "crm_database": CrmDatabase()}
        with dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context:
            context.log.warning = self.said.append  # type: ignore[method-assign, assignment]
            result = drop_folder(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def reason(self) -> str:
        reason = self.evaluate().skip_reason
        assert reason is not None
        return reason.skip_message or ""

    def end(self, name: str, status: dg.DagsterRunStatus, ago: float = 0.0) -> None:
        """End the newest run of a file, some seconds ago."""
        (*_, run) = (run for run in self.runs.values() if run.tags[FILE_TAG].startswith(f"{name} "))
        at = time.time() - ago
        kind = {
            FAILED: dg.DagsterEventType.RUN_FAILURE,
            DONE: dg.DagsterEventType.RUN_SUCCESS,
            ENDED: dg.DagsterEventType.RUN_CANCELED,
        }[status]
        event = dg.DagsterEvent(event_type_value=kind.value, job_name="ingest_drop")
        self.instance.handle_new_event(
            dg.EventLogEntry(  # type: ignore[no-untyped-call]
                error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=at, dagster_event=event,
                job_name="ingest_drop",
            )
        )  # fmt: skip

    def read(self, database: Database, name: str, status: str = "refused") -> None:
        """Do what a run does that reads a file: the database has validated its bytes then."""
        file = next(file for file in DropFolder(folder=str(self.folder)).listing().files if file.path.name == name)
        with database.transaction() as connection:
            connection.execute(
                "insert into drop_file (sha256, file_name, bytes, first_seen_at, status)"
                " values (%s, %s, 0, now(), %s) on conflict do nothing",
                (SHA, name, status),
            )
        remember_read(self.instance, file.content, SHA)
        self.end(name, DONE)
