"""A backup or a restore is killed in the middle: nothing is lost, no half of it is left, and the next try works."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from answering import answers
from endurance import a_home, backends, breaches, crash, ended, run, some_drops, soon, start, under_way, with_types
from servers import Server

from crm_core.backup.archive import Manifest
from crm_core.backup.restoring import inspect
from crm_core.backup.taking import back_up
from crm_core.drops.ingest import Options, ingest_on
from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import CHECKS

pytestmark = pytest.mark.integration

ENTITIES = 4_000
KILLS = 3


@pytest.fixture(scope="module")
def filled(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with server.clone("template1") as database:
        with_types(database)
        with database.connect(autocommit=True) as connection:
            for drop in some_drops(tmp_path_factory.mktemp("drops"), ENTITIES)[:3]:
                ingest_on(connection, drop, Options())
        yield database


@pytest.fixture(scope="module")
def taken(filled: Database, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, float]:
    """A backup, and how many seconds the restore of one takes."""
    file = tmp_path_factory.mktemp("backup") / "crm.backup"
    return file, back_up(filled, file), 2.0


def test_a_backup_that_is_killed_leaves_no_half_under_its_name(filled: Database, tmp_path: Path) -> None:
    file, part = tmp_path / "crm.backup", tmp_path / ".crm.backup.part"
    chance, killed = random.Random(1), 0
    for _ in range(KILLS):
        command = start("backup", file, CRM_DATABASE_URL=filled.conninfo)
        under_way(command, part.exists)
        time.sleep(chance.uniform(0, 0.2))
        command.kill()
        if ended(command).status < 0:
            killed += 1
            assert not file.exists()
        file.unlink(missing_ok=True)
    assert killed
    soon(lambda: backends(filled) == 0)
    told = run("backup", file, CRM_DATABASE_URL=filled.conninfo)
    assert told.is_clear, told.error
    manifest = inspect(file)
    assert f"{sum(manifest.rows.values()):,} rows" in told.said
    assert [path.name for path in tmp_path.iterdir()] == ["crm.backup"], "what was left is gone too"


def test_a_restore_that_is_killed_leaves_the_database_empty(
    server: Server, filled: Database, taken: tuple[Path, Manifest, float]
) -> None:
    file, manifest, seconds = taken
    chance, killed = random.Random(2), 0
    with server.clone("template1") as database:
        for number in range(KILLS):
            command = start("restore", file, CRM_DATABASE_URL=database.conninfo)
            under_way(command, partial(backends, database))
            time.sleep(chance.uniform(0, seconds) * number / KILLS)  # the first one in any case before its end
            command.kill()
            if ended(command).status == 0:
                break  # it was quicker
            killed += 1
            soon(lambda: backends(database) == 0)
            with database.connect() as connection:
                assert connection.execute("select to_regclass('alembic_version')").fetchone() == (None,)
        assert killed
        if killed == KILLS:
            told = run("restore", file, CRM_DATABASE_URL=database.conninfo)
            assert told.is_clear, told.error
        assert breaches(database) == []
        assert answers(database, manifest.taken_at) == answers(filled, manifest.taken_at)


def test_an_embedded_server_that_is_killed_in_a_restore_takes_the_next(
    filled: Database, taken: tuple[Path, Manifest, float]
) -> None:
    file, manifest, _ = taken
    with a_home() as home:
        command = start("restore", file, CRM_HOME=str(home))
        under_way(command, (home / "postgres" / "postmaster.pid").exists)
        time.sleep(1.5)
        crash(home)
        told = ended(command)
        assert told.is_clear, told.error
        if told.status != 0:
            told = run("restore", file, CRM_HOME=str(home))
            assert told.status == 0, told.error
        assert f"All {len(CHECKS)} invariants hold" in told.said
        checked = run("check", CRM_HOME=str(home))
        assert checked.status == 0, checked.said
    assert manifest.rows["public.ledger"] > ENTITIES


def test_a_pg_dump_that_is_killed_is_told_and_leaves_nothing(filled: Database, tmp_path: Path) -> None:
    """The server ends its session, as it does when it is shut down."""
    command = start("backup", tmp_path / "crm.backup", CRM_DATABASE_URL=filled.conninfo)
    under_way(command, lambda: end_sessions(filled, "pg_dump"))
    told = ended(command)
    assert told.is_clear, told.error
    if told.status != 0:
        assert "pg_dump failed: " in told.error
        assert list(tmp_path.iterdir()) == []


def end_sessions(database: Database, program: str) -> bool:
    query = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = %s"
    )
    with database.connect() as connection:
        return bool(connection.execute(query, (program,)).fetchall())
