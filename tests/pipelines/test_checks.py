"""The asset checks: each finds its damage, of the drop that it is about, and holds back what builds on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, as_row, reference_data, write_drop
from damage import DAMAGE
from project import Outcome, Project, Reports, a_project
from psycopg.conninfo import conninfo_to_dict
from servers import Server

from crm_core.drops.ingest import ingest
from crm_core.timeline.invariants import CHECKS, NOT_OF_ENTITIES, OF_THE_SCHEMA
from pipelines.checks import DROPS_KEEP_COMING, OF_ALL, OF_DROPS
from pipelines.definitions import defs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def two_people(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A database with two people of two versions each, to clone, and the folder of the two drops that made them."""
    folder = tmp_path_factory.mktemp("drops")
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        for at in (1, 2):
            changes = [an_entity(who, at=at, name=f"{who} {at}", email=f"{at}@x.org") for who in ("ada", "bob")]
            ingest(database, write_drop(folder / f"{at}.csv", changes))
        yield str(conninfo_to_dict(database.conninfo)["dbname"]), folder


@pytest.fixture
def project(server: Server, two_people: tuple[str, Path], tmp_path: Path) -> Iterator[Project]:
    name, folder = two_people
    with server.clone(name) as database, a_project(database, tmp_path) as project:
        for at in (1, 2):
            project.arrive(folder / f"{at}.csv")
        yield project


def a_drop(project: Project, name: str, rows: list[object]) -> str:
    return project.arrive(write_drop(project.folder / name, rows))  # type: ignore[arg-type]


def a_drop_with_rejects(project: Project, name: str, good: int, bad: int) -> str:
    row = as_row(an_entity())
    rows = [as_row(an_entity(f"{name} {number}", at=3)) for number in range(good)]
    return a_drop(project, name, [*rows, *[row | {"entity_type": "ROBOT"}] * bad])


def only(outcome: Outcome, name: str) -> dg.AssetCheckEvaluation:
    (found,) = (check for check in outcome.checks if check.check_name == name)
    return found


def test_every_invariant_of_the_core_is_a_check_of_each_drop_and_of_all_data() -> None:
    assert {spec.name for spec in OF_ALL} == {name[3:] for name in CHECKS}
    of_drops = {name[3:] for name in CHECKS if name not in OF_THE_SCHEMA}
    assert {spec.name for spec in OF_DROPS} == of_drops | {"reject_rate", "nothing_to_decide"}
    assert {spec.name for spec in OF_DROPS if not spec.blocking} == {"reject_rate", "nothing_to_decide"}
    graph = defs().resolve_asset_graph()
    known = {key.name for asset in graph.get_all_asset_keys() for key in graph.get(asset).check_keys}
    assert known == {name[3:] for name in CHECKS} | {"reject_rate", "nothing_to_decide", DROPS_KEEP_COMING.name}


def test_sound_data_pass_every_check(project: Project) -> None:
    of_drops = {name[3:] for name in CHECKS if name not in OF_THE_SCHEMA}
    for outcome, expected in (
        (project.ingest("1.csv"), of_drops),
        (project.ingest("2.csv"), of_drops),
        (project.run("integrity"), {name[3:] for name in CHECKS}),
    ):
        assert (outcome.failures, outcome.failed_checks) == ([], set())
        assert {check.check_name for check in outcome.checks} >= expected


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_the_damage_it_is_for_and_fails_the_run(project: Project, name: str) -> None:
    project.execute(DAMAGE[name])
    outcome = project.run("integrity")
    assert name[3:] in outcome.failed_checks
    assert "blocking asset check" in outcome.failures[0]
    assert outcome.told["invariants"]["breaches"] != 0
    if name in NOT_OF_ENTITIES:
        return
    outcome = project.ingest("2.csv")
    found = only(outcome, name[3:])
    assert not found.passed
    assert found.partition == "2.csv"
    assert int(str(found.metadata["breaches"].value)) > 0
    assert found.metadata["entities"].value == 2
    assert "blocking asset check" in outcome.failures[0]
    assert outcome.retries == 0, "it would be no better"
    assert len(outcome.materializations) == 5, "the drop is in all the same"


def test_the_books_of_a_drop_are_found_out_of_balance(project: Project) -> None:
    key = a_drop_with_rejects(project, "dirty.csv", good=20, bad=1)
    assert project.ingest(key).failed_checks == set()
    project.execute("delete from reject")
    outcome = project.ingest(key)
    assert outcome.failed_checks == {"books_balance"}
    assert only(outcome, "books_balance").blocking
    assert project.ingest("1.csv").failed_checks == set(), "another drop's books are its own"


@pytest.mark.parametrize(
    ("good", "bad", "severity"),
    [(9, 1, None), (8, 2, dg.AssetCheckSeverity.WARN), (4, 6, dg.AssetCheckSeverity.ERROR)],
)
def test_the_rate_of_rejects_warns_then_is_an_error_and_never_blocks(
    project: Project, good: int, bad: int, severity: dg.AssetCheckSeverity | None
) -> None:
    outcome = project.ingest(a_drop_with_rejects(project, "dirty.csv", good, bad))
    assert outcome.failures == [], "the good rows are in, as the drop contract has it"
    found = only(outcome, "reject_rate")
    assert found.passed is (severity is None)
    assert severity is None or found.severity is severity
    assert found.metadata["reject_share"].value == bad / 10


def test_a_report_on_old_drops_warns_that_none_came(project: Project) -> None:
    assert project.run("data_quality").failed_checks == set()
    project.execute("update drop_file set first_seen_at = first_seen_at - interval '37 hours'")
    outcome = project.run("data_quality")
    assert outcome.failures == []
    assert only(outcome, DROPS_KEEP_COMING.name).severity is dg.AssetCheckSeverity.WARN
    assert outcome.failed_checks == {DROPS_KEEP_COMING.name}


def test_no_report_is_made_automatically_while_a_drop_is_broken_and_one_is_made_when_it_is_repaired(
    project: Project,
) -> None:
    reports = Reports(project.instance)
    assert not reports.requested()
    project.execute("update entity set display_name = display_name || '!' where is_current")
    assert "entity_hashdiffs" in project.ingest("1.csv").failed_checks
    assert not reports.requested()
    project.execute("update entity set display_name = rtrim(display_name, '!') where is_current")
    assert project.ingest("2.csv").failed_checks == set()
    assert not reports.requested(), "the first drop has not been looked at again"
    assert project.ingest("1.csv").failed_checks == set()
    assert reports.requested()


def test_a_check_of_each_drop_stays_visible_beside_those_of_later_drops(project: Project) -> None:
    dirty = a_drop_with_rejects(project, "dirty.csv", good=8, bad=2)
    project.ingest(dirty)
    project.ingest(a_drop(project, "3.csv", [an_entity(at=3)]))
    found = project.instance.event_log_storage.get_asset_check_partition_info(
        [dg.AssetCheckKey(dg.AssetKey("rejected_rows"), "reject_rate")]
    )
    assert {one.partition_key: one.latest_execution_status.value for one in found} == {
        "dirty.csv": "FAILED",
        "3.csv": "SUCCEEDED",
    }
    assert all(one.is_current for one in found), "each is of the latest materialization of its partition"
