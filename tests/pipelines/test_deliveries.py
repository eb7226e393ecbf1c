"""A run is of the content that it was requested for; what changed, went or came back meanwhile is never lost."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, as_row, write_drop
from project import Outcome, Project, a_database, a_project
from psycopg.conninfo import make_conninfo
from samples import DELTA, INITIAL, LATE
from servers import Server

from crm_core.postgres.connection import Connection
from pipelines.checks import OF_DROPS
from pipelines.folder import DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.partitions import read_files
from pipelines.resources import RETRIES

pytestmark = pytest.mark.integration

NUMBERS = ("rows_read", "rows_changed", "rows_late", "entity_versions_added", "detail_versions_added")


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[Project]:
    with a_database(server) as database, a_project(database, tmp_path) as project:
        yield project


def write(project: Project, name: str, *people: str) -> str:
    """Write a drop of some people, and return its partition."""
    write_drop(project.folder / name, [an_entity(who, name=who) for who in people])
    return project.know(name)


def content(project: Project, key: str) -> str:
    file = DropFolder(folder=str(project.folder)).find(key)
    assert file is not None
    return file.content


def asked(project: Project, key: str, of: str) -> Outcome:
    """The run that the sensor asked for when the file had that content."""
    return project.run("ingest_drop", key, {FILE_TAG: of})


def known(project: Project) -> set[str]:
    with project.database.connect() as connection:
        return {name for (name,) in connection.execute("select display_name from entity where is_current")}


def numbers(outcome: Outcome) -> dict[str, object]:
    return {name: value for told in outcome.told.values() for name, value in told.items() if name in NUMBERS}


def status(project: Project, sha256: str) -> str | None:
    with project.database.connect() as connection:
        row = connection.execute("select status from drop_file where sha256 = %s", (sha256,)).fetchone()
    return None if row is None else str(row[0])


# The same name, with another content


def test_a_file_overwritten_while_its_run_was_queued_fails_that_run_and_gets_a_run_of_its_own(project: Project) -> None:
    key = write(project, "daily.csv", "Vera First")
    first = content(project, key)
    write(project, "daily.csv", "Vera Second, longer")
    outcome = asked(project, key, first)
    (failure,) = outcome.failures
    assert failure.startswith("daily.csv has changed since this run was requested; what it held then (")
    assert ") was not taken in; what it holds now (" in failure
    assert "\n" not in failure
    assert outcome.retries == 0
    assert outcome.materializations == []
    assert "Vera Second, longer" not in known(project), "the run takes nothing in that it was not asked for"
    assert asked(project, key, content(project, key)).failures == []
    assert "Vera Second, longer" in known(project)
    assert "Vera First" not in known(project)


def test_a_requested_file_that_was_merged_meanwhile_is_not_a_failure(project: Project) -> None:
    key = write(project, "daily.csv", "Vera First")
    first = content(project, key)
    project.materialize(key)  # by hand
    write(project, "daily.csv", "Vera Second, longer")
    outcome = asked(project, key, first)
    assert (outcome.failures, outcome.failed_checks) == ([], set())
    assert outcome.told["staged_changes"]["status"] == "replayed"
    assert asked(project, key, content(project, key)).failures == []
    assert {"Vera First", "Vera Second, longer"} <= known(project)


def test_an_equal_size_with_an_older_time_is_another_content(project: Project) -> None:
    key = write(project, "daily.csv", "Vera A")
    first = content(project, key)
    write(project, "daily.csv", "Vera B")
    os.utime(project.folder / key, (1, 1))
    assert "has changed since" in asked(project, key, first).failures[0]


def test_a_file_that_changes_after_its_digest_was_read_is_not_merged_at_all(
    project: Project,
) -> None:
    key = write(project, "daily.csv", "Vera First")
    first = content(project, key)
    with project.database.connect() as holder, project.database.connect(autocommit=True) as watcher:
        holder.execute("lock table drop_file in share mode")  # the run has read the digest when it comes to the table

        def overwrite() -> None:
            wait_for_a_lock(watcher)
            write(project, "daily.csv", "Vera Second, longer")
            holder.rollback()

        overwrites = threading.Thread(target=overwrite)
        overwrites.start()
        outcome = asked(project, key, first)
        overwrites.join()
    assert "changed while it was read" in outcome.failures[0]
    assert not {"Vera First", "Vera Second, longer"} & known(project)
    assert first not in read_files(project.instance), "the sensor will ask again"
    with project.database.connect() as connection:
        assert connection.execute("select distinct status from drop_file").fetchall() == [("seen",)]


def test_a_file_that_was_cut_off_is_refused_and_merged_when_it_is_complete(project: Project) -> None:
    key = write(project, "a.csv", "Vera")
    whole = (project.folder / key).read_bytes()
    (project.folder / key).write_bytes(b"")
    assert project.ingest(key).failures != []
    (project.folder / key).write_bytes(whole)
    assert asked(project, key, content(project, key)).failures == []
    assert "Vera" in known(project)


def test_two_files_with_equal_bytes_are_two_green_partitions(project: Project) -> None:
    first, second = write(project, "a.csv", "Vera"), write(project, "b.csv", "Vera")
    assert project.ingest(first).told["staged_changes"]["rows_changed"] == 1
    found = project.ingest(second).told
    assert (found["staged_changes"]["status"], found["staged_changes"]["rows_changed"]) == ("replayed", 0)
    assert found["drop_file"]["same_bytes_as"] == "a.csv"


# A file that is gone


def test_drops_that_were_archived_stay_green_in_a_backfill_and_alone_and_when_they_are_put_back(
    project: Project, tmp_path: Path
) -> None:
    keys = [project.arrive(path) for path in (INITIAL, DELTA)] + [project.arrive(LATE, "März, neu.csv")]
    before = {key: numbers(project.ingest(key)) for key in keys}
    versions = project.versions()
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in (INITIAL.name, "März, neu.csv"):
        (project.folder / name).rename(archive / name)
    outcome = project.backfill(keys[0], keys[-1])
    assert (outcome.failures, outcome.failed_checks) == ([], set())
    assert {key for _, key, _ in outcome.materializations} == set(keys)
    for key in keys:
        again = project.ingest(key)
        assert (again.failures, again.failed_checks) == ([], set())
        assert numbers(again) == before[key], key
    assert "path" not in project.ingest(keys[0]).told["drop_file"]
    shutil.copy(archive / INITIAL.name, project.folder)
    assert project.ingest(keys[0]).failures == []
    assert project.versions() == versions


def test_a_drop_that_the_database_alone_remembers_is_green_without_its_file(project: Project) -> None:
    project.materialize(project.arrive(INITIAL))
    (project.folder / INITIAL.name).unlink()
    with dg.DagsterInstance.ephemeral() as another:
        beside = Project(project.database, project.folder, another)
        assert beside.ingest(beside.know(INITIAL.name)).failures == []


def test_a_renamed_file_is_a_drop_of_its_own_and_the_old_name_stays_green(project: Project) -> None:
    old = write(project, "a.csv", "Vera")
    project.materialize(old)
    (project.folder / "a.csv").rename(project.folder / "b.csv")
    assert project.ingest(old).failures == []
    assert project.materialize(project.know("b.csv"))["drop_file"]["same_bytes_as"] == "a.csv"


def test_a_drop_whose_file_is_gone_and_that_a_restored_database_does_not_hold_is_red(project: Project) -> None:
    key = write(project, "a.csv", "Vera")
    project.materialize(key)
    (project.folder / key).unlink()
    project.execute("delete from reject; delete from drop_file")
    (failure,) = project.ingest(key).failures
    assert failure.startswith("a.csv: there is no such drop in ")


def test_a_file_that_goes_before_its_run_begins_is_red_though_an_earlier_one_of_its_name_is_in(
    project: Project,
) -> None:
    key = write(project, "daily.csv", "Vera First")
    project.materialize(key)
    write(project, "daily.csv", "Vera Second, longer")
    second = content(project, key)
    (project.folder / key).unlink()
    assert asked(project, key, second).failures[0].startswith("daily.csv: there is no such drop in ")
    assert project.ingest(key).failures == [], "asked for by hand, the name is what is in of it"


def test_a_folder_in_the_place_of_a_file_is_as_a_file_that_is_gone(project: Project) -> None:
    key, never = write(project, "a.csv", "Vera"), project.know("b.csv")
    project.materialize(key)
    (project.folder / key).unlink()
    for name in (key, never):
        (project.folder / name).mkdir()
    assert project.ingest(key).failures == []
    assert project.ingest(never).failures[0].startswith("b.csv: there is no such drop in ")


def test_a_link_to_a_file_is_that_file_and_another_target_is_another_content(project: Project, tmp_path: Path) -> None:
    for name in ("Vera", "Vera Second"):
        write_drop(tmp_path / f"{name}.txt", [an_entity(name, name=name)])
    link = project.folder / "a.csv"
    link.symlink_to(tmp_path / "Vera.txt")
    key = project.know("a.csv")
    first = content(project, key)
    link.unlink()
    link.symlink_to(tmp_path / "Vera Second.txt")
    assert "has changed since" in asked(project, key, first).failures[0]
    assert asked(project, key, content(project, key)).failures == []
    assert "Vera Second" in known(project)


# What a partition shows


def test_a_drop_that_is_run_again_shows_what_it_did_when_it_was_merged(project: Project) -> None:
    project.materialize(project.arrive(INITIAL))
    key = project.arrive(DELTA)
    first, again = project.ingest(key), project.ingest(key)
    assert numbers(again) == numbers(first)
    for asset in ("entity_versions", "detail_versions"):
        assert again.told[asset]["changed_fields"] == first.told[asset]["changed_fields"]
    assert set(numbers(first)) == set(NUMBERS)
    assert int(str(numbers(first)["entity_versions_added"])) > 0
    this_run = again.told["drop_file"]["this_run"]
    assert isinstance(this_run, dict)
    assert (this_run["status"], this_run["rows_changed"]) == ("replayed", 0)


def test_rows_that_are_valid_now_are_merged_when_the_drop_is_run_again_and_the_partition_shows_all_of_it(
    project: Project,
) -> None:
    rows = [as_row(an_entity("Vera", name="Vera")), as_row(an_entity("R2", name="R2")) | {"entity_type": "ROBOT"}]
    write_drop(project.folder / "a.csv", rows)
    key = project.know("a.csv")
    assert project.materialize(key)["rejected_rows"]["rows_rejected"] == 1
    project.execute("insert into entity_type (code, name) values ('ROBOT', 'Robot')")
    again = project.ingest(key)
    assert (again.failures, again.failed_checks) == ([], set())
    staged = again.told["staged_changes"]
    assert [staged[name] for name in ("status", "rows_read", "rows_accepted", "rows_changed")] == ["merged", 2, 2, 2]
    assert again.told["rejected_rows"]["rows_rejected"] == 0
    assert again.told["entity_versions"]["entity_versions_added"] == 2
    assert {"Vera", "R2"} <= known(project)


def test_a_refused_drop_shows_why_and_leaves_no_check_failed_or_unexecuted(project: Project) -> None:
    key = project.know("nothing.csv")
    (project.folder / key).touch()
    outcome = project.ingest(key)
    assert outcome.failed_checks == set()
    assert {check.description for check in outcome.checks} == {
        "Nothing of the drop was recorded, so there is nothing to check."
    }
    assert unexecuted(project) == []
    events = project.instance.fetch_observations(dg.AssetKey("drop_file"), limit=10).records
    (told,) = [event.asset_observation for event in events]
    assert told is not None
    assert told.partition == key
    assert told.metadata["error"].value == outcome.failures[0]


def test_the_checks_of_a_refused_drop_are_of_what_came_before_under_its_name(project: Project) -> None:
    key = write(project, "a.csv", "Vera")
    project.materialize(key)
    (project.folder / key).write_bytes(b"")
    outcome = project.ingest(key)
    assert outcome.failed_checks == set()
    assert all(check.metadata for check in outcome.checks), "they were executed"
    project.execute("update entity set display_name = display_name || '!' where display_name = 'Vera'")
    assert "entity_hashdiffs" in project.ingest(key).failed_checks, "damage is not hidden by a refusal"


def unexecuted(project: Project) -> list[str]:
    """The checks that a run was to execute, and did not."""
    found = project.instance.event_log_storage.get_asset_check_partition_info([spec.key for spec in OF_DROPS])
    return [one.check_key.name for one in found if one.latest_execution_status.value == "PLANNED"]


def wait_for_a_lock(watcher: Connection) -> None:
    query = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    for _ in range(600):
        if watcher.execute(query).fetchall():
            return
        time.sleep(0.05)


# A database that takes nothing


def test_a_run_over_a_read_only_database_fails_with_one_line_and_leaves_the_content_to_be_asked_for(
    project: Project,
) -> None:
    key = write(project, "a.csv", "Vera")
    first = content(project, key)
    url = make_conninfo(project.database.conninfo, options="-c default_transaction_read_only=on")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRM_DATABASE_URL", url)
        patch.setattr("pipelines.resources.RETRY_SECONDS", 0.1)
        outcome = asked(project, key, first)
    (failure,) = outcome.failures
    assert "read-only" in failure
    assert "\n" not in failure
    assert outcome.retries == RETRIES
    assert read_files(project.instance) == {}
    assert asked(project, key, first).failures == []
    assert "Vera" in known(project)
