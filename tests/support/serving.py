"""The real application under a real server: on a free port of this machine, in a thread, asked over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from builders import reference_data

from api.app import create_app
from api.protocol import ServerConfig
from crm_core.postgres.connection import Database
from crm_core.server.api import listen
from crm_core.settings import Settings

V1 = "/api/v1"
ENTITIES = f"{V1}/entities"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"
JSON = {"Content-Type": "application/json"}
DETAIL_KEYS = ["detail_type", "detail_value", "valid_from", "valid_to", "is_current", "hashdiff"]
ENTITY_KEYS = [
    "entity_uid",
    "display_name",
    "entity_type",
    "valid_from",
    "valid_to",
    "is_current",
    "hashdiff",
    "keys",
    "details",
]
STOP_SECONDS = 1  # that a request under way has when the server stops
Document = dict[str, Any]


@contextmanager
def served(
    database: Database,
    *,
    is_loopback: bool = True,
    limits: Path | None = None,
    prefix: str = "",
    **settings: Any,
) -> Iterator[httpx.Client]:
    """Serve a migrated database, with settings that differ from the defaults, and yield a client of it.

    Services that are given one folder of `limits` count their calls together. The prefix is that of a proxy, which
    takes it from the addresses.
    """
    chosen = replace(Settings.from_environment({}, None), **settings)
    listening = listen("127.0.0.1", 0)
    app = create_app(chosen, database, is_loopback=is_loopback, limits=limits)
    app.root_path = prefix
    server = uvicorn.Server(ServerConfig(app, chosen, grace=STOP_SECONDS))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


@contextmanager
def served_with_types(database: Database, **settings: Any) -> Iterator[httpx.Client]:
    """Serve a migrated database that is given the types of the builders first."""
    with database.transaction() as connection:
        reference_data(connection)
    with served(database, **settings) as client:
        yield client


def detail_list(details: dict[str, str | None]) -> list[Document]:
    """Details as they are posted."""
    return [{"detail_type": code, "detail_value": value} for code, value in details.items()]


def values(entity: Document) -> dict[str, str]:
    """The values of a document's details by their type."""
    return {detail["detail_type"]: detail["detail_value"] for detail in entity["details"]}


def create(client: httpx.Client, name: str = "Ada Lovelace", *, type_: str = "PERSON", **more: Any) -> Document:
    """Create an entity over HTTP; details by keyword, and the body's other fields in `body`."""
    body = more.pop("body", {})
    answer = client.post(
        ENTITIES, json={"display_name": name, "entity_type": type_, "details": detail_list(more), **body}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def posted(client: httpx.Client, content: bytes, path: str = ENTITIES, **headers: str) -> httpx.Response:
    """The answer to a POST of these bytes as JSON."""
    return client.post(path, content=content, headers=JSON | headers)


def person(**more: object) -> bytes:
    """The body of a POST that creates a person."""
    return json.dumps({"display_name": "A", "entity_type": "PERSON", **more}).encode()


def a_problem(answer: httpx.Response, status: int, *parts: str) -> Document:
    """The problem document of an answer, which has the status and says the parts."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == PROBLEM
    answered = dict(answer.json())
    assert answered["status"] == status
    assert answered["title"]
    assert answered["request_id"] == answer.headers["x-request-id"]
    for part in parts:
        assert part in answered["detail"], answered["detail"]
    return answered


def ask_raw(client: httpx.Client, request: bytes, *, seconds: float = 10) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are on a connection of their own; return status, headers and body."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=seconds) as connection:
        connection.sendall(request)
        return read_raw(connection)


def read_raw(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer of known length, or up to the end of the connection."""
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        head += _some(connection)
    head, _, body = head.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    while len(body) < int(headers.get("content-length", 0)):
        body += _some(connection)
    return int(line.split()[1]), headers, body


def a_raw_problem(answer: tuple[int, dict[str, str], bytes], status: int, *parts: str) -> Document:
    """The same as `a_problem` of a raw answer."""
    found, headers, body = answer
    assert found == status, (found, body)
    assert headers["content-type"] == PROBLEM
    document = dict(json.loads(body))
    assert (document["status"], document["request_id"]) == (status, headers["x-request-id"])
    for part in parts:
        assert part in document["detail"], document["detail"]
    return document


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    assert received, "the connection was closed"
    return received


def waiters(database: Database) -> int:
    """How many connections wait for a lock."""
    with database.connect() as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def entity(client: httpx.Client, name: str) -> str:
    """The uid of the entity that has this name now."""
    answer = client.get("/api/v1/entities", params={"q": name}, headers={"Accept": "application/json"})
    (found,) = [one for one in answer.json()["results"] if one["display_name"] == name]
    return str(found["entity_uid"])


def drop(client: httpx.Client, name: str) -> str:
    """The SHA-256 of a sample drop."""
    answer = client.get("/api/v1/drops", params={"page_size": 200}, headers={"Accept": "application/json"})
    (found,) = [one for one in answer.json()["results"] if one["file"].endswith(name)]
    return str(found["sha256"])


def at(entity: Document) -> str:
    """The address of an entity."""
    return f"{ENTITIES}/{entity['entity_uid']}"


def read(client: httpx.Client, entity: Document, **params: str) -> Document:
    """An entity as it is, or as the parameters ask for it."""
    answer = client.get(at(entity), params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def patch(client: httpx.Client, entity: Document, body: Document, **headers: str) -> Document:
    """An entity after a change."""
    answer = client.patch(at(entity), json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def history(client: httpx.Client, entity: Document, kind: str = "entity") -> list[Document]:
    """The versions of an entity, or of its details."""
    answer = client.get(f"{at(entity)}/history")
    assert answer.status_code == 200, answer.text
    return [version for version in answer.json()["results"] if version["kind"] == kind]
