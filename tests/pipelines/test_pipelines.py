"""The Dagster project: a partition a drop, assets that tell what its transaction did, one end in any order."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, write_drop
from project import Project, Reports, Told, a_database, a_project, partitions
from psycopg.sql import SQL, Identifier
from samples import CONTACTS, DELTA, DIRTY, INITIAL, LAST, LATE, REPLAY
from servers import Server

from crm_core.drops.ingest import ingest
from crm_core.formats.files import fingerprint
from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection, Database
from pipelines import table_schemas
from pipelines.partitions import drop_key
from pipelines.runs import REPORT, run_drops

pytestmark = pytest.mark.integration

OF_DROPS = ["drop_file", "staged_changes", "rejected_rows", "entity_versions", "detail_versions"]


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A database with all fixtures loaded."""
    with a_database(server) as database:
        yield database


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Iterator[Project]:
    with a_project(database, tmp_path) as project:
        yield project


def told_of(report: MergeReport, told: Told) -> dict[str, object]:
    """What the assets tell, in the form of the report; how long it took is each run's own."""
    fields = {name: value for metadata in told.values() for name, value in metadata.items() if name in REPORT}
    own = {"file": report.file, "error": None, "seconds": report.seconds}
    return fields | own


def test_the_assets_tell_what_the_merge_of_each_sample_reported(project: Project, server: Server) -> None:
    with a_database(server) as beside:
        for path in CONTACTS:
            found = project.materialize(project.arrive(path))
            report = ingest(beside, path)
            assert list(found) == OF_DROPS
            assert told_of(report, found) | {"dry_run": False} == report.as_json()
            file = found["drop_file"]
            assert (file["path"], file["bytes"]) == (str(project.folder / path.name), path.stat().st_size)


def test_an_initial_a_delta_and_a_late_drop_add_versions_and_a_replay_adds_none(project: Project) -> None:
    found = {path: project.materialize(project.arrive(path)) for path in (INITIAL, DELTA, LATE)}
    assert found[INITIAL]["entity_versions"]["entity_versions_added"] == 25, "the fixtures know the other 8 of 33"
    assert int(str(found[DELTA]["staged_changes"]["rows_unchanged"])) > 15
    assert int(str(found[LATE]["staged_changes"]["rows_late"])) > 0
    before = project.versions()
    replay = project.materialize(project.arrive(REPLAY))
    assert replay["staged_changes"]["status"] == "replayed"
    assert replay["entity_versions"]["entity_versions_added"] == 0
    assert replay["drop_file"]["same_bytes_as"] == DELTA.name
    assert project.versions() == before


def test_row_counts_of_the_drop_and_of_the_tables_are_where_dagster_looks_for_them(project: Project) -> None:
    found = project.materialize(project.arrive(INITIAL))
    with project.database.connect() as connection:
        for asset, table, rows in (
            ("staged_changes", "ledger", "rows_accepted"),
            ("entity_versions", "entity", "entity_versions_added"),
            ("detail_versions", "entity_detail", "detail_versions_added"),
        ):
            assert found[asset]["dagster/partition_row_count"] == found[asset][rows]
            count = connection.execute(SQL("select count(*) from {}").format(Identifier(table))).fetchone()
            assert (found[asset]["dagster/row_count"],) == count


def test_each_table_shows_which_columns_its_columns_come_from(project: Project) -> None:
    found = project.materialize(project.arrive(INITIAL))
    for asset, lineage in table_schemas.LINEAGE.items():
        assert found[asset]["dagster/column_lineage"] == lineage


@pytest.mark.idempotency
def test_materializing_a_partition_again_changes_nothing(project: Project) -> None:
    key = project.arrive(DELTA)
    project.materialize(key)
    before = project.versions()
    again = project.ingest(key)
    assert again.told["staged_changes"]["status"] == "replayed"
    assert again.failed_checks == set()
    assert project.versions() == before


def test_a_dirty_drop_shows_lines_and_reasons_and_no_value_of_its_rows_in_any_event(project: Project) -> None:
    outcome = project.ingest(project.arrive(DIRTY))
    rejected = outcome.told["rejected_rows"]
    assert rejected["rows_rejected"] == 13
    rows, reasons = rejected["first_rows"], rejected["reasons"]
    assert isinstance(rows, dg.TableMetadataValue)
    assert isinstance(reasons, dg.TableMetadataValue)
    assert [record.data for record in rows.records][:2] == [
        {"line": 4, "reasons": "invalid_uid"},
        {"line": 5, "reasons": "missing_display_name"},
    ]
    assert {record.data["reason"]: record.data["rows"] for record in reasons.records}["invalid_uid"] == 2
    assert len(rows.records) <= 20
    text = DIRTY.read_text(encoding="utf-8")
    events = repr(outcome.result.all_events)
    for value in ("Kaya", "Zoë", "李明"):
        assert value in text
        assert value not in events


def test_the_changes_of_a_drop_are_counted_by_field(project: Project) -> None:
    project.materialize(project.arrive(INITIAL))
    found = project.materialize(project.arrive(DELTA))
    of_entities, of_details = found["entity_versions"]["changed_fields"], found["detail_versions"]["changed_fields"]
    assert isinstance(of_entities, dg.TableMetadataValue)
    assert isinstance(of_details, dg.TableMetadataValue)
    assert {record.data["field"] for record in of_entities.records} <= {"display_name", "entity_type"}
    assert all(str(record.data["field"]).startswith("details.") for record in of_details.records)


@pytest.mark.scd2
def test_drops_materialized_out_of_order_give_the_same_versions(
    project: Project, server: Server, tmp_path: Path
) -> None:
    for path in CONTACTS:
        project.materialize(project.arrive(path))
    in_order = project.versions()
    with a_database(server) as other, a_project(other, tmp_path / "other") as project:
        for path in (LAST, DIRTY, REPLAY, LATE, INITIAL, DELTA):  # late corrects delta at one instant: it goes before
            project.materialize(project.arrive(path))
        assert project.versions() == in_order
    assert len(in_order) > 100


@pytest.mark.scd2
def test_drops_materialized_at_once_and_out_of_order_give_the_same_versions(
    project: Project, server: Server, tmp_path: Path
) -> None:
    chance = random.Random(3)
    people = [f"person {number}" for number in range(60)]
    folder = tmp_path / "drops"
    folder.mkdir()
    paths = [
        write_drop(
            folder / f"{at}.csv", [_some_change(chance, who, at + index / 100) for index, who in enumerate(people)]
        )
        for at in range(1, 9)
    ]
    for path in paths:
        project.materialize(project.arrive(path))
    in_order = project.versions()
    with a_database(server) as other, a_project(other, tmp_path / "other") as beside:

        def materialize(path: Path) -> tuple[float, float]:
            with dg.DagsterInstance.ephemeral() as instance:  # as in a process of its own
                alone = Project(other, beside.folder, instance)
                began = time.monotonic()
                alone.materialize(alone.arrive(path))
                return began, time.monotonic()

        with ThreadPoolExecutor(4) as pool:
            spans = list(pool.map(materialize, chance.sample(paths, len(paths))))
        assert sum(one[0] < other[1] and other[0] < one[1] for one in spans for other in spans) > 2 * len(spans)
        assert beside.versions() == in_order
        assert beside.run("integrity").failures == []
    assert len(in_order) > 600


def _some_change(chance: random.Random, who: str, at: float) -> Change:
    if chance.random() < 0.1:
        return an_entity(who, at=at, op="delete")
    return an_entity(who, at=at, name=chance.choice("ABC"), email=f"{chance.randrange(3)}@x.org")


def test_a_range_is_merged_in_one_run_and_a_refused_drop_does_not_stop_the_others(project: Project) -> None:
    keys = [project.arrive(path) for path in (INITIAL, DELTA)]
    (project.folder / "nothing.csv").touch()
    keys += [project.know("nothing.csv"), project.know("gone.csv"), project.arrive(LATE), project.arrive(DIRTY)]
    outcome = project.backfill(keys[0], keys[-1])
    (failure,) = outcome.failures
    assert failure.startswith("2 of 6 drops were refused, the others are in; ")
    assert f"{project.folder / 'nothing.csv'}: " in failure
    assert "gone.csv: there is no such drop" in failure
    went_in = sorted(set(keys) - {"nothing.csv", "gone.csv"})
    for asset in OF_DROPS:
        assert partitions(project.instance, asset) == went_in
    found = {(asset, key): metadata for asset, key, metadata in outcome.materializations}
    assert found["rejected_rows", DIRTY.name]["rows_rejected"] == 13, "each partition has its own numbers"
    assert found["rejected_rows", INITIAL.name]["rows_rejected"] == 0
    failed = {(check.partition, check.check_name) for check in outcome.checks if not check.passed}
    assert failed == {(DIRTY.name, "reject_rate")}, "no check is red for a drop of which nothing was changed"
    with project.database.connect() as connection:
        query = "select count(distinct batch_id), count(distinct merged_at) from drop_file where status = 'merged'"
        assert connection.execute(query).fetchone() == (4, 4), "each in a transaction of its own"


@pytest.mark.idempotency
def test_a_backfill_of_everything_changes_nothing_and_stays_green(project: Project) -> None:
    keys = [project.arrive(path) for path in CONTACTS]
    for key in keys:
        project.materialize(key)
    before = project.versions()
    outcome = project.backfill(keys[0], keys[-1])
    assert (outcome.failures, outcome.failed_checks) == ([], {"reject_rate"}), "the dirty one is as dirty as before"
    assert {told["status"] for asset, _, told in outcome.materializations if asset == "staged_changes"} == {"replayed"}
    assert project.versions() == before


def test_a_refused_drop_fails_the_run_with_its_one_line_and_is_not_tried_again(project: Project) -> None:
    empty = project.folder / "nothing.csv"
    empty.touch()
    outcome = project.ingest(project.know("nothing.csv"))
    (failure,) = outcome.failures
    assert failure.startswith(f"{empty}: ")
    assert "\n" not in failure
    assert outcome.retries == 0
    assert outcome.materializations == []


def test_the_name_of_a_refused_file_commands_no_terminal_that_shows_the_log(project: Project) -> None:
    (project.folder / "a\x1b[31m\u202e.csv").touch()
    (seen,) = project.folder.iterdir()
    (failure,) = project.ingest(project.know(drop_key(seen.name))).failures
    assert f"{project.folder}/a\ufffd[31m\ufffd.csv: is empty" in failure


def test_a_partition_without_its_file_says_where_it_is_missing(project: Project) -> None:
    (failure,) = project.ingest(project.know("gone.csv")).failures
    assert failure.startswith(f"gone.csv: there is no such drop in {project.folder}")
    shutil.rmtree(project.folder)
    assert project.ingest("gone.csv").failures == [failure], "nor is there one where there is no folder"


def test_a_database_without_schema_is_sent_to_migrate_at_once(server: Server, tmp_path: Path) -> None:
    with server.clone("template0") as database, a_project(database, tmp_path) as project:
        outcome = project.ingest(project.arrive(INITIAL))
        assert "run `crm migrate`" in outcome.failures[0]
        assert outcome.retries == 0


def test_a_merge_that_the_server_breaks_off_is_tried_again_by_itself(project: Project) -> None:
    key = project.arrive(INITIAL)
    with project.database.connect() as holder, project.database.connect(autocommit=True) as watcher:
        holder.execute("lock table batch in exclusive mode")  # the merge waits in its midst
        broken_off = threading.Thread(target=_break_off_and_let_go, args=(watcher, holder))
        broken_off.start()
        outcome = project.ingest(key)
        broken_off.join()
    assert outcome.failures == []
    assert outcome.retries == 1
    assert outcome.told["staged_changes"]["status"] == "merged"


def _break_off_and_let_go(watcher: Connection, holder: Connection) -> None:
    query = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    for _ in range(600):
        if watcher.execute(query).fetchone() == (True,):
            break
        time.sleep(0.05)
    holder.rollback()


def test_the_changes_say_that_dagster_recorded_them(project: Project) -> None:
    project.materialize(project.arrive(INITIAL))
    with project.database.connect() as connection:
        query = "select distinct actor, drop_sha256 from batch join ledger using (batch_id) where source = 'drop'"
        assert connection.execute(query).fetchall() == [("dagster", fingerprint(INITIAL))]


def test_the_report_is_a_page_and_numbers_in_the_home(project: Project) -> None:
    for path in CONTACTS:
        project.materialize(project.arrive(path))
    outcome = project.run("data_quality")
    assert (outcome.failures, outcome.failed_checks) == ([], set())
    found = outcome.told["data_quality_report"]
    folder = project.folder / ".crm" / "reports"
    assert (found["page"], found["json"]) == (str(folder / "data-quality.html"), str(folder / "data-quality.json"))
    assert DIRTY.name in (folder / "data-quality.html").read_text(encoding="utf-8")
    numbers = json.loads((folder / "data-quality.json").read_text(encoding="utf-8"))
    assert numbers["totals"]["rows_rejected"] == found["rows_rejected"] == 13
    assert sorted(path.name for path in folder.iterdir()) == ["data-quality.html", "data-quality.json"]
    assert found["drops_merged"] == 5, "the replay is no drop of its own"


def test_the_report_is_made_after_drops_also_when_one_was_refused(project: Project) -> None:
    reports = Reports(project.instance)
    assert not reports.requested()
    (project.folder / "nothing.csv").touch()
    project.ingest(project.know("nothing.csv"))  # refused: its partition stays missing
    project.materialize(project.arrive(INITIAL))
    assert reports.requested()
    project.run("data_quality")
    assert not reports.requested()


def test_the_invariants_are_recomputed_after_the_first_drops_and_then_daily(project: Project) -> None:
    reports = Reports(project.instance)
    assert not reports.requested("invariants")
    project.materialize(project.arrive(INITIAL))
    assert reports.requested("invariants")
    project.run("integrity")
    project.materialize(project.arrive(DELTA))
    assert not reports.requested("invariants")


def test_run_drops_answers_a_report_for_each_drop_also_a_refused_one(project: Project) -> None:
    (project.folder / "nothing.csv").touch()
    reports = list(run_drops([INITIAL, project.folder / "nothing.csv", DELTA]))
    assert [report.status for report in reports] == ["merged", "refused", "merged"]
    assert reports[1].error is not None
    assert reports[1].error.startswith(f"{project.folder / 'nothing.csv'}: ")
    assert reports[2].rows_read == 36


def test_a_drop_with_an_awkward_name_is_found_by_its_key(project: Project) -> None:
    found = project.materialize(project.arrive(LATE, "März, neu.csv"))
    assert found["drop_file"]["path"] == str(project.folder / "März, neu.csv")
