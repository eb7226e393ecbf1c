"""A drop from file to versions: rows + rejects → hashed rows → ledger → versions, one transaction for each drop."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import count, islice
from pathlib import Path

from crm_core.drops.contract import ValidChunk, validate
from crm_core.drops.noted_rows import NotedRows, notes_on, outdated_repeats
from crm_core.drops.reader import Form, drop_id, read_drop
from crm_core.drops.registry import keep_rejects, rejected_lines
from crm_core.drops.stated_keys import stage_keys
from crm_core.errors import DropRefused, DropUnreadable
from crm_core.formats.chunk import RawChunk
from crm_core.formats.files import fingerprint
from crm_core.model import Difference, MergeReport, Reject
from crm_core.postgres.connection import Connection, Database
from crm_core.profiles.profile import Profile
from crm_core.reading.reads import transitions_at
from crm_core.reference import held_types
from crm_core.resources import statement
from crm_core.timeline.merge import Merged, Origin, encoded, merge, stage, staging

Progress = Callable[[str, int, int | None], None]  # the phase, how much of it is done, and its total if known
READING = "reading"  # the phase that counts bytes; those of the merge count steps without a known total
PREFETCHED_BATCHES = 2  # batches that are validated while one is staged
_Prepared = tuple[RawChunk, ValidChunk, list[bytes]]  # the last member: the accepted rows, encoded
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
    sha256: str | None = None
    try:
        of_bytes = options.sha256 or fingerprint(path)
        if options.profile is not None and options.profile.mode == "snapshot":
            raise DropRefused(path, f"has the profile {options.profile.name} of snapshots, which are not supported yet")
        sha256 = drop_id(of_bytes, path, options.profile, options.shown_as)
        options = replace(options, sha256=of_bytes)
        if not options.dry_run:
            _see(connection, path, sha256, now, options)
        with connection.transaction(force_rollback=options.dry_run):
            known = _known(connection, sha256, now)
            if known.is_merged and not known.rejected:
                report, merged = _replayed(known), None
            else:
                report, merged = _read_and_merge(connection, path, sha256, known, now, options, progress)
            report = replace(
                report,
                file=_storable(options.shown_as or str(path)),
                sha256=sha256,
                seconds=round(time.monotonic() - started, 3),
                dry_run=options.dry_run,
            )
            if merged is not None:
                _record(connection, report, merged, is_more=known.is_merged)
            return report
    except DropRefused as refusal:
        error = _storable(str(refusal).replace(str(path), options.shown_as or str(path)))
        is_judged = not isinstance(refusal, DropUnreadable)
        if sha256 is not None and is_judged and not options.dry_run:
            values = {"sha256": sha256, "error": error}
            connection.execute(statement("drop/record_refused"), values)
        return MergeReport(
            file=_storable(options.shown_as or str(path)),
            sha256=sha256,
            status="refused",
            seconds=round(time.monotonic() - started, 3),
            error=error,
            dry_run=options.dry_run,
            rejects=refusal.rejects if isinstance(refusal, _TooStrict) else (),
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known about a drop before it is read."""

    first_seen: datetime
    is_merged: bool = False
    read: int = 0
    accepted: int = 0
    rejected: int = 0  # of a merged drop: they are validated again


@dataclass(slots=True)
class _Staged:
    """The counts of the rows that were read and staged."""

    accepted: int = 0
    rejected: int = 0
    shown: list[Reject] = field(default_factory=list)
    is_whole: bool = True  # False: the file ends in the middle of a line


def _replayed(known: _Known) -> MergeReport:
    """Report on a drop that is in already, whole."""
    return MergeReport(
        file="",
        sha256=None,
        status="replayed",
        rows_read=known.read,
        rows_accepted=known.accepted,
        rows_unchanged=known.accepted,
    )


def _read_and_merge(
    connection: Connection, path: Path, sha256: str, known: _Known, now: datetime, options: Options, progress: Progress
) -> tuple[MergeReport, Merged | None]:
    """Merge the rows of a drop; of a drop that was merged before, only the rejected rows that are valid now."""
    types = held_types(connection)
    codes = [kind.code for kind in types.detail_types if kind.is_active]
    sources = [source.code for source in types.sources if source.is_active]
    form = Form(codes, options.profile, options.time_zone, options.shown_as, sources)
    batches = read_drop(path, form, sha256=options.sha256)
    if known.is_merged:
        lines = rejected_lines(connection, sha256)
        batches = (batch.only(lines) for batch in batches)
    latest = max(now, known.first_seen)  # the clock may have been set back since the drop was first seen
    judge = partial(validate, types=types, first_seen=known.first_seen, now=latest, time_zone=form.zone)
    noted, merged, differences = NotedRows(connection), None, tuple[Difference, ...]()
    size = path.stat().st_size
    progress(READING, 0, size)
    with staging(connection):
        judged = _prepared_ahead(batches, judge)
        keeps = None if options.dry_run else sha256
        staged = _stage(connection, keeps, judged, noted, lambda done: progress(READING, done, size))
        if staged.rejected and options.strict:
            raise _TooStrict(path, staged.rejected, staged.shown)
        if staged.accepted or not known.is_merged:
            steps = count(1)
            origin = Origin(options.actor, "drop", drop_sha256=sha256)
            merged = merge(connection, origin, lambda step: progress(_in_words(step), next(steps), None))
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
    return replace(report, notes=notes, differences=differences), merged


def _differences(connection: Connection) -> Iterator[Difference]:
    """Return the field changes that a merge made at the moments of its first rows, while its work tables exist."""
    moments = connection.execute(statement("drop/first_moments"), {"limit": MAX_MOMENTS}).fetchall()
    for transition in map(json.loads, transitions_at(connection, [(at, uid) for at, uid in moments])):
        for change in transition["changes"]:
            yield Difference(transition["entity_uid"], change["field"], transition["at"], change["from"], change["to"])


def _stage(
    connection: Connection,
    sha256: str | None,
    judged: Iterator[_Prepared],
    noted: NotedRows,
    on_bytes: Callable[[int], None],
) -> _Staged:
    """Stage the valid rows, and keep the others as the rejects of the drop, if it is given."""
    staged = _Staged()
    if sha256 is not None:
        connection.execute(statement("drop/forget_rejects"), {"sha256": sha256})
    for batch, judged_alone, rows in judged:
        valid = stage_keys(connection, batch, judged_alone)
        stage(connection, rows if valid is judged_alone else encoded(valid.changes, valid.details))
        noted.add(valid.changes)
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
        entity_versions_added=merged.entity_versions_added,
        detail_versions_added=merged.detail_versions_added,
    )


def _in_words(step: str) -> str:
    """Return the name of a merge step, taken from its file in sql/merge, as words."""
    return step.rpartition("/")[2].lstrip("0123456789_").replace("_", " ")


def _prepared_ahead(batches: Iterator[RawChunk], judge: Callable[[RawChunk], ValidChunk]) -> Iterator[_Prepared]:
    """Read, validate and encode the next batches in threads, while the caller stages the current one."""

    def judged(reading: Future[RawChunk | None]) -> _Prepared | None:
        if (batch := reading.result()) is None:
            return None
        valid = judge(batch)
        return batch, valid, encoded(valid.changes, valid.details)

    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(PREFETCHED_BATCHES, "judge") as judges:
        begun = (judges.submit(judged, reader.submit(next, batches, None)) for _ in count())
        ahead = deque(islice(begun, PREFETCHED_BATCHES))
        while one := ahead.popleft().result():
            ahead.append(next(begun))
            yield one


def _record(connection: Connection, report: MergeReport, merged: Merged, *, is_more: bool) -> None:
    """Record what a drop did, or what more of it was merged."""
    values = report.as_json() | {"batch_id": merged.batch_id, "merged_at": merged.recorded_at}
    connection.execute(statement("drop/record_more" if is_more else "drop/record_merged"), values)


def _see(connection: Connection, path: Path, sha256: str, now: datetime, options: Options) -> None:
    profile = options.profile
    values = {
        "sha256": sha256,
        "file_name": _storable(options.shown_as or path.name),
        "bytes": path.stat().st_size,
        "now": now,
        "profile": profile and profile.name,
        "profile_toml": profile and profile.text,
    }
    connection.execute(statement("drop/see"), values)


def _known(connection: Connection, sha256: str, now: datetime) -> _Known:
    """Return what is known about a drop, and lock it so that nobody else takes it in at the same time."""
    row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
    if row is None:  # a dry run of a new drop
        return _Known(now)
    first_seen, status, read, accepted, rejected = row
    return (
        _Known(first_seen, is_merged=True, read=read, accepted=accepted, rejected=rejected)
        if status == "merged"
        else _Known(first_seen)
    )


def _storable(text: str) -> str:
    """Return the text that names a file in a form that PostgreSQL can store."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class _TooStrict(DropRefused):
    """A drop has a bad row, and the strict option refuses it."""

    def __init__(self, path: Path, rejects: int, shown: list[Reject]) -> None:
        self.rejects = tuple(shown)
        named = "; ".join(f"line {reject.line}: {', '.join(reject.reasons)}" for reject in shown[:MAX_NAMED])
        more = f" and {rejects - MAX_NAMED} more" if rejects > MAX_NAMED else ""
        rows = "1 row is" if rejects == 1 else f"{rejects} rows are"
        super().__init__(path, f"{rows} bad, so --strict refused the whole file ({named}{more})")
