"""What those who run it see: liveness, readiness, figures, documentation, and a database that comes and goes."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from builders import an_entity, write_drop
from running import until
from servers import CARELESS, Server
from serving import ENTITIES, NDJSON, V1, Document, a_problem, create, served, served_with_types, waiters

from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import running_server
from crm_core.postgres.migrations import migrate

pytestmark = [pytest.mark.integration, pytest.mark.api]

END = b"\r\n0\r\n\r\n"  # of an answer in chunks that is whole


@pytest.fixture(scope="module")
def openapi(client: httpx.Client) -> Document:
    return dict(client.get("/openapi.json").json())


def test_it_lives_and_is_ready(client: httpx.Client) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").json()) == (200, {"status": "ok"})
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})


def test_it_lives_and_is_not_ready_on_a_database_that_was_never_migrated(server: Server) -> None:
    with server.clone("template0") as empty, served(empty) as client:
        assert client.get("/healthz").status_code == 200
        a_problem(client.get("/readyz"), 503, "crm migrate")


def test_the_figures_count_by_route(client: httpx.Client, database: Database) -> None:
    def count(method: str, route: str, status: int) -> float:
        labels = f'method="{method}",route="{route}",status="{status}"'
        found = re.search(rf"^crm_http_request_seconds_count{{{re.escape(labels)}}} (\S+)$", answer.text, re.MULTILINE)
        return float(found[1]) if found else 0

    with served(database) as own:
        entity = create(own)
        for _ in range(2):
            own.get(f"{ENTITIES}/{entity['entity_uid']}")
        own.get(f"{ENTITIES}/nonsense")
        own.get("/nope/1")
        own.get("/nope/2")
        own.put(ENTITIES)
        own.request("INVENTED", ENTITIES)
        answer = own.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert count("POST", ENTITIES, 201) == 1
        assert count("GET", f"{ENTITIES}/{{uid}}", 200) == 2
        assert count("GET", f"{ENTITIES}/{{uid}}", 400) == 1
        assert count("GET", "none", 404) == 2
        assert entity["entity_uid"] not in answer.text, "an address of each entity would be a figure of each"
        assert "nope" not in answer.text
        assert "INVENTED" not in answer.text


def test_drops_and_their_rows_are_counted(fresh_database: Database, tmp_path: Path) -> None:
    with served_with_types(fresh_database) as client:
        assert "crm_drop" not in client.get("/metrics").text, "there is none yet"
        bad = {"display_name": "Bad", "entity_type": "NONE", "details": "[]"}
        ingest(fresh_database, write_drop(tmp_path / "a.csv", [an_entity("ada"), an_entity("bob"), bad]))
        (tmp_path / "b.csv").write_text("colour\nred\n")
        ingest(fresh_database, tmp_path / "b.csv")
        text = client.get("/metrics").text
        figures = dict(re.findall(r"^(crm_drop\S+) (\S+)$", text, re.MULTILINE))
    seen = float(figures.pop("crm_drop_last_seen_timestamp_seconds"))
    assert abs(seen - time.time()) < 60
    assert {name: float(value) for name, value in figures.items()} == {
        'crm_drops{status="merged"}': 1,
        'crm_drops{status="refused"}': 1,
        'crm_drop_rows_total{rows="read"}': 3,
        'crm_drop_rows_total{rows="accepted"}': 2,
        'crm_drop_rows_total{rows="rejected"}': 1,
        'crm_drop_rows_total{rows="changed"}': 2,
        'crm_drop_rows_total{rows="unchanged"}': 0,
        'crm_drop_rows_total{rows="late"}': 0,
    }


def test_the_documentation_needs_no_other_host(client: httpx.Client) -> None:
    page = client.get("/", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path in ("/docs", "/redoc"):
        page = client.get(path)
        assert page.status_code == 200
        assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        assert len(assets) > 1
        for asset in assets:
            assert asset.startswith("/"), asset
            assert client.get(asset).status_code == 200, asset
        policy = page.headers["content-security-policy"]
        assert "script-src 'self' 'sha256-" in policy or "<script>" not in page.text
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "http" not in page.text.replace("http-equiv", "")


def test_the_document_describes_every_call(openapi: Document, client: httpx.Client) -> None:
    assert openapi["openapi"].startswith("3.1")
    calls = {(path, method) for path, methods in openapi["paths"].items() for method in methods}
    assert calls >= {
        (ENTITIES, "get"), (ENTITIES, "post"),
        (f"{ENTITIES}/{{uid}}", "get"), (f"{ENTITIES}/{{uid}}", "patch"), (f"{ENTITIES}/{{uid}}", "delete"),
        (f"{ENTITIES}/{{uid}}/history", "get"), (f"{ENTITIES}/{{uid}}/audit", "get"),
        (f"{V1}/entities-asof", "get"), (f"{V1}/diff", "get"),
        (f"{V1}/entity-types", "get"), (f"{V1}/entity-types", "post"), (f"{V1}/entity-types/{{code}}", "patch"),
        (f"{V1}/detail-types", "get"), (f"{V1}/detail-types", "post"), (f"{V1}/detail-types/{{code}}", "patch"),
        (f"{V1}/drops", "get"), (f"{V1}/drops", "post"), (f"{V1}/drops/{{sha256}}", "get"),
        (f"{V1}/drops/{{sha256}}/rejects", "get"), ("/healthz", "get"), ("/readyz", "get"), ("/metrics", "get"),
    }  # fmt: skip
    for path, method in calls:
        call = openapi["paths"][path][method]
        assert call["summary"]
        assert call["description"].endswith("."), (path, method)
        assert path in ("/healthz", "/readyz") or call["security"], (path, method)
        for status, answer in call["responses"].items():
            assert status < "400" or list(answer["content"]) == ["application/problem+json"], (path, method, status)
        assert "422" not in call["responses"] or "Idempotency-Key" in json.dumps(call), (path, method)
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(openapi)))
    assert references <= set(openapi["components"]["schemas"])


def test_the_examples_of_the_document_work_when_they_are_sent(openapi: Document, client: httpx.Client) -> None:
    schemas = openapi["components"]["schemas"]
    (created,), (changed,) = schemas["NewEntity"]["examples"], schemas["EntityPatch"]["examples"]
    answer = client.post(ENTITIES, json=created)
    assert answer.status_code == 201, answer.text
    patched = client.patch(answer.headers["location"], json=changed)
    assert (patched.status_code, patched.json()["display_name"]) == (200, changed["display_name"])
    for name, path in (("TypeDocument", "entity-types"), ("DetailTypeDocument", "detail-types")):
        properties = schemas[name]["properties"]
        body = {field: told["examples"][0] for field, told in properties.items() if "examples" in told}
        assert client.post(f"{V1}/{path}", json=body).status_code == 201, body


def test_a_database_that_restarts_is_found_again() -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder, ExitStack() as stack:
        with running_server(Path(folder) / "home", settings=CARELESS) as conninfo:
            database = Database(conninfo)
            migrate(database)
            client = stack.enter_context(served_with_types(database))
            entity = create(client)
        started = time.monotonic()
        a_problem(client.get("/readyz"), 503)
        assert time.monotonic() - started < 2
        assert client.get("/healthz").status_code == 200
        with ThreadPoolExecutor(1) as waiting:
            early = waiting.submit(client.get, f"{ENTITIES}/{entity['entity_uid']}")
            time.sleep(0.5)
            with running_server(Path(folder) / "home", settings=CARELESS):
                assert early.result(20).json() == entity, "who came a little early is answered"
                assert client.get("/readyz").status_code == 200
                assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity
                assert create(client)["is_current"]
                stack.close()


def test_the_next_request_after_all_connections_were_cut_succeeds(client: httpx.Client, database: Database) -> None:
    entity = create(client)
    for seconds in (0, 0.6):
        with ThreadPoolExecutor(8) as many:
            list(many.map(lambda _: client.get(ENTITIES), range(16)))
        cut(database)
        time.sleep(seconds)
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity
        cut(database)
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity, "and the next at once"
        cut(database)
        assert client.patch(f"{ENTITIES}/{entity['entity_uid']}", json={}).json() == entity


def test_a_read_that_is_cut_in_the_middle_is_made_again_and_a_write_is_a_problem(
    client: httpx.Client, database: Database
) -> None:
    entity = create(client)
    address = f"{ENTITIES}/{entity['entity_uid']}"
    for method, lock in (("get", "lock table entity in access exclusive mode"), ("patch", "lock table ledger")):
        with database.connect() as holder, ThreadPoolExecutor(1) as waiting:
            holder.execute(lock.encode())
            body = {"display_name": "B"} if method == "patch" else None
            answer = waiting.submit(client.request, method, address, json=body)
            until(lambda: waiters(database), 20)
            cut(database, waiting=True)
            holder.rollback()
        found = answer.result(20)
        if method == "get":
            assert found.json() == entity
        else:
            a_problem(found, 503, "try again in a moment")
            assert found.headers["retry-after"] == "5"
    assert client.get(address).json() == entity


def test_a_read_that_takes_too_long_is_ended_and_the_others_go_on(database: Database, client: httpx.Client) -> None:
    with served(database, statement_timeout=1) as own, database.connect() as holder, ThreadPoolExecutor(4) as waiting:
        holder.execute("lock table entity_detail in access exclusive mode")
        answers = [waiting.submit(own.get, ENTITIES) for _ in range(4)]
        assert own.get(f"{V1}/entity-types").status_code == 200
        for answer in answers:
            found = answer.result(20)
            a_problem(found, 503, "not in time", "try again")
            assert found.headers["retry-after"] == "5"
        holder.rollback()
        assert own.get(ENTITIES).status_code == 200


def test_writes_that_wait_keep_no_read_waiting(database: Database, client: httpx.Client) -> None:
    entity = create(client)
    address = f"{ENTITIES}/{entity['entity_uid']}"
    with served(database, pool_size=2) as own, database.connect() as holder, ThreadPoolExecutor(6) as waiting:
        holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [entity["entity_uid"]])
        patches = [waiting.submit(own.patch, address, json={"display_name": str(number)}) for number in range(6)]
        until(lambda: waiters(database) == 2, 5)
        for _ in range(10):
            assert own.get(address).json() == entity
        holder.rollback()
        assert {patch.result(20).status_code for patch in patches} == {200}
        assert own.get(f"{address}/audit").json()["count"] == 7


def stream(client: httpx.Client, buffer: int | None = None) -> socket.socket:
    """Ask for everything, and read nothing of it."""
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(20)
    connection.connect((client.base_url.host, client.base_url.port))
    head = f"GET {V1}/entities-asof?as_of=2999-01-01 HTTP/1.1\r\nHost: localhost\r\nAccept: {NDJSON}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def streamed(client: httpx.Client) -> httpx.Response:
    return client.get(f"{V1}/entities-asof?as_of=2999-01-01", headers={"Accept": NDJSON})


@pytest.fixture
def large(client: httpx.Client) -> Iterator[list[Document]]:
    """Entities that are more than the sockets hold."""
    entities = [create(client, f"Large {number}", note=f"{number}" + "x" * 90_000) for number in range(120)]
    yield entities
    for entity in entities:
        client.delete(f"{ENTITIES}/{entity['entity_uid']}")


def test_who_leaves_a_stream_frees_its_place(client: httpx.Client, database: Database, large: list[Document]) -> None:
    for _ in range(2):
        with database.connect() as holder:  # before the first line
            holder.execute("lock table entity in access exclusive mode")
            asking = [stream(client) for _ in range(3)]
            until(lambda: waiters(database) == 3, 5)
            for connection in asking:
                connection.close()
        for connection in [stream(client, 4096) for _ in range(3)]:  # and in the middle
            assert connection.recv(1000)
            connection.close()
        until(lambda: streamed(client).status_code == 200, 5)


def test_too_many_streams_at_once_are_refused_with_the_time_to_retry(
    client: httpx.Client, large: list[Document]
) -> None:
    asking = [stream(client, 4096) for _ in range(4)]
    for connection in asking:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    found = streamed(client)
    a_problem(found, 503, "try again in a moment")
    assert found.headers["retry-after"] == "5"
    assert client.get(ENTITIES).status_code == 200
    for connection in asking:
        connection.close()
    until(lambda: streamed(client).status_code == 200, 5)


def test_a_stream_that_breaks_off_can_be_told_from_one_that_ends(
    client: httpx.Client, database: Database, large: list[Document]
) -> None:
    for is_cut in (False, True):
        with stream(client, 4096) as connection:
            received = connection.recv(1000)
            if is_cut:
                cut(database)
            with suppress(ConnectionError):
                while not received.endswith(END) and (block := connection.recv(1 << 20)):
                    received = received[-len(END) :] + block
            assert received.endswith(END) is not is_cut


def cut(database: Database, *, waiting: bool = False) -> None:
    """End the connections of the API, or those that wait for a lock alone."""
    with database.connect(autocommit=True) as connection:
        ended = connection.execute(
            "select pid, pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and (wait_event_type = 'Lock' or not %s)",
            [waiting],
        ).fetchall()
        alive = "select from pg_stat_activity where pid = any (%s)"
        until(lambda: not connection.execute(alive, [[pid for pid, _ in ended]]).rowcount, 5)
