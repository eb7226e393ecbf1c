from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from servers import Server

from crm_core.errors import DatabaseError, MissingPrivilege, SchemaTooNew, SchemaTooOld
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.lock_watch import LockWatch
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import current_revision, head_revision, require_schema, revisions, routines
from crm_core.reading.feed import feed
from crm_core.timeline.invariants import check
from crm_core.values.hashing import entity_hashdiff

pytestmark = pytest.mark.integration


@pytest.fixture
def empty_database(any_server: Server) -> Iterator[Database]:
    with any_server.clone("template1") as database:
        yield database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three steps that are ours alone."""
    for number, table in enumerate(("a", "b", "c"), 1):
        (tmp_path / f"{number:04}_{table}.up.sql").write_text(
            f"create table {table} (x int);\ninsert into {table} values (7 % 4)"
        )
        (tmp_path / f"{number:04}_{table}.down.sql").write_text(f"drop table {table}")
    return tmp_path


def schema_of(server: Server, database: Database) -> str:
    """Return the schema as pg_dump reads it from the catalogs."""
    command = [str(server.binaries / "pg_dump"), "--schema-only", "--no-owner", "--dbname", database.conninfo]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = dump.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))  # random keys


def tables(database: Database) -> list[str]:
    query = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
    with database.connect() as connection:
        return [name for (name,) in connection.execute(query) if name not in ("alembic_version", "schema_routine")]


def revision_of(database: Database) -> str | None:
    with database.connect() as connection:
        return current_revision(connection)


def test_the_schema_is_the_same_after_down_and_up_again(any_server: Server, empty_database: Database) -> None:
    names = [step.name for step in revisions()]
    applied = [f"routines/{each.name}" for each in routines()]
    assert migrate(empty_database) == names + applied
    first = schema_of(any_server, empty_database)
    assert "CREATE TABLE" in first
    assert migrate(empty_database, "base") == names[::-1]
    assert tables(empty_database) == []
    assert "FUNCTION" not in schema_of(any_server, empty_database).replace("EXTENSION", "")
    assert migrate(empty_database) == names + applied
    assert schema_of(any_server, empty_database) == first


def test_each_step_can_be_undone_and_done_again(any_server: Server, empty_database: Database) -> None:
    before = ""
    for step in revisions():
        applied = [f"routines/{each.name}" for each in routines()] if step == revisions()[-1] else []
        assert migrate(empty_database, "+1") == [step.name, *applied]
        after = schema_of(any_server, empty_database)
        assert migrate(empty_database, "-1") == [step.name]
        assert before in ("", schema_of(any_server, empty_database))  # extensions stay after the first
        assert migrate(empty_database, step.number) == [step.name, *applied]
        assert schema_of(any_server, empty_database) == after
        before = after


def test_migrating_again_does_nothing(fresh_database: Database) -> None:
    assert migrate(fresh_database) == []


def test_routines_are_applied_again_when_they_differ(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        connection.execute(
            "create or replace function utc(instant timestamptz) returns text language sql return 'noon'"
        )
        connection.execute("update schema_routine set sha256 = 'of another release' where name = '10_values'")
    with fresh_database.connect() as connection, pytest.raises(SchemaTooOld, match="run `crm migrate`"):
        require_schema(connection)
    assert migrate(fresh_database) == [f"routines/{each.name}" for each in routines()]
    with fresh_database.connect() as connection:
        require_schema(connection)
        assert connection.execute("select utc('2024-01-01T00:00:00Z')").fetchone() == ("2024-01-01T00:00:00Z",)


def test_routines_of_another_form_are_replaced_and_rights_to_them_stay(any_fresh_database: Database) -> None:
    """A view cannot get other columns by `create or replace`, and another parameter makes a second function."""
    with any_fresh_database.transaction() as connection:
        connection.execute("drop role if exists looker")
        connection.execute("create role looker")
        connection.execute("drop view known.retraction")
        connection.execute("create view known.retraction as select 'of another release' as of_batch_id")
        connection.execute("create function utc(instant text) returns text language sql return 'noon'")
        connection.execute("grant select on known.retraction, known.entity to looker")
        connection.execute("update schema_routine set sha256 = 'of another release' where name = '30_known'")
    assert migrate(any_fresh_database) == [f"routines/{each.name}" for each in routines()]
    with any_fresh_database.connect() as connection:
        assert connection.execute("select to_regprocedure('utc(text)')").fetchone() == (None,)
        connection.execute("select set_config('crm.known_at', now()::text, true)")
        assert connection.execute("select of_batch_id from known.retraction").fetchall() == []
        for view in ("known.retraction", "known.entity"):
            may = connection.execute("select has_table_privilege('looker', %s, 'select')", (view,)).fetchone()
            assert may == (True,), view
        connection.execute("drop owned by looker")
        connection.execute("drop role looker")


def test_who_waits_for_a_table_lets_readers_pass(any_server: Server, empty_database: Database, folder: Path) -> None:
    """Whoever comes after one that waits for a table waits too, so a migration gives up now and then."""
    migrate(empty_database, "0002", folder=folder)
    (folder / "0003_c.up.sql").write_text("alter table a add y int")
    with (
        empty_database.connect() as reader,
        empty_database.connect(autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        reader.execute("select from a")
        migrating = pool.submit(partial(migrate, empty_database, folder=folder))
        blocked = "select exists (select from pg_locks where not granted and relation = 'a'::regclass)"
        seen = [False]
        deadline = time.monotonic() + 60
        while seen[-4:] != [False, True, False, True]:  # it waits, lets others pass, and waits again
            assert time.monotonic() < deadline
            ((waits,),) = other.execute(blocked).fetchall()
            seen += [waits] if waits != seen[-1] else []
            time.sleep(0.02)
        assert not migrating.done()
        reader.rollback()
        assert migrating.result(60) == ["0003_c"]


def test_what_is_locked_is_told(any_fresh_database: Database, folder: Path) -> None:
    migrate(any_fresh_database, "base")
    migrate(any_fresh_database, "0002", folder=folder)
    (folder / "0003_c.up.sql").write_text("create table c (x int); create index on a (x); alter table b add y int")
    watch = LockWatch()
    migrate(any_fresh_database, folder=folder, watch=watch)
    held = watch.held()
    assert [(lock.table, lock.waiting) for lock in held] == [
        ("a", "writers"),
        ("b", "readers and writers"),
    ]
    assert all(0 <= lock.seconds < 60 for lock in held)


def test_a_revision_may_be_named_or_relative(empty_database: Database, folder: Path) -> None:
    assert migrate(empty_database, "0002", folder=folder) == ["0001_a", "0002_b"]
    assert revision_of(empty_database) == "0002"
    assert migrate(empty_database, "+1", folder=folder) == ["0003_c"]
    assert migrate(empty_database, "-2", folder=folder) == ["0003_c", "0002_b"]
    assert tables(empty_database) == ["a"]
    assert migrate(empty_database, "0001", folder=folder) == []
    assert migrate(empty_database, "base", folder=folder) == ["0001_a"]
    assert revision_of(empty_database) is None


@pytest.mark.parametrize("revision", ["0004", "-1", "+4", "sideways"])
def test_a_revision_that_is_not_there_is_refused(
    fresh_database: Database, server: Server, folder: Path, revision: str
) -> None:
    with server.clone("template1") as database:
        with pytest.raises(DatabaseError, match="cannot go from revision None to"):
            migrate(database, revision, folder=folder)
        assert tables(database) == []


def test_a_step_that_fails_leaves_nothing_of_those_before_it(empty_database: Database, folder: Path) -> None:
    (folder / "0003_c.up.sql").write_text("create table c (x int); select 1 / 0")
    with pytest.raises(DatabaseError, match="division by zero"):
        migrate(empty_database, folder=folder)
    assert tables(empty_database) == []
    assert revision_of(empty_database) is None


def test_two_that_migrate_at_once_take_turns(empty_database: Database, folder: Path) -> None:
    (folder / "0001_a.up.sql").write_text("create table a (x int); select pg_sleep(0.5)")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: migrate(empty_database, folder=folder), range(2)))
    assert sorted(done) == [[], ["0001_a", "0002_b", "0003_c"]]


def test_a_database_of_a_later_release_is_left_alone(empty_database: Database, folder: Path) -> None:
    migrate(empty_database, folder=folder)
    for file in folder.glob("0003*"):
        file.unlink()
    with pytest.raises(SchemaTooNew, match="revision 0003, and this release knows up to 0002"):
        migrate(empty_database, folder=folder)
    assert tables(empty_database) == ["a", "b", "c"]


def test_a_missing_privilege_names_the_extension_and_the_cure(any_server: Server, empty_database: Database) -> None:
    with empty_database.connect() as connection:
        connection.execute("drop role if exists plain")
        connection.execute("create role plain login")
        connection.execute("grant create on schema public to plain")
    plain = Database(make_conninfo(empty_database.conninfo, user="plain"))
    with pytest.raises(MissingPrivilege) as caught:
        migrate(plain)
    assert "pg_trgm" in caught.value.cause
    assert "create extension pg_trgm;" in caught.value.cure


def test_a_missing_privilege_on_the_schema_is_named(any_server: Server, empty_database: Database) -> None:
    with empty_database.connect() as connection:
        connection.execute("drop role if exists plain")
        connection.execute("create role plain login")
        connection.execute("revoke create on schema public from public")  # before 15 everybody might
    plain = Database(make_conninfo(empty_database.conninfo, user="plain"))
    with pytest.raises(MissingPrivilege, match="permission denied for schema public"):
        migrate(plain)


def test_an_extension_that_is_not_installed_is_named(empty_database: Database, folder: Path) -> None:
    (folder / "0001_a.up.sql").write_text("create extension if not exists flux_capacitor;")
    with pytest.raises(DatabaseError, match="flux_capacitor is one of them"):
        migrate(empty_database, folder=folder)


def test_an_up_to_date_schema_is_accepted(any_connection: Connection) -> None:
    require_schema(any_connection)
    assert current_revision(any_connection) == head_revision() == revisions()[-1].number


def test_a_database_that_was_never_migrated_is_too_old(empty_database: Database) -> None:
    with empty_database.connect() as connection, pytest.raises(SchemaTooOld, match="no schema; run `crm migrate`"):
        require_schema(connection)


def test_a_schema_of_an_earlier_or_later_release_is_refused(connection: Connection) -> None:
    connection.execute("update alembic_version set version_num = '0001'")
    with pytest.raises(SchemaTooOld, match="revision 0001, and this release needs"):
        require_schema(connection)
    connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="install that release"):
        require_schema(connection)


@pytest.mark.parametrize("file", ["0002_b.down.sql", "0002_b.up.sql"])
def test_a_step_without_its_other_half_is_refused(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match="0002_b"):
        revisions(folder)


@pytest.mark.parametrize("name", ["0004_d", "0002_d", "four"])
def test_numbers_without_gaps_and_twins_are_asked_for(folder: Path, name: str) -> None:
    for half in ("up", "down"):
        (folder / f"0003_c.{half}.sql").rename(folder / f"{name}.{half}.sql")
    with pytest.raises(ValueError, match="0001, 0002, 0003"):
        revisions(folder)


def test_a_database_of_the_first_release_is_upgraded_in_place_and_keeps_its_data(empty_database: Database) -> None:
    migrate(empty_database, "0007")
    with empty_database.transaction() as connection:
        connection.execute("insert into entity_type (code, name) values ('PERSON', 'Person')")
        connection.execute("insert into batch (recorded_at, actor, source) values ('2024-01-02', 'ada', 'request')")
        connection.execute(
            "insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id)"
            " values ('0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01', '2024-01-01', 1, 1, 'upsert', 'Ada', 1)"
        )
        connection.execute(
            "insert into entity (entity_uid, display_name, entity_type_id, hashdiff, valid_from, is_current)"
            " select entity_uid, display_name, 1, %s, change_ts, true from ledger",
            (entity_hashdiff("Ada", "PERSON"),),
        )
    migrate(empty_database)
    with empty_database.connect() as connection:
        assert [(found.name, found.examples) for found in check(connection) if not found.holds] == []
        assert connection.execute("select display_name, acts, promoted_by from ledger").fetchall() == [
            ("Ada", True, None)
        ]
        assert connection.execute("select recorded_at::date::text from batch").fetchall() == [("2024-01-02",)]
        assert [json.loads(d)["op"] for d in feed(connection, None, limit=9).documents] == ["upsert"]
