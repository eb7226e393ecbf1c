"""The Dagster job: a partition a drop, assets that tell what its transaction did, the same versions in any order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from conftest import Server

from crm_core.database import Database
from crm_core.drops import fingerprint
from crm_core.errors import SchemaTooOld
from crm_core.fixtures import read_fixtures
from crm_core.ingest import ingest
from crm_core.loaddata import load_fixtures
from crm_core.model import MergeReport
from crm_core.resources import DATA
from pipelines.assets import DROPS, TOLD
from pipelines.definitions import defs, ingest_drop
from pipelines.resources import drop_key

pytestmark = pytest.mark.integration

SAMPLES = sorted((DATA / "drops").glob("*.csv"))
INITIAL, DELTA, LATE, REPLAY, DIRTY, LAST = SAMPLES

Told = Mapping[str, Mapping[str, object]]  # asset → metadata


@dataclass(frozen=True, slots=True)
class Project:
    """The project over a database and a folder of drops of its own, on an instance that ends with the test."""

    database: Database
    folder: Path
    instance: dg.DagsterInstance

    def arrive(self, path: Path, name: str | None = None) -> str:
        shutil.copyfile(path, self.folder / (name or path.name))
        key = drop_key(name or path.name)
        self.instance.add_dynamic_partitions(DROPS, [key])
        return key

    def materialize(self, key: str) -> Told:
        result = defs.resolve_job_def(ingest_drop.name).execute_in_process(
            dg.RunConfig(loggers={"console": {"config": {"log_level": "CRITICAL"}}}), self.instance, partition_key=key
        )
        return {
            event.asset_key.to_user_string(): {
                name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
            }
            for event in result.get_asset_materialization_events()
            if event.asset_key
        }

    def versions(self) -> list[tuple[object, ...]]:
        with self.database.connect() as connection:
            return connection.execute(
                "select entity_uid, 'entity', display_name, valid_from, valid_to, hashdiff from entity"
                " union all select entity_uid, code, detail_value, valid_from, valid_to, hashdiff"
                " from entity_detail join detail_type using (detail_type_id) order by 1, 2, 4"
            ).fetchall()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A database with all fixtures loaded."""
    with a_database(server) as database:
        yield database


@contextmanager
def a_database(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        with database.transaction() as connection:
            load_fixtures(connection, read_fixtures(sorted((DATA / "fixtures").glob("*.json"))))
        yield database


@contextmanager
def a_project(database: Database, folder: Path) -> Iterator[Project]:
    """Open the project over a database and a folder, which the environment names meanwhile."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.chdir(folder)  # away from the .env of the developer
        patch.setenv("CRM_DATABASE_URL", database.conninfo)
        patch.setenv("CRM_DROP_DIR", str(folder))
        yield Project(database, folder, instance)


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Iterator[Project]:
    with a_project(database, tmp_path) as project:
        yield project


def told_of(report: MergeReport, told: Told) -> dict[str, object]:
    """What the assets tell, in the form of the report; how long it took is each run's own."""
    fields = {name: told[asset][name] for asset, names in TOLD.items() for name in names}
    return fields | {
        "file": report.file,
        "sha256": told["drop_file"]["sha256"],
        "error": None,
        "seconds": report.seconds,
    }


def test_the_assets_tell_what_the_merge_of_each_sample_reported(
    project: Project, server: Server, tmp_path: Path
) -> None:
    with a_database(server) as beside:
        for path in SAMPLES:
            told = project.materialize(project.arrive(path))
            report = ingest(beside, path)
            assert list(told) == ["drop_file", *TOLD]
            assert told_of(report, told) == report.as_json()
            assert (told["drop_file"]["path"], told["drop_file"]["bytes"]) == (
                str(project.folder / path.name),
                path.stat().st_size,
            )


def test_an_initial_a_delta_and_a_late_drop_add_versions_and_a_replay_adds_none(project: Project) -> None:
    told = {path: project.materialize(project.arrive(path)) for path in (INITIAL, DELTA, LATE)}
    assert told[INITIAL]["entity_versions"]["entity_versions_added"] == 25, "the fixtures know the other 8 of 33"
    assert int(str(told[DELTA]["staged_changes"]["rows_unchanged"])) > 15
    assert int(str(told[LATE]["staged_changes"]["rows_late"])) > 0
    before = project.versions()
    replay = project.materialize(project.arrive(REPLAY))
    assert replay["staged_changes"]["status"] == "replayed"
    assert replay["entity_versions"] == {"entity_versions_added": 0}
    assert project.versions() == before


@pytest.mark.idempotency
def test_materializing_a_partition_again_changes_nothing(project: Project) -> None:
    key = project.arrive(DELTA)
    project.materialize(key)
    before = project.versions()
    assert project.materialize(key)["staged_changes"]["status"] == "replayed"
    assert project.versions() == before


def test_a_dirty_drop_shows_lines_and_reasons_and_no_text_of_its_rows(project: Project) -> None:
    told = project.materialize(project.arrive(DIRTY))
    assert told["rejected_rows"]["rows_rejected"] == 13
    table = told["rejected_rows"]["first_rows"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records][:2] == [
        {"line": 4, "reasons": "invalid_uid"},
        {"line": 5, "reasons": "missing_display_name"},
    ]
    assert "Kaya" not in repr(told)


@pytest.mark.scd2
def test_drops_materialized_out_of_order_give_the_same_versions(
    project: Project, server: Server, tmp_path: Path
) -> None:
    for path in SAMPLES:
        project.materialize(project.arrive(path))
    in_order = project.versions()
    with a_database(server) as other, a_project(other, tmp_path / "other") as project:
        for path in (
            LAST,
            DIRTY,
            REPLAY,
            LATE,
            INITIAL,
            DELTA,
        ):  # late corrects delta at one instant: it stays after it
            project.materialize(project.arrive(path))
        assert project.versions() == in_order
    assert len(in_order) > 100


def test_a_refused_drop_fails_the_run_with_its_one_line(project: Project, tmp_path: Path) -> None:
    empty = tmp_path / "nothing.csv"
    empty.touch()
    project.instance.add_dynamic_partitions(DROPS, ["nothing.csv"])
    with pytest.raises(dg.Failure) as failure:
        project.materialize("nothing.csv")
    assert failure.value.description is not None
    assert failure.value.description.startswith(f"{empty}: ")
    assert "\n" not in failure.value.description
    assert failure.value.allow_retries is False


def test_a_partition_without_its_file_says_where_it_is_missing(project: Project) -> None:
    project.instance.add_dynamic_partitions(DROPS, ["gone.csv"])
    with pytest.raises(dg.Failure, match=r"gone\.csv: there is no such drop in "):
        project.materialize("gone.csv")


def test_a_database_without_schema_is_sent_to_migrate(server: Server, tmp_path: Path) -> None:
    with server.clone("template0") as database, a_project(database, tmp_path) as project:
        key = project.arrive(INITIAL)
        with pytest.raises(SchemaTooOld, match="run `crm migrate`"):
            project.materialize(key)


def test_the_changes_say_that_dagster_recorded_them(project: Project) -> None:
    project.materialize(project.arrive(INITIAL))
    with project.database.connect() as connection:
        query = "select distinct actor, drop_sha256 from batch join ledger using (batch_id) where source = 'drop'"
        assert connection.execute(query).fetchall() == [("dagster", fingerprint(INITIAL))]


@pytest.mark.unit
def test_a_partition_key_is_the_name_where_it_can_be() -> None:
    assert drop_key("2020-01-01_initial.csv") == "2020-01-01_initial.csv"
    awkward = ["März, neu.csv", "Maerz, neu.csv", "a b.csv", "a,b.csv", "a_b.csv", "..."]
    keys = [drop_key(name) for name in awkward]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", key) for key in keys)
    assert len(set(keys)) == len(awkward)


def test_a_drop_with_an_awkward_name_is_found_by_its_key(project: Project) -> None:
    told = project.materialize(project.arrive(LATE, "März, neu.csv"))
    assert told["drop_file"]["path"] == str(project.folder / "März, neu.csv")


@pytest.mark.unit
def test_every_asset_has_a_description_and_nothing_is_handed_over_but_order() -> None:
    graph = defs.resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert set(nodes) == {"drop_file", *TOLD}
    assert all(node.description and node.kinds for node in nodes.values())
    assert {parent.to_user_string() for parent in nodes["entity_versions"].parent_keys} == {"staged_changes"}
    assert {parent.to_user_string() for parent in nodes["staged_changes"].parent_keys} == {"drop_file"}


@pytest.mark.unit
def test_the_workspace_names_the_definitions() -> None:
    workspace = (Path(__file__).parents[1] / "workspace.yaml").read_text(encoding="utf-8")
    assert "python_module: pipelines.definitions" in workspace
