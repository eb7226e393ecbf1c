"""The disk fills or the connection breaks in the middle of a drop: an error says so, and nothing is half recorded."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from endurance import (
    OTHERS,
    a_home,
    assert_as,
    breaches,
    crash,
    ended,
    filled,
    others,
    proxied,
    run,
    small_disk,
    some_drops,
    soon,
    start,
    under_way,
    with_types,
)
from servers import Server

from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import running_server

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    return some_drops(tmp_path_factory.mktemp("drops"), 8_000)


@pytest.fixture(scope="module")
def undisturbed(server: Server, drops: Sequence[Path]) -> Iterator[Database]:
    """A database that took the first two drops in peace."""
    with server.clone("template1") as database:
        with_types(database)
        assert run("ingest", *drops[:2], CRM_DATABASE_URL=database.conninfo).status == 0
        yield database


def test_a_disk_that_fills_during_a_drop_is_reported_and_the_drop_is_merged_once_there_is_room(
    drops: Sequence[Path], undisturbed: Database
) -> None:
    with small_disk() as disk, a_home() as elsewhere:
        with running_server(disk) as conninfo:
            database = with_types(Database(conninfo))
        assert run("ingest", drops[0], CRM_HOME=str(disk)).status == 0
        move_wal(disk, elsewhere)
        for room in (1, 4, 9):
            with filled(disk, room * MIB):
                refused = run("ingest", drops[1], CRM_HOME=str(disk))
            assert refused.is_clear, refused
            assert refused.status == 1, refused
            assert "No space left on device" in refused.error
            assert "make room" in refused.error
            with running_server(disk), database.connect() as connection:
                assert connection.execute("select count(*) from batch").fetchone() == (1,)
                assert breaches(database) == []
        assert run("ingest", drops[1], CRM_HOME=str(disk)).status == 0
        with running_server(disk):
            assert_as(undisturbed, database)


def test_a_server_whose_wal_fills_its_disk_is_reported_and_comes_back_once_there_is_room(
    drops: Sequence[Path], undisturbed: Database
) -> None:
    """PostgreSQL gives up when it cannot write its WAL, and again when it cannot while it recovers."""
    with small_disk() as disk, a_home() as home:
        with running_server(home) as conninfo:
            database = with_types(Database(conninfo))
        move_wal(home, disk)
        assert run("ingest", drops[0], CRM_HOME=str(home)).status == 0
        with running_server(home):
            begin_a_file_of_wal(database, disk)
            with filled(disk, MIB):
                use_wal_up(database)
                lost = run("ingest", drops[1], CRM_HOME=str(home))
                again = run("ingest", drops[1], CRM_HOME=str(home))
            for refused in (lost, again):
                assert refused.is_clear, refused
                assert refused.status == 1, refused
            assert "No space left on device" in again.error
            assert "make room" in again.error
        with running_server(home), database.connect() as connection:
            assert connection.execute("select count(*) from batch").fetchone() == (1,)
            assert breaches(database) == []
        assert run("ingest", drops[1], CRM_HOME=str(home)).status == 0
        with running_server(home):
            assert_as(undisturbed, database)


def test_a_first_start_on_a_full_disk_asks_for_room_and_succeeds_once_there_is_some() -> None:
    with small_disk() as disk:
        home = disk / "home"
        for room in (0, MIB, 30 * MIB):
            with filled(disk, room):
                refused = run("migrate", CRM_HOME=str(home))
            assert (refused.status, refused.is_clear) == (1, True), refused
            assert "No space left on device" in refused.error, refused
            assert refused.error.endswith("make room on its disk, then run the command again\n"), refused
        assert run("migrate", CRM_HOME=str(home)).status == 0
        crash(home)


def begin_a_file_of_wal(database: Database, disk: Path) -> None:
    """Leave the WAL one file, which has just begun; those before it take room until nobody has them open."""
    with database.connect(autocommit=True) as connection:
        connection.execute("alter system set wal_recycle = off")
        connection.execute("select pg_reload_conf(), pg_switch_wal()")
        connection.execute("checkpoint")

        def is_alone() -> bool:
            connection.execute("select pg_logical_emit_message(true, 'test', 'everybody writes to the new file')")
            room = os.statvfs(disk)
            return (room.f_blocks - room.f_bfree) * room.f_frsize < 17 * MIB

        soon(is_alone)


def use_wal_up(database: Database) -> None:
    """Leave 1 MiB of room in the WAL's last file; where there is no room for another, a checkpoint makes none."""
    with database.connect(autocommit=True) as connection:
        connection.execute("select pg_logical_emit_message(false, 'test', repeat('x', 15 * 1024 * 1024))")


def move_wal(home: Path, folder: Path) -> None:
    """Give the WAL of a server that does not run a disk of its own, as its administrator may."""
    wal = home / "postgres" / "pg_wal"
    folder.chmod(0o711)
    subprocess.run(["cp", "-a", wal, folder / "wal"], check=True)
    subprocess.run(["rm", "-r", wal], check=True)
    wal.symlink_to(folder / "wal")


def test_a_connection_that_is_cut_anywhere_in_a_drop_is_reported_and_the_drop_is_merged_afterwards(
    server: Server, drops: Sequence[Path], undisturbed: Database
) -> None:
    chance = random.Random(21)
    with server.clone("template1") as measured, proxied(with_types(measured)) as (proxy, behind):
        sent: list[int] = []
        for drop in drops[:2]:
            assert run("ingest", drop, CRM_DATABASE_URL=behind.conninfo).status == 0
            sent.append(proxy.forwarded - sum(sent))
    with server.clone("template1") as database, proxied(with_types(database)) as (proxy, behind):
        for drop, size in zip(drops[:2], sent, strict=True):
            for place in (0, *(chance.uniform(0, 1) for _ in range(4)), 0.999):
                proxy.forwarded, proxy.cut_after = 0, int(size * place)
                refused = run("ingest", drop, CRM_DATABASE_URL=behind.conninfo)
                assert proxy.cut_after is None
                assert refused.status == 1, refused
                assert refused.is_clear, refused
            assert run("ingest", drop, CRM_DATABASE_URL=behind.conninfo).status == 0
        assert_as(undisturbed, database)


def test_a_session_that_is_ended_anywhere_in_a_drop_is_reported_and_the_drop_is_merged_afterwards(
    server: Server, drops: Sequence[Path], undisturbed: Database
) -> None:
    chance = random.Random(22)
    lost = 0
    with server.clone("template1") as database:
        with_types(database)
        for drop in drops[:2]:
            for _ in range(6):
                command = start("ingest", drop, CRM_DATABASE_URL=database.conninfo)
                with database.connect(autocommit=True) as connection:
                    under_way(command, partial(others, connection))
                    time.sleep(chance.uniform(0, 1))
                    connection.execute(f"select pg_terminate_backend(pid) {OTHERS}")
                found = ended(command)
                assert found.is_clear, found
                lost += found.status
            assert run("ingest", drop, CRM_DATABASE_URL=database.conninfo).status == 0
        assert lost > 3
        assert_as(undisturbed, database)
