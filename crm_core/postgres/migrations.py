"""Migrations in one transaction: the numbered files of sql/ddl are run, then changed routines are applied.

A new step is a pair of files and needs no Python; the table `alembic_version` holds the number of the last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg

from crm_core.errors import DatabaseError, DatabaseFault, MissingPrivilege, SchemaIncomplete
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.fitness import require_fit
from crm_core.postgres.schema_version import (
    Revision,
    applied_routines,
    current_revision,
    head_revision,
    revisions,
    routines,
    too_new,
)
from crm_core.postgres.sqlstates import domain_error
from crm_core.resources import SQL, statement

__all__ = ["current_revision", "head_revision", "migrate", "migrate_on"]

_ROUTINE = re.compile(r"^create or replace (function|view) ([\w.]+)", re.MULTILINE)
_EXTENSION = re.compile(r"^create extension (?:if not exists )?(\w+)", re.IGNORECASE | re.MULTILINE)


def migrate(database: Database, revision: str = "head", *, folder: Path = SQL / "ddl") -> list[str]:
    """Bring the schema to a revision, up or down, and return the names of the steps that were run, in order.

    `revision` is a number, `head`, `base`, or relative as in `-1` and `+2`. The routines need the last revision: they
    are applied there if they changed, listed as `routines/<name>`, and dropped below it. Concurrent calls take turns.
    Raises SchemaTooNew, MissingPrivilege or another DatabaseError; nothing has changed then.
    """
    with closing(database.connect()) as connection, connection.transaction():
        return migrate_on(connection, revision, folder=folder)


def migrate_on(connection: Connection, revision: str = "head", *, folder: Path = SQL / "ddl") -> list[str]:
    """Do the same in the transaction of a connection."""
    steps = revisions(folder)
    connection.execute(statement("server/lock_schema"))
    current = current_revision(connection)
    if current and current > steps[-1].number:
        raise too_new(current, steps[-1].number)
    begin, end = int(current or 0), _goal(steps, current, revision)
    if begin < end:
        require_fit(connection, is_new=current is None)
    has_routines = folder == SQL / "ddl"
    if has_routines and end < len(steps):
        _drop_routines(connection)
    done = _run_steps(connection, steps, begin, end)
    applied = _apply_routines(connection) if has_routines and end == len(steps) else []
    return done + applied


def _goal(steps: Sequence[Revision], current: str | None, target: str) -> int:
    """Return how many of the steps the target has; raise DatabaseError for a target that does not exist."""
    goals = {"base": 0, "head": len(steps)} | {step.number: int(step.number) for step in steps}
    goal = int(current or 0) + int(target) if re.fullmatch(r"[+-]\d{1,4}", target) else goals.get(target, -1)
    if 0 <= goal <= len(steps):
        return goal
    cause = f"the schema cannot go from revision {current} to {target}: there are 0001 to {steps[-1].number}"
    raise DatabaseError(cause, "use head, base, a number such as 0004, or steps such as -1")


def _run_steps(connection: Connection, steps: Sequence[Revision], begin: int, end: int) -> list[str]:
    """Run the steps from one revision to another, record the other as reached, and return the names of the steps."""
    if begin == end:
        return []
    chosen = steps[begin:end] if begin < end else steps[end:begin][::-1]
    _run(connection, statement("server/create_alembic_version"))
    for step in chosen:
        _run(connection, (step.up if begin < end else step.down).read_text(encoding="utf-8"))
    _run(connection, statement("server/forget_revision"))
    if end:
        connection.execute(statement("server/record_revision"), {"revision": steps[end - 1].number})
    return [step.name for step in chosen]


def _apply_routines(connection: Connection) -> list[str]:
    """Apply all files of routines again if one of them changed, and return their names."""
    known = applied_routines(connection)
    wanted = routines()
    if known == {each.name: each.sha256 for each in wanted}:
        return []
    connection.execute(statement("server/create_schema_routine"))
    connection.execute(statement("server/forget_routines"))
    # A body may use names that exist only in some search path.
    connection.execute(statement("server/leave_bodies_unchecked"))
    for each in wanted:
        _run(connection, each.text)
        connection.execute(statement("server/record_routines"), {"name": each.name, "sha256": each.sha256})
    return [f"routines/{each.name}" for each in wanted]


def _drop_routines(connection: Connection) -> None:
    """Drop the functions and views of the routines, because below the last revision tables may be missing."""
    if not applied_routines(connection):
        return
    for each in reversed(routines()):
        for kind, name in reversed(_ROUTINE.findall(each.text)):
            connection.execute(f"drop {kind} if exists {name} cascade".encode())
    connection.execute(statement("server/drop_schema_routine"))


def _run(connection: Connection, text: str) -> None:
    """Run statements; raise the domain error if the server refuses one of them."""
    try:
        connection.execute(text)
    except psycopg.Error as error:
        raise _refusal(error, text) from error


def _refusal(error: psycopg.Error, text: str) -> DatabaseError:
    """Return the domain error for a step that the server refused."""
    cause = error.diag.message_primary or str(error)
    named = [name for name in _EXTENSION.findall(text) if name in cause]
    extension = named[0] if named else None
    match error:
        case psycopg.errors.InsufficientPrivilege() if extension:
            cure = f"let a superuser run in this database: create extension {extension};"
            return MissingPrivilege(cause, f"{cure} then run `crm migrate` again")
        case psycopg.errors.InsufficientPrivilege():
            return MissingPrivilege(cause, "let the owner of the database run `crm migrate`, or grant what is missing")
        case psycopg.errors.FeatureNotSupported() | psycopg.errors.UndefinedFile() if extension:
            return DatabaseError(
                cause, f"install PostgreSQL's contrib modules on the server; {extension} is one of them"
            )
    ours = domain_error(error)
    if ours is None or isinstance(ours, DatabaseFault | SchemaIncomplete):
        return DatabaseFault(f"a step of the schema failed: {error}", "nothing was changed; report this as a fault")
    return ours
