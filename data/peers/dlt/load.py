"""Load one drop with dlt: Arrow, flat rows, details as JSON text.

The merge strategy is scd2 with a merge_key, so that what a file does not list stays as it is, and the drop's date as
the boundary: the earliest instant in the file.
"""

import os
import sys
from pathlib import Path

import dlt
import pyarrow.compute as pc
from dlt.sources.helpers.transform import add_row_hash_to_table
from pyarrow import csv, string

COLUMNS = ["entity_uid", "display_name", "entity_type", "details"]
SERVER = "postgresql://{PGUSER}:-@localhost:{PGPORT}/{PGDATABASE}?host={PGHOST}"

texts = csv.ConvertOptions(column_types=dict.fromkeys([*COLUMNS, "change_ts"], string()))
drop = csv.read_csv(sys.argv[1], convert_options=texts)
scd2 = {
    "disposition": "merge",
    "strategy": "scd2",
    "row_version_column_name": "row_hash",
    "boundary_timestamp": pc.min(drop["change_ts"]).as_py(),
}
entity = dlt.resource(drop.select(COLUMNS), name="entity", write_disposition=scd2, merge_key="entity_uid")
pipeline = dlt.pipeline(
    "crm",
    pipelines_dir=".dlt",
    dataset_name="crm",
    destination=dlt.destinations.postgres(SERVER.format(**os.environ)),
)
pipeline.run(entity.add_map(add_row_hash_to_table("row_hash")))
if (constraints := Path("constraints.sql")).exists():  # a variant of this peer adds some
    with pipeline.sql_client() as client:
        client.execute_sql(constraints.read_text())
