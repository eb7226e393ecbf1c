"""The Dagster project: what there is, and where it comes from."""

import dagster as dg

from pipelines.assets import drop_file, timelines
from pipelines.resources import CrmDatabase, DropFolder

ingest_drop = dg.define_asset_job(
    "ingest_drop",
    selection=[drop_file, timelines],
    description="Take one drop in: its rows become changes in the ledger, and the versions follow.",
)

defs = dg.Definitions(
    assets=[drop_file, timelines],
    jobs=[ingest_drop],
    resources={"crm_database": CrmDatabase(), "drop_folder": DropFolder()},
    executor=dg.in_process_executor,  # a process a step would cost ten times the work of a small drop
)
