"""The sensor of the drop folder: each complete file gets one run, however ticks end and whatever lies in the folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipelines.definitions import defs
from pipelines.partitions import drops
from pipelines.resources import DropFolder
from pipelines.sensors import REQUESTS, Cursor, drop_folder, report_after_drops

pytestmark = pytest.mark.unit


class Ticks:
    """The daemon's part: it keeps the cursor, adds the partitions and starts one run for each run key."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.cursor: str | None = None
        self.runs: list[str] = []  # their run keys

    def tick(self, *, dies: bool = False) -> list[str | None]:
        """Tick, and answer the partitions that were asked for; one that dies has added partitions and no more."""
        result = self.evaluate()
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        if dies:
            return []
        self.cursor = result.cursor
        asked = [request for request in result.run_requests or [] if request.run_key not in self.runs]
        known = self.instance.get_dynamic_partitions(drops.name or "")
        assert all(request.partition_key in known for request in asked)
        self.runs += [request.run_key or "" for request in asked]
        return [request.partition_key for request in asked]

    def evaluate(self) -> dg.SensorResult:
        resources = {"drop_folder": DropFolder(folder=str(self.folder))}
        with dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context:
            result = drop_folder(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def reason(self) -> str:
        reason = self.evaluate().skip_reason
        assert reason is not None
        return reason.skip_message or ""


@pytest.fixture
def ticks(tmp_path: Path) -> Iterator[Ticks]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(tmp_path, instance)


def test_a_file_is_taken_when_it_stands_still_for_a_tick(ticks: Ticks, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("display_name")
    assert ticks.tick() == []
    file.write_text("display_name,entity_type")
    assert ticks.tick() == [], "it has grown since"
    assert ticks.tick() == ["a.csv"]
    assert ticks.tick() == []
    assert ticks.tick() == []


def test_a_file_renamed_into_place_is_taken_and_its_beginnings_are_not(ticks: Ticks, tmp_path: Path) -> None:
    for name in (".a.csv", "a.csv.tmp", "a.csv.part", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    assert ticks.tick() == []
    assert ticks.tick() == []
    assert "no CSV file" in ticks.reason()
    (tmp_path / "a.csv.part").rename(tmp_path / "a.csv")
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]


def test_drops_are_taken_in_order_of_their_names(ticks: Ticks, tmp_path: Path) -> None:
    for name in ("2024-02.csv", "2024-10.csv", "2024-01.CSV"):
        (tmp_path / name).touch()
    ticks.tick()
    assert ticks.tick() == ["2024-01.CSV", "2024-02.csv", "2024-10.csv"]
    assert ticks.instance.get_dynamic_partitions(drops.name or "") == ["2024-01.CSV", "2024-02.csv", "2024-10.csv"]


def test_a_changed_file_is_a_new_run_of_the_same_partition(ticks: Ticks, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x")
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]
    file.write_text("y")
    os.utime(file, (1, 1))  # the same size, another time, and an older one
    assert [ticks.tick(), ticks.tick(), ticks.tick()] == [[], ["a.csv"], []]
    assert len(set(ticks.runs)) == 2


def test_a_file_whose_name_is_no_key_gets_one(ticks: Ticks, tmp_path: Path) -> None:
    (tmp_path / "März, neu.csv").touch()
    ticks.tick()
    (key,) = ticks.tick()
    assert key is not None
    assert key.startswith("M_rz__neu.csv_")
    assert DropFolder(folder=str(tmp_path)).find(key) == tmp_path / "März, neu.csv"


def test_a_partition_that_somebody_made_up_leads_to_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "secret.csv").touch()
    folder = DropFolder(folder=str(tmp_path / "drops"))
    assert [folder.find(key) for key in ("../secret.csv", str(tmp_path / "secret.csv"), "..", "")] == [None] * 4


def test_a_file_that_disappears_is_no_failure_and_may_come_back(ticks: Ticks, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.touch()
    ticks.tick()
    file.unlink()
    assert ticks.tick() == []
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    assert ticks.tick() == []
    file.touch()
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]


def test_a_tick_that_dies_between_its_writes_loses_no_run_and_makes_none_twice(ticks: Ticks, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    ticks.tick()
    assert ticks.tick(dies=True) == []
    assert ticks.instance.get_dynamic_partitions(drops.name or "") == ["a.csv"]
    assert ticks.tick() == ["a.csv"]
    assert ticks.tick(dies=True) == []
    assert [ticks.tick(), ticks.tick()] == [[], []]
    assert ticks.runs == list(dict.fromkeys(ticks.runs))


def test_a_cursor_that_was_reset_or_spoiled_takes_nothing_again(ticks: Ticks, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    for _ in range(3):
        ticks.tick()
    for cursor in (None, "", "{", "[]", "3", '{"waiting": 3}'):
        ticks.cursor = cursor
        assert [ticks.tick(), ticks.tick()] == [[], []]


def test_a_skipped_tick_says_why(ticks: Ticks, tmp_path: Path) -> None:
    ticks.folder = tmp_path / "missing"
    assert ticks.reason() == f"There is no folder {tmp_path / 'missing'}: make it, or name another in CRM_DROP_DIR."
    ticks.folder = tmp_path
    assert ticks.reason() == f"There is no CSV file in {tmp_path}: drop one there."
    for number in range(5):
        (tmp_path / f"{number}.csv").touch()
    assert ticks.reason() == "Waiting until nobody writes to them any more: 0.csv, 1.csv, 2.csv and 2 more."
    for _ in range(3):
        ticks.tick()
    assert ticks.reason() == f"Nothing new: each of the 5 files in {tmp_path} has had its run."


def test_ten_thousand_files_take_less_than_a_second_a_tick_and_leave_a_small_cursor(
    ticks: Ticks, tmp_path: Path
) -> None:
    names = [f"{number:05}.csv" for number in range(10_000)]
    for name in names:
        (tmp_path / name).touch()
    ticks.tick()
    assert ticks.tick() + ticks.tick() == names[: 2 * REQUESTS]
    folder = DropFolder(folder=str(tmp_path))
    ticks.instance.add_dynamic_partitions("requested_drop_files", [file.run_key for file in folder.files()])
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert ticks.tick() == []
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1
    assert len(ticks.cursor or "") < 100, "10,000 files that have had their runs are not in it"


def test_the_cursor_of_a_great_backlog_stays_small(ticks: Ticks, tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"{number}.csv").touch()
    ticks.tick()
    assert len(Cursor.read(ticks.cursor).waiting) == 1_000
    assert len(ticks.cursor or "") < 50_000


def test_the_sensors_run_unless_somebody_stops_them_and_know_their_targets() -> None:
    repository = defs().get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {drop_folder.name, report_after_drops.name}
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert drop_folder.job_name == "ingest_drop"
