"""Load one drop with dlt: rows of Python, so that dlt makes a table of the details, a row each, as dbt is made to.

The merge strategy is scd2 with a merge_key, so that what a file does not list stays as it is, and the drop's date as
the boundary: the earliest instant in the file.
"""

import csv
import json
import os
import sys
from itertools import islice
from pathlib import Path

import dlt

SERVER = "postgresql://{PGUSER}:-@localhost:{PGPORT}/{PGDATABASE}?host={PGHOST}"


ROWS = 5_000  # at once


def read_drop():
    """Yield the rows of the drop."""
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as drop:
        yield from csv.DictReader(drop)


def batches():
    """Yield the rows in lists, the details of each as a list too."""
    rows = read_drop()
    while batch := list(islice(rows, ROWS)):
        for row in batch:
            del row["change_ts"]
            row["details"] = json.loads(row["details"] or "[]")
        yield batch


boundary = min(row["change_ts"] for row in read_drop())
scd2 = {"disposition": "merge", "strategy": "scd2", "boundary_timestamp": boundary}
entity = dlt.resource(batches, name="entity", write_disposition=scd2, merge_key="entity_uid")
pipeline = dlt.pipeline(
    "crm",
    pipelines_dir=".dlt",
    dataset_name="crm",
    destination=dlt.destinations.postgres(SERVER.format(**os.environ)),
)
pipeline.drop_pending_packages()  # of a drop that failed: it would fail again, and keep this one out
pipeline.run(entity)
