"""Cheap reads wait for nobody: long reads have few places, and who does not read an answer of everything loses his."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx
import pytest
from builders import an_entity, day
from serving import ENTITIES, NDJSON, V1, a_problem, served_with_types

from api import state
from api.wire import streams
from crm_core.postgres.connection import Database
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.api]

SLOW = f"{V1}/diff?from=2020-01-01&to=2999-01-01&known_at=2999-01-01"
EVERYTHING = f"{V1}/entities-asof?as_of=2999-01-01"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    with served_with_types(database) as client:
        with database.connect() as connection:
            changes = [an_entity(str(n), at=1, name=f"{n} " + "n" * 400, note="x" * 4_000) for n in range(6_000)]
            record(connection, reference_types(connection), changes, Origin("tester", "fixture"))
            connection.commit()
        yield client


def test_reads_of_one_entity_do_not_wait_for_long_ones(client: httpx.Client, database: Database) -> None:
    """Long reads that wait for a lock take all places; one more is refused with the time to retry."""
    (uid,) = client.get(ENTITIES, params={"page_size": 1}).json()["results"]
    places = state.MAX_HEAVY_READS + state.MAX_HEAVY_QUEUE
    with database.connect() as locker, ThreadPoolExecutor(places + 4) as threads:
        locker.execute("lock table ledger in access exclusive mode")  # what is known is read from it alone
        asked = [threads.submit(client.get, SLOW) for _ in range(places + 3)]
        refused = next(as_completed(asked, timeout=10)).result()
        a_problem(refused, 503, "try again in")
        assert int(refused.headers["retry-after"]) > 0
        started = time.monotonic()
        for _ in range(20):
            assert client.get(f"{ENTITIES}/{uid['entity_uid']}").status_code == 200
            assert client.get(ENTITIES).status_code == 200
        assert time.monotonic() - started < 5
        locker.rollback()
        assert {answer.result().status_code for answer in asked} <= {200, 503}
    assert client.get(SLOW).status_code == 200, "all places are free again"


def test_a_client_that_does_not_read_loses_its_place(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.5)
    request = f"GET {EVERYTHING} HTTP/1.1\r\nHost: localhost\r\nAccept: {NDJSON}\r\n\r\n".encode()
    stalled = []
    try:
        for _ in range(state.MAX_STREAMS):
            connection = socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(request)
            assert connection.recv(12) == b"HTTP/1.1 200"
            stalled.append(connection)
        deadline = time.monotonic() + 15
        while (answer := client.get(EVERYTHING, headers={"Accept": NDJSON})).status_code == 503:
            a_problem(answer, 503, "too many streams")
            assert time.monotonic() < deadline, "the places are not given back"
            time.sleep(0.1)
        assert answer.status_code == 200
        assert len(answer.text.splitlines()) == 6_000
    finally:
        for connection in stalled:
            connection.close()


def test_a_slow_reader_is_served_to_the_end(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_SECONDS", 2)
    lines = 0
    with client.stream("GET", EVERYTHING, headers={"Accept": NDJSON}) as answer:
        for block in answer.iter_bytes(1 << 20):
            lines += block.count(b"\n")
            time.sleep(0.1)
    assert lines == 6_000


def test_an_entity_of_then_is_known(client: httpx.Client) -> None:
    assert client.get(ENTITIES, params={"q": "n"}).json()["count"] == 6_000
    assert client.get(f"{V1}/entities-asof", params={"as_of": day(0).isoformat()}).json()["count"] == 0
