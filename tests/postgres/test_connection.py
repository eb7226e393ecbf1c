from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from servers import CARELESS

from crm_core.errors import AccessRefused, ServerFull, ServerUnreachable
from crm_core.postgres.connection import Connection, Database, open_database
from crm_core.postgres.embedded import running_server
from crm_core.resources import statement
from crm_core.settings import Settings

pytestmark = pytest.mark.integration

SECRET = "hunter2"


def show(connection: Connection, name: str) -> str:
    row = connection.execute("select current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The conninfo of a server where ann needs a password, and cam too, who may connect once at a time."""
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        rules = Path(folder, "pg_hba.conf")
        rules.write_text("local all postgres trust\nlocal crm ann,cam scram-sha-256\n")
        settings = {**CARELESS, "hba_file": str(rules)}
        with running_server(Path(folder, "home"), settings=settings) as conninfo:
            with psycopg.connect(conninfo) as connection:
                connection.execute(f"create role ann login password '{SECRET}'")
                connection.execute(f"create role cam login password '{SECRET}' connection limit 1")
            yield conninfo


def test_a_connection_speaks_utc_and_has_a_name(any_connection: Connection) -> None:
    found = {name: show(any_connection, name) for name in ("timezone", "application_name", "jit")}
    assert found == {"timezone": "UTC", "application_name": "crm", "jit": "off"}


def test_what_the_url_says_stands(database: Database) -> None:
    conninfo = make_conninfo(database.conninfo, application_name="other", options="-c work_mem=7MB")
    with Database(conninfo).connect() as connection:
        found = {name: show(connection, name) for name in ("timezone", "application_name", "work_mem")}
    assert found == {"timezone": "UTC", "application_name": "other", "work_mem": "7MB"}


def test_a_transaction_is_kept_or_undone_whole(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        connection.execute("create table kept (x int)")
    with suppress(psycopg.errors.DivisionByZero), fresh_database.transaction() as connection:
        connection.execute("create table undone (x int)")
        connection.execute("select 1 / 0")
    with fresh_database.connect() as connection:
        query = "select to_regclass('kept')::text, to_regclass('undone')::text"
        assert connection.execute(query).fetchone() == ("kept", None)


def test_the_right_password_is_let_in(guarded: str) -> None:
    with Database(make_conninfo(guarded, user="ann", password=SECRET)).connect() as connection:
        assert show(connection, "timezone") == "UTC"


@pytest.mark.parametrize(
    "change",
    [
        {"password": f"{SECRET}x"},
        {"password": None},
        {"user": f"ben{SECRET}x", "password": f"{SECRET}x"},
        {"dbname": "postgres", "password": SECRET},
        {"user": "postgres", "dbname": "nowhere"},
    ],
    ids=["wrong password", "no password", "unknown user", "database not allowed", "unknown database"],
)
def test_a_refusal_by_the_server_is_reported_without_the_password(guarded: str, change: dict[str, str | None]) -> None:
    database = Database(make_conninfo(guarded, **{"user": "ann", **change}))
    with pytest.raises(AccessRefused, match="check user, password and database") as caught:
        database.connect()
    assert SECRET not in str(caught.value).replace(f"ben{SECRET}x", "")
    assert SECRET not in repr(database)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "address",
    [
        {"host": "127.0.0.1", "port": "1"},
        {"host": "/nowhere"},
        {"host": "nowhere.invalid"},
        {"host": "localhost", "port": "1"},
    ],
    ids=["closed port", "no socket", "no such host", "two addresses"],
)
def test_an_address_where_nobody_answers_is_reported_without_the_password(address: dict[str, str]) -> None:
    database = Database(make_conninfo(f"user=ann password={SECRET} dbname=crm", **address))
    with pytest.raises(ServerUnreachable, match="check that the server runs") as caught:
        database.connect()
    assert SECRET not in str(caught.value)


def test_a_full_server_says_try_again(guarded: str) -> None:
    database = Database(make_conninfo(guarded, user="cam", password=SECRET))
    with database.connect(), pytest.raises(ServerFull, match="try again in a moment"):
        database.connect()


def test_the_given_server_is_used(database: Database) -> None:
    settings = Settings.from_environment({"CRM_DATABASE_URL": database.conninfo}, None)
    with open_database(settings) as opened:
        assert opened == database


def test_without_a_given_server_the_embedded_one_is_started() -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as home:
        settings = Settings.from_environment({"CRM_HOME": home}, None)
        with open_database(settings) as opened, opened.connect() as connection:
            assert connection.info.dbname == "crm"
            assert show(connection, "data_directory") == f"{home}/postgres"
            assert show(connection, "fsync") == show(connection, "synchronous_commit") == "on"


def test_a_statement_is_read_without_its_comments() -> None:
    assert statement("server/has_schema") == "select to_regclass('alembic_version') is not null"


def test_an_unknown_statement_names_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r"no statement 'server/hash_schema'.*has_schema"):
        statement("server/hash_schema")


def test_connecting_needs_neither_sqlalchemy_nor_alembic() -> None:
    heavy = "sum(name in sys.modules for name in ('sqlalchemy', 'alembic'))"
    code = f"import sys, crm_core.postgres.connection; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
