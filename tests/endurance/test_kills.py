"""Clients and servers are killed in the middle of drops and migrations: in the end it is as if nobody had been."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from endurance import (
    a_home,
    assert_as,
    backends,
    breaches,
    crash,
    ended,
    run,
    some_drops,
    soon,
    start,
    under_way,
    with_types,
)
from running import servers_of
from servers import Server

from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import running_server
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import current_revision, head_revision

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.slow]

ENTITIES = 8_000
KILLS = 4  # a drop


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    return some_drops(tmp_path_factory.mktemp("drops"), ENTITIES)


@pytest.fixture(scope="module")
def undisturbed(server: Server, drops: Sequence[Path]) -> Iterator[tuple[Database, dict[Path, float]]]:
    """A database that took the drops in peace, and how long each took."""
    with server.clone("template1") as database:
        with_types(database)
        document = [run("ingest", "--json", drop, CRM_DATABASE_URL=database.conninfo) for drop in drops]
        yield database, {drop: json.loads(one.said)["seconds"] for drop, one in zip(drops, document, strict=True)}


def test_clients_killed_during_drops_leave_no_trace(
    server: Server, drops: Sequence[Path], undisturbed: tuple[Database, dict[Path, float]]
) -> None:
    peaceful, seconds = undisturbed
    chance = random.Random(1)
    killed = 0
    with server.clone("template1") as database:
        with_types(database)
        for number, drop in enumerate(drops):
            for _ in range(KILLS):
                command = start("ingest", drop, CRM_DATABASE_URL=database.conninfo)
                under_way(command, partial(backends, database))
                time.sleep(chance.uniform(0, seconds[drop]))
                command.kill()
                killed += ended(command).status < 0
                assert merged(database) in (number, number + 1), "a drop is in, or it is not"
            assert breaches(database) == []
            assert run("ingest", drop, CRM_DATABASE_URL=database.conninfo).status == 0
        assert killed > len(drops)
        soon(lambda: backends(database) == 0)
        assert_as(peaceful, database)


def test_servers_killed_during_drops_lose_nothing(
    drops: Sequence[Path], undisturbed: tuple[Database, dict[Path, float]]
) -> None:
    peaceful, seconds = undisturbed
    chance = random.Random(2)
    lost = 0
    with a_home() as home:
        with running_server(home) as conninfo:
            database = with_types(Database(conninfo))
        for drop in drops:
            for turn in range(KILLS):
                command = start("ingest", drop, CRM_HOME=str(home))
                under_way(command, partial(servers_of, home))
                if turn:  # else it starts, and recovers perhaps
                    under_way(command, partial(backends, database))
                time.sleep(chance.uniform(0, seconds[drop]))
                if turn % 2:
                    command.kill()
                crash(home)
                found = ended(command)
                assert found.status < 0 or found.is_clear, found
                lost += found.status != 0
            taken_in = run("ingest", drop, CRM_HOME=str(home))
            assert taken_in.status == 0, taken_in
            assert not servers_of(home)
        assert lost > len(drops)
        with running_server(home) as conninfo:
            assert conninfo == database.conninfo
            assert_as(peaceful, database)


def test_migrations_killed_on_either_side_happen_whole_or_not_at_all(server: Server) -> None:
    with server.clone("template1") as database:
        empty = schema_of(server, database)
        migrate(database)
        whole = schema_of(server, database)
        migrate(database, "base")
        bare = schema_of(server, database)  # but for the extensions
    chance = random.Random(3)
    killed = 0
    with a_home() as home:
        for turn in range(15):
            with running_server(home) as conninfo:
                found = schema_of(server, Database(conninfo))
            assert found in (empty, bare, whole)
            command = start("migrate", "base" if found == whole else "head", CRM_HOME=str(home))
            under_way(command, partial(servers_of, home))
            time.sleep(chance.uniform(0, 1))
            if turn % 3 != 1:
                command.kill()
            if turn % 3:
                crash(home)
            shown = ended(command)
            killed += shown.status != 0
            assert shown.status < 0 or shown.is_clear, shown
        assert killed > 5
        assert run("migrate", CRM_HOME=str(home)).status == 0
        with running_server(home) as conninfo:
            assert schema_of(server, Database(conninfo)) == whole
            with Database(conninfo).connect() as connection:
                assert current_revision(connection) == head_revision()


def merged(database: Database) -> int:
    """How many drops are in; a drop is in when its changes are."""
    with database.connect() as connection:
        row = connection.execute(
            "select count(*) filter (where status = 'merged'), (select count(*) from batch) from drop_file"
        ).fetchone()
    assert row is not None
    drops, batches = row
    assert drops == batches, "what is recorded is merged"
    return int(drops)


def schema_of(server: Server, database: Database) -> str:
    """Return the schema as pg_dump reads it from the catalogs."""
    command = [str(server.binaries / "pg_dump"), "--schema-only", "--no-owner", "--dbname", database.conninfo]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
