"""`crm bench`: how fast the product is on this machine, each number beside a limit from the same run.

The limit of a drop is a plain COPY of its rows, already validated and hashed, into bare unlogged tables. The limit of
one read or write is pgbench with the same SQL over one connection. Absolute numbers say little about other machines.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from uuid import UUID

import polars as pl
import psycopg

from crm_core.bench.compare import Compared, compare
from crm_core.bench.compare import lines as lines_of_compared
from crm_core.bench.formats import read_formats
from crm_core.bench.generator import DAY, MONTH, START, Drops, write_drops
from crm_core.bench.pages import measure_pages, take_in
from crm_core.drops.ingest import Options, ingest
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_drop
from crm_core.fixtures.load import with_types
from crm_core.formats.files import fingerprint
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import bundled_binaries, running_server
from crm_core.reading import reads
from crm_core.reading.feed import feed
from crm_core.reference import reference_types
from crm_core.resources import statement
from crm_core.rows.contract import validate
from crm_core.rows.reader import read_drop
from crm_core.timeline.single_change import ChangeRequest, Provenance, apply_change
from crm_core.timeline.undo import Kind, Who

CALLS = 300  # repetitions of each read and write
FIXED_ROWS = 20_000  # rows of the drop for a table and one five times as large
GROWTH = 5
REPLAY = "replay, the same rows"
EVENTS = 1_000  # of a page of the feed
NOON = START + MONTH / 2  # an instant between the first load and the next drop

OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured."""

    what: str
    rows: int
    seconds: float  # for a read or write: the median
    limit: float | None  # seconds of the limit, if there is one
    limited_by: str | None  # what the limit is

    @property
    def ratio(self) -> float | None:
        """Return how many times as long as the limit it takes."""
        return self.seconds / self.limit if self.limit else None


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that was measured in one run."""

    entities: int
    cores: int
    server: str  # version of PostgreSQL
    figures: tuple[Figure, ...]
    peak_mib: int  # peak of this process's resident memory
    compared: tuple[Compared, ...] = ()  # this product and the peers, if any was requested

    def as_json(self) -> dict[str, object]:
        """Return the object that `crm bench --json` prints."""
        return {**asdict(self), "figures": [asdict(figure) | {"ratio": figure.ratio} for figure in self.figures]}


def run_bench(
    entities: int,
    *,
    grows: bool = False,
    with_pages: bool = False,
    pgbench_seconds: int = 3,
    peers: Sequence[str] = (),
    on_progress: OnProgress = lambda _: None,
) -> Bench:
    """Measure with about `entities` entities, on an embedded server that is removed afterwards.

    With `with_pages`, each page of the cockpit is asked for too. With `grows`, one fixed drop is also merged into that
    many and into five times as many entities. pgbench runs `pgbench_seconds` seconds for each limit. `peers` are other
    tools that load the same drops. `on_progress` is called with each step.
    """
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        on_progress(f"writing drops about {entities:,} entities")
        drops = write_drops(Path(folder) / "drops", entities)
        with running_server(Path(folder)) as conninfo:
            database = with_types(Database(conninfo))
            figures: list[Figure] = []
            for what, path in (
                ("first load", drops.initial),
                ("delta: 30 % news", drops.delta),
                ("replay, the same bytes", drops.delta),
                (REPLAY, drops.replay),
                ("late rows", drops.late),
            ):
                on_progress(what)
                figures += _drop(database, what, path, with_stages=what == "first load")
            on_progress("undo")
            figures += _undone(database, drops.late, figures[-1])
            on_progress("formats")
            figures += _formats(database, drops.initial, Path(folder) / "formats")
            on_progress("reads and writes")
            figures += _calls(database, Path(folder), pgbench_seconds)
            on_progress("snapshots")
            figures += _snapshots(database, drops, figures)
            with database.connect() as connection:
                server = connection.info.parameter_status("server_version") or ""
            if with_pages:
                on_progress("pages of the cockpit")
                figures += _pages(database, Path(folder), drops.late.name)
            if grows:
                for times in (1, GROWTH):
                    on_progress(f"{FIXED_ROWS:,} rows on {times * entities:,} entities")
                    figures.append(_fixed(Path(folder), entities * times))
            compared = (
                compare(conninfo, drops, entities, peers, Path(folder) / "compared", on_progress) if peers else ()
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Bench(entities, os.cpu_count() or 1, server, tuple(figures), peak, compared)


def lines(bench: Bench) -> Iterator[str]:
    """Yield the results as a table."""
    yield f"{'':<36}{'rows':>10}{'seconds':>12}{'rows/s':>12}{'limits':>13}"
    for figure in bench.figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.1f} {figure.limited_by}"
        rate = figure.rows / figure.seconds
        yield f"{figure.what:<36}{figure.rows:>10,}{figure.seconds:>12.4f}{rate:>12,.0f}{ratio:>13}"
    yield (
        f"{bench.entities:,} entities, PostgreSQL {bench.server}, {bench.cores} cores, "
        f"at most {bench.peak_mib:,} MiB in this process"
    )
    if bench.compared:
        yield ""
        yield from lines_of_compared(bench.compared)


def _drop(database: Database, what: str, path: Path, *, with_stages: bool) -> Iterator[Figure]:
    rows, validating, limit = _limit(database, path)
    if with_stages:
        yield Figure("parse, validate and hash (Polars)", rows, validating, limit, "COPY")
    started = time.perf_counter()
    report = ingest(database, path)
    seconds = time.perf_counter() - started
    assert report.error is None, report.error
    yield Figure(what, rows, seconds, limit, "COPY")
    with database.connect(autocommit=True) as connection:
        connection.execute(statement("bench/analyze"))


def _undone(database: Database, path: Path, merged: Figure) -> Iterator[Figure]:
    """Measure the undo of a drop and its reinstatement beside its merge."""
    sha256, who = fingerprint(path), Who("bench", "to measure it")
    kinds: tuple[tuple[Kind, str], ...] = (("undo", "undo of the late rows"), ("reinstate", "reinstatement of them"))
    for kind, what in kinds:
        started = time.perf_counter()
        with database.connect(autocommit=True) as connection:
            changes = undo_drop(connection, sha256, kind, who).changes
        yield Figure(what, changes, time.perf_counter() - started, merged.seconds, "merge")


def _snapshots(database: Database, drops: Drops, before: Sequence[Figure]) -> Iterator[Figure]:
    """Measure a snapshot that ends what a drop does not list, and one that ends nothing, beside the same rows alone."""
    replay = next(figure for figure in before if figure.what == REPLAY)
    for what, path, at in (
        ("snapshot, 9 % end", drops.delta, START + 2 * MONTH),
        ("snapshot, nothing ends", drops.replay, START + 2 * MONTH + DAY),
    ):
        started = time.perf_counter()
        report = ingest(database, path, Options(snapshot=SnapshotOptions("PERSON,INSTITUTION", at), snapshot_limit=1.0))
        assert report.error is None, report.error
        yield Figure(what, report.rows_read, time.perf_counter() - started, replay.seconds, "replay")


def _followed(connection: Connection) -> Figure:
    """Measure the whole feed, read page by page."""
    events, cursor = 0, None
    started = time.perf_counter()
    while (page := feed(connection, cursor, limit=EVENTS)).documents:
        events, cursor = events + len(page.documents), page.next
    return Figure(f"feed, all in pages of {EVENTS:,}", events, time.perf_counter() - started, None, None)


def _formats(database: Database, drop: Path, folder: Path) -> Iterator[Figure]:
    """Measure reading and validating the same rows in each format; the limit is the standard form in CSV."""
    with database.connect() as connection:
        types = reference_types(connection)
    first, *others = read_formats(drop, folder, types)
    yield Figure(f"read and validate: {first.what}", first.rows, first.seconds, None, None)
    for each in others:
        yield Figure(f"read and validate: {each.what}", each.rows, each.seconds, first.seconds, first.what)


def _limit(database: Database, path: Path) -> tuple[int, float, float]:
    """Return the rows of a drop, the seconds that Polars takes, and the seconds of a plain COPY of the result.

    The rows and their details, hashed, are copied as CSV into bare unlogged tables, block by block, from bytes that are
    ready. Each block is copied twice, and the faster time counts.
    """
    rows, validating, copied = 0, 0.0, 0.0
    with database.connect() as connection:
        types = reference_types(connection)
        connection.execute(statement("bench/make_limit_entity"))
        connection.execute(statement("bench/make_limit_detail"))
        started = time.perf_counter()
        for chunk in read_drop(path):
            valid = validate(chunk, types, first_seen=START, now=datetime.now(UTC), time_zone=UTC)
            validating += time.perf_counter() - started
            digest = pl.lit("\\x") + pl.col("hashdiff")
            changes = valid.changes.select(
                "line", "entity_uid", "change_ts", "display_name", "entity_type_id", hashdiff=digest
            )
            uids = valid.changes.select("line", "entity_uid")
            details = valid.details.join(uids, on="line").select(
                "line", "entity_uid", "detail_type", "detail_value", hashdiff=digest
            )
            for name, frame in (("bench/copy_limit_entity", changes), ("bench/copy_limit_detail", details)):
                copied += min(_copied(connection, name, frame) for _ in range(2))
            rows += valid.changes.height
            started = time.perf_counter()
        connection.rollback()
    return rows, validating, copied


def _copied(connection: Connection, name: str, frame: pl.DataFrame) -> float:
    """Return the seconds that COPY takes for rows that are ready."""
    ready = frame.write_csv(include_header=False).encode()
    started = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
        copy.write(ready)
    return time.perf_counter() - started


def _pages(database: Database, folder: Path, late: str) -> Iterator[Figure]:
    """Measure the pages of the cockpit, by the log of a service of their own."""
    for page in measure_pages(database, folder / "serving", take_in(database, folder, late)):
        yield Figure(f"page: {page.what}", 1, page.median_ms / 1000, None, None)


def _fixed(folder: Path, entities: int) -> Figure:
    """Measure one drop of a fixed size on a table of a given size."""
    drops = write_drops(folder / f"grown_{entities}", entities)
    part = folder / f"part_of_{entities}.csv"
    with drops.delta.open(encoding="utf-8") as whole, part.open("w", encoding="utf-8") as file:
        file.writelines(islice(whole, FIXED_ROWS + 1))
    with running_server(folder / f"server_{entities}") as conninfo:
        database = with_types(Database(conninfo))
        assert ingest(database, drops.initial).error is None
        with database.connect(autocommit=True) as connection:
            connection.execute(statement("bench/analyze"))
        *_, figure = _drop(database, f"delta of {FIXED_ROWS:,} on {entities:,}", part, with_stages=False)
    drops.initial.unlink()
    return figure


def _calls(database: Database, folder: Path, seconds: int) -> Iterator[Figure]:
    with database.connect(autocommit=True) as connection:
        types = reference_types(connection)
        uids = [UUID(str(uid)) for uid, *_ in connection.execute(statement("bench/uids"), {"limit": CALLS})]
        whole = {"after_from": None, "after_code": None, "since": None, "offset": 0, "limit": None}
        first = {"after_uid": UUID(int=0), "after_name": "", "after_from": "-infinity", "limit": 21, "offset": 0}
        asked: tuple[tuple[str, Callable[[UUID], object], str | None, Mapping[str, object]], ...] = (
            (
                "one entity",
                lambda uid: reads.snapshot(connection, uid),
                "query/entity_current",
                {"entity_uid": uids[0]},
            ),
            ("list of 20", lambda _: reads.entities(connection, types), "query/entities_current_unfiltered", first),
            (
                "as-of page of 20",
                lambda _: reads.entities(connection, types, as_of=NOON),
                "query/entities_as_of_unfiltered",
                first | {"as_of": NOON},
            ),
            (
                "history of one",
                lambda uid: reads.history(connection, uid),
                "query/history",
                whole | {"entity_uid": uids[0]},
            ),
            ("diff page of 20, all time", lambda _: reads.diff(connection, START, START + 3 * MONTH), None, {}),
            ("diff page of 20, a day", lambda _: reads.diff(connection, START, START + DAY), None, {}),
        )
        for what, read, name, values in asked:
            limit = None if name is None else _pgbench(database, folder, _literal(connection, name, values), seconds)
            yield Figure(what, 1, _median(read, uids), limit, None if limit is None else "pgbench")
        yield _patch(database, connection, types, uids, folder, seconds)
        started = time.perf_counter()
        rows = sum(
            block.count(b"\n") for block in reads.stream_entities(connection, types, as_of=NOON + timedelta(days=60))
        )
        yield Figure("as-of, all of it streamed", rows, time.perf_counter() - started, None, None)
        yield _followed(connection)


def _patch(
    database: Database,
    connection: Connection,
    types: ReferenceTypes,
    uids: list[UUID],
    folder: Path,
    limit_seconds: int,
) -> Figure:
    turn = iter(range(1 << 30))
    provenance = Provenance("bench", "bench")

    def change(uid: UUID) -> None:
        request = ChangeRequest("patch", uid, provenance, display_name=f"Name {next(turn)}")
        apply_change(connection, types, request, now=datetime.now(UTC), time_zone=UTC)

    seconds = _median(change, uids)
    unset = ("change_ts", "entity_type_id", "hashdiff", "detail_types", "detail_values", "detail_hashdiffs")
    of_key = ("source_id", "source_key", "key_uid")
    values: dict[str, object] = dict.fromkeys((*unset, "only_if", "key", "fingerprint", *of_key))
    values |= {"entity_uid": uids[0], "op": "patch", "display_name": "NAME", "actor": "bench", "request_id": "bench"}
    script = _literal(connection, "change/request_change", values).replace("'NAME'", "'Name ' || :turn")
    anyone = f"('{{{','.join(map(str, uids))}}}'::uuid[])[:who]"
    script = script.replace(f"'{uids[0]}'::uuid", anyone)
    sets = f"\\set turn random(1, 1000000000)\n\\set who random(1, {len(uids)})\n"
    limit = _pgbench(database, folder, sets + script, limit_seconds)
    return Figure("one PATCH, committed", 1, seconds, limit, "pgbench")


def _median(call: Callable[[UUID], object], uids: list[UUID]) -> float:
    def seconds(uid: UUID) -> float:
        started = time.perf_counter()
        call(uid)
        return time.perf_counter() - started

    for uid in uids[:10]:  # from the tenth run on, the plan is cached
        call(uid)
    return statistics.median(map(seconds, uids))


def _literal(connection: Connection, name: str, values: Mapping[str, object]) -> str:
    """Return a statement with its values written out, for pgbench."""
    return f"{psycopg.ClientCursor(connection).mogrify(statement(name), dict(values))};\n"


def _pgbench(database: Database, folder: Path, script: str, seconds: int) -> float:
    """Return the seconds that one transaction of a script takes over one connection."""
    file = folder / "pgbench.sql"
    file.write_text(script, encoding="utf-8")
    pgbench = str(bundled_binaries() / "pgbench")
    command = [pgbench, "-n", "-M", "prepared", "-c", "1", "-T", str(seconds), "-f", str(file)]
    environment = {**os.environ, **database.environment(), "PGOPTIONS": "-c jit=off -c timezone=UTC"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = re.search(r"tps = ([\d.]+)", said)
    assert found, said
    return 1 / float(found[1])
