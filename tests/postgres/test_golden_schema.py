"""The tables, constraints and indexes are those of tests/golden/schema.sql, which a reviewer reads as one page.

So are all objects those of sql/objects.txt, which show that a restore was only partial. After a change of sql/ddl or
sql/routines: `CRM_TEST_WRITE_GOLDEN=1 uv run pytest tests/postgres/test_golden_schema.py`, then review.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from servers import Server

from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import bundled_binaries
from crm_core.postgres.fitness import OBJECTS, expected_objects, present_objects

pytestmark = [pytest.mark.integration, pytest.mark.constraints]

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.sql"
NOISE = re.compile(r"--.*|\\(un)?restrict .*|SET .*|SELECT pg_catalog\.set_config.*")
WAY_OF_ALEMBIC = "alembic_version"


def tables_of(server: Server, database: Database) -> str:
    """Return the tables with their constraints and indexes, as pg_dump writes them, without what differs by server."""
    command = [str(server.binaries / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges"]
    named = ["--table", "public.*", "--exclude-table", "recorded_change", "--exclude-table", WAY_OF_ALEMBIC]
    said = subprocess.run(
        [*command, *named, "--dbname", database.conninfo], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in said.splitlines() if line.strip() and not NOISE.fullmatch(line)]
    return "\n".join(lines).replace("public.", "").replace(";\n", ";\n\n") + "\n"


def test_the_tables_are_those_of_the_golden_schema(server: Server, fresh_database: Database) -> None:
    if server.binaries != bundled_binaries():
        pytest.skip(
            "the golden schema is that of the bundled server, and another one stands for it with CRM_TEST_LOCALE"
        )
    found = tables_of(server, fresh_database)
    if os.environ.get("CRM_TEST_WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_the_objects_are_those_that_a_database_is_looked_at_for(any_connection: Connection) -> None:
    found = present_objects(any_connection)
    if os.environ.get("CRM_TEST_WRITE_GOLDEN"):
        OBJECTS.write_text("\n".join(found) + "\n")
    assert found == list(expected_objects())


def test_no_index_has_an_order_that_changes_with_the_operating_system(any_connection: Connection) -> None:
    query = (
        "select indexrelid::regclass::text, collname from pg_index"
        " cross join unnest(indcollation::oid[]) as k (coll) join pg_collation c on c.oid = k.coll"
        " where indrelid in (select oid from pg_class where relnamespace = current_schema()::regnamespace)"
    )
    found = any_connection.execute(query).fetchall()
    assert {collation for _, collation in found} == {"C"}, found
    assert len(found) > 5


def test_the_constraints_of_the_versions_are_readable_in_the_schema() -> None:
    golden = " ".join(GOLDEN.read_text().split())
    for wanted in (
        "EXCLUDE USING gist (entity_uid WITH =, tstzrange(valid_from, COALESCE(valid_to,"
        " 'infinity'::timestamp with time zone), '[)'::text) WITH &&)",
        "EXCLUDE USING gist (entity_uid WITH =, detail_type_id WITH =, tstzrange(valid_from, COALESCE(valid_to,"
        " 'infinity'::timestamp with time zone), '[)'::text) WITH &&)",
        "CREATE UNIQUE INDEX unique_current_entity ON entity USING btree (entity_uid)",
        "CREATE UNIQUE INDEX unique_current_entity_detail ON entity_detail USING btree (entity_uid, detail_type_id)",
    ):
        assert wanted in golden
