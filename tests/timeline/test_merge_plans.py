"""A merge does not depend on statistics: its steps find versions by primary key, though the planner knows nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import polars as pl
import pytest
from builders import reference_data

from crm_core.postgres.connection import Connection, Database
from crm_core.resources import statement
from crm_core.timeline.merge import CHANGE_SCHEMA, DETAIL_SCHEMA, encoded, stage, staging

pytestmark = [pytest.mark.integration, pytest.mark.scd2]

MANY = 20_000  # entities with two details, of which the statistics say nothing
SCAN = re.compile(
    r"Seq Scan on (entity|entity_detail|ledger)\b|using ledger_by_"
)  # or an index that leads to more than one entity
READING = ("30_classify", "50_splice_entities", "51_splice_details", "60_reopen_changes")
WRITING = ("70_delete_entities", "71_end_entities", "73_delete_details", "74_end_details")


@pytest.fixture(scope="module")
def filled(any_database: Database) -> Iterator[Connection]:
    """A database that was analyzed when it held next to nothing, and has grown much since; none of it is committed."""
    with any_database.connect() as connection:
        reference_data(connection)
        fill(connection, 1, 3)
        connection.execute("analyze")
        fill(connection, 10, MANY)
        yield connection
        connection.rollback()


@pytest.fixture
def grown(filled: Connection) -> Iterator[Connection]:
    """The database that has grown; what a test does to it is undone after it."""
    with filled.transaction(force_rollback=True):
        yield filled


def fill(connection: Connection, first: int, last: int) -> None:
    """Write entities with two details each, and what the ledger holds of them."""
    numbers = {"first": first, "last": last}
    connection.execute(
        "insert into ledger select md5(n::text)::uuid, '2024-01-01', 1, n, 'upsert', 'n ' || n, t.id, null"
        " from generate_series(%(first)s::int, %(last)s::int) n, (select min(entity_type_id) as id from entity_type) t",
        numbers,
    )
    connection.execute(
        "insert into entity"
        " select md5(n::text)::uuid, 'n ' || n, t.id, sha256(n::text::bytea), '2024-01-01', null, true"
        " from generate_series(%(first)s::int, %(last)s::int) n, (select min(entity_type_id) as id from entity_type) t",
        numbers,
    )
    connection.execute(
        "insert into entity_detail"
        " select md5(n::text)::uuid, t.id, 'v ' || n, sha256(n::text::bytea), '2024-01-01', null, true"
        " from generate_series(%(first)s::int, %(last)s::int) n,"
        " (select detail_type_id as id from detail_type order by id limit 2) t",
        numbers,
    )


def stage_changes(connection: Connection, number: int) -> None:
    """Stage a change with a detail of each of some entities that are known."""
    uids = connection.execute(
        "select entity_uid::text from entity order by entity_uid limit %(number)s", {"number": number}
    )
    rows = [uid for (uid,) in uids]
    changes = pl.DataFrame({"line": range(number), "entity_uid": rows}).with_columns(
        pl.lit("2024-02-01").str.to_datetime(time_unit="us", time_zone="UTC").alias("change_ts"),
        pl.lit("upsert").alias("op"),
        pl.lit("Changed").alias("display_name"),
        pl.lit(1).cast(pl.Int16).alias("entity_type_id"),
        pl.lit("ab" * 32).alias("hashdiff"),
        *(pl.lit(None).alias(name) for name in ("source_id", "source_key", "key_uid")),
    )
    details = pl.DataFrame({"line": range(number)}).with_columns(
        pl.lit("email").alias("detail_type"), pl.lit("x").alias("detail_value"), pl.lit("cd" * 32).alias("hashdiff")
    )
    stage(connection, encoded(_typed(changes, CHANGE_SCHEMA), _typed(details, DETAIL_SCHEMA)))


def _typed(frame: pl.DataFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    return frame.with_columns(pl.col(name).cast(dtype) for name, dtype in schema.items())


def plan(connection: Connection, step: str) -> str:
    text = statement(f"merge/{step}")
    for name, value in {"drops_repeats": "true", "recorded_at": "now()", "batch_id": "9"}.items():
        text = text.replace(f"%({name})s", value)
    return "\n".join(line for (line,) in connection.execute(f"explain {text}".encode()))


@pytest.mark.parametrize("number", [100, 2_000])
def test_no_step_of_a_merge_scans_the_versions_for_each_of_its_rows(grown: Connection, number: int) -> None:
    with staging(grown):
        stage_changes(grown, number)
        for step in READING:
            if step == "50_splice_entities":
                grown.execute(statement("merge/30_classify"), {"drops_repeats": True, "batch_id": 9})
            said = plan(grown, step)
            inner = said.partition("Nested Loop")[2]
            assert not SCAN.search(inner), said
            assert "Memoize" not in said, said
        grown.execute(statement("merge/50_splice_entities"))
        grown.execute(statement("merge/51_splice_details"))
        for step in WRITING:
            said = plan(grown, step)
            assert not SCAN.search(said.partition("Nested Loop")[2]), said


def test_a_later_partial_change_is_found_by_its_entity_though_the_planner_knows_of_none(grown: Connection) -> None:
    grown.execute("analyze ledger")
    grown.execute(
        "insert into ledger select entity_uid, '2024-01-02', 2, row_no, 'patch', 'p' from ledger where row_no % 10 = 0"
    )
    with staging(grown):
        stage_changes(grown, 2_000)
        said = plan(grown, "30_classify")
        assert "using ledger_patches" in said, said
        assert not SCAN.search(said.partition("Nested Loop")[2]), said
