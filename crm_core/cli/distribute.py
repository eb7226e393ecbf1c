"""`crm distribute`: the tables on the machines of a Citus cluster."""

from __future__ import annotations

import click

from crm_core.settings import Settings


@click.command(epilog="Example: crm distribute --shards 16")
@click.option(
    "--shards",
    default=16,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Parts of each table; about twice the cores of all workers.",
)
def distribute(shards: int) -> None:
    """Distribute the tables over several machines with Citus.

    The database is the one of the coordinator, migrated and best still empty. Everything happens in one transaction.
    To run it again changes nothing.
    """
    from crm_core.postgres.connection import open_database
    from crm_core.postgres.distribution import distribute as distribute_tables

    with open_database(Settings.from_environment()) as database:
        for line in distribute_tables(database, shards):
            click.echo(line)
