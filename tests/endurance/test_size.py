"""A drop of 1.4 GB in flat memory, and a table of a million entities that answers as a small one does.

CRM_TEST_DROP_BYTES and CRM_TEST_ENTITIES set other sizes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from builders import write_drop
from endurance import Ended, a_home, start, with_types
from psycopg.conninfo import make_conninfo

from crm_core.bench.generator import ROW_BYTES, write_drops, write_wide
from crm_core.drops.ingest import ingest
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import running_server
from crm_core.reading import reads
from crm_core.reading.lists import Position
from crm_core.reference import reference_types
from crm_core.timeline.plans import KEY_QUERIES, explain
from crm_core.timeline.single_change import ChangeRequest, Provenance, apply_change

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BYTES = int(float(os.environ.get("CRM_TEST_DROP_BYTES", "1.4e9")))
ENTITIES = int(float(os.environ.get("CRM_TEST_ENTITIES", "1e6")))
FEW = 10_000
GIB = 1 << 30
SPARE = 20 * GIB
FLAT = 1.3  # times as much memory for a drop ten times as large
MOST = 1 * GIB  # of memory
SLOWER = 5  # times a small table's answer
THEN = datetime(2024, 6, 1, tzinfo=UTC)
Read = Callable[[Connection, ReferenceTypes, UUID], object]
AT_ONCE = 0.005  # seconds: what takes less is fast, whatever a small table takes


@dataclass(frozen=True, slots=True)
class Large:
    """A server whose database holds a million entities; `small`, another one of it, holds few."""

    home: Path
    database: Database
    small: Database
    peak: int  # bytes of memory that the command had at most that took them in
    uids: list[UUID]  # some of both


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    folder = tmp_path_factory.mktemp("drops")
    if shutil.disk_usage(folder).free < SPARE:
        pytest.skip("there are less than 20 GB of free disk space")
    with a_home() as home, running_server(home) as conninfo:
        database = with_types(Database(conninfo))
        drop = folder / "million.csv"
        write_wide(drop, ENTITIES * ROW_BYTES)
        taken_in, peak = peak_of("ingest", "--json", drop, home=home)
        assert json.loads(taken_in.said)["status"] == "merged", taken_in
        drop.unlink()
        with database.connect(autocommit=True) as connection:
            connection.execute("create database small")
            uids = [uid for (uid,) in connection.execute("select entity_uid from entity order by entity_uid limit 50")]
        small = with_types(Database(make_conninfo(conninfo, dbname="small")))
        assert ingest(small, write_drops(folder, FEW).initial).status == "merged"
        for each in (database, small):
            with each.connect(autocommit=True) as connection:
                connection.execute("vacuum analyze entity, entity_detail, ledger")
        yield Large(home, database, small, peak, uids)


def peak_of(*arguments: str | Path, home: Path) -> tuple[Ended, int]:
    """Run a `crm` command; return how it ended and how many bytes of memory it had at most."""
    command = start(*arguments, CRM_HOME=str(home))
    status = Path(f"/proc/{command.pid}/status")
    peak = 0
    while command.poll() is None:
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        peak = max([peak, *(int(kilobytes) << 10 for kilobytes in found)])
        time.sleep(0.05)
    said, error = command.communicate()
    return Ended(command.returncode, said, error), peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read the memory from")
def test_a_drop_of_gigabytes_is_read_in_flat_memory(large: Large, tmp_path: Path) -> None:
    """Its last row is bad and --strict refuses it for that: all of it is read, validated and staged, and not merged."""
    peaks = []
    for size in (BYTES // 10, BYTES):
        drop = tmp_path / f"{size}.csv"
        rows = write_wide(drop, size, seed=size)
        with drop.open("a") as file:
            file.write("no uid,A,PERSON,[],2024-01-01\n")
        refused, peak = peak_of("ingest", "--json", "--strict", drop, home=large.home)
        drop.unlink()
        assert refused.status == 1, refused
        assert f"line {rows + 2}: invalid_uid" in json.loads(refused.said)["error"]
        peaks.append(peak)
    assert 0 < peaks[1] < FLAT * peaks[0]
    assert max(*peaks, large.peak) < MOST
    assert large.peak < FLAT * peaks[0], "to merge takes no more than to read"


def test_a_million_entities_are_found_by_the_indexes(large: Large) -> None:
    with large.database.connect() as connection:
        connection.execute("insert into batch (recorded_at, actor, source) values (now(), 'test', 'request')")
        plans = list(explain(connection))
        connection.rollback()
    assert len(plans) == len(KEY_QUERIES)
    # Entities of one drop are stored in order of uid, whatever their time: block ranges of time serve later drops.
    found = [plan for plan in plans if plan.ok or not all("by_time" in index for index in plan.query.must_use)]
    assert len(found) > len(KEY_QUERIES) - 3
    broken = [f"{plan.query.purpose} must use {plan.query.must_use}\n{plan.text}" for plan in found if not plan.ok]
    assert not broken, "\n\n".join(broken)


def one(connection: Connection, _: ReferenceTypes, uid: UUID) -> object:
    return reads.snapshot(connection, uid)


def one_as_of(connection: Connection, _: ReferenceTypes, uid: UUID) -> object:
    return reads.snapshot(connection, uid, as_of=THEN)


def history(connection: Connection, _: ReferenceTypes, uid: UUID) -> object:
    return reads.history(connection, uid)


def list_by_name(connection: Connection, types: ReferenceTypes, _: UUID) -> object:
    return reads.entities(connection, types, limit=20).documents


def page_as_of(connection: Connection, types: ReferenceTypes, uid: UUID) -> object:
    return reads.entities(connection, types, limit=20, as_of=THEN, after=Position(uid)).documents


@pytest.mark.parametrize("read", [one, one_as_of, history, list_by_name, page_as_of])
def test_a_million_entities_are_read_as_fast_as_few(large: Large, read: Read) -> None:
    few, many = (seconds(database, read) for database in (large.small, large.database))
    assert many < max(SLOWER * few, AT_ONCE)


def seconds(database: Database, read: Read) -> float:
    """How long a read takes at the median."""
    taken = []
    with database.connect(autocommit=True) as connection:
        types = reference_types(connection)
        uids = [uid for (uid,) in connection.execute("select entity_uid from entity order by entity_uid limit 100")]
        for uid in uids:
            started = time.perf_counter()
            assert read(connection, types, uid)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def test_a_patch_and_a_small_drop_read_no_table_of_a_million_through(large: Large, tmp_path: Path) -> None:
    with large.database.connect(autocommit=True) as connection:
        types = reference_types(connection)
        before = rows_scanned(connection)
        patch = ChangeRequest("patch", large.uids[0], Provenance("test", "r"), display_name="renamed")
        result = apply_change(connection, types, patch, now=datetime.now(UTC), time_zone=UTC)
        assert result.outcome == "changed"
        rows = [
            {
                "entity_uid": str(uid),
                "display_name": "renamed",
                "entity_type": "PERSON",
                "details": "[]",
                "change_ts": at,
            }
            for uid in large.uids[1:]
            for at in ("2024-02-01", "2023-12-01")  # the second is late
        ]
        rows += [row | {"entity_uid": str(uuid4())} for row in rows]
        report = ingest(large.database, write_drop(tmp_path / "drop.csv", rows))
        assert (report.rows_read, report.rows_rejected) == (len(rows), 0)
        assert report.rows_changed > 0
        assert rows_scanned(connection) - before < 10 * len(rows)
        renamed = reads.snapshot(connection, large.uids[0])
    assert renamed is not None
    assert json.loads(renamed)["display_name"] == "renamed"


def rows_scanned(connection: Connection) -> int:
    """How many rows were ever read by scans of whole tables of versions and changes."""
    query = (
        "select sum(seq_tup_read)::bigint from pg_stat_user_tables"
        " where relname in ('entity', 'entity_detail', 'ledger')"
    )
    time.sleep(2)  # other sessions tell what they did when they end
    connection.execute("select pg_stat_force_next_flush()")
    ((count,),) = connection.execute(query)
    return int(count)
