"""`crm clean`: remove what is kept for a time only."""

from __future__ import annotations

import click

from crm_core.settings import Settings


@click.command(epilog="Example: crm clean")
def clean() -> None:
    """Remove what is not kept any longer.

    These are answers kept for an Idempotency-Key for more than a day, sessions that have ended, and, if
    CRM_KEEP_REJECTS_DAYS is set, what is older than that: the text of rejected rows, whose lines and reasons stay,
    and the bytes of snapshots that were declined. Dagster does this daily.
    """
    from datetime import UTC, datetime

    from crm_core.drops.housekeeping import clean as clean_up
    from crm_core.postgres.connection import open_migrated

    settings = Settings.from_environment()
    with open_migrated(settings) as database, database.connect() as connection:
        removed = clean_up(connection, now=datetime.now(UTC), keep_rejects_days=settings.keep_rejects_days)
    click.echo(
        f"Removed: {removed.answers:,} kept answers, {removed.sessions:,} ended sessions, "
        f"the text of {removed.reject_texts:,} rejected rows, {removed.declined:,} declined files"
    )
