"""The database goes, fills, stands still or turns read-only under a `crm serve` at work: all hear of it, and it passes.

Whatever happens, every call is answered within its bound, and a refusal says what is wrong and what to do; /readyz says
how it is; what was acknowledged is in, once; each call has its line in the log; and all goes on by itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from builders import an_entity, write_drop
from endurance import (
    Written,
    a_home,
    breaches,
    crash,
    ended,
    filled,
    made_once,
    others,
    run,
    small_disk,
    some_drops,
    start,
    under_way,
    with_types,
)
from psycopg.conninfo import make_conninfo
from running import until
from serve_process import Serving, serving
from servers import older_binaries
from serving import ENTITIES, V1, a_problem, create

from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import bundled_binaries, running_server

pytestmark = [pytest.mark.api, pytest.mark.integration, pytest.mark.slow]

MIB = 1 << 20
PEOPLE = 12
WRITERS, READERS = 3, 2
READS, WRITES, PROBES = 45.0, 85.0, 10.0  # seconds that the calls of each kind may take, a busy machine allowed for
RECOVERY = 60.0  # seconds
STOPPED = "stopped"  # the name of a client


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call heard."""

    kind: str  # write, read or probe
    request_id: str
    status: int
    seconds: float
    said: str


@dataclass
class Load:
    """Writers that insist, readers and a prober of a service; what they heard, and what was acknowledged."""

    address: str
    people: Sequence[str]
    answers: list[Answer] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    failed: threading.Event = field(default_factory=threading.Event)  # the block; nobody insists any longer

    @contextmanager
    def under_way(self) -> Iterator[Load]:
        """Have them all at work for the block."""
        with ThreadPoolExecutor(WRITERS + READERS + 1) as pool:
            at_work = [pool.submit(self._write, number) for number in range(WRITERS)]
            at_work += [pool.submit(self._read, number) for number in range(READERS)]
            at_work.append(pool.submit(self._probe))
            try:
                self.until_all_goes_well()
                yield self
            except BaseException:
                self.failed.set()
                raise
            finally:
                self.done.set()
            for one in at_work:
                one.result(2 * WRITES)

    def until_all_goes_well(self) -> None:
        """Wait until each kind of call is answered as it should be again, and /readyz says so."""
        since = len(self.answers)

        def goes_well() -> bool:
            well = Counter(answer.kind for answer in self.answers[since:] if answer.status == 200)
            ready = [answer for answer in self.answers[since:] if answer.kind == "probe"][-1:]
            return well["write"] > WRITERS and well["read"] > READERS and all('"ready"' in one.said for one in ready)

        until(goes_well, RECOVERY)

    def until_refused(self, kind: str, said: str) -> None:
        """Wait until a call of the kind hears this."""
        since = len(self.answers)
        until(lambda: any(one.kind == kind and said in one.said for one in self.answers[since:]), WRITES)

    def refusals(self, kind: str) -> set[str]:
        return {answer.said for answer in self.answers if answer.kind == kind and answer.status != 200}

    def slowest(self, kind: str) -> float:
        return max(answer.seconds for answer in self.answers if answer.kind == kind)

    def _write(self, writer: int) -> None:
        number = 0
        while not self.done.is_set():
            number += 1
            who = self.people[(writer + WRITERS * number) % len(self.people)]
            key, name = str(uuid4()), f"{writer} {number}"
            while not self.failed.is_set():
                call = partial(httpx.Client.patch, url=f"{ENTITIES}/{who}", json={"display_name": name})
                answer = self._ask("write", call, {"Idempotency-Key": key})
                if answer.status_code == 200:
                    self.written.append(Written(who, name, key, answer.content))
                    break
                time.sleep(0.05)
            time.sleep(0.02)

    def _read(self, reader: int) -> None:
        number = 0
        while not self.done.is_set():
            number += 1
            path = f"{ENTITIES}/{self.people[number % len(self.people)]}" if (reader + number) % 3 else ENTITIES
            self._ask("read", partial(httpx.Client.get, url=path))
            time.sleep(0.05)

    def _probe(self) -> None:
        while not self.done.is_set():
            self._ask("probe", partial(httpx.Client.get, url="/readyz"))
            time.sleep(0.2)

    def _ask(
        self, kind: str, call: Callable[..., httpx.Response], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Ask over a connection of its own; a refusal is one that says what to do, and when to come again."""
        request_id, began = str(uuid4()), time.monotonic()
        with httpx.Client(base_url=self.address, trust_env=False, timeout=2 * WRITES) as client:
            answer = call(client, headers={"X-Request-ID": request_id, **(headers or {})})
        self.answers.append(Answer(kind, request_id, answer.status_code, time.monotonic() - began, answer.text))
        if answer.status_code != 200:
            a_problem(answer, 503)
            assert answer.headers["retry-after"]
        return answer


@contextmanager
def loaded(serve: Serving, database: Database) -> Iterator[Load]:
    """Put a service over a database with types under load for the block; then nothing is lost, late or untold."""
    people = [str(create(serve.client, f"person {number}")["entity_uid"]) for number in range(PEOPLE)]
    load = Load(str(serve.client.base_url), people)
    with load.under_way():
        yield load
    slowest = {kind: load.slowest(kind) for kind in ("read", "write", "probe")}
    assert slowest["read"] < READS, slowest
    assert slowest["write"] < WRITES, slowest
    assert slowest["probe"] < PROBES, slowest
    assert made_once(database, load.written)
    for who in people:
        assert {one.name for one in load.written if one.entity_uid == who} <= {*audited(serve, who)}
    assert breaches(database) == []
    assert serve.process.poll() is None
    asked = {answer.request_id for answer in load.answers if answer.kind != "probe"}
    until(lambda: asked <= set(logged(serve)), 10)
    assert max(Counter(logged(serve)).values()) == 1


def audited(serve: Serving, who: str) -> Iterator[str]:
    """Return the names that the audit of an entity has."""
    path: str | None = f"{ENTITIES}/{who}/audit"
    while path is not None:
        page = serve.client.get(path).json()
        yield from (change["asserted"]["display_name"] for change in page["results"])
        path = page["next"]


def logged(serve: Serving) -> list[str]:
    """Return the ids of the requests that have a line in the log."""
    lines = [json.loads(line) for line in serve.log().splitlines()]
    return [line["request_id"] for line in lines if "path" in line]


@dataclass(frozen=True)
class Given:
    """A PostgreSQL that is no child of ours, as an operator starts and stops it."""

    home: Path
    binaries: Path
    database: Database

    def control(self, action: str, *arguments: str) -> None:
        """Have pg_ctl do it."""
        data = self.home / "postgres"
        subprocess.run(
            [self.binaries / "pg_ctl", action, "-D", data, "-l", data / "server.log", "-w", *arguments],
            user=data.stat().st_uid,
            group=data.stat().st_gid,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
            cwd="/",
            check=True,
            timeout=120,
        )

    def alter(self, change: str) -> None:
        """Change a setting of the server for all."""
        with psycopg.connect(self.database.conninfo, autocommit=True) as connection:
            connection.execute(f"alter system {change}".encode())
            connection.execute("select pg_reload_conf()")


@contextmanager
def a_given_server(binaries: Path, **settings: str) -> Iterator[Given]:
    with a_home() as home, running_server(home, binaries=binaries, settings=settings) as conninfo:
        yield Given(home, binaries, with_types(Database(conninfo)))


@pytest.fixture(params=["pg18", "pg15"])
def binaries(request: pytest.FixtureRequest) -> Path:
    found = bundled_binaries() if request.param == "pg18" else older_binaries()
    if found is None:
        pytest.skip("no older PostgreSQL")
    return found


def test_a_given_server_that_is_restarted_and_killed_is_waited_for(binaries: Path, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "a.csv", [an_entity(f"person {number}") for number in range(3_000)])
    with a_given_server(binaries) as given, serving(tmp_path, given.database) as serve:
        with loaded(serve, given.database) as load:
            for stop in (("restart", "-m", "fast"), ("restart", "-m", "immediate"), None):
                command = start("ingest", drop, CRM_DATABASE_URL=given.database.conninfo)
                with given.database.connect(autocommit=True) as connection:
                    under_way(command, partial(others, connection))
                if stop is None:
                    crash(given.home)
                    load.until_refused("probe", "cannot answer")
                    load.until_refused("write", "try again")
                    load.until_refused("read", "try again")
                    given.control("start")
                else:
                    given.control(*stop)
                found = ended(command)
                assert found.is_clear, found
                assert found.status == 0 or "again" in found.error, found
                load.until_all_goes_well()
                assert run("ingest", drop, CRM_DATABASE_URL=given.database.conninfo).status == 0
        assert run("check", CRM_DATABASE_URL=given.database.conninfo).status == 0


def test_the_embedded_server_that_is_killed_under_load_comes_back_by_itself(tmp_path: Path) -> None:
    chance = random.Random(41)
    with a_home() as home:
        with running_server(home) as conninfo:
            database = with_types(Database(conninfo))
        with serving(tmp_path, None, CRM_HOME=str(home)) as serve, loaded(serve, database) as load:
            for _ in range(4):
                time.sleep(chance.uniform(0, 1))
                assert crash(home)
                load.until_all_goes_well()
        assert run("check", CRM_HOME=str(home)).status == 0


def test_a_server_that_turns_read_only_answers_reads_and_says_so(binaries: Path, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "a.csv", [an_entity("ada")])
    with a_given_server(binaries) as given, serving(tmp_path, given.database) as serve:
        with loaded(serve, given.database) as load:
            for _ in range(2):
                given.alter("set default_transaction_read_only = on")
                load.until_refused("write", "read-only")
                load.until_refused("probe", "degraded")
                found = run("ingest", drop, CRM_DATABASE_URL=given.database.conninfo)
                assert (found.status, found.is_clear) == (1, True), found
                assert "write to the primary server, or turn default_transaction_read_only off" in found.error
                given.alter("reset default_transaction_read_only")
                load.until_all_goes_well()
            assert run("ingest", drop, CRM_DATABASE_URL=given.database.conninfo).status == 0
            assert load.refusals("read") == set()
        assert all("read-only" in said for said in load.refusals("write"))


def test_a_server_without_a_connection_left_says_so_and_gives_one_later(binaries: Path, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "a.csv", [an_entity("ada")])
    hang_up = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crm'"
    with a_given_server(binaries, max_connections="30") as given, serving(tmp_path, given.database) as serve:
        with loaded(serve, given.database) as load:
            with ExitStack() as crowd, psycopg.connect(given.database.conninfo, autocommit=True) as operator:
                deadline = time.monotonic() + 5  # the service has none any more, whenever it asks
                while time.monotonic() < deadline:
                    operator.execute(hang_up)
                    with suppress(psycopg.OperationalError):
                        while True:
                            crowd.enter_context(psycopg.connect(given.database.conninfo))
                    time.sleep(0.05)
                load.until_refused("probe", "no room left")
                load.until_refused("write", "try again")
                load.until_refused("read", "try again")
                found = run("ingest", drop, CRM_DATABASE_URL=given.database.conninfo)
                assert (found.status, found.is_clear) == (1, True), found
                assert "too many clients" in found.error
                assert "raise the server's max_connections" in found.error
            load.until_all_goes_well()
            assert run("ingest", drop, CRM_DATABASE_URL=given.database.conninfo).status == 0
        assert run("check", CRM_DATABASE_URL=given.database.conninfo).status == 0


def test_clients_that_stand_still_in_a_merge_keep_others_waiting_for_a_bounded_time(
    binaries: Path, tmp_path: Path
) -> None:
    """Each is stopped for longer than a transaction may stand still, somewhere in its merge."""
    chance = random.Random(42)
    drops = some_drops(tmp_path, 8_000)
    with a_given_server(binaries) as given, serving(tmp_path, given.database) as serve:
        url = given.database.conninfo
        with loaded(serve, given.database) as load:
            for drop in drops[:3]:
                command = start("ingest", drop, CRM_DATABASE_URL=make_conninfo(url, application_name=STOPPED))
                try:
                    with given.database.connect(autocommit=True) as connection:
                        until(lambda: merges(connection) or command.poll() is not None, WRITES, pause=0.005)  # noqa: B023
                        time.sleep(chance.uniform(0, 1))
                    os.kill(command.pid, signal.SIGSTOP)
                    time.sleep(70)
                finally:
                    os.kill(command.pid, signal.SIGCONT)
                found = ended(command)
                assert found.is_clear, found
                load.until_all_goes_well()
                assert run("ingest", drop, CRM_DATABASE_URL=url).status == 0
        assert run("check", CRM_DATABASE_URL=url).status == 0


def merges(connection: Connection) -> bool:
    """Say whether the client that will be stopped holds the locks of the entities that it changes."""
    found = connection.execute(
        "select from pg_locks join pg_stat_activity using (pid)"
        " where locktype = 'advisory' and granted and application_name = %s limit 1",
        [STOPPED],
    )
    return found.fetchone() is not None


def test_an_embedded_server_that_a_full_disk_ends_comes_back_once_there_is_room(tmp_path: Path) -> None:
    """First there is no room for rows, and then none for the WAL, without which PostgreSQL ends."""
    drop = write_drop(tmp_path / "a.csv", [an_entity(f"person {number}") for number in range(5_000)])
    with small_disk() as disk:
        with running_server(disk) as conninfo:
            database = with_types(Database(conninfo))
        with serving(tmp_path, None, CRM_HOME=str(disk)) as serve, loaded(serve, database) as load:
            with filled(disk, MIB):
                found = run("ingest", drop, CRM_HOME=str(disk))
                assert (found.status, found.is_clear) == (1, True), found
                assert "make room" in found.error
                with suppress(psycopg.OperationalError), psycopg.connect(conninfo, autocommit=True) as connection:
                    for _ in range(40):
                        connection.execute("select pg_logical_emit_message(false, 'test', repeat('x', 1024 * 1024))")
                load.until_refused("probe", "503")
                load.until_refused("write", "try again")
                load.until_refused("read", "try again")
                time.sleep(5)
            load.until_all_goes_well()
            assert run("ingest", drop, CRM_HOME=str(disk)).status == 0
        assert run("check", CRM_HOME=str(disk)).status == 0


def test_a_home_without_room_keeps_no_call_from_its_answer_but_those_that_need_some(tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "a.csv", [an_entity(f"person {number}") for number in range(2_000)])
    csv = {"Content-Type": "text/csv"}
    with (
        small_disk() as disk,
        a_given_server(bundled_binaries()) as given,
        serving(tmp_path, given.database, CRM_HOME=str(disk)) as serve,
        loaded(serve, given.database) as load,
    ):
        with filled(disk, 0):
            sent = serve.client.post(f"{V1}/drops", content=drop.read_bytes(), headers=csv)
            a_problem(sent, 503, "No space left on device", "make room on its disk", "send it again")
            load.until_all_goes_well()
        sent = serve.client.post(f"{V1}/drops", content=drop.read_bytes(), headers=csv)
        assert (sent.status_code, sent.json()["status"]) == (201, "merged"), sent.text
    assert {answer.status for answer in load.answers} == {200}
