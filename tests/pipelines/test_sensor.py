"""The sensor of the drop folder: a file gets runs until the database has validated it, and never many at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, reference_data, write_drop
from ticks import Ticks

from crm_core.drops.ingest import ingest
from crm_core.drops.undo import undo_drop
from crm_core.postgres.connection import Database
from crm_core.timeline.undo import Kind, Who
from pipelines.definitions import defs
from pipelines.folder import OTHERWISE, DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.partitions import drops
from pipelines.resources import CrmDatabase
from pipelines.sensors import (
    MAX_RUNS,
    MAX_WAITING,
    Cursor,
    drop_folder,
    drops_from_elsewhere,
    report_after_drops,
    undone_drops,
)

# A file that arrives


@pytest.mark.unit
def test_a_file_is_taken_when_it_has_not_changed_for_a_tick(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.write_text("display_name")
    assert ticks.tick() == []
    file.write_text("display_name,entity_type")
    assert ticks.tick() == [], "it has grown since"
    assert ticks.tick() == ["a.csv"]
    assert ticks.ticks(3) == []


@pytest.mark.unit
def test_a_file_renamed_into_place_is_taken_and_its_beginnings_are_not(ticks: Ticks) -> None:
    for name in (".a.csv", "a.csv.tmp", "a.csv.part"):
        (ticks.folder / name).touch()
    assert ticks.ticks(2) == []
    assert ticks.reason() == f"There is no drop in {ticks.folder}: put one there."
    (ticks.folder / "a.csv.part").rename(ticks.folder / "a.csv")
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]


@pytest.mark.unit
def test_drops_are_taken_in_order_of_their_names(ticks: Ticks) -> None:
    for name in ("2024-02.csv", "2024-10.csv", "2024-01.CSV"):
        (ticks.folder / name).touch()
    ticks.tick()
    assert ticks.tick() == ["2024-01.CSV", "2024-02.csv", "2024-10.csv"]
    assert ticks.instance.get_dynamic_partitions(drops.name or "") == ["2024-01.CSV", "2024-02.csv", "2024-10.csv"]


@pytest.mark.unit
def test_a_changed_file_is_a_new_run_of_the_same_partition_also_while_the_first_is_queued(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.write_text("x")
    assert ticks.ticks(2) == ["a.csv"]
    file.write_text("y")
    os.utime(file, (1, 1))  # the same size, another time, and an older one
    assert [ticks.tick(), ticks.tick(), ticks.tick()] == [[], ["a.csv"], []]
    tags = [run.tags[FILE_TAG] for run in ticks.runs.values()]
    assert len(set(tags)) == 2, "each run says which content it is of"
    assert tags[1] == "a.csv 1 1000000000"


@pytest.mark.unit
def test_a_file_whose_name_is_not_a_valid_key_gets_one(ticks: Ticks) -> None:
    (ticks.folder / "März, neu.csv").touch()
    (key,) = ticks.ticks(2)
    assert key is not None
    assert key.startswith("M_rz__neu.csv_")
    found = DropFolder(folder=str(ticks.folder)).find(key)
    assert found is not None
    assert found.path == ticks.folder / "März, neu.csv"


@pytest.mark.unit
def test_a_partition_that_somebody_made_up_leads_to_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "secret.csv").touch()
    folder = DropFolder(folder=str(tmp_path / "drops"))
    assert [folder.find(key) for key in ("../secret.csv", str(tmp_path / "secret.csv"), "..", "")] == [None] * 4


@pytest.mark.unit
def test_a_file_that_disappears_is_not_a_failure_and_may_come_back(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.touch()
    ticks.tick()
    file.unlink()
    assert ticks.tick() == []
    file.touch()
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]


# What is skipped


@pytest.mark.unit
def test_a_skipped_entry_is_shown_with_the_cure_and_logged_once(ticks: Ticks) -> None:
    for name in ("book.xls", "a.csv.bz2", "notes.txt"):
        (ticks.folder / name).touch()
    (ticks.folder / "inner").mkdir()
    (ticks.folder / "dangling.csv").symlink_to(ticks.folder / "nowhere")
    os.mkfifo(ticks.folder / "pipe.csv")
    (ticks.folder / "folder.csv").mkdir()
    assert ticks.ticks(3) == []
    assert sorted(ticks.said) == [
        "a.csv.bz2 is skipped: an archive is not a drop; unpack it",
        "book.xls is skipped: not a spreadsheet that can be read; save it as .xlsx, or as CSV UTF-8",
        "dangling.csv is skipped: a link that leads nowhere; put the file itself here",
        "folder.csv is skipped: no profile has the name of this subfolder; make one, or put its files here",
        "inner is skipped: no profile has the name of this subfolder; make one, or put its files here",
        f"notes.txt is skipped: {OTHERWISE}",
        "pipe.csv is skipped: not a regular file; save it as one",
    ]
    assert ticks.reason().endswith(
        " Skipped: a.csv.bz2 (an archive is not a drop; unpack it), book.xls (not a spreadsheet that can be read; save"
        " it as .xlsx, or as CSV UTF-8), dangling.csv (a link that leads nowhere; put the file itself here) and 4 more."
    )
    (ticks.folder / "notes.txt").write_text("more")
    (ticks.folder / "inner" / "a.csv").touch()
    ticks.said.clear()
    ticks.tick()
    assert [line.split()[0] for line in ticks.said] == ["notes.txt"], "its content is another"


@pytest.mark.unit
def test_a_name_that_would_command_a_terminal_is_shown_without_power(ticks: Ticks) -> None:
    (ticks.folder / "a\x1b[31m\nb.txt").touch()
    (Path(os.fsdecode(os.fsencode(ticks.folder) + b"/\xff.txt"))).touch()
    ticks.tick()
    assert [line.split(" is skipped")[0] for line in ticks.said] == ["a�[31m�b.txt", "�.txt"]


@pytest.mark.unit
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_reported_and_taken_once_it_is_readable(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.touch(mode=0)
    assert ticks.ticks(3) == []
    assert ticks.said == ["a.csv is skipped: it cannot be read; give Dagster's user the right to read it"]
    file.chmod(0o600)
    assert ticks.ticks(2) == ["a.csv"]


# Ticks that die, cursors that are lost, folders that are large


@pytest.mark.unit
def test_a_tick_that_dies_between_its_writes_loses_no_run_and_makes_none_twice(ticks: Ticks) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.tick()
    assert ticks.tick(dies=True) == []
    assert ticks.instance.get_dynamic_partitions(drops.name or "") == ["a.csv"]
    assert ticks.tick() == ["a.csv"]
    assert ticks.tick(dies=True) == []
    assert ticks.ticks(2) == []
    assert len(ticks.runs) == 1


@pytest.mark.unit
def test_a_cursor_that_was_reset_or_spoiled_takes_nothing_again(ticks: Ticks) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(3)
    for cursor in (None, "", "{", "[]", "3", '{"waiting": 3}', '{"later": {"a": "b"}}'):
        ticks.cursor = cursor
        assert [ticks.tick(), ticks.tick()] == [[], []]


@pytest.mark.unit
def test_a_skipped_tick_says_why(ticks: Ticks) -> None:
    folder = ticks.folder
    ticks.folder = folder / "missing"
    assert ticks.reason() == (
        f"The folder {folder / 'missing'} cannot be listed (No such file or directory):"
        " make it, or name another in CRM_DROP_DIR."
    )
    ticks.folder = folder
    for number in range(5):
        (folder / f"{number}.csv").touch()
    assert ticks.reason() == "Waiting until they are completely written: 0.csv, 1.csv, 2.csv and 2 more."


@pytest.mark.integration
def test_ten_thousand_files_take_less_than_a_second_a_tick_and_leave_a_small_cursor(
    ticks: Ticks, given: Database
) -> None:
    for number in range(10_000):
        (ticks.folder / f"{number:05}.csv").touch()
    assert ticks.ticks(2) == [f"{number:05}.csv" for number in range(MAX_RUNS)]
    files = DropFolder(folder=str(ticks.folder)).listing().files
    with given.transaction() as connection:
        connection.execute(
            "insert into drop_file (sha256, file_name, bytes, first_seen_at, status)"
            " select encode(sha256(n::text::bytea), 'hex'), n::text, 0, now(), 'refused'"
            " from generate_series(0, 9999) n"
        )
        digests = [sha256 for (sha256,) in connection.execute("select sha256 from drop_file order by file_name::int")]
    read = [f"{file.content} {sha256}" for file, sha256 in zip(files, digests, strict=True)]
    ticks.instance.add_dynamic_partitions("read_drop_files", read)
    seconds = []
    for _ in range(3):
        began = time.process_time()  # of the processor: whatever else the machine does
        assert ticks.tick() == []
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1
    assert len(ticks.cursor or "") < 100, "10,000 files that were validated are not in it"


@pytest.mark.unit
def test_the_cursor_of_a_great_backlog_stays_small(ticks: Ticks) -> None:
    for number in range(3_000):
        (ticks.folder / f"{number}.csv").touch()
    ticks.tick()
    assert len(Cursor.read(ticks.cursor).waiting) == MAX_WAITING
    assert len(ticks.cursor or "") < 50_000


@pytest.mark.unit
def test_the_sensors_run_unless_somebody_stops_them_and_know_their_targets() -> None:
    repository = defs().get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {
        drop_folder.name,
        undone_drops.name,
        drops_from_elsewhere.name,
        "alerts",
        report_after_drops.name,
    }
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert drop_folder.job_name == "ingest_drop"


# What is undone


@pytest.mark.integration
def test_an_undone_drop_says_so_on_its_partition_once(given: Database, tmp_path: Path) -> None:
    with given.transaction() as connection:
        reference_data(connection)
    taken = [ingest(given, write_drop(tmp_path / name, [an_entity(name)])) for name in ("a.csv", "elsewhere.csv")]
    cursor: str | None = None
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(drops.name or "", ["a.csv"])

        def seen() -> list[tuple[str | None, object, object, object]]:
            nonlocal cursor
            with dg.build_sensor_context(instance, cursor, resources={"crm_database": CrmDatabase()}) as context:
                result = undone_drops(context)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor
            found = [{name: value.value for name, value in event.metadata.items()} for event in result.asset_events]
            return [
                (event.partition, said["status"], said["by"], said["reason"])
                for event, said in zip(result.asset_events, found, strict=True)
            ]

        assert seen() == []
        kinds: tuple[Kind, ...] = ("undo", "reinstate")
        for report in taken:
            for kind in kinds:
                with given.connect(autocommit=True) as connection:
                    undo_drop(connection, report.sha256 or "", kind, Who("ann", "a test"))
        assert seen() == [("a.csv", "undone", "ann", "a test"), ("a.csv", "merged", "ann", "a test")]
        assert seen() == []
