"""The door to PostgreSQL: the given server or the embedded one, its connections and their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from crm_core.embedded import running_server
from crm_core.errors import AccessRefused, DatabaseError, MissingPrivilege, ServerUnreachable
from crm_core.resources import statement
from crm_core.revisions import require_schema
from crm_core.settings import Settings

__all__ = ["Connection", "Database", "open_database", "open_migrated", "require_schema", "statement"]

Connection: TypeAlias = psycopg.Connection[TupleRow]

CONNECT_SECONDS = 10  # unless the URL says otherwise
_SERVER_SAID = re.compile(r"failed: [^\s:]+:  ")  # libpq quotes the server as "SEVERITY:  text", in any language
_NOT_NOW = re.compile(
    r"too many (clients|connections)|remaining connection slots"
    r"|is (starting up|shutting down|in recovery mode)|not (yet )?accepting connections"
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that can be connected to."""

    conninfo: str = field(repr=False)  # it may hold a password

    def connect(self, *, autocommit: bool = False, options: str = "") -> Connection:
        """Open a connection whose time zone is UTC; as a context it commits, or rolls back on an error, and closes.

        `options` are of the form `-c name=value`. Raises ServerUnreachable or AccessRefused.
        """
        try:
            return psycopg.connect(self.conninfo_with(options), autocommit=autocommit)
        except psycopg.OperationalError as error:
            raise _connection_error(str(error)) from None

    def conninfo_with(self, options: str = "") -> str:
        """Answer the conninfo of our connections: what was given, and what every one of them needs."""
        given = conninfo_to_dict(self.conninfo)
        return make_conninfo(
            self.conninfo,
            application_name=given.get("application_name", "crm"),
            connect_timeout=given.get("connect_timeout", CONNECT_SECONDS),
            options=f"{given.get('options', '')} -c timezone=UTC -c jit=off {options}".strip(),
        )

    def environment(self) -> dict[str, str]:
        """Answer the variables by which libpq finds the database: no password stands in a command line."""
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
        given = conninfo_to_dict(self.conninfo)
        return {variable: str(given[name]) for name, variable in names.items() if given.get(name)}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a connection for one transaction: committed at the end, rolled back on an error."""
        with self.connect() as connection:
            yield connection


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database that the settings name; an embedded server runs until its last user leaves.

    Raises EmbeddedServerFailed.
    """
    if settings.database_url is not None:
        yield Database(settings.database_url)
        return
    with running_server(settings.home) as conninfo:
        yield Database(conninfo)


@contextmanager
def open_migrated(settings: Settings) -> Iterator[Database]:
    """Open the database of the settings, of this release's schema; raises SchemaTooOld or SchemaTooNew too."""
    with open_database(settings) as database:
        with database.connect() as connection:
            require_schema(connection)
        yield database


def domain_error(error: Exception) -> DatabaseError | None:
    """Answer the error of ours for what the database said in the middle of work; None if it is no such thing.

    Nothing of the transaction has gone in, so every cure ends with doing it again.
    """
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return MissingPrivilege(_said(error), "grant it to the user, then run the command again")
        case psycopg.errors.ReadOnlySqlTransaction():
            return DatabaseError(_said(error), "nothing went in; let the database take writes, then run it again")
        case psycopg.errors.DiskFull():
            return DatabaseError(_said(error), "make room on the server's disk, then run the command again")
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected() | psycopg.errors.QueryCanceled():
            return DatabaseError(_said(error), "nothing went in; run the command again")
        case psycopg.OperationalError():
            return ServerUnreachable(
                _said(error), "nothing went in; see that the server runs, then run the command again"
            )
        case _:
            return None


def _said(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or "the connection to the server was lost"


def _connection_error(text: str) -> DatabaseError:
    """Answer the domain error for a failed connection, by who spoke: libpq gives it no SQLSTATE."""
    if _NOT_NOW.search(text):
        return ServerUnreachable(text, "try again in a moment, or raise the server's max_connections")
    if _SERVER_SAID.search(text) or "no password supplied" in text:
        return AccessRefused(text, "check user, password and database in CRM_DATABASE_URL or POSTGRES_*")
    return ServerUnreachable(text, "check that the server runs, and host and port in CRM_DATABASE_URL or POSTGRES_*")
