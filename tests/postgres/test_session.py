"""Sessions are the same whatever the server, the role, the database, the service file and the environment say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from running import clean_environment
from servers import CARELESS, Server
from serving import ENTITIES, served

from crm_core.postgres.connection import Database, open_database
from crm_core.postgres.embedded import running_server
from crm_core.postgres.migrations import migrate
from crm_core.postgres.session import PINNED
from crm_core.settings import Settings

pytestmark = pytest.mark.integration

HOSTILE = {
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Pacific/Chatham",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "search_path": "elsewhere, pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "on",
    "gin_fuzzy_search_limit": "1",
    "exit_on_error": "on",
    "statement_timeout": "20ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1ms",
    "client_connection_check_interval": "0",
    "tcp_keepalives_idle": "7200",
}
OF_THE_ENVIRONMENT = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Chatham",
    "PGDATESTYLE": "SQL, DMY",
    "PGOPTIONS": "-c search_path=elsewhere -c datestyle=German",
}
OF_ANOTHER_SERVER = {  # these name a server, and the embedded one is not it
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nowhere",
    "PGSERVICE": "nowhere",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSSLMODE": "verify-full",
    "PGGSSENCMODE": "require",
}
ROWS = (
    ("Émile Żółć 李", "emile@example.org", "2024-02-01T00:00:00+02:00"),
    ("O'Neil \\ back", "o'neil@example.org", "03/04/2024"),
    ("Émile Żółć 李", "emile@example.org", "2024-02-03T12:00:00.123456Z"),
)


def crm(*arguments: str, folder: Path, **environment: str) -> str:
    """Run a command as a user does, and return what it writes; it must succeed and say no traceback."""
    command = [sys.executable, "-c", "from crm_core.cli.main import main; main()", *arguments]
    libpq = {name: value for name, value in clean_environment().items() if not name.startswith("PG")}
    ended = subprocess.run(
        command, cwd=folder, env={**libpq, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr + ended.stdout
    return ended.stdout


def set_all(conninfo: str, command: str, values: dict[str, str], name: str) -> None:
    """Set hostile values for a role or a database; lists as lists."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for setting, value in values.items():
            listed = value.split(", ") if setting == "search_path" else [value]
            statement = sql.SQL(command + " {} set {} = {}").format(
                sql.Identifier(name), sql.Identifier(setting), sql.SQL(", ").join(map(sql.Literal, listed))
            )
            connection.execute(statement)


def file_of(folder: Path) -> Path:
    file = folder / "people.csv"
    lines = [
        f'{name},PERSON,"[{{""detail_type"":""email"",""detail_value"":""{mail}""}}]",{at}' for name, mail, at in ROWS
    ]
    file.write_text("display_name,entity_type,details,change_ts\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def everything_works(folder: Path, fixtures: Path, **environment: str) -> None:
    """Migrate, load, take in, check and report, as a user does."""
    file = file_of(folder)
    crm("migrate", folder=folder, **environment)
    crm("loaddata", *map(str, sorted(fixtures.glob("*types.json"))), folder=folder, **environment)
    document = json.loads(crm("ingest", "--json", str(file), folder=folder, **environment))
    assert (document["status"], document["rows_read"], document["rows_accepted"]) == ("merged", 3, 2), (
        "03/04 is not ISO 8601"
    )
    crm("check", folder=folder, **environment)
    crm("report", "--json", folder=folder, **environment)
    crm("migrate", "base", "--yes", folder=folder, **environment)
    crm("migrate", folder=folder, **environment)


FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"


@pytest.fixture
def hostile(any_server: Server) -> Iterator[Database]:
    """A migrated database for whose user and for which everything is set as it should not be."""
    with any_server.clone() as database:
        name = conninfo_to_dict(database.conninfo)["dbname"]
        any_server.run("drop role if exists hostile")
        any_server.run("create role hostile superuser login")
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute("create schema elsewhere; create table elsewhere.entity (entity_uid int)")
            connection.execute("create table elsewhere.alembic_version (version_num text)")
        set_all(any_server.conninfo, "alter role", HOSTILE, "hostile")
        set_all(any_server.conninfo, "alter database", HOSTILE, str(name))
        yield Database(make_conninfo(database.conninfo, user="hostile"))


def test_every_setting_that_answers_depend_on_is_ours(
    hostile: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in OF_THE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    service = tmp_path / "services"
    given = "\n".join(f"{key}={value}" for key, value in conninfo_to_dict(hostile.conninfo).items())
    service.write_text(f"[house]\n{given}\noptions=-c search_path=elsewhere\nclient_encoding=LATIN1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in HOSTILE.items())
    for conninfo in (hostile.conninfo, "service=house", make_conninfo(hostile.conninfo, options=options)):
        with Database(conninfo).connect() as connection:
            found = {
                name: connection.execute("select current_setting(%s)", [name]).fetchone()
                for name in (*PINNED, *HOSTILE, "transaction_isolation")
            }
            expected = {**PINNED, "search_path": "public", "transaction_isolation": "read committed"}
            is_tcp_alone = {name for name in PINNED if name.startswith("tcp_")}  # a Unix socket has none
            assert {k: v[0] for k, v in found.items() if v and k in expected and k not in is_tcp_alone} == {
                name: value for name, value in expected.items() if name not in is_tcp_alone
            }
            assert found["idle_in_transaction_session_timeout"] == ("1min",)
            assert found["client_connection_check_interval"] == ("1s",)


def test_all_commands_work_where_every_setting_is_hostile(hostile: Database, tmp_path: Path) -> None:
    everything_works(tmp_path, FIXTURES, CRM_DATABASE_URL=hostile.conninfo, **OF_THE_ENVIRONMENT)


def test_the_api_answers_what_it_always_does_where_every_setting_is_hostile(hostile: Database, tmp_path: Path) -> None:
    file = file_of(tmp_path)
    environment = {"CRM_DATABASE_URL": hostile.conninfo, **OF_THE_ENVIRONMENT}
    crm("loaddata", *map(str, sorted(FIXTURES.glob("*types.json"))), folder=tmp_path, **environment)
    crm("ingest", str(file), folder=tmp_path, **environment)
    with served(hostile) as client:
        (found,) = client.get(ENTITIES, params={"q": "Żółć"}).json()["results"]
        assert (found["display_name"], found["valid_from"]) == ("Émile Żółć 李", "2024-01-31T22:00:00Z")
        assert client.get(ENTITIES, params={"email": "EMILE@example.org"}).json()["count"] == 1
        uid = found["entity_uid"]
        made = client.patch(f"{ENTITIES}/{uid}", json={"display_name": "O'Neil \\ x"})
        assert (made.status_code, made.json()["display_name"]) == (200, "O'Neil \\ x")
        before = client.get(f"{ENTITIES}/{uid}", params={"known_at": "2000-01-01T00:00:00Z"})
        assert before.status_code in (200, 404, 410)


def test_the_embedded_server_is_used_whatever_the_environment_and_its_own_settings_say() -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        home = Path(folder, "home")
        with (
            running_server(home, settings=CARELESS) as conninfo,
            psycopg.connect(conninfo, autocommit=True) as connection,
        ):
            connection.execute("create schema elsewhere")
            for name, value in HOSTILE.items():
                if name != "client_encoding":
                    connection.execute(f"alter system set {name} = '{value}'".encode())
        environment = {**OF_THE_ENVIRONMENT, **OF_ANOTHER_SERVER, "CRM_HOME": str(home)}
        everything_works(Path(folder), FIXTURES, **environment)


def test_names_come_through_whole_under_any_client_encoding(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as home:
        environment = {"CRM_HOME": home, "PGCLIENTENCODING": "LATIN1"}
        crm("migrate", folder=tmp_path, **environment)
        crm("loaddata", *map(str, sorted(FIXTURES.glob("*types.json"))), folder=tmp_path, **environment)
        crm("ingest", str(file_of(tmp_path)), folder=tmp_path, **environment)
        settings = Settings.from_environment({"CRM_HOME": home}, None)
        with open_database(settings) as database, database.connect() as connection:
            assert ("Émile Żółć 李",) in connection.execute("select display_name from entity").fetchall()


def test_the_tables_are_found_in_the_schema_where_they_already_are(any_server: Server) -> None:
    with any_server.clone() as database:
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute("alter schema public rename to house; create schema public")
        with database.connect() as connection:
            assert connection.execute("select current_schema(), count(*) from entity").fetchone() == ("house", 0)


def test_extensions_in_a_schema_of_their_own_are_found(any_server: Server) -> None:
    with any_server.clone("template1") as database:
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute('create schema "house\'s extensions"')
            for name in ("pg_trgm", "btree_gist"):
                connection.execute(f'create extension {name} schema "house\'s extensions"'.encode())
        migrate(database)
        with database.connect() as connection:
            found = connection.execute("select current_setting('search_path'), similarity('a', 'a')").fetchone()
            assert found == ('public, "house\'s extensions"', 1.0)


@pytest.mark.parametrize("name", [name for name in OF_THE_ENVIRONMENT if name != "PGOPTIONS"])
def test_a_variable_that_libpq_sends_with_the_start_does_not_win(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, OF_THE_ENVIRONMENT[name])
    assert os.environ[name]
    with database.connect() as connection:
        found = connection.execute("select current_setting('client_encoding'), timestamptz '2024-01-31 00:00Z'::text")
        assert found.fetchone() == ("UTF8", "2024-01-31 00:00:00+00")
