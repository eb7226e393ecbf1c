"""Clients that mean harm or are slow: heads without an end, connections that say nothing, answers nobody takes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from running import until
from serving import ENTITIES, NDJSON, V1, a_problem, ask_raw, create, read_raw, served, served_with_types

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

SECONDS = 1  # that clients have
HOST = b"Host: localhost\r\n"
ASK = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    with served_with_types(database, client_timeout=SECONDS) as client:
        yield client


def connected(client: httpx.Client, buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(20)
    connection.connect((client.base_url.host, client.base_url.port or 80))
    return connection


def ends(connection: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    received = b""
    with suppress(ConnectionError):
        while block := connection.recv(1 << 16):
            received += block
    return received


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X" * 100_000 + b": a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 50_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 2_000_000,
    ],
    ids=["address", "value", "name", "many", "no end"],
)
def test_a_head_that_is_too_long_is_refused_early(client: httpx.Client, head: bytes) -> None:
    with connected(client) as connection:
        with suppress(ConnectionError):
            connection.sendall(head)
        received = ends(connection)
    if received:  # a reset may have overtaken it
        assert received.startswith(b"HTTP/1.1 431 ")
        document = json.loads(received.partition(b"\r\n\r\n")[2])
        assert (document["status"], "65,536 bytes" in document["detail"]) == (431, True)
    assert client.get("/healthz").status_code == 200


def test_a_head_of_usual_length_is_taken_with_a_body_at_once(client: httpx.Client) -> None:
    body = json.dumps({"display_name": "A", "entity_type": "PERSON", "details": [
        {"detail_type": "note", "detail_value": "x" * 90_000}]}).encode()  # fmt: skip
    head = b"POST /api/v1/entities HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 30_000 + b"\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert ask_raw(client, head + body)[0] == 201


def test_trailers_and_extensions_of_chunks_have_a_limit(client: httpx.Client) -> None:
    head = b"POST /api/v1/entities HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    for rest in (b"0\r\n" + b"X: a\r\n" * 100_000, b"1;" + b"a" * 300_000, b"0\r\nX: " + b"a" * 300_000):
        with connected(client) as connection:
            with suppress(ConnectionError):
                connection.sendall(head + rest)
            assert not ends(connection).startswith(b"HTTP/1.1 2")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HT", b"GET /healthz HTTP/1.1\r\n" + HOST, ASK + b"\r\nGET /h"])
def test_a_connection_on_which_no_request_comes_is_closed(client: httpx.Client, sent: bytes) -> None:
    started = time.monotonic()
    with connected(client) as connection:
        connection.sendall(sent)
        received = ends(connection)
    assert time.monotonic() - started < SECONDS + 5  # an idle one has as long as all have, after an answer
    for answer in received.split(b"HTTP/1.1 ")[1:]:
        assert answer.startswith((b"200 ", b"408 ")), answer
    assert (b" 408 " in received) == (sent.startswith(b"GET / HT") or sent.endswith(HOST))


def test_a_head_that_comes_byte_by_byte_has_no_more_time(client: httpx.Client) -> None:
    started = time.monotonic()
    with connected(client) as connection, suppress(ConnectionError):
        for number in range(200):
            connection.sendall(ASK[number : number + 1] if number < 20 else b"x")
            time.sleep(0.05)
    assert time.monotonic() - started < SECONDS + 3


def test_line_ends_between_requests_keep_no_connection_open(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(ASK)
        read_raw(connection)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 10:
                connection.sendall(b"\r\n")
                time.sleep(0.1)
    assert time.monotonic() - started < SECONDS + 3


def test_hundreds_that_open_and_say_nothing_are_gone_soon_and_others_are_served(client: httpx.Client) -> None:
    opened = [connected(client) for _ in range(400)]
    for connection in opened[::2]:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert client.get("/healthz").status_code == 200
    deadline = time.monotonic() + SECONDS + 5
    for connection in opened:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        ends(connection)
        connection.close()


def test_who_does_not_take_an_answer_is_left(client: httpx.Client) -> None:
    entities = [create(client, f"Large {number}", note=f"{number}" + "x" * 90_000) for number in range(60)]
    asking = [connected(client, 4096) for _ in range(4)]
    head = f"GET {V1}/entities-asof?as_of=2999-01-01 HTTP/1.1\r\nHost: localhost\r\nAccept: {NDJSON}\r\n\r\n"
    for connection in asking:
        connection.sendall(head.encode())
    streamed = {"as_of": "2999-01-01"}
    until(
        lambda: client.get(f"{V1}/entities-asof", params=streamed, headers={"Accept": NDJSON}).status_code == 200,
        SECONDS + 15,
    )
    for connection in asking:
        connection.close()
    for entity in entities:
        client.delete(f"{ENTITIES}/{entity['entity_uid']}")


def test_a_header_that_may_come_once_is_refused_if_it_comes_twice(client: httpx.Client) -> None:
    for name, value in (
        ("Host", "localhost"),
        ("Authorization", "Bearer x"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k"),
    ):
        twice = f"{name}: {value}\r\n{name}: {value}\r\n" + ("" if name == "Host" else "Host: localhost\r\n")
        status, headers, body = ask_raw(client, f"GET {ENTITIES} HTTP/1.1\r\n{twice}\r\n".encode())
        assert (status, headers["content-type"]) == (400, PROBLEM)
        assert json.loads(body)["errors"][0]["where"] == f"header.{name}"


@pytest.mark.parametrize(
    "line",
    [b"OPTIONS * HTTP/1.1", b"CONNECT example.org:443 HTTP/1.1", b"GET http://localhost HTTP/1.1", b"GET ?q HTTP/1.1"],
)
def test_an_address_of_another_form_is_not_logged_as_our_fault(client: httpx.Client, line: bytes) -> None:
    status, headers, _ = ask_raw(client, line + b"\r\n" + HOST + b"\r\n")
    assert (400 <= status < 500, headers["content-type"]) == (True, PROBLEM)


def test_an_upgrade_is_not_made(client: httpx.Client) -> None:
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    )
    assert ask_raw(client, b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade)[0] == 200


def test_a_request_that_follows_one_under_way_does_not_spoil_its_answer(client: httpx.Client) -> None:
    entity = create(client)
    ask = f"GET {ENTITIES}/{entity['entity_uid']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with connected(client) as connection:
        connection.sendall(ask + b"nonsense\r\n\r\n")
        received = ends(connection)
    assert not received.startswith(b"HTTP/1.1 400"), "it would be taken for the first one's answer"


def test_who_a_client_is_cannot_be_made_up(database: Database) -> None:
    def ask(own: httpx.Client, *addresses: str) -> list[int]:
        return [own.get(ENTITIES, headers={"X-Forwarded-For": address}).status_code for address in addresses]

    with served(database, rate_limit="2/minute") as own:
        assert ask(own, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [200, 200, 429]
    with served(database, auth="off", rate_limit="1/minute", trusted_proxies=("127.0.0.1",)) as own:
        assert ask(own, "192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3, 192.0.2.2") == [200, 200, 429, 429]
    with served(database, auth="off", rate_limit="1/minute", trusted_proxies=("127.0.0.0/8",)) as own:
        assert ask(own, "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1") == [200, 429, 200], "a network is one client"
        a_problem(own.get(ENTITIES, headers={"X-Forwarded-For": "2001:db8::3"}), 429, "retry in")
