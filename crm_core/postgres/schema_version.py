"""The schema of this release and of a database: numbered steps in sql/ddl, and routines in sql/routines.

A step is a pair of files that never changes once it is released. The routines (functions and views) are applied again
when their files change; the table `schema_routine` holds the SHA-256 of each file that was applied.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from crm_core.errors import SchemaTooNew, SchemaTooOld
from crm_core.resources import SQL, statement

SPREAD = "spread/routines"


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema, up and down."""

    number: str  # four digits; the next step has the next number
    name: str  # number_what
    up: Path
    down: Path


def revisions(folder: Path = SQL / "ddl") -> tuple[Revision, ...]:
    """Return the steps in a folder in their order.

    Raises FileNotFoundError for a file without its other half, and ValueError for a gap or a duplicate in the numbers.
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
    """Return the number of the last step that this release knows."""
    return revisions(folder)[-1].number


@dataclass(frozen=True, slots=True)
class Routines:
    """One file of functions and views; the files are applied in the order of their names."""

    name: str  # file name without .sql
    file: Path
    sha256: str

    @property
    def text(self) -> str:
        """Return the statements."""
        return self.file.read_text(encoding="utf-8")


def routines(folder: Path = SQL / "routines") -> tuple[Routines, ...]:
    """Return the files of routines of this release, in the order in which they are applied."""
    files = sorted(folder.glob("*.sql"))
    return tuple(Routines(file.stem, file, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files)


def expected_routines(*, is_spread: bool) -> dict[str, str]:
    """Return what `applied_routines` should be: where the tables are distributed, sql/spread is applied too, as one."""
    expected = {each.name: each.sha256 for each in routines()}
    if is_spread:
        files = sorted((SQL / "spread").glob("*.sql"))
        expected[SPREAD] = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return expected


def applied_routines(connection: psycopg.Connection[TupleRow]) -> dict[str, str]:
    """Return the SHA-256 of each file of routines that was applied to the database, by name."""
    if connection.execute(statement("server/has_routines")).fetchone() == (False,):
        return {}
    return dict(connection.execute(statement("server/routines")).fetchall())


def current_revision(connection: psycopg.Connection[TupleRow]) -> str | None:
    """Return the number of the step that the database has reached, or None before the first."""
    if connection.execute(statement("server/has_schema")).fetchone() == (False,):
        return None
    row = connection.execute(statement("server/revision")).fetchone()
    return str(row[0]) if row else None


def require_schema(connection: psycopg.Connection[TupleRow]) -> None:
    """Raise SchemaTooOld or SchemaTooNew unless the database has the schema of this release."""
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
    applied = applied_routines(connection)
    if applied != expected_routines(is_spread=SPREAD in applied):
        cause = "the functions and views in the database belong to another release"
        raise SchemaTooOld(cause, "run `crm migrate`")


def too_new(current: str, head: str) -> SchemaTooNew:
    """Return the error for a database that a later release has migrated."""
    cause = f"a later release made the database: it is at revision {current}, and this release knows up to {head}"
    return SchemaTooNew(cause, "install that release")
