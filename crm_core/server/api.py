"""`crm serve`: the API alone, on a migrated database, until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import uvicorn
from uvicorn.supervisors import Multiprocess

from crm_core.access.accounts import has_active_account
from crm_core.access.tokens import has_active_token
from crm_core.errors import AddressUnusable, OpenToAll
from crm_core.postgres.connection import Database
from crm_core.settings import Settings

HOST, PORT = "127.0.0.1", 8000
PORTS_TRIED = 100
LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a server that listens on all addresses is called here
BACKLOG = 2048
START_SECONDS = 60  # that a worker has to start
STOP_SECONDS = 10  # seconds that running requests have when the server is asked to stop


def run_api(
    settings: Settings,
    database: Database,
    host: str,
    port: int,
    *,
    workers: int = 1,
    listening: socket.socket | None = None,
    on_start: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM; `on_start` is called with the address once it can be reached.

    A `port` of 0 means any free one; a `listening` socket is used as it is. More than one worker means separate
    processes; a worker that dies is replaced. Raises OpenToAll for an address that others can reach while no token
    exists, AddressUnusable, DatabaseError.
    """
    from api.app import served_app  # imported here: the core must not depend on a web framework
    from api.middleware.metrics import METRICS_FOLDER
    from api.protocol import ServerConfig

    require_closed(settings, database, host)
    listening = listening or listen(host, port)
    app = partial(served_app, settings, database, is_loopback=is_loopback(host))
    config = ServerConfig(app, settings, factory=True, workers=workers, grace=STOP_SECONDS)

    def on_listening() -> None:
        on_start(url_of(host, port_of(listening)))

    # Ctrl-C is the normal way to stop it, and it has stopped in order then.
    with listening, suppress(KeyboardInterrupt):
        if workers == 1:
            _Server(config, on_listening).run(sockets=[listening])
            return
        with tempfile.TemporaryDirectory(prefix="crm-metrics-") as folder:
            os.environ[METRICS_FOLDER] = folder  # where the workers add their counts up
            _Workers(config, listening, on_listening).run()


class _Server(uvicorn.Server):
    """A server that reports when it has started."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()


class _Workers(Multiprocess):
    """Server processes on one socket; they report when all of them have started."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket, on_start: Callable[[], None]) -> None:
        super().__init__(config, [listening])
        self._on_start = on_start

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(START_SECONDS, self.should_exit) for process in self.processes):
            self._on_start()


def require_closed(settings: Settings, database: Database, host: str) -> None:
    """Raise OpenToAll if others can reach the address without a token, and the settings do not allow that."""
    if is_loopback(host) or settings.auth != "auto":  # on: every client needs a token, even while none exists
        return
    with database.connect() as connection:
        if not (has_active_token(connection, now=datetime.now(UTC)) or has_active_account(connection)):
            raise OpenToAll(host)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 means any free one. Raises AddressUnusable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        fault = (error.strerror or str(error)).partition(" (while attempting")[0]  # it repeats the address
        raise AddressUnusable(host, port, fault) from error


def free_port(host: str, asked: int | None, first: int) -> int:
    """Return the given port, or else the first free one of a hundred; raise AddressUnusable."""
    with listen_from(host, asked, first) as listening:
        return port_of(listening)


def listen_from(host: str, asked: int | None, first: int) -> socket.socket:
    """Return a socket that listens on the given port, or else on the first free one of a hundred.

    The port is taken at once, so that two processes that start together never choose the same one. Raises
    AddressUnusable.
    """
    last = asked or first + PORTS_TRIED
    for port in range(asked or first, last + 1):
        try:
            return listen(host, port)
        except AddressUnusable as fault:
            taken = isinstance(fault.__cause__, OSError) and fault.__cause__.errno == errno.EADDRINUSE
            if not taken or port == last:
                raise
    raise AssertionError


def port_of(listening: socket.socket) -> int:
    """Return the port on which a socket listens."""
    return int(listening.getsockname()[1])


def url_of(host: str, port: int) -> str:
    """Return the address to open."""
    host = LOOPBACK_OF_ANY.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
