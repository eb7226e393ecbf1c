"""Load one drop with SQLMesh: COPY into a landing table, then run the model, which is SCD_TYPE_2_BY_COLUMN and flat.

SQLMesh versions by execution time and runs a model once an interval, never backwards: a second drop of one day would
silently do nothing. So each drop is executed as of its own date or, if that is past, a day after the last one.
"""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import psycopg2
from sqlmesh import Context
from sqlmesh.core.config import Config, GatewayConfig, ModelDefaultsConfig, PostgresConnectionConfig

with psycopg2.connect("") as connection, connection.cursor() as cursor, Path(sys.argv[1]).open("rb") as drop:
    cursor.execute(
        "create unlogged table if not exists landing"
        " (entity_uid text, display_name text, entity_type text, details text, change_ts text)"
    )
    cursor.execute("truncate landing")
    cursor.copy_expert("copy landing from stdin (format csv, header)", drop)
    cursor.execute("analyze landing")
    cursor.execute("select min(change_ts) from landing")
    ((date,),) = cursor.fetchall()
connection.close()

last = Path("last_execution")
at = datetime.fromisoformat(date)
if is_known := last.exists():
    at = max(at, datetime.fromisoformat(last.read_text()) + timedelta(days=1))
server = PostgresConnectionConfig(
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    user=os.environ["PGUSER"],
    password="",
    database=os.environ["PGDATABASE"],
)
config = Config(
    gateways={"": GatewayConfig(connection=server)},
    model_defaults=ModelDefaultsConfig(dialect="postgres"),
    disable_anonymized_analytics=True,
)
context = Context(paths=".", config=config)
if is_known:
    done = context.run(execution_time=at).is_success
else:
    context.plan(execution_time=at, auto_apply=True, no_prompts=True)
    done = True
last.write_text(at.isoformat())
sys.exit(not done)
