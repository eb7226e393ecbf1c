"""Take in a drop through the core, and collect what can be reported about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg

from crm_core.drops.ingest import MAX_SHOWN, Options, Progress, ingest_on
from crm_core.drops.registry import merged_as, rejects, validated
from crm_core.errors import DropRefused, DropUnreadable, ProfileRefused, SnapshotRefused, UnknownProfile
from crm_core.formats.files import fingerprint
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection
from crm_core.profiles import store
from crm_core.report.numbers import DropReport, collect_drop
from crm_core.settings import Settings
from crm_core.timeline.invariants import Check, TableSizes, check, entities_of_drop, table_sizes
from pipelines.folder import DropFile, DropFolder, shown
from pipelines.partitions import drop_key, read_files, remember_read

ACTOR = "dagster"
FILE_TAG = "crm/file"  # on a run that the sensor requested: DropFile.content
DROP_TAG = "crm/drop"  # on a run that shows a drop which is in already: its SHA-256
TAKES_TURN = "lock entities"  # the phase of a merge in which it waits for others, of sql/merge
MAX_ROWS_FOR_FIELDS = 20_000  # changed rows up to which it is quick to find what a drop changed by field


Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """A drop that was taken in, by this run or an earlier one."""

    key: str  # of its partition
    file: DropFile | None  # None: the file is gone, but its rows are in the database
    report: MergeReport  # of this run; a replay changes nothing
    drop: DropReport  # of the run that merged it
    invariants: Mapping[str, Check]  # by name, over entities of the drop
    entities: int  # how many were checked
    sizes: TableSizes

    @property
    def is_repeat(self) -> bool:
        """Return whether its bytes came before under another name, so that this drop did nothing."""
        return self.report.status == "replayed" and drop_key(self.drop.file_name) != self.key

    @property
    def summary(self) -> str:
        """Return one line about it."""
        done = self.report
        since = f"; there is no file of it here, but its rows have been in since {self.drop.merged_at:%Y-%m-%d}"
        gone = "" if self.file else since
        return (
            f"{self.key}: {done.status}, {done.rows_read:,} rows read, {done.rows_rejected:,} rejected,"
            f" {done.rows_changed:,} changed, {done.seconds:.1f} s{gone}"
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A drop that was refused: nothing was changed."""

    fault: str  # one line that names the file
    file: DropFile | None = None
    sha256: str | None = None  # None: it was not read
    before: Taken | None = None  # the earlier drop with that name, if the database has it


@dataclass(frozen=True, slots=True)
class Waiting:
    """A snapshot that was held: nothing was changed, and somebody has to decide."""

    file: DropFile
    report: MergeReport

    @property
    def summary(self) -> str:
        """Return one line about it, without names of entities."""
        found, sha256 = self.report.unlisted, self.report.sha256 or ""
        ends = "" if found is None else f"{found.would_end:,} of {found.in_scope:,} entities would end"
        return f"{self.file.key}: held, {ends}; approve or decline it in the cockpit, or with crm approve {sha256[:12]}"


def take_in(
    connection: Connection,
    instance: dg.DagsterInstance,
    key: str,
    folder: DropFolder,
    asked: str | None = None,
    tell: Tell = lambda _line: None,
) -> Taken | Refused | Waiting:
    """Take in the drop of a partition, in one transaction, and collect what it did.

    `asked` is the requested content, as in `DropFile.content`; None means whatever the file holds now. A file that is
    gone or has other content counts as present if the database has the requested content. `tell` is called with a line
    when the merge begins to wait for its turn, and when it has waited. Raises DatabaseError, or what psycopg raises;
    nothing was changed then.
    """
    try:
        file = folder.find(key)
    except DropUnreadable as error:
        return Refused(str(error))
    if file is not None and asked in (None, file.content):
        taken = _read(connection, instance, file, folder, tell)
    elif sha256 := _merged_before(connection, instance, key, asked):
        taken = _known(connection, key, folder, sha256)
    elif file is None:
        taken = Refused(f"{key}: there is no such drop in {folder.path()}; put the file there, then run it again")
    else:
        taken = Refused(_changed(file, asked or ""), file)
    if isinstance(taken, Refused) and (sha256 := _merged_before(connection, instance, key)):
        return replace(taken, before=_known(connection, key, folder, sha256))
    return taken


def show(connection: Connection, key: str, folder: DropFolder, sha256: str) -> Taken | Refused:
    """Return what a drop did that somebody else has merged; a restored database may not have it."""
    if not validated(connection, [sha256]):
        return Refused(f"{key}: the database does not hold the drop {sha256[:12]} any more; send it again")
    return _known(connection, key, folder, sha256)


def _read(
    connection: Connection, instance: dg.DagsterInstance, file: DropFile, folder: DropFolder, tell: Tell
) -> Taken | Refused | Waiting:
    name = shown(file.name)
    sha256: str | None = None
    try:
        with file.at_hand() as path:
            sha256 = fingerprint(path)
            if folder.find(file.key) != file:
                return Refused(
                    f"{name}: changed while it was read, so nothing was changed; the sensor requests it again"
                )
            report = ingest_on(connection, path, _options(file, sha256), _turn(file.key, tell))
        sha256 = report.sha256 or sha256  # with a profile the drop is known by both
    except (DropRefused, ProfileRefused, SnapshotRefused, UnknownProfile) as refusal:
        return Refused(shown(str(refusal)), file, sha256)
    except FileNotFoundError:
        return Refused(f"{name}: disappeared while it was read, so nothing was changed; put it back", file, sha256)
    is_validated = bool(validated(connection, [sha256]))
    # Otherwise it was not this file that was bad.
    if is_validated and (report.error is None or file.tag or folder.find(file.key) == file):
        remember_read(instance, file.content, sha256)
    if report.status == "held":
        return Waiting(file, report)
    if report.error is not None:
        return Refused(shown(report.error), file, sha256)
    return _tell(connection, file.key, file, report)


def _turn(key: str, tell: Tell) -> Progress:
    """Return what follows a merge, and tells of its wait for others that merge the same entities."""
    since: float | None = None

    def follow(phase: str, _done: int, _all: int | None) -> None:
        nonlocal since
        if phase == TAKES_TURN:
            since = time.monotonic()
            tell(f"{key}: its rows are read; it merges when no other merge holds entities of it")
        elif since is not None:
            tell(f"{key}: merging, after a wait of {time.monotonic() - since:.1f} s for others")
            since = None

    return follow


def _options(file: DropFile, sha256: str) -> Options:
    settings = Settings.from_environment()
    return Options(
        ACTOR,
        settings.time_zone,
        shown_as=None if isinstance(file.path, Path) and not file.profile else file.name,
        sha256=sha256,
        profile=store.load(settings.profile_dir, file.profile) if file.profile else None,
        snapshot_limit=settings.snapshot_limit,
    )


def _tell(connection: Connection, key: str, file: DropFile | None, report: MergeReport) -> Taken:
    sha256 = report.sha256 or ""
    uids = entities_of_drop(connection, sha256)
    taken = Taken(
        key=key,
        file=file,
        report=report,
        drop=collect_drop(connection, sha256, with_field_changes=False),
        invariants={found.name: found for found in check(connection, uids=uids)},
        entities=len(uids),
        sizes=table_sizes(connection),
    )
    if taken.is_repeat or taken.drop.rows_changed > MAX_ROWS_FOR_FIELDS:
        return taken
    return replace(taken, drop=collect_drop(connection, sha256))


def _merged_before(
    connection: Connection, instance: dg.DagsterInstance, key: str, asked: str | None = None
) -> str | None:
    """Return the SHA-256 of the content of a missing file if the database has it."""
    sha256 = _last_materialized(instance, key) if asked is None else read_files(instance).get(asked)
    if sha256 is None and asked is None and drop_key(key) == key:
        sha256 = merged_as(connection, key)
    if sha256 is None or not validated(connection, [sha256]):
        return None
    return sha256 if collect_drop(connection, sha256, with_field_changes=False).status == "merged" else None


def _last_materialized(instance: dg.DagsterInstance, key: str) -> str | None:
    records = dg.AssetRecordsFilter(dg.AssetKey("drop_file"), asset_partitions=[key])
    found = instance.fetch_materializations(records, limit=1).records
    last = found[0].asset_materialization if found else None
    return None if last is None or last.tags is None else last.tags.get("dagster/data_version")


def _known(connection: Connection, key: str, folder: DropFolder, sha256: str) -> Taken:
    """Return what was merged before, as a replay reports it."""
    drop = collect_drop(connection, sha256, with_field_changes=False)
    report = MergeReport(
        file=str(folder.path() / key),
        sha256=sha256,
        status="replayed",
        rows_read=drop.rows_read,
        rows_accepted=drop.rows_accepted,
        rows_rejected=drop.rows_rejected,
        rows_unchanged=drop.rows_accepted,
        rejects=tuple(rejects(connection, sha256, MAX_SHOWN)),
    )
    return _tell(connection, key, None, report)


def _changed(file: DropFile, asked: str) -> str:
    """Return the message that a file is not the one that a run was requested for."""
    _, size, modified_ns = asked.rsplit(" ", 2)
    meant = DropFile(file.path, file.key, int(size), int(modified_ns), file.profile)
    return (
        f"{file.key} has changed since this run was requested; what it held then ({_of(meant)}) was not taken in;"
        f" what it holds now ({_of(file)}) gets a run of its own; give each delivery a file name of its own"
    )


def _of(file: DropFile) -> str:
    return f"{file.bytes:,} bytes of {file.modified_at:%Y-%m-%dT%H:%M:%S.%fZ}"
