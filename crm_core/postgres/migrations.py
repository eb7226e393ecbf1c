"""Migrations in one transaction: Alembic runs the numbered files of sql/ddl, then changed routines are applied.

A new step is a pair of files and needs no Python. Alembic identifies it by its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType

import psycopg
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script
from alembic.script.revision import RevisionError, RevisionMap
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

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

__all__ = ["current_revision", "head_revision", "migrate"]

BASE = "0000"  # sorts before the first number
_ROUTINE = re.compile(r"^create or replace (function|view) ([\w.]+)", re.MULTILINE)
_EXTENSION = re.compile(r"^create extension (?:if not exists )?(\w+)", re.IGNORECASE | re.MULTILINE)


def migrate(database: Database, revision: str = "head", *, folder: Path = SQL / "ddl") -> list[str]:
    """Bring the schema to a revision, up or down, and return the names of the steps that were run, in order.

    `revision` is a number, `head`, `base`, or relative as in `-1` and `+2`. The routines need the last revision: they
    are applied there if they changed, listed as `routines/<name>`, and dropped below it. Concurrent calls take turns.
    Raises SchemaTooNew, MissingPrivilege or another DatabaseError; nothing has changed then.
    """
    steps = revisions(folder)
    with closing(database.connect()) as connection:
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool, pool_reset_on_return=None
        )
        interrupts: list[KeyboardInterrupt] = []
        try:
            with engine.begin() as alchemy, _noted(interrupts):
                connection.execute(statement("server/lock_schema"))
                current = current_revision(connection)
                if current and current > steps[-1].number:
                    raise too_new(current, steps[-1].number)
                way = _way(steps, connection, current, revision)
                if way and way[0].is_upgrade:
                    require_fit(connection, is_new=current is None)
                reached = way[-1].to_revisions[0] if way and way[-1].to_revisions else None if way else current
                has_routines = folder == SQL / "ddl"
                if has_routines and reached != steps[-1].number:
                    _drop_routines(connection)
                context = MigrationContext.configure(alchemy, opts={"fn": lambda _heads, _context: way})
                context.run_migrations()
                applied = _apply_routines(connection) if has_routines and reached == steps[-1].number else []
        except DBAPIError as error:  # Alembic's own table
            if interrupts:  # in the middle of a command this connection cannot roll back, so it is closed
                raise interrupts[0] from None
            if isinstance(error.orig, psycopg.Error):
                raise _refusal(error.orig, "") from error
            raise
    names = {step.number: step.name for step in steps}
    return [names[str(step.revision.revision)] for step in way] + applied


@contextmanager
def _noted(interrupts: list[KeyboardInterrupt]) -> Iterator[None]:
    """Record an interrupt during the block, and let the block go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupts.append(interrupt)
        raise


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
        _run(connection, each.file)
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


def _way(steps: Iterable[Revision], connection: Connection, current: str | None, target: str) -> list[RevisionStep]:
    """Return Alembic's steps from the current revision to the target."""
    known = RevisionMap(lambda: _scripts(steps, connection))
    down = target == "base" or target.startswith("-") or (target.isdigit() and target < (current or BASE))
    try:
        if down:
            found = list(known.iterate_revisions(current or (), target, select_for_downgrade=True))
        else:
            found = list(known.iterate_revisions(target, current or (), implicit_base=True))[::-1]
    except RevisionError as error:
        cause = f"the schema cannot go from revision {current} to {target}: {error}"
        raise DatabaseError(cause, "use head, base, a number such as 0004, or steps such as -1") from None
    return [RevisionStep(known, script, is_upgrade=not down) for script in found if isinstance(script, Script)]


def _scripts(steps: Iterable[Revision], connection: Connection) -> list[Script]:
    """Return the files in the form that Alembic expects: each looks like a Python module that runs one of them."""
    scripts: list[Script] = []
    for step in steps:
        module = ModuleType(step.name, step.name)
        vars(module).update(
            down_revision=scripts[-1].revision if scripts else None,
            upgrade=lambda file=step.up: _run(connection, file),
            downgrade=lambda file=step.down: _run(connection, file),
        )
        scripts.append(Script(module, step.number, step.up))
    return scripts


def _run(connection: Connection, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
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
