"""A backup that is taken while others write, and restored elsewhere, answers as its original did at that moment."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from answering import answers, events, moments
from builders import a_request, an_entity, reference_data, write_drop
from endurance import breaches
from servers import Server
from serving import V1, a_problem, served

from crm_core.access.accounts import create_account
from crm_core.access.sessions import begin_session
from crm_core.access.tokens import create_token
from crm_core.backup.archive import MANIFEST, opened_backup
from crm_core.backup.restoring import inspect, restore
from crm_core.backup.taking import back_up
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.undo import undo_batch
from crm_core.errors import (
    BackupFailed,
    BackupRefused,
    CrmError,
    CursorLost,
    DatabaseNotEmpty,
    DatabaseUnfit,
    SchemaTooNew,
    SchemaTooOld,
)
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.migrations import migrate
from crm_core.reading.feed import feed
from crm_core.reference import reference_types
from crm_core.timeline.invariants import CHECKS
from crm_core.timeline.single_change import Provenance, apply_change
from crm_core.timeline.undo import Who

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def empty(any_server: Server) -> Iterator[Database]:
    with any_server.clone("template0") as database:
        yield database


@pytest.fixture
def filled(any_fresh_database: Database, tmp_path: Path) -> Database:
    """A database with a drop, its repeat under another name, requests, an undo, and a drop with a bad row."""
    with any_fresh_database.transaction() as connection:
        reference_data(connection)
    rows = [an_entity(f"{number}", name=f"Name {number}", email=f"{number}@example.org") for number in range(30)]
    with any_fresh_database.connect(autocommit=True) as connection:
        ingest_on(connection, write_drop(tmp_path / "first.csv", rows), Options())
        ingest_on(connection, write_drop(tmp_path / "again.csv", [*rows, an_entity("new")]), Options())
        bad = {"display_name": "Bad", "entity_type": "NONE", "details": "[]"}
        ingest_on(
            connection, write_drop(tmp_path / "bad.csv", [an_entity("good", name="Tab\t\\N\n\\."), bad]), Options()
        )
        patch(connection, Random(1))
        undo(connection, Random(1))
    return any_fresh_database


def patch(connection: Connection, draw: Random) -> None:
    change = an_entity(f"{draw.randrange(30)}", op="patch", name=f"Patched {draw.random()}", type_=None)
    request = a_request(change, is_dated=False, provenance=Provenance("writer", uuid4().hex))
    with suppress(CrmError):
        apply_change(connection, reference_types(connection), request, now=datetime.now(UTC), time_zone=UTC)


def undo(connection: Connection, draw: Random) -> None:
    found = connection.execute("select batch_id from batch where source = 'request' order by batch_id").fetchall()
    with suppress(CrmError):
        undo_batch(connection, draw.choice(found)[0], draw.choice(["undo", "reinstate"]), Who("undoer", "test"))


@contextmanager
def busy(database: Database, folder: Path) -> Iterator[None]:
    """Let others write, drop and undo until the block has ended."""
    is_over = threading.Event()

    def drop(connection: Connection, draw: Random) -> None:
        rows = [an_entity(f"{draw.randrange(90)}", at=draw.randrange(9), name=f"{draw.random()}") for _ in range(40)]
        ingest_on(connection, write_drop(folder / f"{uuid4()}.csv", rows), Options())

    def again_and_again(work: Callable[[Connection, Random], None], seed: int) -> int:
        draw, done = Random(seed), 0
        with database.connect(autocommit=True) as connection:
            while not is_over.is_set():
                work(connection, draw)
                done += 1
        return done

    jobs = [patch, patch, drop, undo]
    before = len(moments(database))
    with ThreadPoolExecutor(len(jobs)) as pool:
        working = [pool.submit(again_and_again, job, seed) for seed, job in enumerate(jobs)]
        try:
            soon(lambda: len(moments(database)) > before + 20)
            yield
            at_the_end = len(moments(database))
            soon(lambda: len(moments(database)) > at_the_end)
        finally:
            is_over.set()
        assert all(one.result(60) for one in working)


def soon(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# what comes back


def test_what_is_restored_answers_as_the_original_did_while_others_wrote(
    filled: Database, empty: Database, tmp_path: Path
) -> None:
    file = tmp_path / "crm.backup"
    with busy(filled, tmp_path):
        manifest = back_up(filled, file)
    restored = restore(empty, file)
    assert [found.name for found in restored.checks if not found.holds] == []
    assert len(restored.checks) == len(CHECKS)
    recorded = moments(filled)
    assert recorded[-1] > manifest.taken_at, "others did write meanwhile"
    before = [at for at in recorded if at <= manifest.taken_at]
    assert moments(empty) == before, "all of before, nothing of later"
    for known_at in (before[0], before[len(before) // 3], manifest.taken_at):
        assert answers(empty, known_at) == answers(filled, known_at)


def test_it_goes_on_where_the_original_stopped(filled: Database, empty: Database, tmp_path: Path) -> None:
    """Transactions and sequences of another server have other numbers; the feed and known_at need neither."""
    file = tmp_path / "crm.backup"
    back_up(filled, file)
    restore(empty, file)
    with empty.connect(autocommit=True) as connection:
        seen = list(events(connection))
        known = moments(empty)[-1]
        before = answers(empty, known)
        for _ in range(3):
            patch(connection, Random(2))
        new = list(events(connection))[len(seen) :]
        assert len(new) == 3
        assert min(json.loads(event)["batch_id"] for event in new) > max(json.loads(one)["batch_id"] for one in seen)
        again = ingest_on(connection, tmp_path / "first.csv", Options())
        assert (again.status, again.rows_changed) == ("replayed", 0), "a drop that was merged before is recognised"
    assert answers(empty, known) == before
    assert breaches(empty) == []


def test_a_follower_that_has_seen_what_is_lost_is_told(filled: Database, empty: Database, tmp_path: Path) -> None:
    back_up(filled, tmp_path / "crm.backup")
    with filled.connect(autocommit=True) as connection:
        page = feed(connection, None, limit=1_000)
        patch(connection, Random(3))
        later = feed(connection, page.next, limit=1)
        assert len(later.documents) == 1
    restore(empty, tmp_path / "crm.backup")
    with empty.connect(autocommit=True) as connection:
        patch(connection, Random(4))
        assert len(feed(connection, page.next, limit=1_000).documents) == 1, "this one misses nothing"
        with pytest.raises(CursorLost, match=r"restored to an earlier moment; .* begin with a blank cursor"):
            feed(connection, later.next, limit=1_000)
    with served(empty) as client:
        said = a_problem(client.get(f"{V1}/changes", params={"after": str(later.next)}), 400, "begin with a blank")
        assert said["errors"][0]["where"] == "query.after"


def test_rows_of_every_table_come_back_as_they_were_but_no_session(
    filled: Database, empty: Database, tmp_path: Path
) -> None:
    with filled.connect(autocommit=True) as connection:
        create_token(connection, "night", "writer", now=NOW)
        create_account(connection, "ann", "a long and unusual pass", "admin", now=NOW)
        begin_session(connection, "ann", now=NOW, address="127.0.0.1", user_agent="test")
        values = ("actor", "key", b"print", "done", "{}", NOW)
        connection.execute("insert into idempotency_key values (%s, %s, %s, %s, %s, %s)", values)
    manifest = back_up(filled, tmp_path / "crm.backup")
    restore(empty, tmp_path / "crm.backup")
    names = [name for name in manifest.rows if not name.endswith("schema_routine")]
    assert {"public.ledger", "public.access_token", "public.account", "public.idempotency_key"} <= {*names}
    for name in names:
        found = [rows(database, f"table {name}") for database in (filled, empty)]
        assert found[0] == found[1], name
        assert len(found[0]) == manifest.rows[name]
    assert len(rows(filled, "table session")) == 1
    assert rows(empty, "table session") == []


def rows(database: Database, query: str) -> list[str]:
    with database.connect() as connection:
        return sorted(repr(row) for row in connection.execute(query.encode()))


def test_it_comes_back_on_an_older_server_too(
    fresh_database: Database, any_server: Server, empty: Database, tmp_path: Path
) -> None:
    """What ships with the product writes for the newest server; one of before does not know all of it."""
    with fresh_database.connect(autocommit=True) as connection:
        reference_data(connection)
        ingest_on(connection, write_drop(tmp_path / "one.csv", [an_entity()]), Options())
    manifest = back_up(fresh_database, tmp_path / "crm.backup")
    restored = restore(empty, tmp_path / "crm.backup")
    assert all(found.holds for found in restored.checks)
    assert answers(empty, manifest.taken_at) == answers(fresh_database, manifest.taken_at)


def test_it_comes_from_an_older_server_to_the_newest(
    any_fresh_database: Database, server: Server, tmp_path: Path
) -> None:
    """An older one may note things with its columns that the newest does not know."""
    with any_fresh_database.connect(autocommit=True) as connection:
        reference_data(connection)
        ingest_on(connection, write_drop(tmp_path / "one.csv", [an_entity()]), Options())
    manifest = back_up(any_fresh_database, tmp_path / "crm.backup")
    with server.clone("template0") as newest:
        assert all(found.holds for found in restore(newest, tmp_path / "crm.backup").checks)
        assert answers(newest, manifest.taken_at) == answers(any_fresh_database, manifest.taken_at)


# what is refused


def test_only_an_empty_database_takes_it(filled: Database, empty: Database, tmp_path: Path) -> None:
    file = tmp_path / "crm.backup"
    back_up(filled, file)
    before = rows(filled, "table ledger")
    with pytest.raises(
        DatabaseNotEmpty, match=r"is not empty: it has public\.access_token, .*CRM_HOME to a new folder"
    ):
        restore(filled, file)
    assert rows(filled, "table ledger") == before
    with empty.connect(autocommit=True) as connection:
        connection.execute("create function mine() returns int language sql as 'select 1'")
    with pytest.raises(DatabaseNotEmpty, match=r"it has public\.mine"):
        restore(empty, file)


def test_a_database_without_a_schema_has_nothing_to_back_up(empty: Database, tmp_path: Path) -> None:
    with pytest.raises(SchemaTooOld, match="nothing to back up"):
        back_up(empty, tmp_path / "crm.backup")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_if_that_is_wanted(any_database: Database, tmp_path: Path) -> None:
    file = tmp_path / "crm.backup"
    file.write_text("something dear")
    with pytest.raises(BackupRefused, match="exists already; give another name, or --force"):
        back_up(any_database, file)
    assert file.read_text() == "something dear"
    back_up(any_database, file, is_replaced=True)
    assert inspect(file).rows["public.ledger"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["crm.backup"]
    assert file.stat().st_mode & 0o077 == 0, "nobody else may read it"


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "zip", "missing"])
def test_a_file_that_is_not_a_whole_backup_is_refused(
    any_database: Database, empty: Database, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "crm.backup"
    back_up(any_database, file)
    whole = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            middle = len(whole) // 2
            file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        case "text":
            file.write_text("no backup")
        case "zip":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(MANIFEST, '{"format": 2}')
        case "missing":
            file.unlink()
    wanted = (
        "damaged: its SHA-256" if damage == "flipped" else "cannot be read" if damage == "missing" else "not a backup"
    )
    with pytest.raises(BackupRefused, match=wanted):
        restore(empty, file)
    assert rows(empty, "select relname from pg_class where relnamespace = 'public'::regnamespace") == []


def test_a_backup_of_a_later_release_is_refused(any_database: Database, empty: Database, tmp_path: Path) -> None:
    changed(any_database, tmp_path, revision="9999")
    with pytest.raises(SchemaTooNew, match=r"revision 9999.*install that release"):
        restore(empty, tmp_path / "crm.backup")


def test_a_pg_restore_that_is_too_old_is_told(any_database: Database, empty: Database, tmp_path: Path) -> None:
    changed(any_database, tmp_path, pg_dump=77)
    with pytest.raises(
        DatabaseUnfit, match=r"pg_dump of PostgreSQL 77, but pg_restore here is of PostgreSQL 18; install"
    ):
        restore(empty, tmp_path / "crm.backup")


def test_rows_that_do_not_come_back_undo_the_whole_restore(
    any_database: Database, empty: Database, tmp_path: Path
) -> None:
    changed(any_database, tmp_path, rows={"public.ledger": 7})
    with pytest.raises(BackupFailed, match=r"public\.ledger.* another number of rows"):
        restore(empty, tmp_path / "crm.backup")
    assert rows(empty, "select relname from pg_class where relnamespace = 'public'::regnamespace") == []


def changed(database: Database, folder: Path, **members: object) -> None:
    """Make a backup whose manifest says something else."""
    file = folder / "crm.backup"
    back_up(database, file)
    with opened_backup(file) as backup, backup.dump() as dump:
        content, manifest = dump.read(), json.loads(backup.manifest.text())
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("crm.dump", content)
        archive.writestr(MANIFEST, json.dumps(manifest | members))


def test_a_migration_waits_until_the_backup_is_taken(any_fresh_database: Database, tmp_path: Path) -> None:
    """One that came in between would change the form of what pg_dump reads."""
    waited: list[bool] = []
    with ThreadPoolExecutor(1) as pool:
        migrating: list[Future[list[str]]] = []

        def progress(_phase: str, _done: int, _all: int | None) -> None:
            if not migrating:
                migrating.append(pool.submit(migrate, any_fresh_database, "-1"))
                time.sleep(0.3)
            waited.append(not migrating[0].done())

        manifest = back_up(any_fresh_database, tmp_path / "crm.backup", progress=progress)
        assert migrating[0].result(60) != []
    assert all(waited)
    assert inspect(tmp_path / "crm.backup") == manifest
    assert manifest.taken_at > datetime.now(UTC) - timedelta(minutes=5)
