"""The database and the home as Dagster resources, taken from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from crm_core.errors import CrmError, DatabaseError, EmbeddedServerFailed
from crm_core.postgres.connection import Connection, open_database
from crm_core.postgres.schema_version import require_schema
from crm_core.postgres.sqlstates import domain_error
from crm_core.settings import Settings

RETRIES, RETRY_SECONDS = 3, 10


class CrmDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database of CRM_DATABASE_URL or POSTGRES_*, else the embedded one."""

    @contextmanager
    def connect(self, attempt: int) -> Iterator[Connection]:
        """Open a connection in autocommit to a database with this release's schema, for a step.

        An error ends the step with one line. After its first attempts, which `attempt` counts from 0, the step is
        retried if the error can pass by itself, as a restart of the server or a lock does.
        """
        try:
            with self.ask() as connection:
                yield connection
        except CrmError as error:
            passes = isinstance(error, EmbeddedServerFailed) or (isinstance(error, DatabaseError) and error.passes)
            if not passes or attempt >= RETRIES:
                raise dg.Failure(one_line(error), allow_retries=False) from error
            # Not a retry policy on the assets: it would also retry a run that somebody terminated.
            dg.get_dagster_logger().warning(one_line(error))
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error

    @contextmanager
    def ask(self) -> Iterator[Connection]:
        """Open the same connection; an error of the database is raised as a CrmError."""
        try:
            with (
                open_database(Settings.from_environment()) as database,
                database.connect(autocommit=True) as connection,
            ):
                require_schema(connection)
                yield connection
        except CrmError:
            raise
        except Exception as error:
            if (ours := domain_error(error)) is None:
                raise
            raise ours from error


def one_line(error: CrmError) -> str:
    """Return an error as one line; PostgreSQL's client writes several."""
    return " ".join(str(error).split())
