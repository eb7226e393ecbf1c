"""The tables of a database, and how many rows they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from psycopg.sql import SQL, Identifier

from crm_core.postgres.connection import Connection
from crm_core.resources import statement

Table: TypeAlias = tuple[str, str]  # schema and name
NOT_KEPT = ("session",)  # who signed out since would be signed in again


def tables(connection: Connection) -> Sequence[Table]:
    """Return the tables of the database, but those of extensions."""
    return [(str(schema), str(name)) for schema, name in connection.execute(statement("server/all_tables"))]


def hold(connection: Connection, held: Sequence[Table]) -> None:
    """Lock tables for reading until the transaction ends, so that no other one changes their form."""
    names = SQL(", ").join(Identifier(*table) for table in held)
    connection.execute(SQL(statement("backup/hold_tables")).format(tables=names))


def count_rows(connection: Connection, counted: Sequence[Table]) -> Mapping[str, int]:
    """Count the rows of tables, by `schema.name`, without those that no backup keeps."""
    found = {}
    for schema, name in counted:
        if name not in NOT_KEPT:
            count = SQL(statement("server/count_rows")).format(column=SQL("*"), table=Identifier(schema, name))
            with connection.cursor() as cursor, cursor.copy(count) as copy:
                found[f"{schema}.{name}"] = int(b"".join(copy))
    return found
