"""Migrations in one transaction: the numbered files of sql/ddl are run, then changed routines are applied.

A new step is a pair of files and needs no Python; the table `alembic_version` holds the number of the last one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import ClientCursor

from crm_core.errors import Contended, DatabaseError, DatabaseFault, MissingPrivilege, SchemaIncomplete
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.fitness import require_fit
from crm_core.postgres.lock_watch import LockWatch
from crm_core.postgres.schema_version import (
    SPREAD,
    Revision,
    applied_routines,
    current_revision,
    expected_routines,
    head_revision,
    revisions,
    routines,
    too_new,
)
from crm_core.postgres.spread import is_spread, spread_routines
from crm_core.postgres.sqlstates import domain_error
from crm_core.resources import SQL, statement

__all__ = ["Part", "current_revision", "head_revision", "migrate", "migrate_on", "plan", "remove_routines"]

WAITING = "-c lock_timeout=3s"  # who waits for a table keeps all out who come after
PAUSE_SECONDS = 1.0  # before it is asked for again

_ROUTINE = re.compile(r"^create or replace (function|view) ([\w.]+)", re.MULTILINE)
_EXTENSION = re.compile(r"^create extension (?:if not exists )?(\w+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """Some statements of a migration."""

    text: str
    name: str | None = None  # of a step, or of a file of routines; None: what keeps the books


def migrate(
    database: Database, revision: str = "head", *, folder: Path = SQL / "ddl", watch: LockWatch | None = None
) -> list[str]:
    """Bring the schema to a revision, up or down, and return the names of the steps that were run, in order.

    `revision` is a number, `head`, `base`, or relative as in `-1` and `+2`. The routines need the last revision: they
    are applied there if they changed, listed as `routines/<name>`, and dropped below it. Concurrent calls take turns.
    While others hold a table, this asks for it again and again, and lets them pass meanwhile. `watch` notes what was
    locked. Raises SchemaTooNew, MissingPrivilege or another DatabaseError; nothing has changed then.
    """
    deadline = time.monotonic() + (database.bounds.work or math.inf)
    while True:
        try:
            with closing(database.connect(options=WAITING)) as connection, connection.transaction():
                return migrate_on(connection, revision, folder=folder, watch=watch)
        except Contended:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS)


def migrate_on(
    connection: Connection, revision: str = "head", *, folder: Path = SQL / "ddl", watch: LockWatch | None = None
) -> list[str]:
    """Do the same in the transaction of a connection."""
    _run(connection, statement("server/lock_schema"))
    parts = plan(connection, revision, folder=folder)
    if watch:
        watch.begin(connection)
    for part in parts:
        begun = time.monotonic()
        _run(connection, part.text)
        if watch:
            watch.look(connection, begun)
    return [part.name for part in parts if part.name]


def remove_routines(connection: Connection) -> None:
    """Drop the functions and views of the routines; `migrate_on` makes them again."""
    for part in _dropped_routines(connection):
        _run(connection, part.text)


def plan(connection: Connection, revision: str = "head", *, folder: Path = SQL / "ddl") -> Sequence[Part]:
    """Return what would bring the schema to a revision, in order; it is to run in one transaction.

    Raises as `migrate` does, if that can be seen before.
    """
    steps = revisions(folder)
    current = current_revision(connection)
    if current and current > steps[-1].number:
        raise too_new(current, steps[-1].number)
    begin, end = int(current or 0), _goal(steps, current, revision)
    if end < begin and is_spread(connection):
        cause = "the tables are distributed over several machines, and their schema only goes up"
        raise DatabaseError(cause, "to go back, restore the backups of the machines")
    if begin < end:
        require_fit(connection, is_new=current is None)
    parts = _steps(connection, steps, begin, end)
    if folder != SQL / "ddl":
        return parts
    if end < len(steps):
        return [*_dropped_routines(connection), *parts]
    return [*parts, *_applied_routines(connection)]


def _goal(steps: Sequence[Revision], current: str | None, target: str) -> int:
    """Return how many of the steps the target has; raise DatabaseError for a target that does not exist."""
    goals = {"base": 0, "head": len(steps)} | {step.number: int(step.number) for step in steps}
    goal = int(current or 0) + int(target) if re.fullmatch(r"[+-]\d{1,4}", target) else goals.get(target, -1)
    if 0 <= goal <= len(steps):
        return goal
    cause = f"the schema cannot go from revision {current} to {target}: there are 0001 to {steps[-1].number}"
    raise DatabaseError(cause, "use head, base, a number such as 0004, or steps such as -1")


def _steps(connection: Connection, steps: Sequence[Revision], begin: int, end: int) -> list[Part]:
    """Return the steps from one revision to another, and what records the other as reached."""
    if begin == end:
        return []
    chosen = steps[begin:end] if begin < end else steps[end:begin][::-1]
    parts = [Part(statement("server/create_alembic_version"))]
    parts += [Part((step.up if begin < end else step.down).read_text(encoding="utf-8"), step.name) for step in chosen]
    parts.append(Part(statement("server/forget_revision")))
    if end:
        parts.append(_with_values(connection, "server/record_revision", {"revision": steps[end - 1].number}))
    return parts


def _applied_routines(connection: Connection) -> list[Part]:
    """Return all files of routines if one of them changed.

    Those of before are dropped first, for a view cannot get other columns; rights to them are kept.
    """
    expected = expected_routines(is_spread=is_spread(connection))
    if applied_routines(connection) == expected:
        return []
    wanted = routines()
    # A body may use names that exist only in some search path.
    books = ("server/create_schema_routine", "server/forget_routines", "server/leave_bodies_unchecked")
    parts = [*_drops(connection), *(Part(statement(name)) for name in books)]
    for each in wanted:
        text = spread_routines(each.text) if is_spread(connection) else each.text
        parts.append(Part(text, f"routines/{each.name}"))
        parts.append(_with_values(connection, "server/record_routines", {"name": each.name, "sha256": each.sha256}))
    if is_spread(connection):
        parts.append(Part(statement("spread/routines"), SPREAD))
        parts.append(_with_values(connection, "server/record_routines", {"name": SPREAD, "sha256": expected[SPREAD]}))
        parts.append(Part(statement("spread/stamp_batches")))  # what it calls was dropped, and the trigger with it
    views = {name for each in wanted for kind, name in _ROUTINE.findall(each.text) if kind == "view"}
    grants = connection.execute(statement("server/grants_of_views")).fetchall()
    return parts + [Part(command) for view, command in grants if view in views]


def _dropped_routines(connection: Connection) -> list[Part]:
    """Return what drops the functions and views of the routines: below the last revision tables may be missing."""
    if not applied_routines(connection):
        return []
    return [*_drops(connection), Part(statement("server/drop_schema_routine"))]


def _drops(connection: Connection) -> list[Part]:
    names = [
        name
        for text in (*(each.text for each in routines()), statement("spread/routines"))
        for _, name in _ROUTINE.findall(text)
        if "." not in name
    ]
    drops = connection.execute(statement("server/drop_routines"), {"names": names}).fetchall()
    return [Part(str(command)) for (command,) in drops]


def _with_values(connection: Connection, name: str, values: Mapping[str, str]) -> Part:
    return Part(ClientCursor(connection).mogrify(statement(name), values))


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
