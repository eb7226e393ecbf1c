"""Writers beside each other: nothing is lost, nothing fails, and the end is what one writer would have made of it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import an_entity, day, reference_data, uid, write_drop
from psycopg.pq import TransactionStatus
from timeline_model import COMPARES, Model, Snapshot

from crm_core.drops.held import approve
from crm_core.drops.ingest import Options, ingest
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.reading.feed import feed
from crm_core.reference import reference_types
from crm_core.resources import statement
from crm_core.timeline.invariants import check
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.scd2]

PEOPLE = [f"person {number}" for number in range(12)]


def shuffled_changes(seed: int, count: int) -> list[Change]:
    """Changes of a dozen people, no two of one person at one instant."""
    chance = random.Random(seed)
    changes = []
    for number in range(count):
        who, at = chance.choice(PEOPLE), seed / 100 + number + 1
        match chance.random():
            case low if low < 0.1:
                changes.append(an_entity(who, at=at, op="delete"))
            case low if low < 0.3:
                changes.append(an_entity(who, at=at, op="patch", name=None, type_=None, email=f"{number}@x.org"))
            case _:
                changes.append(an_entity(who, at=at, name=chance.choice("ABC"), phone=chance.choice("12")))
    return chance.sample(changes, len(changes))


def test_writers_and_drops_beside_each_other_end_as_one_writer_would(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
    requests = [shuffled_changes(seed, 25) for seed in range(4)]
    complete = [[c for c in shuffled_changes(seed, 40) if c.op != "patch"] for seed in (10, 11)]

    def write(changes: Sequence[Change]) -> None:
        with fresh_database.connect(autocommit=True) as connection:
            for change in changes:
                with connection.transaction():
                    record(connection, types, [change], Origin("test", "request", request_id="r"))

    def drop(changes: Sequence[Change]) -> None:
        for number in range(0, len(changes), 10):
            part = write_drop(tmp_path / f"{id(changes)}-{number}.csv", changes[number : number + 10])
            assert ingest(fresh_database, part).status == "merged"

    with ThreadPoolExecutor(6) as pool:
        for done in [*[pool.submit(write, c) for c in requests], *[pool.submit(drop, c) for c in complete]]:
            done.result(timeout=120)

    model = Model()
    for changes in (*requests, *complete):
        model.record(*changes)
    agrees(fresh_database, model)


def test_snapshots_beside_other_writers_end_all_that_they_do_not_list(fresh_database: Database, tmp_path: Path) -> None:
    """Whether a change is recorded before a snapshot, after it or meanwhile makes no difference."""
    with fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
    requests = [[c for c in shuffled_changes(seed, 25) if c.op != "patch"] for seed in range(3)]
    listed = [PEOPLE[:4], PEOPLE[2:7], PEOPLE[5:], []]
    times = [5.5, 11.5, 17.5, 21.5]
    rows = [[an_entity(who, at=at, name="S") for who in some] for some, at in zip(listed, times, strict=True)]

    def write(changes: Sequence[Change]) -> None:
        with fresh_database.connect(autocommit=True) as connection:
            for change in changes:
                with connection.transaction():
                    record(connection, types, [change], Origin("test", "request", request_id="r"))

    def snapshot(number: int) -> None:
        of = SnapshotOptions("PERSON", day(times[number]))
        drop = write_drop(tmp_path / f"{number}.csv", rows[number])
        report = ingest(fresh_database, drop, Options(snapshot=of, snapshot_limit=1.0))
        if report.status == "held":  # it has no rows
            with fresh_database.connect(autocommit=True) as connection:
                report = approve(connection, report.sha256 or "", Who("test", "so it is"))
        assert report.status == "merged", report

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(write, changes) for changes in requests]
        for done in [*asked, *[pool.submit(snapshot, number) for number in (2, 0, 3, 1)]]:
            done.result(timeout=120)

    model = Model()
    for changes in requests:
        model.record(*changes)
    for some, at, said in zip(listed, times, rows, strict=True):
        model.record(*said, snapshot=Snapshot(day(at), frozenset({"PERSON"}), frozenset(map(uid, some))))
    agrees(fresh_database, model)


def agrees(database: Database, model: Model) -> None:
    """Compare the histories of all entities, and recompute every invariant."""
    with database.connect() as connection:
        assert [c.name for c in check(connection) if not c.holds] == []
        for person in model.uids():
            documents = [json.loads(document) for document in reads.history(connection, person)]
            names = [(d["display_name"], d["valid_from"]) for d in documents if d["kind"] == "entity"]
            expected = model.entity_versions(person)
            assert [name for name, _ in names] == [name for name, *_ in expected]
            for detail_type in COMPARES:
                values = [d["detail_value"] for d in documents if d.get("detail_type") == detail_type]
                assert values == [value for value, *_ in model.detail_versions(person, detail_type)]


def test_one_drop_taken_in_twice_at_once_is_merged_once(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    drop = write_drop(tmp_path / "drop.csv", [an_entity(f"person {number}") for number in range(500)])
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: ingest(fresh_database, drop), range(4)))
    assert sorted(report.status for report in reports) == ["merged", "replayed", "replayed", "replayed"]
    assert sum(report.rows_changed for report in reports) == 500


def test_readers_see_a_drop_whole_or_not_at_all(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
    people = [f"person {number}" for number in range(300)]

    def rename(at: int, name: str) -> Path:
        changes = [an_entity(who, at=at, name=name, email=f"{name}@x.org") for who in people]
        return write_drop(tmp_path / f"{at}.csv", changes)

    ingest(fresh_database, rename(1, "before"))
    with ThreadPoolExecutor(1) as pool, fresh_database.connect(autocommit=True) as reader:
        merging = pool.submit(ingest, fresh_database, rename(2, "after"))
        seen = set()
        while not merging.done():
            page = reads.entities(reader, types, limit=500)
            names = {(d["display_name"], d["details"][0]["detail_value"]) for d in map(json.loads, page.documents)}
            assert len(names) == 1, names
            seen |= names
        assert merging.result().rows_changed == 300
    assert ("before", "before@x.org") in seen


def test_a_drop_killed_at_any_moment_leaves_nothing_half_done(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    drops = [
        write_drop(
            tmp_path / f"{at}.csv",
            [an_entity(f"person {n}", at=at, name=f"{n % 7} {at % 2}", email=f"{at}@x.org") for n in range(4_000)],
        )
        for at in (1, 3, 2)  # the last one is late
    ]
    ingest(fresh_database, drops[0])
    code = (
        "import sys; from pathlib import Path;"
        "from crm_core.postgres.connection import Database; from crm_core.drops.ingest import ingest;"
        "print('go', flush=True); ingest(Database(sys.argv[1]), Path(sys.argv[2]))"
    )
    chance = random.Random(7)
    for drop in drops[1:]:
        for _ in range(3):
            arguments = [sys.executable, "-c", code, fresh_database.conninfo, str(drop)]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(chance.uniform(0.05, 1.2))
                process.send_signal(signal.SIGKILL)
            with fresh_database.connect() as connection:
                assert [c.name for c in check(connection) if not c.holds] == []
        assert ingest(fresh_database, drop).status in ("merged", "replayed")
    with fresh_database.connect() as connection:
        assert [c.name for c in check(connection) if not c.holds] == []
        assert connection.execute("select count(*) from ledger").fetchone() == (12_000,)
        left = connection.execute("select count(*) from pg_namespace where nspname like 'stage%'").fetchone()
        assert left == (0,)
        first = json.loads(reads.snapshot(connection, uid("person 0"), as_of=day(2)) or "null")
        assert first["details"][0]["detail_value"] == "2@x.org"


def name_as_known(connection: Connection, who: str, at: datetime) -> str | None:
    """The name that an entity had on the last day, as it was known at an instant."""
    document = reads.snapshot(connection, uid(who), as_of=day(100), known_at=at)
    return None if document is None else str(json.loads(document)["display_name"])


def now(connection: Connection) -> datetime:
    (at,) = connection.execute("select clock_timestamp()").fetchone() or ()
    assert isinstance(at, datetime)
    return at


def test_what_was_known_before_a_commit_is_not_known_otherwise_after_it(any_fresh_database: Database) -> None:
    with any_fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
        record(connection, types, [an_entity("ada", at=0, name="before")], Origin("test", "request"))
    with any_fresh_database.connect(autocommit=True) as other, any_fresh_database.connect() as long:
        record(long, types, [an_entity("ada", name="after")], Origin("test", "request"))
        with other.transaction():
            record(other, types, [an_entity("grace")], Origin("test", "request"))
        meanwhile = now(other)
        assert name_as_known(other, "ada", meanwhile) == "before"
        long.commit()
        assert name_as_known(other, "ada", meanwhile) == "before"
        assert name_as_known(other, "ada", now(other)) == "after"
        (recorded,) = other.execute("select max(recorded_at) from batch").fetchone() or ()
        assert recorded > meanwhile


def test_a_question_as_known_has_one_answer_while_others_write(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)

    def write(who: str) -> None:
        with fresh_database.connect(autocommit=True) as connection:
            for number in range(25):
                with connection.transaction():
                    change = an_entity(who, at=number / 1000, name=f"{number}")
                    record(connection, types, [change], Origin("test", "request"))

    with ThreadPoolExecutor(4) as pool, fresh_database.connect(autocommit=True) as reader:
        writing = [pool.submit(write, who) for who in PEOPLE[:4]]
        asked = []
        while not all(one.done() for one in writing):
            at = now(reader)
            asked += [(who, at, name_as_known(reader, who, at)) for who in PEOPLE[:4]]
        for one in writing:
            one.result()
        assert len({name for *_, name in asked}) > 5
        assert [(who, at, name) for who, at, name in asked if name_as_known(reader, who, at) != name] == []


def test_batches_that_are_copied_from_a_backup_keep_their_moments(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        connection.execute("insert into batch (recorded_at, actor, source) values ('2020-01-01', 'x', 'request')")
    with fresh_database.transaction() as connection:
        assert connection.execute("select recorded_at::text from batch").fetchone() == ("2020-01-01 00:00:00+00",)


def test_the_feed_misses_nothing_that_commits_between_its_two_looks(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the wait for those who commit, one gets its moment; another gets a later one and is committed first."""
    with fresh_database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)

    def write(connection: Connection, name: str) -> None:
        with connection.transaction():
            record(connection, types, [an_entity(name, at=1)], Origin("test", "request", request_id=name))

    with (
        fresh_database.connect(autocommit=True) as reader,
        fresh_database.connect() as slow,
        fresh_database.connect(autocommit=True) as quick,
    ):
        write(quick, "first")
        slow.execute("select")  # begins a transaction, which goes on until it is committed
        execute, waits = reader.execute, statement("query/await_commits")

        def overtaken(query: Any, *arguments: Any, **options: Any) -> Any:
            answer = execute(query, *arguments, **options)
            if query == waits:
                write(slow, "slow")
                slow.execute("set constraints all immediate")  # it gets its moment, and is not committed yet
                write(quick, "quick")
            return answer

        monkeypatch.setattr(reader, "execute", overtaken)
        before = feed(reader, None, limit=100)
        monkeypatch.undo()
        assert slow.info.transaction_status == TransactionStatus.INTRANS
        slow.commit()
        after = feed(reader, before.next, limit=100)
    told = [json.loads(event)["entity_uid"] for event in (*before.documents, *after.documents)]
    assert told == [str(uid(name)) for name in ("first", "slow", "quick")]
    with fresh_database.connect() as connection:
        query = "select entity_uid, recorded_at from ledger join batch using (batch_id)"
        moments = dict(connection.execute(query).fetchall())
    assert moments[uid("slow")] < moments[uid("quick")]
