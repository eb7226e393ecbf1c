"""A database is checked before it is used: one line says what does not fit or is missing, and what to do."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from builders import an_entity, reference_data, write_drop
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from running import clean_environment
from servers import Server
from serving import ENTITIES, a_problem, create, served

from crm_core.cli.main import crm as command_of_crm
from crm_core.errors import MissingPrivilege, SchemaIncomplete
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.fitness import missing_objects
from crm_core.postgres.migrations import migrate
from crm_core.timeline.merge import BULK_LOAD_AT_LEAST

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(any_server: Server) -> Iterator[Database]:
    with any_server.clone("template1") as database:
        yield database


def crm(database: Database, *arguments: str) -> Result:
    """Run a command in this process, without the settings of the developer."""
    others = dict.fromkeys(os.environ.keys() - clean_environment().keys())
    return CliRunner(env=others | {"CRM_DATABASE_URL": database.conninfo}).invoke(command_of_crm, arguments)


def refused(database: Database, *arguments: str) -> list[str]:
    """Run a command that fails, and return the lines of its error."""
    done = crm(database, *arguments)
    assert done.exit_code == 1, done.stdout + done.stderr
    return done.stderr.splitlines()


def libc(server: Server) -> str:
    with psycopg.connect(server.conninfo) as connection:
        return "locale_provider libc" if connection.info.server_version >= 150_000 else ""


def as_role(database: Database, role: str, *granted: str) -> Database:
    """Replace a role by one that may do only what is granted, and return the database as it sees it."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(f"drop role if exists {role}".encode())
        connection.execute(f"create role {role} login".encode())
        for one in granted:
            connection.execute(one.format(connection.info.dbname).encode())
    return Database(make_conninfo(database.conninfo, user=role))


# encodings, versions, extensions


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_refused_and_nothing_is_made(any_server: Server, encoding: str) -> None:
    any_server.run(
        f"create database in_{encoding} template template0 encoding '{encoding}' locale 'C' {libc(any_server)}"
    )
    try:
        database = any_server.database(f"in_{encoding}".lower())
        for command in (["migrate"], ["ingest", "x.csv"], ["serve"], ["check"], ["loaddata", "x.json"]):
            (line,) = refused(database, *command)
            assert f"encoding of the database in_{encoding.lower()} is {encoding}, not UTF8" in line
            assert "createdb -E UTF8 -T template0" in line
        with psycopg.connect(database.conninfo, client_encoding="utf8") as connection:
            assert connection.execute("select count(*) from pg_class where relnamespace = 2200").fetchone() == (0,)
    finally:
        any_server.run(f"drop database in_{encoding}")


def test_extensions_that_the_user_may_not_create_are_named_with_the_cure(empty: Database) -> None:
    plain = as_role(empty, "plain")
    with pytest.raises(MissingPrivilege) as caught:
        migrate(plain)
    assert "permission denied to create the extension pg_trgm" in caught.value.cause
    assert "create extension pg_trgm;" in caught.value.cure
    with psycopg.connect(empty.conninfo, autocommit=True) as connection:
        for line in re.findall(r"((?:create|grant) [^;]+);", caught.value.cure):
            connection.execute(line.encode())
    assert migrate(plain), "the cure is one"


def test_an_extension_in_a_schema_that_the_user_may_not_use_is_named(empty: Database) -> None:
    with psycopg.connect(empty.conninfo, autocommit=True) as connection:
        connection.execute("create schema hidden; create extension pg_trgm schema hidden")
        connection.execute("create extension btree_gist schema hidden")
    plain = as_role(empty, "plain", "grant create on schema public to plain", "grant create on database {} to plain")
    with pytest.raises(MissingPrivilege, match="grant usage on schema hidden to plain;"):
        migrate(plain)


def test_tables_of_somebody_else_are_not_taken_for_ours(empty: Database) -> None:
    with psycopg.connect(empty.conninfo, autocommit=True) as connection:
        connection.execute("create table entity (x int)")
    with pytest.raises(
        SchemaIncomplete, match="tables of these names already, but no schema of crm: entity; use an empty"
    ):
        migrate(empty)


# partial restores


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        (["--section=pre-data", "--section=data"], "the constraint batch.batch_pkey is missing or not valid"),
        (["--schema=public"], "the view known.entity is missing or not valid"),
        (["--exclude-table=public.reject"], "the table reject is missing or not valid"),
        (["--exclude-table=public.alembic_version"], "the table alembic_version is missing or not valid"),
    ],
)
def test_a_part_of_a_backup_is_named_by_what_it_lacks(
    any_server: Server, any_fresh_database: Database, empty: Database, options: list[str], lacking: str
) -> None:
    dump = [str(any_server.binaries / "pg_dump"), *options, "--dbname", any_fresh_database.conninfo]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    restore = [str(any_server.binaries / "psql"), "-q", "--dbname", empty.conninfo]
    with psycopg.connect(empty.conninfo, autocommit=True) as connection:
        for name in ("pg_trgm", "btree_gist"):
            connection.execute(f"create extension if not exists {name}".encode())
    subprocess.run(restore, input=text, check=False, capture_output=True, text=True)
    (line,) = refused(empty, "ingest", "x.csv")
    assert re.search("the schema is incomplete: |no schema of crm: access_token, ", line)
    assert "pg_restore without --table" in line
    found = crm(empty, "check")
    assert (found.exit_code, "Traceback" in found.stderr) == (1, False), found.stderr
    assert f"    {lacking}\n" in found.stdout


def test_an_index_that_was_not_finished_is_named(any_connection: Connection) -> None:
    any_connection.execute("update pg_index set indisvalid = false where indexrelid = 'batch_by_recorded_at'::regclass")
    assert missing_objects(any_connection) == ["the index batch.batch_by_recorded_at is missing or not valid"]


# roles


@pytest.fixture
def owned(any_server: Server) -> Iterator[Database]:
    """A migrated database of a role of its own, with roles that write and read by data/grants.sql."""
    with any_server.clone("template1") as database:
        for role in ("crm_ro", "crm_app", "crm_owner"):
            any_server.run(f"drop role if exists {role}")
            any_server.run(f"create role {role} login")
        name = conninfo_to_dict(database.conninfo)["dbname"]
        any_server.run("alter database {} owner to crm_owner", str(name))
        owner = Database(make_conninfo(database.conninfo, user="crm_owner"))
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute("alter schema public owner to crm_owner")
        migrate(owner)
        with owner.transaction() as connection:
            reference_data(connection)
        yield database
    for role in ("crm_ro", "crm_app", "crm_owner"):
        any_server.run(f"drop role {role}")


def grant(any_server: Server, database: Database) -> tuple[Database, Database]:
    owner = make_conninfo(database.conninfo, user="crm_owner")
    roles = ["-v", "writer=crm_app", "-v", "reader=crm_ro", "-v", "ON_ERROR_STOP=1"]
    file = Path(__file__).parents[2] / "data" / "grants.sql"
    subprocess.run([str(any_server.binaries / "psql"), "-q", *roles, "-f", file, "--dbname", owner], check=True)
    app, reader = (Database(make_conninfo(database.conninfo, user=user)) for user in ("crm_app", "crm_ro"))
    return app, reader


def test_a_role_with_the_documented_grants_writes_and_one_with_less_reads(
    any_server: Server, owned: Database, tmp_path: Path
) -> None:
    app, reader = grant(any_server, owned)
    first = write_drop(tmp_path / "first.csv", [an_entity(f"person {number}") for number in range(BULK_LOAD_AT_LEAST)])
    assert crm(app, "ingest", str(first)).exit_code == 0, "a first load needs no more"
    assert crm(app, "ingest", str(write_drop(tmp_path / "a.csv", [an_entity("ada")]))).exit_code == 0
    assert crm(app, "token", "create", "x", "--role", "writer").exit_code == 0
    assert crm(app, "migrate").exit_code == 0, "there is nothing to do"
    with served(app, auth="off") as client:
        made = create(client)
        assert client.patch(f"{ENTITIES}/{made['entity_uid']}", json={"display_name": "B"}).status_code == 200
        assert client.delete(f"{ENTITIES}/{made['entity_uid']}").status_code == 204
    with served(reader, auth="off") as client:
        assert client.get(ENTITIES).json()["count"] == 1 + BULK_LOAD_AT_LEAST
        known = {"as_of": "2999-01-01T00:00:00Z", "known_at": "2999-01-01T00:00:00Z"}
        assert client.get("/api/v1/entities-asof", params=known).json()["count"] == 1 + BULK_LOAD_AT_LEAST
        problem = a_problem(client.post(ENTITIES, json={"display_name": "C", "entity_type": "PERSON"}), 503)
        assert "grant" in problem["detail"]
        assert "permission denied" not in problem["detail"], "strangers learn no names"
    for command in (["check"], ["report", "--output", str(tmp_path / "r.html")]):
        done = crm(reader, *command)
        assert done.exit_code == 0, done.stderr + done.stdout
    (line,) = refused(reader, "ingest", str(tmp_path / "a.csv"))
    assert "permission denied for table" in line
    assert "grant select, insert, update, delete on table" in line
    assert "data/grants.sql" in line


def test_a_privilege_that_is_missing_is_one_line_with_its_grant(
    any_server: Server, owned: Database, tmp_path: Path
) -> None:
    app, _ = grant(any_server, owned)
    drop = str(write_drop(tmp_path / "a.csv", [an_entity("ada")]))
    with psycopg.connect(owned.conninfo, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"revoke temporary on database {name} from crm_app, public".encode())
        (line,) = refused(app, "ingest", drop)
        assert f'grant temporary on database "{name}"' in line
        connection.execute("revoke select on ledger from crm_app")
        (line,) = refused(app, "check")
        assert "grant select, insert, update, delete on table ledger" in line
        connection.execute("revoke usage on schema public from crm_app, public")
        (line,) = refused(app, "check")
        assert "grant usage on schema public to crm_app" in line
        connection.execute("grant usage on schema public to crm_app")
        connection.execute("revoke select on alembic_version from crm_app")
        (line,) = refused(app, "check")
        assert "grant select, insert, update, delete on table alembic_version" in line


def test_a_role_that_may_not_look_into_what_was_known_is_not_given_the_present_for_it(
    any_server: Server, owned: Database
) -> None:
    app, _ = grant(any_server, owned)
    with served(app, auth="off") as client:
        uid = create(client)["entity_uid"]
        long_ago = {"known_at": "2000-01-01T00:00:00Z"}
        assert client.get(f"{ENTITIES}/{uid}", params=long_ago).status_code == 404
        with psycopg.connect(owned.conninfo, autocommit=True) as connection:
            connection.execute("revoke usage on schema known from crm_app")
        a_problem(client.get(f"{ENTITIES}/{uid}", params=long_ago), 503)


# servers that take no writes


def test_a_read_only_database_answers_reads_and_refuses_writes_until_it_may_be_written_again(
    any_fresh_database: Database, tmp_path: Path
) -> None:
    with any_fresh_database.transaction() as connection:
        reference_data(connection)
        name = connection.info.dbname
    drop = str(write_drop(tmp_path / "a.csv", [an_entity("ada")]))
    with (
        psycopg.connect(any_fresh_database.conninfo, autocommit=True) as operator,
        served(any_fresh_database) as client,
    ):
        made = create(client)
        address = f"{ENTITIES}/{made['entity_uid']}"
        operator.execute(f"alter database {name} set default_transaction_read_only = on".encode())
        operator.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
        for _ in range(2):
            assert client.get(address).json() == made
            for answer in (
                client.patch(address, json={"display_name": "B"}),
                client.delete(address),
                client.post(ENTITIES, json={"display_name": "C", "entity_type": "PERSON"}),
                client.post("/api/v1/drops", content=Path(drop).read_bytes(), headers={"Content-Type": "text/csv"}),
            ):
                problem = a_problem(answer, 503)
                assert "read-only" in problem["detail"]
                assert answer.headers["retry-after"]
        for command in (["ingest", drop], ["token", "create", "x", "--role", "reader"]):
            (line,) = refused(any_fresh_database, *command)
            assert "read-only transaction" in line
            assert "default_transaction_read_only" in line
        assert crm(any_fresh_database, "migrate").exit_code == 0, "there is nothing to do"
        assert crm(any_fresh_database, "check").exit_code == 0
        operator.execute(f"alter database {name} set default_transaction_read_only = off".encode())
        assert client.patch(address, json={"display_name": "B"}).json()["display_name"] == "B"
        assert crm(any_fresh_database, "ingest", drop).exit_code == 0
