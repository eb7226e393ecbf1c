"""Dagster's web server answers under names of its own, and writes for pages of its own."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from crm_core.settings import Settings
from pipelines.web_server import OwnPagesOnly

pytestmark = pytest.mark.unit

SETTINGS = Settings.from_environment(
    {"CRM_ALLOWED_HOSTS": "crm.example.org,.inner.example", "CRM_CSRF_TRUSTED_ORIGINS": "https://proxy.example.org"},
    None,
)


async def passed(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that lets everything in."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"passed"})


def asked(
    method: str = "POST", *, host: str | None = "127.0.0.1:3000", origin: str | None = None, path: str = "/graphql"
) -> int | str:
    """Ask, and return the status; of a web socket (WS) the type of the message that came."""
    address, _, query = path.partition("?")
    headers = [(name, value.encode()) for name, value in ((b"host", host), (b"origin", origin)) if value is not None]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": address,
        "query_string": query.encode(),
        "headers": headers,
    }
    if method == "WS":
        scope = {"type": "websocket", "path": address, "query_string": b"", "headers": headers}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    asyncio.run(OwnPagesOnly(passed, SETTINGS)(scope, receive, send))
    return sent[0].get("status") or str(sent[0]["type"])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:3000",
        "localhost:3000",
        "LOCALHOST",
        "[::1]:3000",
        "192.168.1.7:3000",
        "crm.example.org",
        "a.inner.example",
    ],
)
def test_it_answers_under_its_names_and_any_address(host: str) -> None:
    assert asked("GET", host=host, path="/runs") == 200
    assert asked(host=host, origin=f"http://{host.lower()}") == 200
    assert asked("WS", host=host, origin=f"http://{host.lower()}") == "websocket.accept"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "crm.example.org.evil.example", "", None],
)
def test_a_name_that_another_site_lets_lead_here_is_refused(host: str | None) -> None:
    assert asked("GET", host=host, path="/runs") == 400
    assert asked(host=host) == 400
    assert asked("WS", host=host) == "websocket.close"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:3001", "http://127.0.0.1", "https://evil.example:3000"]
)
def test_a_page_of_another_site_writes_nothing_and_opens_no_socket(origin: str) -> None:
    for path in ("/graphql", "/report_asset_materialization/drop_file", "/anything"):
        assert asked(origin=origin, path=path) == 403
    assert asked("WS", origin=origin) == "websocket.close"
    assert asked("GET", origin=origin, path="/runs") == 200, "it may lead here"


def test_a_request_without_an_origin_does_not_come_from_a_page_and_a_trusted_origin_may_write() -> None:
    assert asked() == 200
    assert asked(origin="https://proxy.example.org") == 200


def test_no_query_is_taken_in_an_address_which_any_page_can_make_a_browser_open() -> None:
    assert asked("GET", path="/graphql?query=mutation%7B...%7D") == 405
    assert asked("HEAD", path="/graphql?x=1&query=a") == 405
    assert asked("GET", path="/graphql") == 200, "the page to try queries on"
