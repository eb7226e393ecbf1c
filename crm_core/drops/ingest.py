"""A drop from file to versions: rows + rejects → hashed rows → ledger → versions, one transaction for each drop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import count, islice
from pathlib import Path

from crm_core.drops.noted_rows import NotedRows, note_on_ended, notes_on, outdated_repeats
from crm_core.drops.prepared import Prepared, prepared_ahead
from crm_core.drops.registry import keep_rejects, rejected_lines
from crm_core.drops.snapshots import (
    LIMIT,
    NAMED,
    Approval,
    Held,
    SnapshotOptions,
    declined,
    has_bytes,
    hold,
    known_as,
    require_past,
    scope_of,
    snapshot_of,
    why_held,
)
from crm_core.drops.stated_keys import stage_keys
from crm_core.errors import DropRefused, DropUnreadable
from crm_core.formats.files import fingerprint
from crm_core.model import Difference, MergeReport, Reject
from crm_core.postgres.connection import Connection, Database
from crm_core.profiles.profile import Profile
from crm_core.reading.reads import transitions_at
from crm_core.reference import held_types, reference_types
from crm_core.resources import statement
from crm_core.rows.contract import validate
from crm_core.rows.reader import Form, drop_id, read_drop
from crm_core.timeline.merge import (
    Merged,
    Origin,
    Snapshot,
    encoded,
    find_unlisted,
    merge,
    stage,
    stage_rejects,
    staging,
    staging_snapshot,
)
from crm_core.values.text import storable

Progress = Callable[[str, int, int | None], None]  # the phase, how much of it is done, and its total if known
READING = "reading"  # the phase that counts bytes; those of the merge count steps without a known total
MAX_SHOWN = 10  # rejects that a report shows, and differences of a dry run
MAX_MOMENTS = 100  # moments of the first rows, at which a dry run looks for differences
MAX_NAMED = 3  # of these lines, how many a refusal under --strict or a note names


@dataclass(frozen=True, slots=True)
class Options:
    """The options for taking in a drop."""

    actor: str = "crm"  # written to the ledger
    time_zone: tzinfo = UTC  # for a change_ts without an offset
    dry_run: bool = False  # do everything, keep nothing
    strict: bool = False  # refuse the drop if a row is bad
    shown_as: str | None = None  # the name of the file in reports, if not its path
    sha256: str | None = None  # of the expected bytes, if they were read before: a file with other bytes is refused
    profile: Profile | None = None  # how to read the file; None: it has the standard form
    snapshot: SnapshotOptions | None = None  # of a snapshot; None: that of the profile, if it says so
    snapshot_limit: float = LIMIT  # the share of its scope that a snapshot may end; with more it is held
    known_as: str | None = None  # of a drop that was held: by what it is known
    approval: Approval | None = None  # of a drop that was held
    traceparent: str | None = None  # of the request that sends it, or lets it in (W3C Trace Context)


def ingest(
    database: Database,
    path: Path,
    options: Options | None = None,
    progress: Progress = lambda _phase, _done, _all: None,
) -> MergeReport:
    """Take in one drop, all of it or nothing, and return what it did; a refusal is returned too.

    Raises DatabaseError if the database cannot be used; nothing was changed then.
    """
    with database.connect(autocommit=True) as connection:
        return ingest_on(connection, path, options or Options(), progress)


def ingest_on(
    connection: Connection, path: Path, options: Options, progress: Progress = lambda _phase, _done, _all: None
) -> MergeReport:
    """Take in one drop over a connection in autocommit, or within its transaction."""
    started = time.monotonic()
    now = datetime.now(UTC)
    drop, content = None, ""

    def whole(report: MergeReport) -> MergeReport:
        return replace(
            report,
            file=storable(options.shown_as or str(path)),
            sha256=drop and drop.sha256,
            seconds=round(time.monotonic() - started, 3),
            dry_run=options.dry_run,
        )

    try:
        of_profile = snapshot_of(options.profile, path, options.shown_as or path.name, options.time_zone)
        options = replace(options, snapshot=options.snapshot or of_profile)
        if options.snapshot is not None:
            scope_of(options.snapshot.scope, reference_types(connection))
            require_past(options.snapshot.at or now, now)
        content = options.sha256 or fingerprint(path)
        read_as = drop_id(content, path, options.profile, options.shown_as)
        drop = _Drop(path, content, options.known_as or known_as(read_as, options.snapshot))
        if not options.dry_run:
            _see(connection, drop, options, now)
        with connection.transaction(force_rollback=options.dry_run):
            known = _known(connection, drop.sha256, now)
            if known.is_merged and not known.rejected:
                report, merged = _replayed(known), None
            elif known.is_declined and options.approval is None:
                report, merged = declined(connection, drop.sha256), None
            else:
                report, merged = _read_and_merge(connection, drop, known, now, options, progress)
            report = whole(report)
            if merged is not None:
                _record(connection, report, merged, options, is_more=known.is_merged)
            return report
    except Held as held:
        report = whole(held.report)
        hold(connection, path, content, report, sent_by=options.actor, is_strict=options.strict, now=now)
        return report
    except DropRefused as refusal:
        error = storable(str(refusal).replace(str(path), options.shown_as or str(path)))
        was_read = not isinstance(refusal, DropUnreadable)
        if drop is not None and was_read and not options.dry_run:
            values = {"sha256": drop.sha256, "error": error}
            connection.execute(statement("drop/record_refused"), values)
        rejects = refusal.rejects if isinstance(refusal, _TooStrict) else ()
        return whole(MergeReport(file="", sha256=None, status="refused", error=error, rejects=rejects))


@dataclass(frozen=True, slots=True)
class _Drop:
    """A file, and by what it is known."""

    path: Path
    content: str  # the SHA-256 of its bytes
    sha256: str  # that, or of a snapshot of that and more


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known about a drop before it is read."""

    first_seen: datetime
    is_merged: bool = False
    read: int = 0
    accepted: int = 0
    rejected: int = 0  # of a merged drop: they are validated again
    is_declined: bool = False
    snapshot_at: datetime | None = None


@dataclass(slots=True)
class _Staged:
    """The counts of the rows that were read and staged."""

    accepted: int = 0
    rejected: int = 0
    shown: list[Reject] = field(default_factory=list)
    is_whole: bool = True  # False: the file ends in the middle of a line


def _replayed(known: _Known) -> MergeReport:
    """Return the report on a drop that was taken in before, with every row accepted."""
    return MergeReport(
        file="",
        sha256=None,
        status="replayed",
        rows_read=known.read,
        rows_accepted=known.accepted,
        rows_unchanged=known.accepted,
    )


def _read_and_merge(
    connection: Connection, drop: _Drop, known: _Known, now: datetime, options: Options, progress: Progress
) -> tuple[MergeReport, Merged | None]:
    """Merge the rows of a drop; of a drop that was merged before, only the rejected rows that are valid now."""
    path, sha256, types = drop.path, drop.sha256, held_types(connection)
    codes = [kind.code for kind in types.detail_types if kind.is_active]
    sources = [source.code for source in types.sources if source.is_active]
    form = Form(codes, options.profile, options.time_zone, options.shown_as, sources)
    snapshot = None
    if options.snapshot is not None and not known.is_merged:
        at = known.snapshot_at or options.snapshot.at or now
        snapshot = Snapshot(at, scope_of(options.snapshot.scope, types))
    is_blank = snapshot is not None and not path.stat().st_size  # it says that there is nothing
    batches = iter(()) if is_blank else read_drop(path, form, sha256=drop.content)
    if known.is_merged:
        lines = rejected_lines(connection, sha256)
        batches = (batch.only(lines) for batch in batches)
    latest = max(now, known.first_seen)  # the clock may have been set back since the drop was first seen
    first_seen = known.snapshot_at or known.first_seen if snapshot is None else snapshot.at
    check = partial(validate, types=types, first_seen=first_seen, now=latest, time_zone=form.zone)
    noted, merged, differences = NotedRows(connection), None, tuple[Difference, ...]()
    unlisted, why = None, None
    size = path.stat().st_size
    progress(READING, 0, size)
    with staging(connection), staging_snapshot(connection) if snapshot else nullcontext():
        prepared = prepared_ahead(batches, check)
        keeps = None if options.dry_run else sha256
        staged = _stage(
            connection,
            keeps,
            prepared,
            noted,
            lambda done: progress(READING, done, size),
            is_snapshot=snapshot is not None,
        )
        if staged.rejected and options.strict:
            raise _TooStrict(path, staged.rejected, staged.shown)
        if snapshot is not None and options.snapshot is not None:
            unlisted = find_unlisted(connection, snapshot, named=NAMED)
            rows = staged.accepted + staged.rejected
            why = None if options.approval else why_held(unlisted, rows, options.snapshot_limit)
            if why is not None and not options.dry_run:
                raise Held(_report(known, staged, None), unlisted, why, sha256)
        if staged.accepted or not known.is_merged:
            steps = count(1)
            origin = Origin(options.actor, "drop", drop_sha256=sha256)

            def on_step(step: str) -> None:
                progress(_in_words(step), next(steps), None)

            merged = merge(connection, origin, on_step, snapshot=snapshot)
            differences = tuple(islice(_differences(connection), MAX_SHOWN)) if options.dry_run else ()
    ending_nobody, fallen_together = noted.after_merge(MAX_NAMED)
    report = replace(
        _report(known, staged, merged), rows_ending_nobody=ending_nobody.rows, rows_fallen_together=fallen_together.rows
    )
    outdated = outdated_repeats(connection, merged, MAX_NAMED)
    notes = notes_on(
        report,
        types,
        ending_nobody,
        fallen_together,
        outdated,
        is_replay=known.is_merged,
        is_whole=staged.is_whole,
    )
    notes += (f"it would be held: {why}",) if why else ()
    notes += (note_on_ended(report.entities_ended),) if report.entities_ended and snapshot is None else ()
    return replace(report, notes=notes, differences=differences, unlisted=unlisted), merged


def _differences(connection: Connection) -> Iterator[Difference]:
    """Return the field changes that a merge made at the moments of its first rows, while its work tables exist."""
    moments = connection.execute(statement("drop/first_moments"), {"limit": MAX_MOMENTS}).fetchall()
    for transition in map(json.loads, transitions_at(connection, [(at, uid) for at, uid in moments])):
        for change in transition["changes"]:
            yield Difference(transition["entity_uid"], change["field"], transition["at"], change["from"], change["to"])


def _stage(
    connection: Connection,
    sha256: str | None,
    prepared: Iterator[Prepared],
    noted: NotedRows,
    on_bytes: Callable[[int], None],
    *,
    is_snapshot: bool,
) -> _Staged:
    """Stage the valid rows, and keep the others as the rejects of the drop, if it is given."""
    staged = _Staged()
    if sha256 is not None:
        connection.execute(statement("drop/forget_rejects"), {"sha256": sha256})
    for batch, valid_alone, rows in prepared:
        valid = stage_keys(connection, batch, valid_alone)
        stage(connection, rows if valid is valid_alone else encoded(valid.changes, valid.details))
        noted.add(valid.changes)
        if is_snapshot and valid.rejected_uids:
            stage_rejects(connection, valid.rejected_uids)
        if sha256 is not None:
            keep_rejects(connection, sha256, batch.header, valid.rejects)
        staged.accepted += valid.changes.height
        staged.rejected += len(valid.rejects)
        staged.shown += valid.rejects[: MAX_SHOWN - len(staged.shown)]
        staged.is_whole = batch.is_whole
        on_bytes(batch.bytes_read)
    return staged


def _report(known: _Known, staged: _Staged, merged: Merged | None) -> MergeReport:
    """Return the report on all rows of a drop; rows that were accepted before count as unchanged."""
    accepted = known.accepted + staged.accepted
    report = MergeReport(
        file="",
        sha256=None,
        status="replayed",
        rows_read=accepted + staged.rejected,
        rows_accepted=accepted,
        rows_rejected=staged.rejected,
        rows_unchanged=accepted,
        rejects=tuple(staged.shown),
    )
    if merged is None:
        return report
    return replace(
        report,
        status="merged",
        rows_changed=merged.rows_changed,
        rows_unchanged=accepted - merged.rows_changed,
        rows_late=merged.rows_late,
        rows_superseded=merged.rows_superseded,
        entities_ended=merged.entities_ended,
        entity_versions_added=merged.entity_versions_added,
        detail_versions_added=merged.detail_versions_added,
    )


def _in_words(step: str) -> str:
    """Return the name of a merge step, taken from its file in sql/merge, as words."""
    return step.rpartition("/")[2].lstrip("0123456789_").replace("_", " ")


def _record(connection: Connection, report: MergeReport, merged: Merged, options: Options, *, is_more: bool) -> None:
    """Record what a drop did, or what more of it was merged; if it was held, that it is no more."""
    values = report.as_json() | {"batch_id": merged.batch_id, "merged_at": merged.recorded_at}
    connection.execute(statement("drop/record_more" if is_more else "drop/record_merged"), values)
    if options.snapshot is not None and not is_more:
        by = options.approval or Approval(options.actor, "it ends less now")
        values = {"sha256": report.sha256, "by": by.by, "reason": by.reason, "now": merged.recorded_at}
        connection.execute(statement("drop/approve"), values)
        if options.approval is not None:
            connection.execute(statement("drop/keep_approval"), values | {"batch_id": merged.batch_id})


def _see(connection: Connection, drop: _Drop, options: Options, now: datetime) -> None:
    profile, snapshot = options.profile, options.snapshot
    values = {
        "sha256": drop.sha256,
        "file_name": storable(options.shown_as or drop.path.name),
        "bytes": drop.path.stat().st_size,
        "now": now,
        "content_sha256": None if drop.content == drop.sha256 else drop.content,
        "scope": None,
        "at": None,
        "profile": profile and profile.name,
        "profile_toml": profile and profile.text,
        "traceparent": options.traceparent,
    }
    if snapshot is not None:
        values |= {"scope": scope_of(snapshot.scope, reference_types(connection)).written, "at": snapshot.at}
    connection.execute(statement("drop/see"), values)


def _known(connection: Connection, sha256: str, now: datetime) -> _Known:
    """Return what is known about a drop, and lock it so that nobody else takes it in at the same time."""
    row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
    if row is None:  # a dry run of a new drop
        return _Known(now)
    first_seen, status, read, accepted, rejected, snapshot_at = row
    return (
        _Known(first_seen, is_merged=True, read=read, accepted=accepted, rejected=rejected, snapshot_at=snapshot_at)
        if status == "merged"
        else _Known(
            first_seen, is_declined=status == "declined" and has_bytes(connection, sha256), snapshot_at=snapshot_at
        )
    )


class _TooStrict(DropRefused):
    """A drop has a bad row, and the strict option refuses it."""

    def __init__(self, path: Path, rejects: int, shown: list[Reject]) -> None:
        self.rejects = tuple(shown)
        named = "; ".join(f"line {reject.line}: {', '.join(reject.reasons)}" for reject in shown[:MAX_NAMED])
        more = f" and {rejects - MAX_NAMED} more" if rejects > MAX_NAMED else ""
        rows = "1 row is" if rejects == 1 else f"{rejects} rows are"
        super().__init__(path, f"{rows} bad, so --strict refused the whole file ({named}{more})")
