"""The domain error for each error of the database, by its SQLSTATE: who can fix it, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

import psycopg

from crm_core import errors
from crm_core.errors import DatabaseError
from crm_core.resources import DATA

ErrorAndCure: TypeAlias = tuple[type[DatabaseError], str]

UTF8 = "nothing was changed; use a database made with `createdb -E UTF8 -T template0 NAME`"
AGAIN = "nothing was changed; run the command again"
GRANTS = f"{DATA / 'grants.sql'} has all that a role needs"
MAKE_ROOM = "nothing was changed; make room on the server's disk, then run the command again"
LACKS = "run `crm check`, which lists what is missing, and restore a whole backup into an empty database"
REPORT = "nothing was changed; this is a fault of crm: report it with what CRM_DEBUG=1 shows"
POOLER = "let the pooler give each client a connection of its own (PgBouncer: pool_mode = session)"

# By the whole SQLSTATE, or else by its class, which is the first two characters.
STATES: Mapping[str, ErrorAndCure] = {
    "08": (errors.ServerUnreachable, f"check that the server runs; {AGAIN}"),
    "08P01": (errors.DatabaseUnfit, POOLER),
    "57P01": (errors.ServerUnreachable, f"check that the server runs; {AGAIN}"),
    "57P02": (errors.ServerUnreachable, f"check that the server runs; {AGAIN}"),
    "57P03": (errors.ServerUnreachable, f"wait until the server takes connections; {AGAIN}"),
    "57P04": (errors.ServerUnreachable, "the database was dropped; use another"),
    "57P05": (errors.ServerUnreachable, AGAIN),
    "57014": (errors.TimedOut, AGAIN),
    "25P03": (errors.TimedOut, f"crm was idle in a transaction for longer than CRM_IDLE_TIMEOUT; {AGAIN}"),
    "25P04": (errors.TimedOut, AGAIN),
    "25006": (
        errors.DatabaseReadOnly,
        "nothing was changed; write to the primary server, or turn default_transaction_read_only off, then retry",
    ),
    "40": (errors.Contended, AGAIN),
    "55P03": (errors.Contended, f"others hold the same lock for too long; {AGAIN}"),
    "53": (errors.ServerFull, f"give the server more of what it lacks; {AGAIN}"),
    "53100": (errors.ServerFull, MAKE_ROOM),
    "53300": (errors.ServerFull, "try again in a moment, or raise the server's max_connections"),
    "28": (errors.AccessRefused, "check user, password and database in CRM_DATABASE_URL or POSTGRES_*"),
    "3D000": (errors.AccessRefused, "check user, password and database in CRM_DATABASE_URL or POSTGRES_*"),
    "42501": (errors.MissingPrivilege, GRANTS),
    "42P01": (errors.SchemaIncomplete, LACKS),
    "42703": (errors.SchemaIncomplete, LACKS),
    "42704": (errors.SchemaIncomplete, LACKS),
    "42883": (errors.SchemaIncomplete, LACKS),
    "3F000": (errors.SchemaIncomplete, LACKS),
    "22021": (errors.DatabaseUnfit, UTF8),
    "22P05": (errors.DatabaseUnfit, UTF8),
    "26000": (errors.DatabaseUnfit, POOLER),
    "42P05": (errors.DatabaseUnfit, POOLER),
    "58": (errors.StorageFailed, "see the server's log and its disk; nothing was changed"),
    "XX001": (errors.StorageFailed, "the data are damaged: restore a backup; nothing was changed"),
    "XX002": (
        errors.StorageFailed,
        "an index is damaged: run `reindex database`, then `crm check`; nothing was changed",
    ),
    "F0": (errors.StorageFailed, "see the server's log and its configuration"),
}
_GRANTED: Mapping[str, str] = {  # the privileges that crm needs on each kind of object
    "schema": "usage",
    "database": "create",
    "table": "select, insert, update, delete",
    "view": "select",
    "sequence": "usage",
    "function": "execute",
}
_NO_TEMPORARY = re.compile(r"permission denied to create temporary tables in database (\S+)")
_DENIED = re.compile(rf"permission denied for ({'|'.join(_GRANTED)}) (\S+)")
_SERVER_SAID = re.compile(r"failed: [^\s:]+:  ")  # libpq quotes the server as "SEVERITY:  text", in any language
_FULL = re.compile(r"too many (clients|connections)|remaining connection slots|no more connections allowed")
_NO_DISK = re.compile(r"No space left on device|could not write init file")
_NOT_NOW = re.compile(
    r"is (starting up|shutting down|in recovery mode)|not (yet )?accepting connections|Connection (refused|reset)"
    r"|No such file|server closed the connection|timeout expired"
)
_OPTIONS = re.compile(r"unsupported startup parameter")
_UNKNOWN = re.compile(r"unrecognized configuration parameter")


def domain_error(error: Exception) -> DatabaseError | None:
    """Return the domain error for an error of the database during work; None for any other error.

    Nothing of the transaction was recorded, so every cure ends with doing it again.
    """
    if isinstance(error, DatabaseError):
        return error
    error = getattr(error, "orig", error)  # SQLAlchemy's wrapping
    if not isinstance(error, psycopg.Error):
        return None
    state, said = error.sqlstate, _said(error)
    if state is None:
        if isinstance(error, psycopg.OperationalError):  # libpq lost the connection, or had none
            return errors.ServerUnreachable(said, f"check that the server runs; {AGAIN}")
        return errors.DatabaseFault(said, REPORT)
    kind, cure = STATES.get(state) or STATES.get(state[:2]) or (errors.DatabaseFault, REPORT)
    if kind is not errors.DatabaseFault and error.diag.message_primary:
        said = error.diag.message_primary  # the place in our code is useful for faults only
    if denied := _NO_TEMPORARY.search(said):
        cure = f"let its owner grant temporary on database {denied[1]} to the user of crm; {GRANTS}"
    if denied := _DENIED.search(said):
        what, name = denied.groups()
        cure = f"let its owner grant {_GRANTED[what]} on {what} {name} to the user of crm; {GRANTS}"
    return kind(f"{said} (SQLSTATE {state})" if kind is errors.DatabaseFault else said, cure)


def connection_error(error: psycopg.OperationalError) -> DatabaseError:
    """Return the domain error for a connection that could not be opened.

    There is no SQLSTATE then, so it depends on whether the server or libpq reported the error.
    """
    text, said = str(error), _said(error)
    if error.sqlstate and (known := domain_error(error)):
        return known
    if _FULL.search(text):
        return errors.ServerFull(said, STATES["53300"][1])
    if _NO_DISK.search(text):
        return errors.ServerFull(said, MAKE_ROOM)
    if _OPTIONS.search(text):
        return errors.DatabaseUnfit(said, f"set ignore_startup_parameters = options in PgBouncer, and {POOLER}")
    if _UNKNOWN.search(text):
        return errors.DatabaseUnfit(said, "use a server of PostgreSQL 14 or later, or correct the options in the URL")
    if (_SERVER_SAID.search(text) and not is_starting(error)) or "no password supplied" in text:
        return errors.AccessRefused(said, STATES["28"][1])
    where = "check that the server runs, and host and port in CRM_DATABASE_URL or POSTGRES_*"
    return errors.ServerUnreachable(said, f"{where}, or try again in a moment")


def is_starting(error: psycopg.OperationalError) -> bool:
    """Return whether the server may accept connections in a moment: it starts, recovers, stops or is missing."""
    return _NOT_NOW.search(str(error)) is not None


def _said(error: psycopg.Error) -> str:
    """Return the message without its details, which quote rows and so personal data."""
    return " ".join((error.diag.message_primary or str(error)).split()) or "the connection to the server was lost"
