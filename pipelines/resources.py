"""What the assets need from outside: the database and the folder of drops, both named by the environment."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from crm_core.database import Database, open_database, require_schema
from crm_core.settings import Settings

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")


class CrmDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database of CRM_DATABASE_URL or POSTGRES_*, else the embedded one."""

    @contextmanager
    def open(self) -> Iterator[Database]:
        """Open the database; raises SchemaTooOld or SchemaTooNew if it has another schema than this release."""
        with open_database(Settings.from_environment()) as database:
            with database.connect() as connection:
                require_schema(connection)
            yield database


class DropFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder that drops arrive in: CRM_DROP_DIR, unless another is configured."""

    folder: str | None = None

    def path(self) -> Path:
        """Answer where the folder is."""
        return Path(self.folder) if self.folder else Settings.from_environment().drop_dir

    def drops(self) -> dict[str, Path]:
        """List the CSV files of the folder by partition key, in order of their names."""
        return {drop_key(path.name): path for path in sorted(self.path().glob("*.csv"))}


def drop_key(file_name: str) -> str:
    """Answer the partition key of a drop: its name, and a hash of it where the name has what a key may not have.

    A comma, for one, would make it impossible to backfill the partition.
    """
    plain = _NOT_PLAIN.sub("_", file_name)
    return plain if plain == file_name else f"{plain}_{hashlib.sha256(os.fsencode(file_name)).hexdigest()[:8]}"
