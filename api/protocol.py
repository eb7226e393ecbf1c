"""The HTTP server under the application: it limits and times out clients, and knows the trusted proxies.

It handles what never reaches the application: request heads that do not end, connections on which nothing arrives, and
clients that do not read their answer. The time-out of a request's body is in `api.middleware.edge`.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import TimerHandle
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import MEDIA_TYPE
from crm_core.settings import Settings

HEAD_BYTES = 64 << 10  # of a request's line and headers together


class ServerConfig(uvicorn.Config):
    """The configuration with which uvicorn serves the application."""

    def __init__(
        self, app: Callable[..., Any], settings: Settings, *, grace: int, workers: int = 1, factory: bool = False
    ) -> None:
        """Take the application or its factory, and `grace`: the seconds that requests have to finish."""
        proxies = settings.trusted_proxies
        self.patience = settings.client_timeout
        super().__init__(
            app,
            factory=factory,
            workers=workers,
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips="*" if "*" in proxies else list(proxies),
            timeout_graceful_shutdown=grace,
        )


class GuardedProtocol(HttpToolsProtocol):
    """A connection whose request heads are short and arrive in time, and whose answers are read in time."""

    config: ServerConfig

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request head."""
        super().connection_made(transport)
        self._head_bytes = self._idle_bytes = 0  # of the head so far; and when reading of the current part began
        self._is_too_large = self._is_in_head = False
        self._waits_for_head: TimerHandle | None = None
        self._waits_for_client: TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all waiting."""
        super().connection_lost(exc)
        self._stop_waiting_for_head()
        self._stop_waiting_for_client()

    def data_received(self, data: bytes) -> None:
        """Read data; refuse a request head that is too long or does not end."""
        self._idle_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._idle_bytes > HEAD_BYTES:
            self._is_too_large = True
            self.send_400_response("")
        elif self.cycle is None or self.cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Start a request head."""
        self._head_bytes, self._is_in_head = 0, True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer of a chunked body."""
        self._idle_bytes = 0
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a request head."""
        self._idle_bytes, self._is_in_head = 0, False
        self._stop_waiting_for_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._idle_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is not HTTP, and close; no answer is written into one that is being sent."""
        cycle = self.cycle
        is_answering = (
            cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)
        )
        if is_answering or self.pipeline:
            self.transport.close()
        elif self._is_too_large:
            said = f"the address and the headers have more than {HEAD_BYTES:,} bytes; send less in them"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, said)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not a valid HTTP/1.1 request; send one")

    def on_response_complete(self) -> None:
        """End an answer; the client must read the rest of it in time."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_client()

    def pause_writing(self) -> None:
        """Wait for the client to read what was written."""
        super().pause_writing()
        self._expect_client()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._stop_waiting_for_client()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._is_too_large = True
            message = "the head is too large"
            raise ValueError(message)  # stops the parser, which a callback can do only by raising

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        body = json.dumps(problem, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._waits_for_head is None:
            self._waits_for_head = self.loop.call_later(self.config.patience, self._head_is_late)

    def _head_is_late(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_head:
            said = f"the head of the request did not arrive completely within {self.config.patience} s; send it again"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, said)
        else:
            self.transport.close()

    def _stop_waiting_for_head(self) -> None:
        if self._waits_for_head is not None:
            self._waits_for_head.cancel()
            self._waits_for_head = None

    def _expect_client(self) -> None:
        if self._waits_for_client is None:
            self._waits_for_client = self.loop.call_later(self.config.patience, self._client_is_late)

    def _client_is_late(self) -> None:
        self._waits_for_client = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _stop_waiting_for_client(self) -> None:
        if self._waits_for_client is not None:
            self._waits_for_client.cancel()
            self._waits_for_client = None
