"""A drop from file to versions: rows + rejects → hashed rows → ledger → versions, one transaction a drop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import count, islice
from pathlib import Path

from crm_core.database import Connection, Database, statement
from crm_core.drop_log import rejects as rejects_of
from crm_core.drops import RawBatch, fingerprint, read_drop
from crm_core.errors import DropRefused
from crm_core.merge import Merged, Origin, encoded, merge, stage, staging
from crm_core.model import MergeReport, Reject
from crm_core.reference import reference_types
from crm_core.schema import ValidBatch, validate

Progress = Callable[[int, int], None]  # bytes read so far, bytes in all
AHEAD = 2  # batches that are judged while one is staged
_Judged = tuple[RawBatch, ValidBatch, list[bytes]]  # the last: what is accepted, encoded
SHOWN = 10  # rejects that a report shows
NAMED = 3  # of them, that a refusal under --strict names


@dataclass(frozen=True, slots=True)
class Options:
    """How a drop is taken in."""

    actor: str = "crm"  # written to the ledger
    time_zone: tzinfo = UTC  # of naive change_ts
    dry_run: bool = False  # do everything, keep nothing
    strict: bool = False  # refuse the drop if a row is bad
    shown_as: str | None = None  # what answers call the file, if not by its path


def ingest(
    database: Database, path: Path, options: Options | None = None, progress: Progress = lambda _done, _all: None
) -> MergeReport:
    """Take one drop in, whole or not at all, and answer what it did; a refusal is an answer too.

    Raises DatabaseError when the database cannot be used; nothing of the drop has gone in then.
    """
    with database.connect(autocommit=True) as connection:
        return ingest_over(connection, path, options or Options(), progress)


def ingest_over(
    connection: Connection, path: Path, options: Options, progress: Progress = lambda _done, _all: None
) -> MergeReport:
    """Take one drop in over a connection in autocommit, or within its transaction."""
    started = time.monotonic()
    now = datetime.now(UTC)
    sha256: str | None = None
    try:
        sha256 = fingerprint(path)
        if not options.dry_run:
            _see(connection, path, sha256, now)
        with connection.transaction(force_rollback=options.dry_run):
            report, merged = _read_and_merge(connection, path, sha256, now, options, progress)
            report = replace(report, seconds=round(time.monotonic() - started, 3))
            if merged is not None:
                _record_merged(connection, report, merged)
            return report
    except DropRefused as refusal:
        error = _storable(str(refusal).replace(str(path), options.shown_as or str(path)))
        if sha256 is not None and not options.dry_run:
            values = {"sha256": sha256, "error": error}
            connection.execute(statement("drop/record_refused"), values)
        return MergeReport(
            file=_storable(options.shown_as or str(path)),
            sha256=sha256,
            status="refused",
            seconds=round(time.monotonic() - started, 3),
            error=error,
            rejects=refusal.rejects if isinstance(refusal, _TooStrict) else (),
        )


def _read_and_merge(
    connection: Connection, path: Path, sha256: str, now: datetime, options: Options, progress: Progress
) -> tuple[MergeReport, Merged | None]:
    shown_as = _storable(options.shown_as or str(path))
    first_seen, replayed = _seen(connection, shown_as, sha256, now)
    if replayed is not None:
        return replayed, None
    size = path.stat().st_size
    read = 0
    shown: list[Reject] = []
    rejects = 0
    with staging(connection):
        types = reference_types(connection)
        connection.execute(statement("drop/forget_rejects"), {"sha256": sha256})
        latest = max(now, first_seen)  # the clock may have been set back since the drop was first seen
        judge = partial(validate, types=types, first_seen=first_seen, now=latest, time_zone=options.time_zone)
        for batch, valid, rows in _judged_ahead(read_drop(path, sha256=sha256), judge):
            stage(connection, rows)
            if not options.dry_run:
                _keep_rejects(connection, sha256, batch.header, valid.rejects)
            read += valid.changes.height + len(valid.rejects)
            rejects += len(valid.rejects)
            shown += valid.rejects[: SHOWN - len(shown)]
            progress(batch.bytes_read, size)
        if rejects and options.strict:
            raise _TooStrict(path, rejects, shown)
        merged = merge(connection, Origin(options.actor, "drop", drop_sha256=sha256))
    report = MergeReport(
        file=shown_as,
        sha256=sha256,
        status="merged",
        rows_read=read,
        rows_accepted=read - rejects,
        rows_rejected=rejects,
        rows_changed=merged.rows_changed,
        rows_unchanged=read - rejects - merged.rows_changed,
        rows_late=merged.rows_late,
        rows_superseded=merged.rows_superseded,
        entity_versions_added=merged.entity_versions_added,
        detail_versions_added=merged.detail_versions_added,
        rejects=tuple(shown),
    )
    return report, merged


def _judged_ahead(batches: Iterator[RawBatch], judge: Callable[[RawBatch], ValidBatch]) -> Iterator[_Judged]:
    """Read, judge and encode the next batches, in threads, while the caller stages one."""

    def judged(reading: Future[RawBatch | None]) -> _Judged | None:
        if (batch := reading.result()) is None:
            return None
        valid = judge(batch)
        return batch, valid, encoded(valid.changes, valid.details)

    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(AHEAD, "judge") as judges:
        begun = (judges.submit(judged, reader.submit(next, batches, None)) for _ in count())
        ahead = deque(islice(begun, AHEAD))
        while one := ahead.popleft().result():
            ahead.append(next(begun))
            yield one


def _record_merged(connection: Connection, report: MergeReport, merged: Merged) -> None:
    values = report.as_json() | {"batch_id": merged.batch_id, "merged_at": merged.recorded_at}
    connection.execute(statement("drop/record_merged"), values)


def _see(connection: Connection, path: Path, sha256: str, now: datetime) -> None:
    values = {"sha256": sha256, "file_name": _storable(path.name), "bytes": path.stat().st_size, "now": now}
    connection.execute(statement("drop/see"), values)


def _seen(connection: Connection, shown_as: str, sha256: str, now: datetime) -> tuple[datetime, MergeReport | None]:
    """Answer when the drop was first seen and, if it is merged already, the report of this replay."""
    row = connection.execute(statement("drop/lock"), {"sha256": sha256}).fetchone()
    if row is None:  # a dry run of a new drop
        return now, None
    first_seen, status, read, accepted, rejected = row
    if status != "merged":
        return first_seen, None
    return first_seen, MergeReport(
        file=shown_as,
        sha256=sha256,
        status="replayed",
        rows_read=read,
        rows_accepted=accepted,
        rows_rejected=rejected,
        rows_unchanged=accepted,
        rejects=tuple(rejects_of(connection, sha256, SHOWN)),
    )


def _keep_rejects(connection: Connection, sha256: str, header: str, rejects: list[Reject]) -> None:
    if not rejects:
        return
    connection.execute(statement("drop/keep_header"), {"sha256": sha256, "header": header})
    with connection.cursor() as cursor, cursor.copy(statement("drop/copy_rejects")) as copy:
        for reject in rejects:
            copy.write_row((sha256, reject.line, [str(reason) for reason in reject.reasons], reject.raw))


def _storable(text: str) -> str:
    """Answer a text that names a file, whose name may be no text, as PostgreSQL stores it."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class _TooStrict(DropRefused):
    """A drop with a bad row, where none was to be let through."""

    def __init__(self, path: Path, rejects: int, shown: list[Reject]) -> None:
        self.rejects = tuple(shown)
        named = "; ".join(f"line {reject.line}: {', '.join(reject.reasons)}" for reject in shown[:NAMED])
        more = f" and {rejects - NAMED} more" if rejects > NAMED else ""
        rows = "1 row is" if rejects == 1 else f"{rejects} rows are"
        super().__init__(path, f"{rows} bad and --strict lets nothing in then ({named}{more})")
