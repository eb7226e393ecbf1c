"""What is bounded whatever the database and the clients do: probes, the document, wrong tokens, the log."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from builders import reference_data
from limits import parse
from running import until
from serve_process import serving
from servers import CARELESS, Server
from serving import ENTITIES, V1, a_problem, create, served, served_with_types, waiters

from api.log import Lines
from api.rate_limits import Limiter
from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import running_server
from crm_core.postgres.migrations import migrate

pytestmark = [pytest.mark.integration, pytest.mark.api]

DOCUMENT = "/openapi.json"
FORM = "multipart/form-data; boundary=x"


def bearer(database: Database, name: str) -> dict[str, str]:
    with database.connect(autocommit=True) as connection:
        _, token = create_token(connection, name, "reader", now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


def wrong(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer crm_{'a' * 12}_{number:043}"}


def parameters(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200
    return {parameter["name"] for parameter in answer.json()["paths"][ENTITIES]["get"]["parameters"]}


def test_the_document_tells_strangers_nothing_of_the_detail_types(fresh_database: Database) -> None:
    with served_with_types(fresh_database) as client:
        assert "email" in parameters(client.get(DOCUMENT)), "while the door is open"
    reader = bearer(fresh_database, "ann")
    with served(fresh_database) as client:
        assert "email" in parameters(client.get(DOCUMENT, headers=reader))
        for headers in ({}, wrong(1), {"Authorization": "nonsense"}):
            answer = client.get(DOCUMENT, headers=headers)
            assert parameters(answer) & {"email", "q"} == {"q"}
            assert "website" not in answer.text


def test_the_process_is_alive_whatever_the_database_does(fresh_database: Database) -> None:
    with served_with_types(fresh_database, statement_timeout=5) as client, fresh_database.connect() as holder:
        holder.execute("lock table access_token, detail_type, entity in access exclusive mode")
        with ThreadPoolExecutor(30) as many:
            asked = [many.submit(client.get, path) for path in (DOCUMENT, ENTITIES) for _ in range(12)]
            time.sleep(0.3)
            for _ in range(5):
                started = time.monotonic()
                assert client.get("/healthz").json() == {"status": "ok"}
                assert time.monotonic() - started < 1
            started = time.monotonic()
            assert client.get(DOCUMENT).status_code == 200
            assert time.monotonic() - started < 3
            holder.rollback()
            assert {one.result(30).status_code for one in asked} <= {200, 503}


def test_readiness_says_what_does_not_work(fresh_database: Database) -> None:
    with served_with_types(fresh_database) as client:
        entity = create(client)
        assert client.get("/readyz").json() == {"status": "ready"}
        with fresh_database.connect(autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f'alter database "{name}" set default_transaction_read_only = on'.encode())
        found = client.get("/readyz")
        assert (found.status_code, found.json()["status"]) == (200, "degraded"), "reads go on"
        assert "read-only" in found.json()["detail"]
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity
        with fresh_database.connect(autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute(f'alter database "{name}" reset default_transaction_read_only'.encode())
        until(lambda: client.get("/readyz").json() == {"status": "ready"}, 5)


def test_readiness_says_that_a_write_is_stuck(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routers.health.STUCK_SECONDS", 0.5)
    with served_with_types(fresh_database) as client, fresh_database.connect() as holder:
        entity = create(client)
        holder.execute("lock table ledger in access exclusive mode")
        with ThreadPoolExecutor(1) as one:
            waiting = one.submit(client.patch, f"{ENTITIES}/{entity['entity_uid']}", json={"display_name": "B"})
            until(lambda: waiters(fresh_database) == 1, 5)
            until(lambda: client.get("/readyz").json()["status"] == "degraded", 5)
            assert "a write has waited" in client.get("/readyz").json()["detail"]
            holder.rollback()
            assert waiting.result(20).status_code == 200
        assert client.get("/readyz").json() == {"status": "ready"}


def test_readiness_is_answered_in_time_even_if_the_server_does_not_respond() -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        home = Path(folder) / "home"
        with running_server(home, settings=CARELESS) as conninfo:
            database = Database(conninfo)
            migrate(database)
            postmaster = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))
            with served_with_types(database) as client:
                everyone = [postmaster, *postmaster.children()]
                for process in everyone:
                    process.suspend()
                try:
                    for path, status in (("/readyz", 503), ("/healthz", 200), (DOCUMENT, 200), ("/readyz", 503)):
                        started = time.monotonic()
                        assert client.get(path).status_code == status
                        assert time.monotonic() - started < 5
                finally:
                    for process in everyone:
                        process.resume()
                until(lambda: client.get("/readyz").json() == {"status": "ready"}, 15)


def test_every_call_is_answered_in_time_even_if_the_server_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.state.CONNECTION_SECONDS", 1.0)
    monkeypatch.setattr("api.state.LOCK_SECONDS", 1)
    calls: list[Callable[[httpx.Client, str], httpx.Response]] = [
        lambda client, address: client.get(address),
        lambda client, _: client.get(ENTITIES),
        lambda client, _: client.get(f"{V1}/diff?from=2020-01-01&to=2030-01-01"),
        lambda client, address: client.patch(address, json={"display_name": "B"}),
    ]
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        home = Path(folder) / "home"
        with running_server(home, settings=CARELESS) as conninfo:
            database = Database(conninfo)
            migrate(database)
            postmaster = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))
            with served_with_types(database, statement_timeout=1) as client:
                address = f"{ENTITIES}/{create(client)['entity_uid']}"
                for call in calls:
                    assert call(client, address).status_code == 200
                everyone = [postmaster, *postmaster.children()]
                for process in everyone:
                    process.suspend()
                try:
                    with ThreadPoolExecutor(len(calls)) as clients:
                        asked = [clients.submit(call, client, address) for call in calls]
                        for answer in asked:
                            found = answer.result(28)
                            a_problem(found, 503, "the database", "try again")
                            assert found.headers["retry-after"]
                finally:
                    for process in everyone:
                        process.resume()
                until(lambda: all(call(client, address).status_code == 200 for call in calls), 15)


def test_wrong_tokens_come_to_an_end_and_the_right_one_still_holds(fresh_database: Database) -> None:
    reader = bearer(fresh_database, "ann")
    with served_with_types(fresh_database) as client:
        assert client.get(ENTITIES, headers=reader).status_code == 200
        statuses = [client.get(ENTITIES, headers=wrong(number)).status_code for number in range(40)]
        assert statuses == [401] * 30 + [429] * 10
        found = client.get(ENTITIES, headers=wrong(1))
        a_problem(found, 429, "wrong tokens", "retry in")
        assert 1 <= int(found.headers["retry-after"]) <= 60
        assert client.get(ENTITIES, headers=reader).status_code == 200, "who has shown it before goes on"
        assert client.get(ENTITIES).status_code == 401, "and a call without a token gets a 401"


def test_who_is_refused_has_asked_too(fresh_database: Database) -> None:
    reader = bearer(fresh_database, "ann")
    with served_with_types(fresh_database, rate_limit="3/minute") as client:
        assert [client.get(ENTITIES).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        assert client.get(ENTITIES, headers=wrong(1)).status_code == 429
        assert client.get(ENTITIES, headers=reader).status_code == 200


def test_all_workers_count_together(server: Server, tmp_path: Path) -> None:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        environment = {"CRM_HOME": str(tmp_path / "home"), "CRM_RATE_LIMIT": "5/hour"}
        with serving(tmp_path, database, "--workers", "2", log_to=None, **environment) as serve:
            address = serve.client.base_url
            statuses = []
            for _ in range(12):  # each over a connection of its own, which any of the workers takes
                with httpx.Client(base_url=address, trust_env=False, timeout=30) as one:
                    statuses.append(one.get(ENTITIES).status_code)
            assert sorted(statuses) == [200] * 5 + [429] * 7
            assert serve.stop(signal.SIGTERM) == 0


def test_a_window_moves_and_is_shared(tmp_path: Path) -> None:
    now = [1000.0]
    one, two = (Limiter(tmp_path / "limits", lambda: now[0]) for _ in range(2))
    limit = parse("2/minute")
    assert (one.hit(limit, "ann"), two.hit(limit, "ann")) == (0, 0)
    now[0] += 20
    assert one.hit(limit, "ann") == two.hit(limit, "ann") == 40
    assert one.hit(limit, "bob") == 0
    now[0] += 41
    assert [two.hit(limit, "ann") for _ in range(3)] == [0, 0, 60]
    now[0] += 10_000
    assert one.hit(limit, "zoe") == 0
    assert len(list((tmp_path / "limits").iterdir())) == 3, "their times are those of the disk"


def test_where_calls_cannot_be_counted_they_may_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "limits").write_text("no folder")
    limiter = Limiter(tmp_path / "limits")
    assert [limiter.hit(parse("1/hour"), "ann") for _ in range(3)] == [0, 0, 0]
    assert "rate limits are not enforced now" in caplog.text


def test_a_log_that_cannot_be_written_costs_lines_alone() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # a full pipe is then an error, as a full disk is
    lines = Lines(writing)
    said = threading.Event()

    def log(number: int) -> None:
        lines.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))

    for number in range(30_000):
        log(number)
        if number % 1000 == 0:
            time.sleep(0.02)
    received = b""

    def read() -> None:
        nonlocal received
        while not all(part in received for part in (b"the end\n", b"could not be written")):
            received += os.read(reading, 1 << 16)
        said.set()

    threading.Thread(target=read, daemon=True).start()
    until(lambda: received.count(b"\n") > 5_000, 10)

    def has_ended() -> bool:
        lines.handle(logging.makeLogRecord({"msg": "the end", "levelno": logging.WARNING}))
        return said.wait(0.2)

    until(has_ended, 10)  # it goes on by itself, once there is room
    found = received.decode().splitlines()
    kept = [line for line in found if line.startswith("line ")]
    assert kept == [f"line {number}" for number in range(len(kept))], "whole lines, in order"
    assert len(kept) < 30_000
    lost = [json.loads(line)["message"] for line in found if "could not be written" in line]
    assert int(lost[0].split()[0]) >= 30_000 - len(kept), lost


def test_requests_are_answered_though_nobody_reads_the_log(server: Server, tmp_path: Path) -> None:
    """A pager that is not looked at, or a disk that is full, is a problem of the log and of nothing else."""
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        reading, writing = os.pipe()
        with serving(tmp_path, database, log_to=writing) as serve:
            os.close(writing)
            for number in range(700):
                answer = serve.client.get(f"/nope/{number}" + "x" * 200)
                a_problem(answer, 404)
            assert serve.stop(signal.SIGTERM) == 0
        os.close(reading)


def test_a_write_that_waits_too_long_for_others_is_refused_with_the_time_to_retry(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.state.LOCK_SECONDS", 1)
    with served_with_types(fresh_database) as client, fresh_database.connect() as holder:
        entity = create(client)
        address = f"{ENTITIES}/{entity['entity_uid']}"
        holder.execute("lock table ledger in access exclusive mode")
        started = time.monotonic()
        with ThreadPoolExecutor(24) as many:
            document = list(many.map(lambda name: client.patch(address, json={"display_name": f"{name}"}), range(24)))
        assert time.monotonic() - started < 8, "those who wait for their turn get an answer in time too"
        for answer in document:
            a_problem(answer, 503)
            assert answer.headers["retry-after"]
        assert client.get(address).json() == entity, "reads go on"
        holder.rollback()
        assert client.patch(address, json={"display_name": "Now"}).status_code == 200
        assert client.get(f"{address}/audit").json()["count"] == 2, "what was refused is not made later"


def test_drops_keep_no_other_write_waiting(fresh_database: Database, tmp_path: Path) -> None:
    with served_with_types(fresh_database, pool_size=2, home=tmp_path) as client, fresh_database.connect() as holder:
        entity = create(client)
        holder.execute("lock table drop_file in access exclusive mode")
        with ThreadPoolExecutor(4) as many:
            bodies = [f"display_name,entity_type,details\nDrop {number},PERSON,[]\n" for number in range(4)]
            csv = {"Content-Type": "text/csv"}
            sent = [many.submit(client.post, f"{V1}/drops", content=body, headers=csv) for body in bodies]
            until(lambda: waiters(fresh_database) == 1, 10)
            for name in ("B", "C"):
                answer = client.patch(f"{ENTITIES}/{entity['entity_uid']}", json={"display_name": name})
                assert answer.status_code == 200
            holder.rollback()
            assert [one.result(30).status_code for one in sent] == [201] * 4


def test_a_client_that_breaks_off_is_not_logged_as_our_fault(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crm.api")
    for path, kind in (("drops", "text/csv"), ("entities", "application/json"), ("drops", FORM)):
        with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
            head = (
                f"POST {V1}/{path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: gone-{path}\r\nContent-Type: {kind}\r\n"
            )
            connection.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"display_name"'.encode())
            time.sleep(0.2)

    def told() -> list[int]:
        found = [record.fields for record in caplog.records if hasattr(record, "fields")]
        return [line["status"] for line in found if line["request_id"].startswith("gone-")]

    until(lambda: len(told()) == 3, 5)
    assert told() == [499] * 3
    assert not [record for record in caplog.records if record.exc_info]
    metrics = client.get("/metrics").text
    assert 'route="/api/v1/drops",status="499"' in metrics
    assert 'status="500"' not in metrics


@pytest.mark.parametrize("item", [b"{}", b"1", b'{"detail_type":"email","detail_value":"a","x":1}'])
def test_a_body_of_faults_keeps_nobody_waiting(client: httpx.Client, item: bytes) -> None:
    body = b'{"display_name":"A","entity_type":"PERSON","details":[' + b",".join([item] * (900_000 // (len(item) + 1)))
    with ThreadPoolExecutor(1) as one:
        asked = one.submit(client.post, ENTITIES, content=body + b"]}", headers={"Content-Type": "application/json"})
        while not asked.done():
            started = time.monotonic()
            assert client.get("/healthz").status_code == 200
            assert time.monotonic() - started < 1
        assert asked.result().status_code == 400


def test_a_database_that_is_read_only_refuses_writes_and_recovers_by_itself(
    fresh_database: Database, tmp_path: Path
) -> None:
    def switch(to: str) -> None:
        with fresh_database.connect(autocommit=True, options="-c default_transaction_read_only=off") as connection:
            name = connection.info.dbname
            connection.execute(f'alter database "{name}" set default_transaction_read_only = {to}'.encode())
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"  # and wait until it has ended
                " where datname = current_database() and pid <> pg_backend_pid() and %s = 'on'",
                [to],
            )

    with served_with_types(fresh_database, home=tmp_path) as client:
        entity = create(client)
        address, number = f"{ENTITIES}/{entity['entity_uid']}", iter(range(100))

        def writes() -> list[httpx.Response]:
            row = f"display_name,entity_type,details\nRow {next(number)},PERSON,[]\n"
            return [
                client.patch(address, json={"display_name": f"Name {next(number)}"}),
                client.post(ENTITIES, json={"display_name": "New", "entity_type": "PERSON"}),
                client.post(f"{V1}/drops", content=row, headers={"Content-Type": "text/csv"}),
                client.post(f"{V1}/detail-types", json={"code": f"t{next(number)}", "name": "T"}),
            ]

        switch("on")
        for _ in range(2):
            for answer in writes():
                a_problem(answer, 503, "read-only", "try again")
                assert answer.headers["retry-after"]
            assert client.get(address).json() == entity, "reads go on"
        switch("off")
        assert [answer.status_code for answer in writes()] == [200, 201, 201, 201], "the next ones, at once"
