"""What the assets need from outside: the database, the folder of drops and the home, all named by the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from crm_core.database import Connection, domain_error, open_database, require_schema
from crm_core.errors import CrmError, DatabaseError, EmbeddedServerFailed
from crm_core.settings import Settings
from pipelines.partitions import drop_key


class CrmDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database of CRM_DATABASE_URL or POSTGRES_*, else the embedded one."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection in autocommit to a database of this release's schema.

        What goes wrong ends the step with one line; the step tries again if it can pass by itself, as a restart of the
        server or a lock does.
        """
        try:
            with (
                open_database(Settings.from_environment()) as database,
                database.connect(autocommit=True) as connection,
            ):
                require_schema(connection)
                yield connection
        except Exception as error:
            ours = error if isinstance(error, CrmError) else domain_error(error)
            if ours is None:
                raise
            if not (isinstance(ours, DatabaseError) and ours.passes) and not isinstance(ours, EmbeddedServerFailed):
                raise dg.Failure(str(ours), allow_retries=False) from error
            # No retry policy on the assets does this: it would take a run that is terminated for one to try again.
            dg.get_dagster_logger().warning(str(ours))
            raise dg.RetryRequested(max_retries=3, seconds_to_wait=10) from error


@dataclass(frozen=True, slots=True)
class DropFile:
    """A file of the drop folder."""

    name: str
    key: str  # of its partition
    run_key: str  # what its content is told by without reading it: another size or time means another run


class DropFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder that drops arrive in: CRM_DROP_DIR, unless another is configured."""

    folder: str | None = None

    def path(self) -> Path:
        """Answer where the folder is."""
        return Path(self.folder) if self.folder else Settings.from_environment().drop_dir

    def files(self) -> list[DropFile]:
        """List the CSV files of the folder in order of their names; hidden ones are still to be renamed.

        Raises FileNotFoundError or NotADirectoryError if there is no such folder.
        """
        with os.scandir(self.path()) as entries:
            return sorted(filter(None, map(_drop_file, entries)), key=lambda file: file.name)

    def find(self, key: str) -> Path | None:
        """Answer the file whose partition key it is."""
        folder = self.path()
        if drop_key(key) == key and (folder / key).is_file():  # a name like others, and no way out of the folder
            return folder / key
        try:
            return next((folder / file.name for file in self.files() if file.key == key), None)
        except (FileNotFoundError, NotADirectoryError):
            return None


def _drop_file(entry: os.DirEntry[str]) -> DropFile | None:
    if entry.name.startswith(".") or not entry.name.lower().endswith(".csv"):
        return None
    try:
        if not entry.is_file():
            return None
        found = entry.stat()
    except FileNotFoundError:  # gone again meanwhile
        return None
    key = drop_key(entry.name)
    return DropFile(entry.name, key, f"{key} {found.st_size} {found.st_mtime_ns}")
