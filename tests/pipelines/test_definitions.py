"""What the project declares: assets, columns, schedules, partition keys, and where Dagster finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from project import a_database
from servers import Server

from crm_core.postgres.connection import Database
from pipelines import table_schemas
from pipelines.assets import DROP_ASSETS
from pipelines.definitions import defs
from pipelines.partitions import drop_key

pytestmark = pytest.mark.integration
OF_DROPS = ["drop_file", "staged_changes", "rejected_rows", "entity_versions", "detail_versions"]
OF_ALL = ["invariants", "data_quality_report"]


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A database with all fixtures loaded."""
    with a_database(server) as database:
        yield database


@pytest.mark.unit
def test_a_partition_key_is_the_name_where_it_can_be() -> None:
    assert drop_key("2020-01-01_initial.csv") == "2020-01-01_initial.csv"
    awkward = ["März, neu.csv", "Maerz, neu.csv", "a b.csv", "a,b.csv", "a_b.csv", "..."]
    keys = [drop_key(name) for name in awkward]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", key) for key in keys)
    assert len(set(keys)) == len(awkward)


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        ("ledger", table_schemas.LEDGER),
        ("reject", table_schemas.REJECT),
        ("entity", table_schemas.ENTITY),
        ("entity_detail", table_schemas.ENTITY_DETAIL),
    ],
)
def test_the_columns_that_the_ui_shows_are_those_of_the_table(
    database: Database, table: str, schema: dg.TableSchema
) -> None:
    with database.connect() as connection:
        found = connection.execute(
            "select attname, case atttypid when 'timestamptz'::regtype then 'timestamptz'"
            " else format_type(atttypid, null) end, attnotnull"
            " from pg_attribute where attrelid = %s::regclass and attnum > 0 order by attnum",
            (table,),
        ).fetchall()
    shown = [(column.name, column.type, not column.constraints.nullable) for column in schema.columns]
    assert shown == found
    assert all(column.description for column in schema.columns)


@pytest.mark.unit
def test_every_asset_says_what_it_is_and_where_and_hands_over_nothing_but_order() -> None:
    graph = defs().resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert set(nodes) == {*OF_DROPS, *OF_ALL}
    for name, node in nodes.items():
        assert node.description, name
        assert node.kinds, name
        assert node.owners, name
        assert node.group_name != "default", name
        assert bool(node.partitions_def) is (name in OF_DROPS), name
        assert all(graph.get(check).description for check in node.check_keys)
    parents = {name: {parent.to_user_string() for parent in node.parent_keys} for name, node in nodes.items()}
    assert parents["staged_changes"] == parents["rejected_rows"] == {"drop_file"}
    assert parents["entity_versions"] == parents["detail_versions"] == {"staged_changes"}
    assert parents["data_quality_report"] == {"rejected_rows", "entity_versions", "detail_versions", "invariants"}


@pytest.mark.unit
def test_no_step_is_a_process_and_no_value_goes_through_a_file() -> None:
    assert defs().executor is dg.in_process_executor
    for job in ("ingest_drop", "backfill_drops", "data_quality", "integrity"):
        nodes = defs().resolve_job_def(job).nodes
        assert len(nodes) == 1


@pytest.mark.unit
def test_housekeeping_invariants_and_report_are_daily_in_the_time_zone_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRM_TIME_ZONE", "Europe/Berlin")
    schedules = defs().get_repository_def().schedule_defs
    assert {(schedule.job_name, schedule.cron_schedule) for schedule in schedules} == {
        ("housekeeping", "30 4 * * *"),
        ("integrity", "0 5 * * *"),
        ("data_quality", "0 6 * * *"),
    }
    assert all(ZoneInfo(schedule.execution_timezone or "") == ZoneInfo("Europe/Berlin") for schedule in schedules)


@pytest.mark.unit
def test_the_workspace_and_dg_name_the_definitions() -> None:
    root = Path(__file__).parents[2]
    assert "python_module: pipelines.definitions" in (root / "workspace.yaml").read_text(encoding="utf-8")
    assert 'code_location_target_module = "pipelines.definitions"' in (root / "pyproject.toml").read_text(
        encoding="utf-8"
    )


@pytest.mark.unit
def test_the_columns_that_lineage_names_are_columns_of_these_assets() -> None:
    columns = {
        spec.key.to_user_string(): {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for spec in DROP_ASSETS
    }
    named = {
        (asset, column, dep.asset_key.to_user_string(), dep.column_name)
        for asset, lineage in table_schemas.LINEAGE.items()
        for column, deps in lineage.deps_by_column.items()
        for dep in deps
    }
    assert {(asset, column) for asset, column, *_ in named} <= {(a, c) for a in columns for c in columns[a]}
    assert {(asset, column) for *_, asset, column in named} <= {(a, c) for a in columns for c in columns[a]}
    assert ("entity_versions", "hashdiff", "staged_changes", "display_name") in named
