"""The outermost layer, for every request: its id, limits, headers, log line and metrics. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import MutableMapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_to_bytes

from prometheus_client import CollectorRegistry, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body import require_unpacked
from api.problems import Refusal, problem, refuse
from crm_core.settings import Settings

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
DROPS = ("/api/v1/drops", "/drops")  # where drops are uploaded: by programs, and in the cockpit
PROBES = ("/healthz", "/readyz")  # asked by machines, under any name of this one
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
ONCE = frozenset(  # if one of these headers came twice, it would be unclear which one counts
    (b"authorization", b"content-encoding", b"content-type", b"host", b"idempotency-key", b"origin")
)
SLOWEST = 1_000  # bytes of a body that have to arrive per second, once the time-out of a client has passed
GONE = 499  # in the log and the metrics: the client left before it got an answer
OURS = Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "an internal error; report it with the request_id, under which the log has the details",
)
_PORT = re.compile(r":\d*$")
_REQUEST_ID = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)
_LOG = logging.getLogger("crm.api")


class Figures:
    """The metrics of requests, for /metrics."""

    def __init__(self) -> None:
        """Start with all counts at zero."""
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        told = "Seconds that requests took"
        self.seconds = Histogram("crm_http_request_seconds", told, labels, registry=self.registry)
        told = "Statistics of the connection pools"
        self.pool = Gauge("crm_pool", told, ("pool", "figure"), registry=self.registry)


class _Body:
    """The body of a request, with a size limit and a time-out."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        """Take the largest size in bytes, and how many seconds the client may send nothing."""
        self._receive, self._most, self._patience = receive, most, patience
        self._received, self._begun = 0, time.monotonic()
        self.is_wanted = True  # False: the body is complete, and waiting for more means waiting for the client to leave
        self.is_answered = self.is_cut = False

    async def receive(self) -> Message:
        """Receive a part; raise Refusal if the body is too large or too slow."""
        if self.is_answered or not self.is_wanted:
            message = await self._receive()
            self.is_cut |= not self.is_answered and message["type"] == "http.disconnect"
            return message
        due = self._begun + self._patience + self._received / SLOWEST
        try:
            async with asyncio.timeout(min(self._patience, due - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow(self._patience) from None
        self.is_cut = message["type"] == "http.disconnect"
        self.is_wanted = bool(message.get("more_body", False))
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise _too_large(self._most)
        return message


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, figures: Figures) -> None:
        """Wrap `app`."""
        self.app, self.settings, self.figures = app, settings, figures
        self._headers = dict(SECURITY_HEADERS)
        if settings.secure and settings.hsts_seconds:
            value = f"max-age={settings.hsts_seconds}; includeSubDomains; preload"
            self._headers[b"strict-transport-security"] = value.encode()
        self._hosts = None if "*" in settings.allowed_hosts else {host.lower() for host in settings.allowed_hosts}
        self._origins = {origin.lower() for origin in (*settings.csrf_trusted_origins, *settings.cors_origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        method, path = scope["method"], scope["path"]
        scope["path"] = path.rstrip("/") if path.startswith("/api/") else path  # as Django does it
        if method == "HEAD":
            # A copy: in the server's own scope it stays HEAD, so that no body is sent.
            scope = {**scope, "method": "GET"}
        body = _Body(receive, self._most(scope), self.settings.client_timeout)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, body.is_answered = message["status"], True
                own = [*self._headers.items(), (b"x-request-id", request_id.encode())]
                message["headers"] = [*message["headers"], *own]
            elif method == "HEAD" and message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        try:
            self._require_sound(scope, headers)
            await self.app(scope, body.receive, answer)
        except Refusal as refusal:
            await problem(request_id, refusal)(scope, receive, answer)
        except ClientDisconnect:
            body.is_cut = True
        except Exception as error:
            _LOG.error("an internal error", exc_info=error, extra={"request_id": request_id})
            if status:  # the answer has begun, so it can only be cut off
                raise
            await problem(request_id, OURS)(scope, receive, answer)
        finally:
            self._tell(scope, method, path, GONE if body.is_cut else status, time.perf_counter() - started)

    def _require_sound(self, scope: Scope, headers: Headers) -> None:
        """Raise Refusal for a request that is refused whatever it asks for."""
        host = headers.get("host", "")
        if (
            self._hosts is not None
            and scope["path"] not in PROBES
            and not _is_among(self._hosts, _PORT.sub("", host).lower())
        ):
            said = f"the Host {host!r} is not allowed; if it is yours, add it to CRM_ALLOWED_HOSTS"
            raise Refusal(HTTPStatus.BAD_REQUEST, said)
        once = [name for name, _ in scope["headers"] if name in ONCE]
        if len(set(once)) < len(once):
            name = next(name for name in once if once.count(name) > 1)
            refuse(f"header.{name.decode().title()}", "is given twice; give it once")
        require_unpacked(headers, "header.")
        size = headers.get("content-length", "0")
        most = self._most(scope)
        if not size.isdecimal() or int(size) > most:
            raise _too_large(most)
        _require_readable(scope)
        origin = headers.get("origin")
        if scope["method"] in UNSAFE and origin and "*" not in self._origins and origin.lower() not in self._origins:
            own = f"{scope['scheme']}://{headers.get('host', '')}"
            if origin.lower() != own.lower():
                said = f"pages of {origin} may not write here; add it to CRM_CSRF_TRUSTED_ORIGINS if it is yours"
                raise Refusal(HTTPStatus.FORBIDDEN, said)

    def _most(self, scope: Scope) -> int:
        takes_drops = scope["method"] == "POST" and scope["path"] in DROPS
        return self.settings.max_drop_bytes if takes_drops else self.settings.max_body_bytes

    def _tell(self, scope: Scope, method: str, path: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.figures.seconds.labels(method, route, status).observe(seconds)
        if _LOG.isEnabledFor(logging.INFO) and route not in (*PROBES, "/metrics"):
            state: MutableMapping[str, object] = scope["state"]
            told = {
                "request_id": state["request_id"],
                "method": method,
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "actor": state.get("actor"),
            }
            # Looking up the caller takes time.
            record = logging.LogRecord(_LOG.name, logging.INFO, "", 0, "", None, None)
            record.told = told
            _LOG.handle(record)


def _too_large(most: int) -> Refusal:
    said = (
        f"the body has more than {most:,} bytes; send less at a time, or many entities as a drop (POST /api/v1/drops)"
    )
    return Refusal(HTTPStatus.BAD_REQUEST, said)


def _too_slow(patience: float) -> Refusal:
    said = (
        f"the body arrives too slowly: nothing at all, or less than {SLOWEST:,} bytes per second, within "
        f"{patience:g} s; "
    )
    said += "nothing was changed, so send it again"
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, said, headers={"Connection": "close"})


def _is_among(hosts: set[str], host: str) -> bool:
    """Return whether a host is in the list; .example.org means a domain and everything below it."""
    return host in hosts or any(known[0] == "." and f".{host}".endswith(known) for known in hosts)


def _require_readable(scope: Scope) -> None:
    """Raise Refusal if the address is not valid text, or gives a parameter twice."""
    address, query = scope.get("raw_path") or b"", scope["query_string"]
    if b"%" in address or b"%" in query:
        text = unquote_to_bytes(address + b"?" + query)
        if b"\0" in text:
            said = "the address contains a NUL (%00), which is not allowed; remove it"
            raise Refusal(HTTPStatus.BAD_REQUEST, said)
        try:
            text.decode()
        except UnicodeDecodeError:
            said = "the address is not UTF-8; encode it as UTF-8, and write each byte outside ASCII as %XX"
            raise Refusal(HTTPStatus.BAD_REQUEST, said) from None
    if b"&" in query and scope["path"].startswith("/api/"):
        names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        for name in [name for name, times in names.items() if times > 1][:1]:
            refuse(f"query.{name}", "is given twice; give it once")
