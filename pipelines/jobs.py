"""The jobs: take in drops, make the report, recompute the invariants."""

import dagster as dg

from pipelines.assets import data_quality_report, drop_to_versions, invariants

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
JOBS = (ingest_drop, backfill_drops, data_quality, integrity)
