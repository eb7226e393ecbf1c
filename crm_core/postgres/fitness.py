"""Checks of a database before it is used: can it hold the schema, and is the schema complete."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg.rows import TupleRow

from crm_core.errors import DatabaseUnfit, MissingPrivilege, SchemaIncomplete
from crm_core.resources import SQL, statement

EXTENSIONS = ("btree_gist", "pg_trgm")
OBJECTS = SQL / "objects.txt"  # the objects of this release's schema, one per line, in order
ELSEWHERE = {  # in a distributed database
    "trigger batch_to_stamp.batch_is_stamped": "trigger batch.batch_is_stamped",
}
MAX_SHOWN = 3
RESTORE = "restore a whole backup into an empty database (pg_restore without --table, --schema and --section)"


def expected_objects() -> Sequence[str]:
    """Return the objects of this release's schema."""
    return OBJECTS.read_text(encoding="utf-8").splitlines()


def present_objects(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Return the objects that are present, in the words of OBJECTS and in order."""
    lines = [str(line) for (line,) in connection.execute(statement("check/14_schema_is_whole"))]
    return [ELSEWHERE.get(line, line) for line in lines]


def missing_objects(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Return one line for each object of the schema that is missing or not valid.

    For a missing table, the objects that belong to it are not listed.
    """
    present = set(present_objects(connection))
    missing = [name for name in expected_objects() if name not in present]
    tables = tuple(f" {name.removeprefix('table ')}." for name in missing if name.startswith("table "))
    return [f"the {name} is missing or not valid" for name in missing if not any(table in name for table in tables)]


def require_whole(connection: psycopg.Connection[TupleRow]) -> None:
    """Raise SchemaIncomplete unless the schema is complete: a restore may have brought only a part of it."""
    if missing := missing_objects(connection):
        more = f", and {len(missing) - MAX_SHOWN} more" if len(missing) > MAX_SHOWN else ""
        cause = f"the schema is incomplete: {', '.join(missing[:MAX_SHOWN])}{more}"
        raise SchemaIncomplete(cause, f"`crm check` names all that is missing; {RESTORE}")


def require_fit(connection: psycopg.Connection[TupleRow], *, is_new: bool) -> None:
    """Raise DatabaseError unless the schema can be created here; `is_new` means that none of it exists so far."""
    if is_new:
        require_empty(connection)
    found = [
        (str(what), str(name))
        for what, name in connection.execute(statement("server/look"), {"extensions": [*EXTENSIONS]})
    ]
    database, user = connection.info.dbname, connection.info.user
    if absent := [name for what, name in found if what == "module"]:
        cause = f"the server has no extension {' or '.join(absent)}"
        raise DatabaseUnfit(cause, "install PostgreSQL's contrib modules on the server; they contain it")
    causes, cures = zip(*(_lacking(what, name, user) for what, name in found), strict=True) if found else ((), ())
    if causes:
        cure = f"let a superuser run in {database}: {' '.join(cures)} then run `crm migrate` again"
        raise MissingPrivilege("; ".join(causes), cure)


def require_empty(connection: psycopg.Connection[TupleRow]) -> None:
    """Raise SchemaIncomplete if a database without a revision has tables with the names of ours.

    Raises MissingPrivilege if that cannot be seen.
    """
    if connection.execute(statement("server/can_use_schema")).fetchone() == (False,):
        cause = "permission denied for schema public (usage)"
        raise MissingPrivilege(cause, f"let its owner run: grant usage on schema public to {connection.info.user}")
    names = {name.removeprefix("table ") for name in expected_objects() if name.startswith("table ")}
    tables = sorted(names - {"alembic_version"})  # it stays, but empty, when all steps are undone
    there = [name for (name,) in connection.execute(statement("server/tables"), {"names": tables})]
    if there:
        cause = f"the database has tables of these names already, but no schema of crm: {', '.join(there)}"
        raise SchemaIncomplete(cause, f"use an empty database, or {RESTORE}")


def _lacking(what: str, name: str, user: str) -> tuple[str, str]:
    """Return the cause and the cure for something that `server/look` found missing."""
    match what:
        case "schema":
            return f"there is no schema {name}", f"create schema {name}; grant create on schema {name} to {user};"
        case "extension":
            return f"permission denied to create the extension {name}", f"create extension {name};"
        case _:
            privilege, _, kind = what.partition(" on ")
            return f"permission denied for {kind} {name} ({privilege})", f"grant {what} {name} to {user};"
