"""The tables on several machines: distributed by entity_uid over the workers of Citus, or on all of them as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from crm_core.errors import DatabaseUnfit
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.migrations import migrate_on, remove_routines
from crm_core.postgres.schema_version import require_schema
from crm_core.postgres.spread import is_spread, write_out
from crm_core.resources import statement

WHOLE = ("entity_type", "detail_type", "source", "batch", "retraction", "snapshot", "source_key", "key_link")
BY_ENTITY = ("entity", "entity_detail", "ledger", "repeat", "snapshot_reject", "snapshot_effect")


def distribute(database: Database, shards: int) -> Iterator[str]:
    """Distribute the tables of a migrated database in one transaction; yield what is done, a line each.

    What is distributed already stays as it is. Raises DatabaseUnfit if there is no Citus or no worker, and then nothing
    is changed.
    """
    with database.transaction() as connection:
        workers = _workers(connection)
        connection.execute(statement("server/lock_schema"))
        require_schema(connection)
        if is_spread(connection):
            yield f"The tables are distributed over {workers} machine(s) already."
            return
        connection.execute(statement("spread/begin"), {"shards": shards})
        remove_routines(connection)
        connection.execute(statement("spread/prepare_batches"))
        try:
            for name in WHOLE:
                connection.execute(statement("spread/replicate"), {"name": name})
                yield f"{name}: on all machines"
            for name in BY_ENTITY:
                connection.execute(statement("spread/distribute"), {"name": name})
                yield f"{name}: distributed by entity_uid"
        except psycopg.errors.FeatureNotSupported as error:
            cause = f"Citus does not take the tables: {error.diag.message_primary}"
            raise DatabaseUnfit(cause, "nothing was changed; report this as a fault") from error
        write_out(connection)
        migrate_on(connection)
        connection.execute(statement("spread/stamp_batches"))
        yield f"The tables are distributed over {workers} machine(s)."


def _workers(connection: Connection) -> int:
    cure = (
        "run `create extension citus` in this database on every machine, and on the coordinator"
        " citus_set_coordinator_host(…) and citus_add_node(…) for each worker; docs/operations.md tells more"
    )
    if connection.execute(statement("server/has_citus")).fetchone() == (False,):
        raise DatabaseUnfit("the database has no extension citus", cure)
    row = connection.execute(statement("spread/workers")).fetchone()
    if row is None or not row[0]:
        raise DatabaseUnfit("this database has no other machines to distribute the tables over", cure)
    return int(row[0])
