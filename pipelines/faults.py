"""What is wrong now: failed runs, refused and held drops, failed checks, and that no drop comes any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from crm_core.alerts.message import Fault
from crm_core.drops.troubled import troubled_drops
from crm_core.postgres.connection import Connection
from crm_core.report.numbers import freshness
from crm_core.utc import utc_text
from pipelines.checks import OF_ALL, OF_DROPS
from pipelines.folder import shown
from pipelines.jobs import backfill_drops, ingest_drop, integrity
from pipelines.partitions import drop_key

ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED]
PARTITION = "dagster/partition"
WILL_RETRY = "dagster/will_retry"
MAX_RUNS, MAX_CHECKS = 500, 50  # failed ones that are looked at
REMEMBERED = timedelta(days=14)  # a refused drop may be corrected under any name, so nothing says when it is mended
REJECT_RATE = next(spec.key for spec in OF_DROPS if spec.name == "reject_rate")
INVARIANTS = dg.AssetKey("invariants")
RED = AssetCheckExecutionRecordStatus.FAILED


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong is looked up in Dagster's instance and in the database."""

    instance: dg.DagsterInstance
    connection: Connection
    since: datetime  # what went wrong before is not told
    link: str  # of Dagster's UI
    fresh: timedelta  # how old the newest drop may be; 0: as old as it likes

    def find(self, told: Mapping[str, Fault]) -> dict[str, Fault]:
        """Return what is wrong, by key: what went wrong since, and what was told before and is not mended.

        A drop that was refused is one fault, although its run failed too; so are invariants that do not hold.
        """
        red = [*self._invariants(), *self._reject_rates()]
        runs = self._runs(told, are_invariants_told=any(fault.key.startswith("check ") for fault in red))
        found = [*runs, *red, *self._drops(), *self._freshness()]
        return {fault.key: fault for fault in found}

    def _runs(self, told: Mapping[str, Fault], *, are_invariants_told: bool) -> Iterator[Fault]:
        """Yield the jobs, or partitions of a job, whose last run failed."""
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=self.since)
        failed = [record.dagster_run for record in self.instance.get_run_records(filters, limit=MAX_RUNS)]
        names = {(run.job_name, run.tags.get(PARTITION, "")) for run in failed}
        names |= {_of_run(fault.key) for fault in told.values() if fault.kind == "run_failed"}
        for job, partition in sorted(names):
            last = self._last_run(job, partition)
            if last is None or last.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
                continue
            run = last.dagster_run
            is_of_invariants = job == integrity.name or INVARIANTS in (run.asset_selection or ())
            if run.tags.get(WILL_RETRY) == "true" or (is_of_invariants and are_invariants_told):
                continue
            at = datetime.fromtimestamp(last.end_time or last.update_timestamp.timestamp(), UTC)
            what = f"A run of {_job(run)}{f' for {partition}' if partition else ''} failed"
            yield Fault(_run_key(job, partition), "run_failed", what, _second(at), f"{self.link}/runs/{run.run_id}")

    def _last_run(self, job: str, partition: str) -> dg.RunRecord | None:
        """Return the last run that has ended."""
        tags = {PARTITION: partition} if partition else {}
        filters = dg.RunsFilter(job_name=job, tags=tags, statuses=ENDED)
        return next(iter(self.instance.get_run_records(filters, limit=1)), None)

    def _drops(self) -> Iterator[Fault]:
        since = max(self.since, datetime.now(UTC) - REMEMBERED)
        for drop in troubled_drops(self.connection, since):
            partition, name, at = drop_key(drop.file_name), shown(drop.file_name), _second(drop.first_seen_at)
            where = f"{self.link}/assets/drop_file?partition={partition}"
            if drop.status == "held":
                what = f"The drop {name} is held until somebody approves or declines it"
                yield Fault(_run_key(ingest_drop.name, partition), "drop_held", what, at, where)
            else:
                what = f"The drop {name} was refused: {shown(drop.error or 'see its page')}"
                yield Fault(_run_key(ingest_drop.name, partition), "drop_refused", what, at, where)

    def _invariants(self) -> Iterator[Fault]:
        """Yield the invariants that do not hold for all data."""
        keys = [spec.key for spec in OF_ALL]
        for record in self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).values():
            if record.status is RED:
                where = f"{self.link}/assets/invariants?view=checks"
                yield _red(record, f"check {record.key.name}", f"The check {record.key.name} failed", where)

    def _reject_rates(self) -> Iterator[Fault]:
        """Yield the drops of which most rows were rejected."""
        storage = self.instance.event_log_storage
        begin = int(max(self.since, datetime.now(UTC) - REMEMBERED).timestamp())  # SQLite keeps whole seconds
        failed = storage.get_asset_check_execution_history(REJECT_RATE, limit=MAX_CHECKS, status={RED})
        partitions = {one.partition for one in failed if one.partition and one.create_timestamp >= begin}
        for partition in sorted(partitions):
            of_it = PartitionKeyFilter(key=partition)
            last = storage.get_latest_asset_check_execution_by_key([REJECT_RATE], of_it).get(REJECT_RATE)
            if last is not None and last.status is RED and _is_error(last):
                where = f"{self.link}/assets/rejected_rows?partition={partition}"
                yield _red(last, f"rejects {partition}", f"Most rows of the drop {partition} are bad", where)

    def _freshness(self) -> Iterator[Fault]:
        """Yield that the newest drop is old; as long as none ever came, nothing is missing."""
        found = freshness(self.connection, now=datetime.now(UTC))
        most = self.fresh.total_seconds()
        if most and found.drop_at is not None and (found.drop_age_seconds or 0) > most:
            what = f"No drop has come for more than {most / 3600:.0f} hours"
            yield Fault("freshness", "nothing_fresh", what, _second(found.drop_at), f"{self.link}/assets/drop_file")


def is_forgotten(fault: Fault, now: datetime) -> bool:
    """Return whether a fault is no longer wrong only because it was long ago."""
    is_event = fault.kind == "drop_refused" or fault.key.startswith("rejects ")
    return is_event and datetime.fromisoformat(fault.at) < now - REMEMBERED + timedelta(hours=1)


def _run_key(job: str, partition: str) -> str:
    """Return the key of a run's fault; those of a drop's run have that of the drop."""
    of_drop = partition and job in (ingest_drop.name, backfill_drops.name)
    return f"drop {partition}" if of_drop else f"run {job} {partition}"


def _of_run(key: str) -> tuple[str, str]:
    """Return the job and the partition of a run's fault."""
    kind, _, rest = key.partition(" ")
    job, _, partition = rest.partition(" ") if kind == "run" else (ingest_drop.name, "", rest)
    return job, partition


def _job(run: dg.DagsterRun) -> str:
    """Return the name of a run's job, or of its assets if Dagster made the job for them."""
    if run.job_name.startswith("__") and run.asset_selection:
        return ", ".join(sorted(key.to_user_string() for key in run.asset_selection))
    return run.job_name


def _red(record: AssetCheckExecutionRecord, key: str, what: str, where: str) -> Fault:
    found = _evaluation(record)
    said = f": {found.description}" if found and found.description else ""
    return Fault(
        key, "check_failed", f"{what}{said}", _second(datetime.fromtimestamp(record.create_timestamp, UTC)), where
    )


def _is_error(record: AssetCheckExecutionRecord) -> bool:
    found = _evaluation(record)
    return found is None or found.severity is dg.AssetCheckSeverity.ERROR


def _evaluation(record: AssetCheckExecutionRecord) -> dg.AssetCheckEvaluation | None:
    event = record.event.dagster_event if record.event else None
    return event.asset_check_evaluation_data if event else None


def _second(at: datetime) -> str:
    return utc_text(at, timespec="seconds")
