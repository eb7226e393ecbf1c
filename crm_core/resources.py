"""The files that ship with the code: the SQL statements and the sample data."""

from __future__ import annotations

import functools
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_shipped"  # in a wheel; a checkout has the folders beside the package
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent

SQL = _ROOT / "sql"
DATA = _ROOT / "data"


@functools.cache
def statement(name: str) -> str:
    """Return the statement in `sql/<name>.sql` without the comments above it.

    They may contain a `%`, which psycopg would take for a placeholder. Raises FileNotFoundError for an unknown name.
    """
    file = SQL / f"{name}.sql"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.sql"))) or "nothing"
        message = f"no statement {name!r}: {file.parent} holds {known}"
        raise FileNotFoundError(message)
    lines = file.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("--"):
        del lines[0]
    return "\n".join(lines).strip()


def description(name: str) -> str:
    """Return the first comment line of `sql/<name>.sql`: one sentence that says what the statement does."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8").partition("\n")[0].removeprefix("-- ")
