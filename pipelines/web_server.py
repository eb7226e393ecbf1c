"""Dagster's web server, which has no login: it answers only for its own host names and its own pages.

Otherwise a page of another site could start runs, by a form that posts to this address or by a host name that it points
here (DNS rebinding). Dagster has no setting against that.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import uvicorn
from dagster_webserver import cli
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from crm_core.settings import Settings
from pipelines.plain_logs import write_plain_logs

SAFE = ("GET", "HEAD", "OPTIONS")
Fault = tuple[HTTPStatus, str]


class OwnPagesOnly:
    """The outermost layer of the application: it refuses requests from pages of other sites."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Wrap `app`."""
        self.app = app
        self._hosts = {host.lower() for host in settings.allowed_hosts}
        self._origins = {origin.lower() for origin in settings.csrf_trusted_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        fault = self._fault(scope) if scope["type"] in ("http", "websocket") else None
        if fault is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(reason=fault[1][:100])(scope, receive, send)
        else:
            await PlainTextResponse(f"{fault[1]}\n", fault[0])(scope, receive, send)

    def _fault(self, scope: Scope) -> Fault | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if not self._is_ours(host):
            said = f"Host {host!r} is not allowed; add it to CRM_ALLOWED_HOSTS if it is a name of this service"
            return HTTPStatus.BAD_REQUEST, said
        writes = scope["type"] == "websocket" or scope["method"] not in SAFE
        if writes and origin and urlsplit(origin).netloc != host and origin not in self._origins:
            said = f"pages of {origin} may not write here; add it to CRM_CSRF_TRUSTED_ORIGINS if it is yours"
            return HTTPStatus.FORBIDDEN, said
        if not writes and scope["path"] == "/graphql" and "query" in parse_qs(scope["query_string"].decode("latin-1")):
            return HTTPStatus.METHOD_NOT_ALLOWED, "a query may write, so it is not taken in an address; use POST"
        return None

    def _is_ours(self, host: str) -> bool:
        """Return whether a Host is one of ours; IP addresses always are, because no other site has one as its name."""
        name = urlsplit(f"//{host}").hostname or ""
        if "*" in self._hosts or name in self._hosts or f"[{name}]" in self._hosts or _is_address(name):
            return True
        return name == "localhost" or any(one[:1] == "." and f".{name}".endswith(one) for one in self._hosts)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def guard(make: Callable[..., ASGIApp]) -> Callable[..., ASGIApp]:
    """Return a factory of the same application with this layer around it."""

    def guarded(*given: object, **named: object) -> ASGIApp:
        return OwnPagesOnly(make(*given, **named), Settings.from_environment())

    return guarded


class Listening:
    """Replace uvicorn in Dagster's command line, to serve on a socket that is listening already."""

    def __init__(self, number: int) -> None:
        """Serve on the socket of this number."""
        self._socket = socket.socket(fileno=number)

    def run(self, app: ASGIApp, *, log_level: str, **_address: object) -> None:
        """Serve until SIGINT or SIGTERM."""
        uvicorn.Server(uvicorn.Config(app, log_level=log_level)).run(sockets=[self._socket])


def main() -> None:
    """Run Dagster's command line; `--fd N` after its options is the number of a socket to serve on."""
    write_plain_logs()
    used = vars(cli)  # the names that its command line uses
    used["create_app_from_workspace_process_context"] = guard(used["create_app_from_workspace_process_context"])
    if sys.argv[-2:-1] == ["--fd"]:
        used["uvicorn"] = Listening(int(sys.argv[-1]))
        del sys.argv[-2:]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
