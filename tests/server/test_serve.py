"""`crm serve` as it is started, asked, and stopped: a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from builders import reference_data
from click.testing import CliRunner, Result
from running import until
from serve_process import serving
from servers import Server
from serving import ENTITIES, STOP_SECONDS, create, served, waiters

from crm_core.access.tokens import create_token, revoke_token
from crm_core.cli.main import crm
from crm_core.postgres.connection import Database
from crm_core.server.api import require_closed
from crm_core.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.api]


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        yield database


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run it where it is expected to end by itself."""
    for name in os.environ:
        if name.startswith(("CRM_", "DJANGO_", "DRF_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(database: Database, *arguments: str) -> Result:
        return CliRunner().invoke(crm, ["serve", *arguments], env={"CRM_DATABASE_URL": database.conninfo})

    return run


def bearer(database: Database, name: str) -> dict[str, str]:
    with database.connect(autocommit=True) as connection:
        _, token = create_token(connection, name, "writer", now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


def test_others_do_not_reach_it_before_there_is_a_token(
    fresh_database: Database, tmp_path: Path, run: Callable[..., Result]
) -> None:
    def refused() -> None:
        ended = run(fresh_database, "--host", "0.0.0.0", "--port", "0")
        assert (ended.exit_code, ended.stdout) == (1, "")
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: others can reach 0.0.0.0, but there is no token and no account yet")
        assert "crm token create" in line

    refused()
    bearer(fresh_database, "ann")
    with fresh_database.connect(autocommit=True) as connection:
        revoke_token(connection, "ann", now=datetime.now(UTC))
    refused()
    open_to_all = replace(Settings.from_environment({}, None), auth="off")
    require_closed(open_to_all, fresh_database, "0.0.0.0")  # does not raise: it was said out loud
    who = bearer(fresh_database, "ann")
    with serving(tmp_path, fresh_database, "--host", "0.0.0.0") as serve:
        assert serve.client.base_url.host == "127.0.0.1", "the address is one that can be opened"
        assert serve.client.get(ENTITIES).status_code == 401
        assert serve.client.get(ENTITIES, headers=who).status_code == 200


def test_an_address_that_is_taken_is_one_line(database: Database, run: Callable[..., Result]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run(database, "--port", str(taken.getsockname()[1]))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert re.fullmatch(r"error: nothing can be served on port \d+ of 127\.0\.0\.1: .*in use; give .*\n", ended.stderr)


def test_a_database_that_was_never_migrated_is_one_line(server: Server, run: Callable[..., Result]) -> None:
    with server.clone("template0") as empty:
        ended = run(empty, "--port", "0")
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "crm migrate" in line


def test_it_ends_in_order_under_load(database: Database, tmp_path: Path) -> None:
    """What was asked before the signal is answered, nobody gets half an answer, and nothing is left in the database."""
    with serving(tmp_path, database) as serve:
        entity = create(serve.client)
        address = f"{ENTITIES}/{entity['entity_uid']}"
        with database.connect() as holder, ThreadPoolExecutor(8) as many:
            holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [entity["entity_uid"]])
            waiting = many.submit(serve.client.patch, address, json={"display_name": "Waited"})
            until(lambda: waiters(database) == 1, 5)
            answers = [many.submit(_ask, serve.client, address) for _ in range(6)]
            time.sleep(0.3)
            serve.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert serve.process.poll() is None, "a request is under way"
            holder.rollback()
            assert waiting.result(10).json()["display_name"] == "Waited"
            assert serve.process.wait(15) == 0
            for answer in answers:
                assert answer.result(10) > 0
        assert "Traceback" not in serve.log()
        with database.connect() as connection:
            row = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()
        assert row == (0,)


def test_it_ends_though_a_request_never_does(database: Database) -> None:
    with database.connect() as holder, ThreadPoolExecutor(1) as one:
        with served(database) as client:
            entity = create(client)
            holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [entity["entity_uid"]])
            asked = one.submit(client.patch, f"{ENTITIES}/{entity['entity_uid']}", json={"display_name": "B"})
            until(lambda: waiters(database) == 1, 5)
            started = time.monotonic()
        assert time.monotonic() - started < STOP_SECONDS + 3
        assert asked.exception() is not None or asked.result().status_code >= 500
        assert waiters(database) == 0
        holder.rollback()
    with served(database) as client:
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity


def test_a_line_of_json_is_logged_for_each_request_and_no_secret(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    who = bearer(fresh_database, "ann")
    with serving(tmp_path, fresh_database) as serve:
        entity = serve.client.post(
            ENTITIES, json={"display_name": "A", "entity_type": "PERSON"}, headers=who | {"X-Request-ID": "one"}
        ).json()
        serve.client.get(f"{ENTITIES}?q=private", headers={"X-Request-ID": "two"})
        serve.client.get("/nope%0A%7B%22level%22:%22x%22%7D", headers={"X-Request-ID": "three"})
        serve.client.get("/healthz")
        audit = serve.client.get(
            f"{ENTITIES}/{entity['entity_uid']}/audit", headers=who | {"X-Request-ID": "four"}
        ).json()
        assert serve.stop(signal.SIGTERM) == 0
        lines = [json.loads(line) for line in serve.log().splitlines()]
        assert who["Authorization"][7:] not in serve.log() + serve.said()
        assert who["Authorization"].rpartition("_")[2] not in serve.log()
    assert audit["results"][0]["source"]["request_id"] == "one"
    found = [line for line in lines if "request_id" in line]
    assert [(line["request_id"], line["status"], line["actor"]) for line in found] == [
        ("one", 201, "ann"),
        ("two", 401, None),
        ("three", 404, None),
        ("four", 200, "ann"),
    ]
    assert found[0].keys() == {"time", "level", "logger", "request_id", "method", "path", "status", "ms", "actor"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    assert "private" not in json.dumps(lines)


def test_the_metrics_are_those_of_all_workers(database: Database, tmp_path: Path) -> None:
    """Each call has a connection of its own, so that several workers answer; whichever is asked knows of all."""
    with serving(tmp_path, database, "--workers", "2", CRM_AUTH="off") as serve:

        def figure(name: str) -> float:
            text = httpx.get(f"{serve.client.base_url}/metrics", trust_env=False).text
            found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else 0.0

        asked = 40
        for _ in range(asked):
            assert httpx.get(f"{serve.client.base_url}{ENTITIES}", trust_env=False).status_code == 200
        count = f'crm_http_request_seconds_count{{method="GET",route="{ENTITIES}",status="200"}}'
        assert {figure(count) for _ in range(10)} == {asked}
        size = 'crm_pool{figure="pool_max",pool="reading"}'
        until(lambda: figure(size) == 2 * Settings.from_environment({}, None).pool_size, 30)
        workers = psutil.Process(serve.process.pid).children()
        killed = next(one for one in workers if "spawn_main" in " ".join(one.cmdline()))
        killed.kill()
        until(lambda: len([one for one in psutil.Process(serve.process.pid).children() if one.is_running()]) >= 2, 30)
        until(lambda: figure(size) == 2 * Settings.from_environment({}, None).pool_size, 60)
        assert figure(count) == asked, "what a worker has counted stays"


def _ask(client: httpx.Client, address: str) -> int:
    """Ask until nobody listens any more; return how often there was an answer, -1 if one of them was not whole."""
    answered = 0
    while True:
        try:
            answer = client.get(address)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as gone:
            return -1 if "complete message body" in str(gone) else answered
        assert (answer.status_code, answer.json()["entity_uid"]) == (200, address.rpartition("/")[2])
        answered += 1
