"""The tables on several machines: distributed by entity_uid over the workers of Citus, or as a whole on all of them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from crm_core.errors import DatabaseUnfit
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.migrations import migrate_on, remove_routines
from crm_core.postgres.schema_version import require_schema
from crm_core.postgres.spread import write_out
from crm_core.resources import statement

WHOLE = ("entity_type", "detail_type", "source", "batch", "retraction", "snapshot", "source_key", "key_link")
BY_ENTITY = ("entity", "entity_detail", "ledger", "repeat", "snapshot_reject", "snapshot_effect")
CURE = (
    "run `create extension citus` in this database on every machine, and on the coordinator citus_set_coordinator_host"
    " and citus_add_node for each worker; docs/operations.md says how"
)


def distribute(database: Database, shards: int) -> Iterator[str]:
    """Distribute the tables of a migrated database in one transaction; yield what is done, a line each.

    What is distributed already stays as it is; the functions and views are made again. Raises DatabaseUnfit if there is
    no Citus or no worker, and SchemaTooOld; then nothing is changed.
    """
    with database.transaction() as connection:
        workers = _workers(connection)
        connection.execute(statement("server/lock_schema"))
        require_schema(connection)
        connection.execute(statement("spread/begin"), {"shards": shards})
        kinds = dict(connection.execute(statement("spread/kinds")).fetchall())
        remove_routines(connection)
        connection.execute(statement("spread/make_room_for_stamps"))
        if "batch" not in kinds:
            connection.execute(statement("spread/stop_stamping"))
        for name in (*WHOLE, *BY_ENTITY):
            if name not in kinds:
                yield _place(connection, name)
        write_out(connection)
        migrate_on(connection)
    yield f"The tables are distributed over {workers} machine(s)."


def gather(connection: Connection) -> None:
    """Give the tables of a distributed database, restored on one server, what those of one server have."""
    if any(name == "batch_to_stamp" for _, name in connection.execute(statement("server/all_tables"))):
        connection.execute(statement("spread/remove_stamps"))
        connection.execute(statement("spread/stamp_on_one_server"))


def _place(connection: Connection, name: str) -> str:
    """Distribute one table, or put it on all machines, and return what was done."""
    is_whole = name in WHOLE
    try:
        connection.execute(statement("spread/replicate" if is_whole else "spread/distribute"), {"name": name})
    except psycopg.errors.FeatureNotSupported as error:
        cause = f"Citus does not take the table {name}: {error.diag.message_primary}"
        raise DatabaseUnfit(cause, "nothing was changed; report this as a fault") from error
    return f"{name}: {'on all machines' if is_whole else 'distributed by entity_uid'}"


def _workers(connection: Connection) -> int:
    """Return how many machines there are for the tables; raise DatabaseUnfit if there is none."""
    if connection.execute(statement("server/has_citus")).fetchone() == (False,):
        cause = "the database has no extension citus"
        raise DatabaseUnfit(cause, CURE)
    row = connection.execute(statement("spread/workers")).fetchone()
    if row is None or not row[0]:
        cause = "there are no other machines to distribute the tables over"
        raise DatabaseUnfit(cause, CURE)
    return int(row[0])
