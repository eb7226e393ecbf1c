"""The schema's way up and down: Alembic runs the numbered files of sql/ddl, all of them in one transaction.

A new step is a pair of files; it needs no Python. Alembic knows it by its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import psycopg
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script
from alembic.script.revision import RevisionError, RevisionMap
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from crm_core.database import Connection, Database
from crm_core.errors import DatabaseError, MissingPrivilege
from crm_core.resources import SQL, statement
from crm_core.revisions import Revision, current_revision, head_revision, revisions, too_new

__all__ = ["current_revision", "head_revision", "migrate"]

BASE = "0000"  # sorts before the first number
_EXTENSION = re.compile(r"^create extension (?:if not exists )?(\w+)", re.IGNORECASE | re.MULTILINE)


def migrate(database: Database, revision: str = "head", *, folder: Path = SQL / "ddl") -> list[str]:
    """Bring the schema to a revision, up or down, and answer the names of the steps that were run, in order.

    `revision` is a number, `head`, `base`, or relative as in `-1` and `+2`. Two at once take turns.
    Raises SchemaTooNew, MissingPrivilege, or DatabaseError; nothing has changed then.
    """
    steps = revisions(folder)
    with closing(database.connect()) as connection:
        engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)
        try:
            with engine.begin() as alchemy:
                connection.execute(statement("server/lock_schema"))
                current = current_revision(connection)
                if current and current > steps[-1].number:
                    raise too_new(current, steps[-1].number)
                way = _way(steps, connection, current, revision)
                context = MigrationContext.configure(alchemy, opts={"fn": lambda _heads, _context: way})
                context.run_migrations()
                if current_revision(connection) == head_revision():
                    _apply_routines(connection)
        except DBAPIError as error:  # Alembic's own table
            if isinstance(error.orig, psycopg.Error):
                raise _refusal(error.orig, "") from error
            raise
    names = {step.number: step.name for step in steps}
    return [names[str(step.revision.revision)] for step in way]


def _way(steps: Iterable[Revision], connection: Connection, current: str | None, target: str) -> list[RevisionStep]:
    """Answer Alembic's steps from the current revision to the target."""
    known = RevisionMap(lambda: _scripts(steps, connection))
    down = target == "base" or target.startswith("-") or (target.isdigit() and target < (current or BASE))
    try:
        if down:
            found = list(known.iterate_revisions(current or (), target, select_for_downgrade=True))
        else:
            found = list(known.iterate_revisions(target, current or (), implicit_base=True))[::-1]
    except RevisionError as error:
        cause = f"the schema cannot go from revision {current} to {target}: {error}"
        raise DatabaseError(cause, "name head, base, a number of sql/ddl, or steps such as -1") from None
    return [RevisionStep(known, script, is_upgrade=not down) for script in found if isinstance(script, Script)]


def _scripts(steps: Iterable[Revision], connection: Connection) -> list[Script]:
    """Answer Alembic's view of the files: what it takes for a Python module runs one of them."""
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


def _apply_routines(connection: Connection) -> None:
    """Make the functions of sql/routines anew, file by file in order of their names."""
    for file in sorted((SQL / "routines").glob("*.sql")):
        _run(connection, file)


def _run(connection: Connection, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    try:
        connection.execute(text)
    except psycopg.Error as error:
        raise _refusal(error, text) from error


def _refusal(error: psycopg.Error, text: str) -> DatabaseError:
    """Answer the domain error for a step that the server refused."""
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
    return DatabaseError(f"a step of the schema failed: {error}", "nothing was changed; report this as a fault")
