"""Connections that are kept open, for a process that serves many requests."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from crm_core.database import Connection, Database, domain_error
from crm_core.errors import ServerUnreachable

LOOK_SECONDS = 0.5  # after so long unused, a connection may have lost its server


class Pool:
    """So many connections in autocommit, opened when they are first needed; one that the server closed is replaced."""

    def __init__(
        self, database: Database, size: int, *, patience: float, max_idle: float, options: str, min_size: int = 0
    ) -> None:
        """Take the number of connections, seconds to wait for a free one and to keep an idle one, and `-c` options."""
        self._patience = patience
        self._used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._pool = ConnectionPool(
            database.conninfo_with(options),
            kwargs={"autocommit": True},
            min_size=min_size,
            max_size=size,
            timeout=patience,
            max_idle=max_idle,
            reconnect_timeout=patience,
            check=self._require_open,
            open=False,
        )

    def open(self) -> None:
        """Begin to connect, in the background."""
        self._pool.open()

    def close(self) -> None:
        """Close the connections; those in use are closed when they are given back."""
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection. Raises DatabaseError for what the database says during it, and ServerUnreachable."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout:
            cause = f"no connection to the database was to be had for {self._patience:g} seconds"
            raise ServerUnreachable(cause, "see that the server runs, and try again") from None
        except psycopg.Error as error:
            ours = domain_error(error)
            if ours is None:
                raise
            raise ours from error

    def _require_open(self, connection: Connection) -> None:
        """Raise OperationalError if the server has gone: an idle connection has nothing to say unless it ends.

        One that was used just now is taken as it is: to look costs more than to be wrong.
        """
        now, used = time.monotonic(), self._used.get(connection, 0.0)
        self._used[connection] = now
        if now - used > LOOK_SECONDS and select.select([connection.fileno()], [], [], 0)[0]:
            ConnectionPool.check_connection(connection)

    def figures(self) -> dict[str, int]:
        """Answer what the pool tells of itself: its size, how many are free and who waits."""
        return dict(self._pool.get_stats())
