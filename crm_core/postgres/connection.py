"""Connections to PostgreSQL: to the given server, or to the embedded one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg.rows import TupleRow

from crm_core.errors import SchemaIncomplete
from crm_core.postgres.embedded import running_server
from crm_core.postgres.fitness import require_empty, require_whole
from crm_core.postgres.schema_version import current_revision, require_schema
from crm_core.postgres.session import ENCODING, KEEPALIVE, PINNED, Bounds, as_options, pin
from crm_core.postgres.sqlstates import connection_error, domain_error
from crm_core.resources import statement
from crm_core.settings import Settings

__all__ = ["Connection", "Database", "domain_error", "open_database", "open_migrated", "require_schema", "statement"]

Connection: TypeAlias = psycopg.Connection[TupleRow]

CONNECT_SECONDS = 10  # unless the URL says otherwise
_OPTION = re.compile(r"-c (\w+)=(\S+)")
_ALSO_READ_BY_LIBPQ = ("PGTZ", "PGDATESTYLE", "PGGEQO", "PGSERVICEFILE", "PGSYSCONFDIR")


@dataclass(frozen=True, slots=True)
class Database:
    """The address of a database, and the time limits of its connections."""

    conninfo: str = field(repr=False)  # it may hold a password
    bounds: Bounds = field(default_factory=Bounds)

    def connect(self, *, autocommit: bool = False, options: str = "") -> Connection:
        """Open a connection in a pinned session; as a context it commits, or rolls back on an error, and closes.

        `options` are further settings of the session, in the form `-c name=value`. Raises DatabaseError.
        """
        try:
            connection = psycopg.connect(self.conninfo_with(options), autocommit=True)
        except psycopg.OperationalError as error:
            raise connection_error(error) from None
        try:
            self.pin(connection, options)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def conninfo_with(self, options: str = "") -> str:
        """Return the conninfo of our connections: what was given, and what each of them needs."""
        given = conninfo_to_dict(self.conninfo)
        return make_conninfo(
            self.conninfo,
            client_encoding=ENCODING,
            application_name=given.get("application_name", "crm"),
            connect_timeout=given.get("connect_timeout", CONNECT_SECONDS),
            options=f"{given.get('options', '')} {as_options(self._settings(options))}".strip(),
            **{name: given.get(name, value) for name, value in KEEPALIVE.items()},
        )

    def pin(self, connection: Connection, options: str = "") -> None:
        """Pin the session of a new connection in autocommit; raises DatabaseError."""
        try:
            pin(connection, self._settings(options))
        except psycopg.Error as error:
            raise domain_error(error) or error from error

    def _settings(self, options: str) -> dict[str, str]:
        return {**PINNED, **self.bounds.settings(), **dict(_OPTION.findall(options))}

    def environment(self) -> dict[str, str]:
        """Return the variables by which libpq finds the database, so that no password is in a command line."""
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
        given = conninfo_to_dict(self.conninfo)
        return {variable: str(given[name]) for name, variable in names.items() if given.get(name)}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a connection for one transaction: committed at the end, rolled back on an error."""
        with self.connect() as connection:
            yield connection


@contextmanager
def open_database(settings: Settings, *, is_kept: bool = False) -> Iterator[Database]:
    """Open the database that the settings name; an embedded server runs until its last user leaves.

    With `is_kept`, for commands that serve for long, it is started again if it is killed. Raises EmbeddedServerFailed.
    """
    bounds = Bounds(work=settings.merge_timeout, idle=settings.idle_timeout)
    if settings.database_url is not None:
        yield Database(settings.database_url, bounds)
        return
    for name in _variables_of_libpq():  # they are about a server other than the embedded one
        os.environ.pop(name, None)
    with running_server(settings.home, is_kept=is_kept) as conninfo:
        yield Database(conninfo, bounds)


@contextmanager
def open_migrated(settings: Settings, *, even_incomplete: bool = False, is_kept: bool = False) -> Iterator[Database]:
    """Open the database of the settings, and require this release's schema, complete unless said otherwise.

    Raises DatabaseError, which includes SchemaTooOld, SchemaTooNew and SchemaIncomplete.
    """
    with open_database(settings, is_kept=is_kept) as database:
        with database.connect() as connection:
            _require_schema(connection, even_incomplete=even_incomplete)
        yield database


def _require_schema(connection: Connection, *, even_incomplete: bool) -> None:
    if current_revision(connection) is None:
        with suppress(SchemaIncomplete) if even_incomplete else nullcontext():
            require_empty(connection)
            require_schema(connection)
        return
    require_schema(connection)
    if not even_incomplete:
        require_whole(connection)


def _variables_of_libpq() -> list[str]:
    known = (option.envvar for option in Conninfo.get_defaults())
    return [*(name.decode() for name in known if name), *_ALSO_READ_BY_LIBPQ]
