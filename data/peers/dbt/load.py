"""Load one drop with dbt: COPY into a landing table, then one snapshot of the entities and one of their details.

The strategy is check, with the row's own change_ts as updated_at; what a file does not list stays as it is.
"""

import sys
from pathlib import Path

import psycopg2
from dbt.cli.main import dbtRunner

with psycopg2.connect("") as connection, connection.cursor() as cursor, Path(sys.argv[1]).open("rb") as drop:
    cursor.execute("drop table if exists landing")
    cursor.execute(
        "create unlogged table landing"
        " (entity_uid text, display_name text, entity_type text, details text, change_ts text)"
    )
    cursor.copy_expert("copy landing from stdin (format csv, header)", drop)
    cursor.execute("analyze landing")
connection.close()
sys.exit(not dbtRunner().invoke(["--no-use-colors", "--no-send-anonymous-usage-stats", "snapshot"]).success)
