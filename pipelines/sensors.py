"""What starts runs by itself: a file that arrives, and for the report, drops that have been taken in."""

# No `from __future__ import annotations`: Dagster reads the annotations of a sensor's arguments, and takes no text.

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import dagster as dg

from pipelines.jobs import ingest_drop
from pipelines.partitions import drops
from pipelines.resources import DropFile, DropFolder

REQUESTS = 100  # a tick, so that it stays far from its time limit
WAITING = 1_000  # files that the cursor holds
NAMED = 3  # files in a reason to skip

# The run keys of all files that were ever requested. They are kept as the keys of partitions that no asset has, because
# a cursor is written with every tick, and 10,000 of them would be half a megabyte of it.
requested_files = dg.DynamicPartitionsDefinition(name="requested_drop_files")


@dataclass(frozen=True, slots=True)
class Cursor:
    """What one tick leaves to the next, as run keys."""

    waiting: frozenset[str] = field(default_factory=frozenset)  # seen, and perhaps still being written
    requested: frozenset[str] = field(default_factory=frozenset)  # known to be requested only when this is written

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Read a cursor; one that is no cursor of ours begins anew."""
        try:
            parts: dict[str, list[str]] = json.loads(text or "{}")
            return cls(frozenset(parts.get("waiting", [])), frozenset(parts.get("requested", [])))
        except (ValueError, AttributeError, TypeError):
            return cls()

    def write(self) -> str:
        """Write it as text."""
        return json.dumps({"waiting": sorted(self.waiting), "requested": sorted(self.requested)})


@dg.sensor(
    job=ingest_drop,
    minimum_interval_seconds=3,  # the daemon looks every 5 seconds; were it 5 here, it would often be just too early
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes in each CSV file of the drop folder (CRM_DROP_DIR), in order of names, and again when it "
    "changed. A file is complete when its size and time are the same in two ticks; to be sure, write it under a name "
    "that begins with a dot or ends with .tmp or .part, and rename it.",
)
def drop_folder(context: dg.SensorEvaluationContext, drop_folder: DropFolder) -> dg.SensorResult:
    """Request a run for each new file that stands still; its content is not read."""
    cursor = Cursor.read(context.cursor)
    try:
        files = drop_folder.files()
    except (FileNotFoundError, NotADirectoryError):
        return _skip(f"There is no folder {drop_folder.path()}: make it, or name another in CRM_DROP_DIR.", cursor)
    # A tick that dies leaves its cursor unwritten: the files are then requested again, and the run keys keep one run.
    handled = cursor.requested.union(context.instance.get_dynamic_partitions(requested_files.name or ""))
    new = [file for file in files if file.run_key not in handled]
    complete = [file for file in new if file.run_key in cursor.waiting][:REQUESTS]
    taken = frozenset(file.run_key for file in complete)
    left = [file for file in new if file.run_key not in taken]
    after = Cursor(frozenset(file.run_key for file in left[:WAITING]), taken)
    remember = [requested_files.build_add_request(sorted(cursor.requested))] if cursor.requested else []
    if not complete:
        return _skip(_nothing_to_do(drop_folder, files, left), after, remember)
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=file.run_key, partition_key=file.key) for file in complete],
        dynamic_partitions_requests=[drops.build_add_request([file.key for file in complete]), *remember],
        cursor=after.write(),
    )


def _skip(reason: str, cursor: Cursor, remember: Iterable[dg.AddDynamicPartitionsRequest] = ()) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor.write(), dynamic_partitions_requests=list(remember))


def _nothing_to_do(folder: DropFolder, files: list[DropFile], left: list[DropFile]) -> str:
    if not files:
        return f"There is no CSV file in {folder.path()}: drop one there."
    if left:
        names = ", ".join(file.name for file in left[:NAMED])
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        return f"Waiting until nobody writes to them any more: {names}{more}."
    return f"Nothing new: each of the {len(files)} files in {folder.path()} has had its run."


report_after_drops = dg.AutomationConditionSensorDefinition(
    "report_after_drops",
    target=dg.AssetSelection.assets("invariants", "data_quality_report"),
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the data-quality report when drops have been taken in and none is under way, unless an "
    "invariant stands broken. The first time it has the invariants recomputed too, which is then done daily.",
)
SENSORS = (drop_folder, report_after_drops)
