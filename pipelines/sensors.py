"""The sensors: runs for files that arrive, what was undone, and a report after drops have been taken in."""

# No `from __future__ import annotations`: Dagster needs the annotations of a sensor's arguments as types, not as text.

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from crm_core.drops.registry import validated
from crm_core.drops.sent import Sent, sent_drops
from crm_core.drops.undo import retracted_drops
from crm_core.errors import CrmError, DropUnreadable
from pipelines.alerts import alerts
from pipelines.folder import DropFile, DropFolder, Listing, shown
from pipelines.ingestion import ACTOR, DROP_TAG, FILE_TAG
from pipelines.jobs import ingest_drop
from pipelines.metadata import of_retraction
from pipelines.partitions import drop_key, drops, read_files
from pipelines.resources import CrmDatabase, one_line

MAX_RUNS = 100  # runs of drops that are requested at the same time; the other files wait
MAX_WAITING, MAX_LATER = 1_000, 10_000  # files that the cursor holds
MAX_NAMED = 3  # files in a reason to skip
FIRST_PAUSE, LONGEST_PAUSE = (
    60.0,
    3600.0,
)  # seconds before a file whose run failed is requested again, doubled each time
FIRST_LOOK = timedelta(days=1)  # drops that others sent before the first tick and are shown
NEVER = 1e11  # seconds since 1970: until the file changes
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class Cursor:
    """What one tick hands to the next; losing it costs one tick and some log lines."""

    waiting: frozenset[str] = field(default_factory=frozenset)  # contents seen once, and perhaps still being written
    later: Mapping[str, float] = field(default_factory=dict)  # contents whose run failed: seconds since 1970, or NEVER
    logged: frozenset[str] = field(default_factory=frozenset)  # keys of skipped entries that were logged

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Read a cursor; one that is not valid starts from nothing."""
        try:
            parts = json.loads(text or "{}")
            later = {str(content): float(at) for content, at in parts.get("later", {}).items()}
            return cls(frozenset(parts.get("waiting", [])), later, frozenset(parts.get("logged", [])))
        except (ValueError, AttributeError, TypeError):
            return cls()

    def write(self) -> str:
        """Return it as text."""
        return json.dumps(
            {
                "waiting": sorted(self.waiting)[:MAX_WAITING],
                "later": dict(sorted(self.later.items())[:MAX_LATER]),
                "logged": sorted(self.logged),
            }
        )


@dg.sensor(
    job=ingest_drop,
    minimum_interval_seconds=3,  # the daemon looks every 5 seconds; with 5 here it would often be slightly too early
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes in each file of the drop folder (CRM_DROP_DIR) in order of names, and again when the file "
    "changed, its run failed, or the database no longer has it; files in a subfolder by the profile of its name. A "
    "file is complete when its size and time are the same in two ticks; to be sure, write it under a name that begins "
    "with a dot or ends with .tmp or .part, and rename it.",
)
def drop_folder(
    context: dg.SensorEvaluationContext, drop_folder: DropFolder, crm_database: CrmDatabase
) -> dg.SensorResult:
    """Request a run for each file that no longer changes and is not yet in the database.

    The content of the files is not read.
    """
    cursor = Cursor.read(context.cursor)
    try:
        listing = drop_folder.listing()
        new = _not_validated(listing.files, read_files(context.instance), crm_database)
    except OSError as error:
        fault = f"The folder {drop_folder.path()} cannot be listed ({error.strerror})"
        return _skip(f"{fault}: make it, or name another in CRM_DROP_DIR.", cursor)
    except DropUnreadable as error:
        return _skip(f"The folder cannot be listed: {one_line(error)}.", cursor)
    except CrmError as error:
        return _skip(f"The database cannot be reached, so no run is requested: {one_line(error)}", cursor)
    passed_over = listing.passed_over[:MAX_WAITING]
    for one in passed_over:
        if one.key not in cursor.logged:
            context.log.warning(f"{one.name} is skipped: {one.why}")
    now = time.time()
    complete = [file for file in new if file.content in cursor.waiting or file.content in cursor.later]
    later = {file.content: at for file in complete if (at := cursor.later.get(file.content, 0.0)) > now}
    requests, failed = _ask(context.instance, [file for file in complete if file.content not in later], now)
    later |= failed
    after = Cursor(
        waiting=frozenset(file.content for file in new if file.content not in later),
        later=later,
        logged=frozenset(one.key for one in passed_over),
    )
    if not requests:
        return _skip(_nothing_to_do(drop_folder, listing, new, complete, after), after)
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[drops.build_add_request([request.partition_key or "" for request in requests])],
        cursor=after.write(),
    )


def _not_validated(files: Sequence[DropFile], read: Mapping[str, str], crm_database: CrmDatabase) -> Sequence[DropFile]:
    """Return the files that the database has not validated yet; a restored one may have lost some."""
    known = {file.content: read[file.content] for file in files if file.content in read}
    if not known:
        return files
    with crm_database.ask() as connection:
        held = validated(connection, set(known.values()))
    return [file for file in files if known.get(file.content) not in held]


def _ask(
    instance: dg.DagsterInstance, due: Sequence[DropFile], now: float
) -> tuple[Sequence[dg.RunRequest], dict[str, float]]:
    """Request runs, at most MAX_RUNS at the same time; return which files failed, and when they are due again."""
    if not due:
        return [], {}
    room = _room(instance)
    some = due[: 2 * MAX_RUNS]  # including those that are running
    runs = defaultdict[str, list[dg.RunRecord]](list)
    for run in instance.get_run_records(dg.RunsFilter(tags={FILE_TAG: [file.content for file in some]})):
        runs[run.dagster_run.tags[FILE_TAG]].append(run)  # newest first
    requests: list[dg.RunRequest] = []
    later: dict[str, float] = {}
    for file in some:
        before = runs[file.content]
        if len(requests) >= room:
            break
        if any(not run.dagster_run.is_finished for run in before):
            continue
        again = _due_again(before)
        if again > now:
            later[file.content] = again
            continue
        # The key depends on the earlier runs: a tick that dies before its cursor is written requests no second run.

        run_key = " after ".join([file.content, *(run.dagster_run.run_id for run in before[:1])])
        requests.append(dg.RunRequest(run_key=run_key, partition_key=file.key, tags={FILE_TAG: file.content}))
    return requests, later


def _room(instance: dg.DagsterInstance) -> int:
    return MAX_RUNS - instance.get_runs_count(dg.RunsFilter(job_name=ingest_drop.name, statuses=UNFINISHED))


def _due_again(before: Sequence[dg.RunRecord]) -> float:
    """Return when a file may be requested again after its runs, newest first; a person may have stopped it."""
    if not before:
        return 0.0
    if before[0].dagster_run.status is dg.DagsterRunStatus.CANCELED:
        return NEVER
    pause = min(FIRST_PAUSE * 2.0 ** min(len(before) - 1, 20), LONGEST_PAUSE)
    return (before[0].end_time or before[0].update_timestamp.timestamp()) + pause


def _skip(reason: str, cursor: Cursor) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor.write())


def _nothing_to_do(
    folder: DropFolder, listing: Listing, new: Sequence[DropFile], complete: Sequence[DropFile], after: Cursor
) -> str:
    """Return why no run is requested, and what is skipped."""
    written = [file.key for file in new if file not in complete]
    stopped = [file.key for file in complete if after.later.get(file.content) == NEVER]
    failed = [file.key for file in complete if file.content in after.later and file.key not in stopped]
    under_way = len(complete) - len(stopped) - len(failed)
    parts = []
    if written:
        parts.append(f"Waiting until they are completely written: {_names(written)}.")
    if under_way:
        parts.append(f"Under way, or waiting for those that are: {under_way:,}.")
    if failed:
        first = min(after.later[file.content] for file in complete if file.key in failed)
        parts.append(f"Their runs failed and are requested again, the first {_clock(first)}: {_names(failed)}.")
    if stopped:
        parts.append(f"Their runs were stopped by hand; materialize their partitions: {_names(stopped)}.")
    if not listing.files:
        parts.append(f"There is no drop in {folder.path()}: put one there.")
    elif not parts:
        parts.append(f"Nothing new: each of the {len(listing.files)} files in {folder.path()} was taken in or refused.")
    if listing.passed_over:
        parts.append(f"Skipped: {_names([str(one) for one in listing.passed_over])}.")
    return " ".join(parts)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def _clock(seconds: float) -> str:
    return time.strftime("at %H:%M:%S UTC", time.gmtime(seconds))


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows on the partition of a drop that it was undone or reinstated, by whom and why.",
)
def undone_drops(context: dg.SensorEvaluationContext, crm_database: CrmDatabase) -> dg.SensorResult:
    """Record an observation for each undo and reinstatement of a drop that has a partition."""
    try:
        after = _position(context.cursor)
        with crm_database.ask() as connection:
            found = retracted_drops(connection, after=after, limit=MAX_RUNS)
    except CrmError as error:
        said = f"The database cannot be reached: {one_line(error)}"
        return dg.SensorResult(skip_reason=said, cursor=context.cursor)
    known = set(context.instance.get_dynamic_partitions(drops.name or ""))
    seen = [
        dg.AssetObservation("drop_file", partition=drop_key(one.file_name), metadata=of_retraction(one))
        for one in found
    ]
    cursor = json.dumps([found[-1].recorded_at.isoformat(), found[-1].batch_id]) if found else context.cursor
    return dg.SensorResult(asset_events=[one for one in seen if one.partition in known], cursor=cursor)


@dg.sensor(
    job=ingest_drop,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows drops that were merged without Dagster: sent over the API or in the cockpit, ingested by a "
    "command, or approved after they were held. The run of each has the tags crm/drop and crm/sent_by, and traceparent "
    "if the request that sent it had one.",
)
def drops_from_elsewhere(context: dg.SensorEvaluationContext, crm_database: CrmDatabase) -> dg.SensorResult:
    """Request a run for each drop that others have merged: it reports what the drop did, and checks it."""
    try:
        after = datetime.fromisoformat(context.cursor or "")
    except ValueError:
        after = datetime.now(UTC) - FIRST_LOOK
    try:
        with crm_database.ask() as connection:
            found = sent_drops(connection, but_by=ACTOR, after=after, limit=max(_room(context.instance), 0))
    except CrmError as error:
        said = f"The database cannot be reached: {one_line(error)}"
        return dg.SensorResult(skip_reason=said, cursor=context.cursor)
    if not found:
        return dg.SensorResult(skip_reason="Nothing was merged without Dagster.", cursor=after.isoformat())
    requests = [_request(one) for one in found]
    keys = list(dict.fromkeys(request.partition_key or "" for request in requests))  # Dagster takes each once
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[drops.build_add_request(keys)],
        cursor=found[-1].merged_at.isoformat(),
    )


def _request(one: Sent) -> dg.RunRequest:
    """Return the request of a run that shows a drop: behind the runs of files that have just arrived."""
    tags = {DROP_TAG: one.sha256, "crm/sent_by": shown(one.actor), "dagster/priority": "-1"}
    if one.traceparent:
        tags["traceparent"] = one.traceparent
    run_key = f"sent {one.sha256} {one.merged_at.isoformat()}"
    return dg.RunRequest(run_key=run_key, partition_key=drop_key(one.file_name), tags=tags)


def _position(text: str | None) -> tuple[datetime, int] | None:
    """Read a cursor; one that is not valid starts from the beginning."""
    try:
        at, batch_id = json.loads(text or "")
        return datetime.fromisoformat(at), int(batch_id)
    except (ValueError, TypeError):
        return None


report_after_drops = dg.AutomationConditionSensorDefinition(
    "report_after_drops",
    target=dg.AssetSelection.assets("invariants", "data_quality_report"),
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the data-quality report when drops have been taken in and none is being taken in, unless an "
    "invariant is broken. The first time it also recomputes the invariants, which a schedule then does daily.",
)
SENSORS = (drop_folder, undone_drops, drops_from_elsewhere, alerts, report_after_drops)
