"""The settings that every session is pinned to, whatever server, role, database and environment say.

Each setting is sent in the packet that starts the session, so that it holds from the beginning, and is set again once
the session exists: PGTZ and PGDATESTYLE override the packet's options, and a pooler may leave them out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from crm_core.errors import DatabaseUnfit
from crm_core.postgres.spread import look
from crm_core.resources import statement

ENCODING = "UTF8"
OLDEST_MAJOR = 14  # PostgreSQL's major version
PINNED: Mapping[str, str] = {
    # How values are written and read: our code and psycopg's rely on it.
    "client_encoding": ENCODING,
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    # What a transaction sees, and that no row is left out silently. Whether it may write is the operator's decision.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",  # a policy that would hide rows is an error
    "gin_fuzzy_search_limit": "0",  # with any other value searches return only a sample
    "exit_on_error": "off",
    # Bounds that we do not want; ours come with `Bounds`.
    "idle_session_timeout": "0",  # a pool keeps connections
    # A client behind a broken network is noticed within a minute.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "jit": "off",  # it costs more than it saves here
}
KEEPALIVE: Mapping[str, str | int] = {  # the same for a server that is gone, as parameters of libpq
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """After how many seconds the server ends what would otherwise wait or run for ever; 0: never."""

    work: int = 3600  # one statement of a merge, a check or a report, and its wait for a lock
    idle: int = 60  # a transaction whose client is silent: it was stopped or is gone, but holds locks

    def settings(self) -> dict[str, str]:
        """Return the session's settings for these bounds."""
        return {
            "statement_timeout": f"{self.work}s",
            "lock_timeout": f"{self.work}s",
            "idle_in_transaction_session_timeout": f"{self.idle}s",
        }


def as_options(settings: Mapping[str, str]) -> str:
    """Return settings as the `options` of a conninfo."""
    escaped = {name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


def pin(connection: psycopg.Connection[TupleRow], settings: Mapping[str, str]) -> None:
    """Set the settings in a new session in autocommit, and the search path.

    The path is the schema of the product's tables (public, unless they lie in another already), then those of the
    extensions. Raises DatabaseUnfit for a database that is not in UTF8 or a server that is too old.
    """
    info = connection.info
    encoding = info.parameter_status("server_encoding")
    if encoding not in (None, ENCODING):
        cause = f"the encoding of the database {info.dbname} is {encoding}, not UTF8"
        raise DatabaseUnfit(cause, "make one with `createdb -E UTF8 -T template0 NAME`, and use that")
    if info.server_version < OLDEST_MAJOR * 10_000:
        cause = (
            f"the server is PostgreSQL {info.server_version // 10_000}, but this release needs {OLDEST_MAJOR} or later"
        )
        raise DatabaseUnfit(cause, "upgrade the server, or use another")
    newer = {"transaction_timeout": "0"} if info.server_version >= 170_000 else {}
    pinned = connection.execute(statement("server/pin_session"), {"settings": json.dumps({**settings, **newer})})
    if pinned.fetchall()[-1] == ("citus",):
        look(connection)
