"""A pool of open connections, for a process that serves many requests."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from crm_core.errors import DatabaseReadOnly, ServerUnreachable
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.sqlstates import domain_error

CANCEL_SECONDS = 2.0  # that the server has to receive it


class Pool:
    """A number of connections in autocommit, opened when first needed; one that the server closed is replaced."""

    def __init__(
        self,
        database: Database,
        size: int,
        *,
        patience: float,
        max_idle: float,
        options: str,
        trust: float = 0.0,
        min_size: int = 0,
    ) -> None:
        """Set the number of connections, the seconds to wait for a free one and to keep an idle one, and options.

        A connection that was used less than `trust` seconds ago is lent again without checking that it still works.
        """
        self._patience, self._trust = patience, trust
        self._lent: set[Connection] = set()
        self._used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._pool = ConnectionPool(
            database.conninfo_with(options),
            kwargs={"autocommit": True},
            configure=lambda connection: database.pin(connection, options),
            min_size=min_size,
            max_size=size,
            timeout=patience,
            max_idle=max_idle,
            reconnect_timeout=patience,
            check=self._require_open,
            open=False,
        )

    def open(self) -> None:
        """Start to connect in the background."""
        self._pool.open()

    def close(self) -> None:
        """Close the connections; work under way is cancelled and has no effect."""
        for connection in [*self._lent]:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection. Raises DatabaseError for what the database says meanwhile, and ServerUnreachable."""
        try:
            with self._pool.connection() as connection:
                self._lent.add(connection)
                try:
                    yield connection
                finally:
                    self._lent.discard(connection)
        except PoolTimeout:
            cause = f"no database connection became free within {self._patience:g} seconds"
            raise ServerUnreachable(cause, "check that the server runs, and try again") from None
        except psycopg.Error as error:
            ours = domain_error(error)
            if isinstance(ours, ServerUnreachable | DatabaseReadOnly):
                # The other connections are probably lost too, or lead to a server that became read-only.
                self._pool.drain()
            raise ours or error from error

    def _require_open(self, connection: Connection) -> None:
        """Raise OperationalError if the server has gone: an idle connection receives nothing unless it ends.

        The others are lost with it, so all are replaced at once: the pool by itself tries one after the other, ever
        slower.
        """
        now, used = time.monotonic(), self._used.get(connection, 0.0)
        self._used[connection] = now
        if now - used > self._trust and select.select([connection.fileno()], [], [], 0)[0]:
            try:
                ConnectionPool.check_connection(connection)
            except psycopg.OperationalError:
                self._pool.drain()
                raise

    def figures(self) -> dict[str, int]:
        """Return the pool's statistics: its size, the free connections and those who wait."""
        return dict(self._pool.get_stats())
