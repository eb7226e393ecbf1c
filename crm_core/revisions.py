"""The steps of the schema: numbered pairs of files in sql/ddl, and the one that a database has reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from crm_core.errors import SchemaTooNew, SchemaTooOld
from crm_core.resources import SQL, statement


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema, there and back."""

    number: str  # four digits; the next step has the next number
    name: str  # number_what
    up: Path
    down: Path


def revisions(folder: Path = SQL / "ddl") -> tuple[Revision, ...]:
    """Answer the steps of a folder in their order.

    Raises FileNotFoundError for a file without its other half, ValueError for a gap or a twin in the numbers.
    """
    steps = []
    for up in sorted(folder.glob("*.up.sql")):
        name = up.name.removesuffix(".up.sql")
        steps.append(Revision(name[:4], name, up, up.with_name(f"{name}.down.sql")))
    unpaired = {step.down for step in steps} ^ set(folder.glob("*.down.sql"))
    if unpaired:
        message = f"these have no other half, or are missing: {', '.join(sorted(map(str, unpaired)))}"
        raise FileNotFoundError(message)
    expected = [f"{number:04}" for number in range(1, len(steps) + 1)]
    if [step.number for step in steps] != expected or not all(re.match(r"\d{4}_\w", step.name) for step in steps):
        message = f"{folder} should hold {', '.join(expected)} and holds {', '.join(step.name for step in steps)}"
        raise ValueError(message)
    return tuple(steps)


def head_revision(folder: Path = SQL / "ddl") -> str:
    """Answer the number of the last step that this release knows."""
    return revisions(folder)[-1].number


def current_revision(connection: psycopg.Connection[TupleRow]) -> str | None:
    """Answer the number of the step that the database has reached, or None before the first."""
    if connection.execute(statement("server/has_schema")).fetchone() == (False,):
        return None
    row = connection.execute(statement("server/revision")).fetchone()
    return str(row[0]) if row else None


def require_schema(connection: psycopg.Connection[TupleRow]) -> None:
    """Raise SchemaTooOld or SchemaTooNew unless the database is at the last step that this release knows."""
    current, head = current_revision(connection), head_revision()
    if current is None or current < head:
        cause = (
            f"the database is at revision {current}, and this release needs {head}"
            if current
            else "the database has no schema"
        )
        raise SchemaTooOld(cause, "run `crm migrate`")
    if current > head:
        raise too_new(current, head)


def too_new(current: str, head: str) -> SchemaTooNew:
    """Answer the error for a database that a later release has migrated."""
    cause = f"a later release made the database: it is at revision {current}, and this release knows up to {head}"
    return SchemaTooNew(cause, "install that release")
