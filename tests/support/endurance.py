"""What the endurance tests share: commands and servers that are killed, and what must be left of the data then."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest
from builders import reference_data
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from running import clean_environment, new_home, servers_of, until
from serving import ENTITIES, a_problem

from crm_core.bench.generator import write_dirty, write_drops
from crm_core.errors import DatabaseError
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.migrations import migrate
from crm_core.timeline.invariants import check

SECONDS = float(os.environ.get("CRM_TEST_SECONDS", "60"))  # that the long tests go on for
DISK = 160 << 20  # bytes
OTHERS = (
    "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null"
)
STATE = {  # of a database, without what another run of the same changes gives another number or time
    "ledger": "select entity_uid, change_ts, dense_rank() over (order by batch_id), row_no, op, display_name,"
    " entity_type_id, details from ledger",
    "entity": "select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current from entity",
    "entity_detail": "select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current"
    " from entity_detail",
    "drop_file": "select sha256, bytes, status, rows_read, rows_accepted, rows_rejected, rows_changed, rows_unchanged,"
    " rows_late, rows_superseded, entity_versions_added, detail_versions_added, error from drop_file",
    "reject": "table reject",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int  # negative: by this signal
    said: str
    error: str

    @property
    def is_clear(self) -> bool:
        """Say whether it did what it should, or found in a line of ours why not."""
        lines = self.error.splitlines() or [""]  # psycopg may warn first that the rollback failed too
        found = self.status == 1 and lines[-1].startswith("error: ") and "Traceback" not in self.error
        return self.status == 0 or found


def start(*arguments: str | Path, output: int = subprocess.PIPE, **environ: str) -> subprocess.Popen[str]:
    """Start a `crm` command with settings of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "crm_core", *map(str, arguments)],
        env=clean_environment(**environ),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        text=True,
    )


def ended(command: subprocess.Popen[str], seconds: float = 120) -> Ended:
    """Wait for a command to end."""
    said, error = command.communicate(timeout=seconds)
    return Ended(command.returncode, said, error)


def run(*arguments: str | Path, seconds: float = 120, **environ: str) -> Ended:
    """Run a `crm` command to its end."""
    return ended(start(*arguments, output=subprocess.PIPE, **environ), seconds)


@contextmanager
def a_home() -> Iterator[Path]:
    """Yield a home of the test's own; its server does not outlive it."""
    with new_home() as home:
        try:
            yield home
        finally:
            crash(home)


def crash(home: Path) -> bool:
    """Kill every process of the embedded server of a home, as a power cut would; return whether there was one."""
    killed: list[psutil.Process] = []
    for server in servers_of(home):
        with suppress(psutil.NoSuchProcess):
            killed += [server, *server.children(recursive=True)]
    for process in killed:  # the first is the postmaster, which would start the others again
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(killed, timeout=10)
    return bool(killed)


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of its own that holds so much and no more."""
    with a_home() as home:
        disk = home / "disk"
        disk.mkdir()
        home.chmod(0o711)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "crm-test", disk],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
        try:
            yield disk
        finally:
            crash(disk)
            subprocess.run(["umount", disk], check=True)


@contextmanager
def filled(disk: Path, but: int) -> Iterator[None]:
    """Take all room of a file system but so much, for the block."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - but)
    yield
    ballast.unlink()


def others(connection: Connection) -> int:
    """How many other sessions are in a transaction."""
    ((count,),) = connection.execute(f"select count(*) {OTHERS}")
    return int(count)


def soon(holds: Callable[[], object]) -> None:
    """Wait until it holds, looking often: what is killed next must be caught in the middle of something."""
    until(holds, 30, pause=0.005)


def under_way(command: subprocess.Popen[str], is_so: Callable[[], object]) -> None:
    """Wait until it is so, or the command has ended."""
    soon(lambda: is_so() or command.poll() is not None)


def with_types(database: Database) -> Database:
    """Migrate a database and give it the types of the builders."""
    migrate(database)
    with database.transaction() as connection:
        reference_data(connection)
    return database


def some_drops(folder: Path, entities: int) -> Sequence[Path]:
    """Write drops of each kind: a first load, a delta, late rows, the delta's rows again, and one with bad rows."""
    drops = write_drops(folder, entities)
    dirty = folder / "5_dirty.csv"
    write_dirty(dirty, entities // 5, 0.1)
    return (drops.initial, drops.delta, drops.late, drops.replay, dirty)


def breaches(database: Database) -> list[tuple[str, tuple[str, ...]]]:
    """The invariants that do not hold, and the first examples."""
    with database.connect() as connection:
        return [(found.name, found.examples) for found in check(connection) if not found.holds]


def differences(database: Database, other: Database) -> list[str]:
    """The first rows, as users see them, that only one of two databases has."""
    found = []
    with database.connect() as ours, other.connect() as theirs:
        for table, query in STATE.items():
            rows = [{row for (row,) in each.execute(f"select r::text from ({query}) r")} for each in (ours, theirs)]  # noqa: S608
            found += [f"{table}: {row}" for row in sorted(rows[0] ^ rows[1])[:3]]
    return found


def leftovers(database: Database) -> list[str]:
    """What a merge works with and must not leave behind."""
    query = "select nspname from pg_namespace where nspname ~ '^stage' order by 1"
    with database.connect() as connection:
        return [name for (name,) in connection.execute(query)]


def assert_as(undisturbed: Database, database: Database) -> None:
    """Assert that a database is as another that was left in peace, and that nothing is left lying about in it."""
    found = differences(database, undisturbed), breaches(database), leftovers(database)
    assert found == ([], [], []), found


def backends(database: Database) -> int:
    """How many others are connected to a database; none, if there is no server."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    try:
        with database.connect() as connection:
            ((count,),) = connection.execute(query)
            return int(count)
    except (DatabaseError, psycopg.OperationalError):
        return 0


def is_up(database: Database) -> bool:
    """Say whether the server lets one in."""
    try:
        with database.connect():
            return True
    except (DatabaseError, psycopg.OperationalError):
        return False


@dataclass(frozen=True, slots=True)
class Written:
    """A PATCH that was answered."""

    entity_uid: str
    name: str  # that it gave, and no other
    key: str
    answer: bytes


def insist(client: httpx.Client, entity_uid: str, name: str, refusals: list[str]) -> Written:
    """Send a PATCH under a key until it is answered; note who refused it meanwhile, by a 503 or by silence."""
    key = str(uuid4())
    while True:
        try:
            answer = send(client, entity_uid, name, key)
        except httpx.TransportError:
            refusals.append("API")
        else:
            if answer.status_code == 200:
                return Written(entity_uid, name, key, answer.content)
            a_problem(answer, 503, "try again")
            refusals.append("database")
        time.sleep(0.05)


def send(client: httpx.Client, entity_uid: str, name: str, key: str) -> httpx.Response:
    """Send a PATCH of the name under a key."""
    return client.patch(f"{ENTITIES}/{entity_uid}", json={"display_name": name}, headers={"Idempotency-Key": key})


def made_once(database: Database, written: Sequence[Written]) -> bool:
    """Return whether each of the PATCHes is in the ledger, and once."""
    query = "select entity_uid::text, display_name from ledger where op = 'patch' order by 1, 2"
    with database.connect() as connection:
        found = connection.execute(query).fetchall()
    return found == sorted((one.entity_uid, one.name) for one in written)


@dataclass
class Proxy:
    """Forwards connections to the socket of a server, and cuts them: when told, or after so many bytes from clients."""

    target: str
    cut_after: int | None = None
    forwarded: int = 0
    pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Yield the port."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            threading.Thread(target=self._accept, args=(door,), daemon=True).start()
            try:
                yield door.getsockname()[1]
            finally:
                with suppress(OSError):
                    door.shutdown(socket.SHUT_RDWR)
                self.cut()

    def cut(self) -> None:
        """Cut every connection, without a word."""
        for pair in self.pairs[:]:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                with suppress(OSError):
                    end.close()

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                self.pairs.append((client, server))
                for source, target in ((client, server), (server, client)):
                    arguments = (source, target, source is client)
                    threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 14):
                self.forwarded += len(block) * is_client
                if self.cut_after is not None and self.forwarded >= self.cut_after:
                    self.cut_after = None
                    self.cut()
                    return
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def proxied(database: Database) -> Iterator[tuple[Proxy, Database]]:
    """Yield a proxy and the database behind it."""
    given = conninfo_to_dict(database.conninfo)
    proxy = Proxy(f"{given['host']}/.s.PGSQL.{given['port']}")
    with proxy.listening() as port:
        yield proxy, Database(make_conninfo(database.conninfo, host="127.0.0.1", port=port))
