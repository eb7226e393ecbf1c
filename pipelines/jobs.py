"""The jobs: take in drops, make the report, recompute the invariants, remove what is not kept any longer."""

# No `from __future__ import annotations`: Dagster needs the annotations of an op's arguments as types, not as text.

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from crm_core.drops.housekeeping import clean
from crm_core.settings import Settings
from pipelines.assets import data_quality_report, drop_to_versions, invariants
from pipelines.resources import CrmDatabase

ingest_drop = dg.define_asset_job(
    "ingest_drop",
    selection=[drop_to_versions],
    description="Take one drop in: record its rows as changes in the ledger, and bring the versions up to date.",
)
backfill_drops = dg.define_asset_job(
    "backfill_drops",
    selection=[drop_to_versions],
    description="Take a range of drops in again, in one run; what is already known changes nothing. "
    "A refused drop does not stop the others; the run fails at its end and names it.",
    run_tags={"dagster/priority": "-1"},  # behind drops that have just arrived
)
data_quality = dg.define_asset_job(
    "data_quality",
    selection=[data_quality_report],
    description="Make the data-quality report.",
)
integrity = dg.define_asset_job(
    "integrity",
    selection=[invariants],
    description="Recompute every invariant over all data, as `crm check` does.",
)


@dg.op(description="Remove kept answers older than a day, ended sessions, and texts of rejected rows that are too old.")
def clean_up(context: dg.OpExecutionContext, crm_database: CrmDatabase) -> None:
    """Remove what is not kept any longer, as `crm clean` does."""
    with crm_database.connect(context.retry_number) as connection:
        days = Settings.from_environment().keep_rejects_days
        removed = clean(connection, now=datetime.now(UTC), keep_rejects_days=days)
    context.log.info(str(removed))
    context.add_output_metadata(asdict(removed))


@dg.job(description="Remove what is kept for a time only: CRM_KEEP_REJECTS_DAYS.")
def housekeeping() -> None:
    """Do what `crm clean` does."""
    clean_up()


JOBS = (ingest_drop, backfill_drops, data_quality, integrity, housekeeping)
