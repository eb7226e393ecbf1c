"""What the sensor does after a run: nothing, another run at once, or one after a pause."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from servers import Server
from ticks import ENDED, FAILED, Ticks

from crm_core.postgres.connection import Database
from pipelines.sensors import LONGEST_PAUSE, MAX_RUNS


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """Let the sensor's clock run ahead."""
    with pytest.MonkeyPatch.context() as patch:
        ahead = time.time() + seconds
        patch.setattr(time, "time", lambda: ahead)
        yield


# What a run came to


@pytest.mark.integration
def test_what_the_database_has_validated_is_not_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    assert ticks.ticks(2) == ["a.csv"]
    assert ticks.reason() == "Under way, or waiting for those that are: 1."
    ticks.read(given, "a.csv")
    with later(10 * LONGEST_PAUSE):
        assert ticks.ticks(3) == []
    assert ticks.reason() == f"Nothing new: each of the 1 files in {ticks.folder} was taken in or refused."


@pytest.mark.integration
def test_what_a_restored_database_holds_no_more_is_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.read(given, "a.csv")
    assert ticks.ticks(2) == []
    with given.transaction() as connection:
        connection.execute("delete from drop_file")
    with later(61):
        assert ticks.ticks(2) == ["a.csv"]
        assert ticks.ticks(3) == []


@pytest.mark.integration
def test_a_drop_that_was_begun_and_not_validated_is_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.read(given, "a.csv", status="seen")
    with later(61):
        assert ticks.ticks(2) == ["a.csv"]


@pytest.mark.unit
def test_a_file_whose_run_failed_is_asked_for_again_and_again_at_longer_intervals(ticks: Ticks) -> None:
    (ticks.folder / "a.csv").touch()
    assert ticks.ticks(2) == ["a.csv"]
    for pause in (60, 120, 240):
        ticks.end("a.csv", FAILED)
        assert ticks.ticks(3) == [], "at once it would fail again"
        assert "Their runs failed and are requested again, the first at " in ticks.reason()
        with later(pause - 5):
            assert ticks.ticks(2) == []
        with later(pause + 5):
            assert ticks.ticks(3) == ["a.csv"]


@pytest.mark.unit
def test_the_interval_has_a_bound_and_a_lost_cursor_does_not_shorten_it(ticks: Ticks) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    for _ in range(12):
        ticks.end("a.csv", FAILED, ago=2 * LONGEST_PAUSE)
        assert ticks.ticks(2) == ["a.csv"]
    ticks.end("a.csv", FAILED)
    ticks.cursor = None
    assert ticks.ticks(3) == []
    with later(LONGEST_PAUSE + 5):
        assert ticks.ticks(2) == ["a.csv"]


@pytest.mark.unit
def test_a_file_that_changed_after_its_run_failed_is_asked_for_at_once(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.touch()
    ticks.ticks(2)
    ticks.end("a.csv", FAILED)
    file.write_text("whole")
    assert ticks.ticks(3) == ["a.csv"]


@pytest.mark.unit
def test_a_run_that_somebody_ended_is_not_started_again_and_the_sensor_says_what_to_do(ticks: Ticks) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.end("a.csv", ENDED)
    with later(10 * LONGEST_PAUSE):
        assert ticks.ticks(3) == []
    assert ticks.reason() == "Their runs were stopped by hand; materialize their partitions: a.csv."


@pytest.mark.unit
def test_files_that_fail_do_not_hold_up_others(ticks: Ticks) -> None:
    for number in range(2 * MAX_RUNS):
        (ticks.folder / f"a{number:03}.csv").touch()
    for _ in range(2):
        for name in filter(None, ticks.ticks(2)):
            ticks.end(name, FAILED)
    assert len(ticks.runs) == 2 * MAX_RUNS
    (ticks.folder / "b.csv").touch()
    assert "b.csv" in ticks.ticks(6)


@pytest.mark.unit
def test_no_more_runs_are_under_way_than_the_queue_should_hold(ticks: Ticks) -> None:
    for number in range(3 * MAX_RUNS):
        (ticks.folder / f"{number:03}.csv").touch()
    assert len(ticks.ticks(5)) == MAX_RUNS
    ticks.end("000.csv", FAILED)
    assert ticks.ticks(3) == [f"{MAX_RUNS:03}.csv"]


@pytest.mark.integration
@pytest.mark.parametrize("away", ["host=/nowhere dbname=crm", "unmigrated"])
def test_while_the_database_cannot_be_asked_the_sensor_says_so_and_goes_on_when_it_can(
    ticks: Ticks, given: Database, server: Server, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.read(given, "a.csv")
    (ticks.folder / "b.csv").touch()
    with server.clone("template0") as empty:
        monkeypatch.setenv("CRM_DATABASE_URL", empty.conninfo if away == "unmigrated" else away)
        assert ticks.ticks(3) == []
        reason = ticks.reason()
    assert reason.startswith("The database cannot be reached, so no run is requested: ")
    assert "\n" not in reason
    monkeypatch.setenv("CRM_DATABASE_URL", given.conninfo)
    assert ticks.ticks(2) == ["b.csv"]
