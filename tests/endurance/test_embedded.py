"""The embedded server is started, shared, killed and left by many at once; old data folders come along."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest
from endurance import STATE, a_home, breaches, differences, run, some_drops, under_way, with_types
from psycopg import sql
from running import clean_environment, servers_of
from servers import CARELESS, Server, older_binaries

from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import bundled_binaries, major_version, running_server
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import Revision, revisions

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS, AT_ONCE, KILLED = 8, 6, 3
LEDGER = "0004"  # the first revision with all that versions come from
# A command: notes its number in the database, says so, and leaves a moment later.
COMMAND = """
import sys, time
from pathlib import Path
import psycopg
from crm_core.postgres.embedded import running_server

with running_server(Path(sys.argv[1])) as conninfo:
    with psycopg.connect(conninfo) as connection:
        connection.execute("create table if not exists note_" + sys.argv[2] + " ()")
    print("noted", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def commands(home: Path, numbers: Sequence[int], chance: random.Random) -> dict[int, subprocess.Popen[str]]:
    return {
        number: subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(home), str(number), str(chance.uniform(0, 0.4))],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    }


def test_six_that_start_and_are_killed_at_once_share_one_server_and_lose_nothing() -> None:
    """In the first rounds even the data folder is made while its makers are killed."""
    chance = random.Random(11)
    noted: set[str] = set()
    with a_home() as home:
        for turn in range(ROUNDS):
            started = commands(home, range(turn * AT_ONCE, (turn + 1) * AT_ONCE), chance)
            for number in chance.sample(sorted(started), KILLED):
                time.sleep(chance.uniform(0, 0.4))
                started[number].kill()
                if turn < 2:  # the next one finds what a killed one still does
                    started |= commands(home, [1_000 + number], chance)
            for number, command in started.items():
                said, error = command.communicate(timeout=120)
                assert command.returncode in (0, -9), error
                noted |= {f"note_{number}"} if said else set()
            assert len(servers_of(home)) <= 1
        (last,) = commands(home, [9_999], chance).values()
        said, error = last.communicate(timeout=120)
        assert said == "noted\n", error
        assert not servers_of(home), "the last to leave stops it"
        with running_server(home) as conninfo, psycopg.connect(conninfo) as connection:
            kept = {name for (name,) in connection.execute("select relname from pg_class where relname ~ '^note_'")}
    assert noted <= kept
    assert len(noted) >= ROUNDS * (AT_ONCE - KILLED)


def _is_making(home: Path) -> bool:
    return any(home.glob("postgres.new*"))


def test_a_killed_command_that_was_making_the_data_folder_does_not_block_the_next_one() -> None:
    chance = random.Random(12)
    for _ in range(6):
        with a_home() as home:
            (first,) = commands(home, [1], chance).values()
            under_way(first, partial(_is_making, home))
            (second,) = commands(home, [2], chance).values()  # it waits for its turn
            time.sleep(chance.uniform(0.4, 1.2))
            first.kill()
            said, error = second.communicate(timeout=120)
            assert said == "noted\n", error
            first.communicate()


@pytest.fixture(scope="module")
def full(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database at the newest revision that took drops of each kind."""
    with server.clone("template1") as database:
        with_types(database)
        for drop in some_drops(tmp_path_factory.mktemp("drops"), 500):
            assert ingest(database, drop).status == "merged"
        yield database


@pytest.mark.parametrize("revision", revisions(), ids=lambda revision: revision.name)
def test_data_of_every_earlier_revision_come_along(
    server: Server, full: Database, revision: Revision, tmp_path: Path
) -> None:
    with server.clone("template1") as database:
        migrate(database, revision.number)
        with full.connect() as old, database.connect() as new:
            kept = {*tables(old)}  # the others are no more
            carried = [table for table in tables(new) if table in kept and carry(old, new, table)]
        upgraded = run("migrate", CRM_DATABASE_URL=database.conninfo)
        assert upgraded.status == 0, upgraded
        assert "entity_type" in carried
        lost = [row for row in differences(database, full) if row.partition(":")[0] in carried]
        assert lost == []
        if revision.number >= LEDGER:
            assert {"entity", "entity_detail", "ledger", "batch"} <= {*carried}
            assert breaches(database) == []
        if {*STATE} <= {*carried}:
            another = some_drops(tmp_path, 600)[1]
            assert ingest(database, another).status == ingest(full, another).status
            assert differences(database, full) == []
            assert breaches(database) == []


def tables(connection: Connection) -> list[str]:
    """The tables with data, those that others refer to first; not those that tell which schema it is."""
    query = (
        "select relname from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace"
        " and relname not in ('alembic_version', 'schema_routine')"
        " order by exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f'), relname"
    )
    return [name for (name,) in connection.execute(query)]


def carry(old: Connection, new: Connection, table: str) -> bool:
    """Copy the rows of a table, and where its numbers stand, in the columns that both have; answer if there are any."""
    query = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
    names = [{name for (name,) in each.execute(query, (table,))} for each in (old, new)]
    columns = sql.SQL(", ").join(map(sql.Identifier, sorted(names[0] & names[1])))
    with (
        old.cursor().copy(sql.SQL("copy {} ({}) to stdout").format(sql.Identifier(table), columns)) as source,
        new.cursor().copy(sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(table), columns)) as target,
    ):
        rows = 0
        for block in source:
            target.write(block)
            rows += 1
    identity = "select attname from pg_attribute where attrelid = %s::regclass and attidentity <> ''"
    for (name,) in new.execute(identity, (table,)).fetchall():
        greatest = sql.SQL("select max({}) from {}").format(sql.Identifier(name), sql.Identifier(table))
        new.execute(sql.SQL("select setval(pg_get_serial_sequence(%s, %s), ({}))").format(greatest), (table, name))
    return rows > 0


def test_data_of_an_older_postgresql_are_refused_with_the_way_to_carry_them_over(tmp_path: Path) -> None:
    older = older_binaries()
    if older is None:
        pytest.skip("no older PostgreSQL: install one, or set CRM_TEST_PG_BIN to its bin folder")
    drop = some_drops(tmp_path, 500)[0]
    dump = tmp_path / "dump.sql"
    with a_home() as old, a_home() as new:
        with running_server(old, binaries=older, settings=CARELESS) as conninfo:
            before = with_types(Database(conninfo))
            assert ingest(before, drop).status == "merged"
        refused = run("check", CRM_HOME=str(old))
        assert refused.status == 1
        made_by, ours = major_version(older), major_version(bundled_binaries())
        assert f"was made by PostgreSQL {made_by}, and this release runs {ours}" in refused.error
        assert f"pg_dump of {made_by}" in refused.error
        with (
            running_server(old, binaries=older, settings=CARELESS) as source,
            running_server(new, settings=CARELESS) as target,
        ):
            subprocess.run([older / "pg_dump", "--dbname", source, "--file", dump], check=True)
            psql = [str(older / "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", target, "--file", str(dump)]
            subprocess.run(psql, check=True, stdout=subprocess.DEVNULL)
            assert run("migrate", CRM_HOME=str(new)).status == 0
            assert differences(Database(target), Database(source)) == []
            assert breaches(Database(target)) == []
