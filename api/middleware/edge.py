"""The outermost layer, for every request: its id, checks, headers, log line and metrics. Pure ASGI.

It is one layer, because each layer more would wrap every message of an answer once more.
"""

from __future__ import annotations

import logging
import random
import re
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.body import LimitedBody
from api.middleware.checks import PROBE_PATHS, Checks
from api.middleware.metrics import Metrics
from api.problems import INTERNAL_ERROR, Refusal, problem
from crm_core.settings import Settings

DROP_PATHS = ("/api/v1/drops", "/drops")  # where drops are uploaded: by programs, and in the cockpit
UNLOGGED_ROUTES = (*PROBE_PATHS, "/metrics")
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
CLIENT_LEFT = 499  # status in the log and the metrics: the client left before it got an answer
_REQUEST_ID = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_LOG = logging.getLogger("crm.api")


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        """Wrap `app`."""
        self.app, self.settings, self.metrics = app, settings, metrics
        self._headers = dict(SECURITY_HEADERS)
        if settings.secure and settings.hsts_seconds:
            value = f"max-age={settings.hsts_seconds}; includeSubDomains; preload"
            self._headers[b"strict-transport-security"] = value.encode()
        self._checks = Checks(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        scope.setdefault("state", {}).update(request_id=request_id, traceparent=trace and trace[0])
        method, path = scope["method"], scope["path"]
        scope["path"] = _tidied(path, scope.get("raw_path") or path.encode())
        if method == "HEAD":
            # A copy: in the server's own scope it stays HEAD, so that no body is sent.
            scope = {**scope, "method": "GET"}
        body = LimitedBody(receive, self._most_bytes(scope), self.settings.client_timeout)
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
            self._checks.require_sound(scope, headers)
            body.require_length(headers.get("content-length", "0"))
            await self.app(scope, body.receive, answer)
        except Refusal as refusal:
            await problem(request_id, refusal)(scope, receive, answer)
        except ClientDisconnect:
            body.is_cut = True
        except Exception as error:
            _LOG.error("an internal error", exc_info=error, extra={"request_id": request_id})
            if status:  # the answer has begun, so it can only be cut off
                raise
            await problem(request_id, INTERNAL_ERROR)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            self._observe(scope, method, path, CLIENT_LEFT if body.is_cut else status, seconds, trace)

    def _most_bytes(self, scope: Scope) -> int:
        takes_drops = scope["method"] == "POST" and scope["path"] in DROP_PATHS
        return self.settings.max_drop_bytes if takes_drops else self.settings.max_body_bytes

    def _observe(
        self, scope: Scope, method: str, path: str, status: int, seconds: float, trace: re.Match[str] | None
    ) -> None:
        """Count a request that was answered, and log it, with the trace that it is a part of (W3C Trace Context)."""
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.seconds.labels(method, route, status).observe(seconds)
        if _LOG.isEnabledFor(logging.INFO) and route not in UNLOGGED_ROUTES:
            fields = {
                "request_id": scope["state"]["request_id"],
                "method": method,
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "actor": scope["state"].get("actor"),
            }
            if trace:
                fields |= {"trace_id": trace[1], "parent_id": trace[2]}
            _LOG.info("", extra={"fields": fields})


def _tidied(path: str, raw: bytes) -> str:
    """Return a path of the API without slashes behind it, as Django does it; one that is written %2F stays."""
    return path.removesuffix("/" * (len(raw) - len(raw.rstrip(b"/")))) if path.startswith("/api/") else path
