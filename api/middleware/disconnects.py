"""Cancel the write of a client that disconnects, so that it has no effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Lock
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.checks import UNSAFE_METHODS
from crm_core.errors import TimedOut
from crm_core.postgres.connection import Connection

CANCEL_PAUSE_SECONDS = 0.1  # between two attempts to cancel, which have no effect between two statements
CANCEL_SECONDS = 2.0  # that the server has to receive it
CANCEL_ATTEMPTS = 100

T = TypeVar("T")


class Visit:
    """The request of one client while it is handled, and the connection that works for it."""

    def __init__(self) -> None:
        """Start with a client that is connected and uses no database connection yet."""
        self.has_left = Event()
        self._connection: Connection | None = None
        self._lock = Lock()

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Use a connection while the client is there; raise TimedOut if it has left already."""
        with self._lock:
            if self.has_left.is_set():
                cause = "the client disconnected before its request began"
                raise TimedOut(cause, "nothing was changed; send the request again")
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def leave(self) -> bool:
        """Cancel the current work; return whether there was any, in which case more may follow."""
        self.has_left.set()
        with self._lock:  # so that the connection is not lent to anybody else meanwhile
            if self._connection is None:
                return False
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
            return True


_VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def until_left(work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """Return `work` in a form that is cancelled when the client of the current request leaves."""
    visit = _VISIT.get()
    if visit is None:
        return work

    def done(connection: Connection) -> T:
        with visit.over(connection):
            return work(connection)

    return done


class _Client:
    """The messages of a client: its body, which the application receives, and afterwards only its disconnect."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._is_told, self._has_left, self._is_whole = False, asyncio.Event(), asyncio.Event()
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            self._is_whole.set()

    async def receive(self) -> Message:
        """Receive for the application, which alone receives until the body is complete, and never after it."""
        if self._is_told:
            await self._has_left.wait()
            return {"type": "http.disconnect"}
        if self._is_whole.is_set():
            self._is_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await self._receive()
        self._is_told = message["type"] == "http.disconnect" or not message.get("more_body")
        if message["type"] == "http.disconnect":
            self._has_left.set()
        if self._is_told:
            self._is_whole.set()
        return message

    async def disconnected(self) -> None:
        """Wait until the client has left."""
        await self._is_whole.wait()
        while not self._has_left.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._has_left.set()


class Disconnects:
    """Watch for clients of unsafe requests that leave. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] not in UNSAFE_METHODS:
            await self.app(scope, receive, send)
            return
        visit, client = Visit(), _Client(scope, receive)
        token = _VISIT.set(visit)
        watching = asyncio.create_task(_look_out(client, visit))
        try:
            await self.app(scope, client.receive, send)
        finally:
            watching.cancel()
            _VISIT.reset(token)


async def _look_out(client: _Client, visit: Visit) -> None:
    await client.disconnected()
    for _ in range(CANCEL_ATTEMPTS):
        await asyncio.to_thread(visit.leave)
        await asyncio.sleep(CANCEL_PAUSE_SECONDS)
