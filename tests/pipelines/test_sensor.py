"""The sensor of the drop folder: a content gets runs until the database has judged it, and never many at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from servers import Server

from crm_core.postgres.connection import Database
from pipelines.definitions import defs
from pipelines.folder import DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.partitions import drops, remember_read
from pipelines.resources import CrmDatabase
from pipelines.sensors import LONGEST_PAUSE, REQUESTS, WAITING, Cursor, drop_folder, report_after_drops

SHA = "ab" * 32
FAILED, DONE, ENDED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED
UNDER_WAY = dg.DagsterRunStatus.STARTED


class Ticks:
    """The daemon's part: it keeps the cursor, adds the partitions and starts one run for each run key."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.cursor: str | None = None
        self.runs: dict[str, dg.DagsterRun] = {}  # by run key
        self.said: list[str] = []  # in the log

    def tick(self, *, dies: bool = False) -> list[str | None]:
        """Tick, and answer the partitions that were asked for; one that dies has added partitions and no more."""
        result = self.evaluate()
        for added in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        if dies:
            return []
        self.cursor = result.cursor
        asked = [request for request in result.run_requests or [] if request.run_key not in self.runs]
        known = self.instance.get_dynamic_partitions(drops.name or "")
        assert all(request.partition_key in known for request in asked)
        for request in asked:
            run = create_run_for_test(self.instance, "ingest_drop", tags=dict(request.tags), status=UNDER_WAY)
            self.runs[request.run_key or ""] = run
        return [request.partition_key for request in asked]

    def ticks(self, times: int) -> list[str | None]:
        return [key for _ in range(times) for key in self.tick()]

    def evaluate(self) -> dg.SensorResult:
        resources = {"drop_folder": DropFolder(folder=str(self.folder)), "crm_database": CrmDatabase()}
        with dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context:
            context.log.warning = self.said.append  # type: ignore[method-assign, assignment]
            result = drop_folder(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def reason(self) -> str:
        reason = self.evaluate().skip_reason
        assert reason is not None
        return reason.skip_message or ""

    def end(self, name: str, status: dg.DagsterRunStatus, ago: float = 0.0) -> None:
        """End the newest run of a file, some seconds ago."""
        (*_, run) = (run for run in self.runs.values() if run.tags[FILE_TAG].startswith(f"{name} "))
        at = time.time() - ago
        kind = {
            FAILED: dg.DagsterEventType.RUN_FAILURE,
            DONE: dg.DagsterEventType.RUN_SUCCESS,
            ENDED: dg.DagsterEventType.RUN_CANCELED,
        }[status]
        event = dg.DagsterEvent(event_type_value=kind.value, job_name="ingest_drop")
        self.instance.handle_new_event(
            dg.EventLogEntry(  # type: ignore[no-untyped-call]
                error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=at, dagster_event=event,
                job_name="ingest_drop",
            )
        )  # fmt: skip

    def judge(self, database: Database, name: str, status: str = "refused") -> None:
        """Do what a run does that reads a file: the database judges its bytes."""
        file = next(file for file in DropFolder(folder=str(self.folder)).listing().files if file.path.name == name)
        with database.transaction() as connection:
            connection.execute(
                "insert into drop_file (sha256, file_name, bytes, first_seen_at, status)"
                " values (%s, %s, 0, now(), %s) on conflict do nothing",
                (SHA, name, status),
            )
        remember_read(self.instance, file.content, SHA)
        self.end(name, DONE)


@pytest.fixture
def ticks(tmp_path: Path) -> Iterator[Ticks]:
    folder = tmp_path / "drops"
    folder.mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(folder, instance)


@pytest.fixture
def given(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database that the sensor asks, too."""
    with server.clone() as database:
        monkeypatch.setenv("CRM_DATABASE_URL", database.conninfo)
        yield database


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """Let the sensor's clock run ahead."""
    with pytest.MonkeyPatch.context() as patch:
        ahead = time.time() + seconds
        patch.setattr(time, "time", lambda: ahead)
        yield


# A file that arrives


@pytest.mark.unit
def test_a_file_is_taken_when_it_stands_still_for_a_tick(ticks: Ticks) -> None:
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
    assert ticks.reason() == f"There is no CSV file in {ticks.folder}: drop one there."
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
def test_a_file_whose_name_is_no_key_gets_one(ticks: Ticks) -> None:
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
def test_a_file_that_disappears_is_no_failure_and_may_come_back(ticks: Ticks) -> None:
    file = ticks.folder / "a.csv"
    file.touch()
    ticks.tick()
    file.unlink()
    assert ticks.tick() == []
    file.touch()
    assert [ticks.tick(), ticks.tick()] == [[], ["a.csv"]]


# What a run came to


@pytest.mark.integration
def test_what_the_database_has_judged_is_not_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    assert ticks.ticks(2) == ["a.csv"]
    assert ticks.reason() == "Under way, or waiting for those that are: 1."
    ticks.judge(given, "a.csv")
    with later(10 * LONGEST_PAUSE):
        assert ticks.ticks(3) == []
    assert ticks.reason() == f"Nothing new: each of the 1 files in {ticks.folder} was taken in or refused."


@pytest.mark.integration
def test_what_a_restored_database_holds_no_more_is_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.judge(given, "a.csv")
    assert ticks.ticks(2) == []
    with given.transaction() as connection:
        connection.execute("delete from drop_file")
    with later(61):
        assert ticks.ticks(2) == ["a.csv"]
        assert ticks.ticks(3) == []


@pytest.mark.integration
def test_a_drop_that_was_begun_and_not_judged_is_asked_for_again(ticks: Ticks, given: Database) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.judge(given, "a.csv", status="seen")
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
    for number in range(2 * REQUESTS):
        (ticks.folder / f"a{number:03}.csv").touch()
    for _ in range(2):
        for name in filter(None, ticks.ticks(2)):
            ticks.end(name, FAILED)
    assert len(ticks.runs) == 2 * REQUESTS
    (ticks.folder / "b.csv").touch()
    assert "b.csv" in ticks.ticks(6)


@pytest.mark.unit
def test_no_more_runs_are_under_way_than_the_queue_should_hold(ticks: Ticks) -> None:
    for number in range(3 * REQUESTS):
        (ticks.folder / f"{number:03}.csv").touch()
    assert len(ticks.ticks(5)) == REQUESTS
    ticks.end("000.csv", FAILED)
    assert ticks.ticks(3) == [f"{REQUESTS:03}.csv"]


@pytest.mark.integration
@pytest.mark.parametrize("away", ["host=/nowhere dbname=crm", "unmigrated"])
def test_while_the_database_cannot_be_asked_the_sensor_says_so_and_goes_on_when_it_can(
    ticks: Ticks, given: Database, server: Server, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    (ticks.folder / "a.csv").touch()
    ticks.ticks(2)
    ticks.judge(given, "a.csv")
    (ticks.folder / "b.csv").touch()
    with server.clone("template0") as empty:
        monkeypatch.setenv("CRM_DATABASE_URL", empty.conninfo if away == "unmigrated" else away)
        assert ticks.ticks(3) == []
        reason = ticks.reason()
    assert reason.startswith("The database cannot be reached, so no run is requested: ")
    assert "\n" not in reason
    monkeypatch.setenv("CRM_DATABASE_URL", given.conninfo)
    assert ticks.ticks(2) == ["b.csv"]


# What is skipped


@pytest.mark.unit
def test_what_is_passed_over_is_told_with_the_cure_and_logged_once(ticks: Ticks) -> None:
    for name in ("book.xlsx", "a.csv.gz", "notes.txt"):
        (ticks.folder / name).touch()
    (ticks.folder / "inner").mkdir()
    (ticks.folder / "dangling.csv").symlink_to(ticks.folder / "nowhere")
    os.mkfifo(ticks.folder / "pipe.csv")
    (ticks.folder / "folder.csv").mkdir()
    assert ticks.ticks(3) == []
    assert sorted(ticks.said) == [
        "a.csv.gz is skipped: an archive is not a drop; unpack it",
        "book.xlsx is skipped: a spreadsheet is not a drop; save it as CSV UTF-8",
        "dangling.csv is skipped: a link that leads nowhere; put the file itself here",
        "folder.csv is skipped: subfolders are not read; put its files here",
        "inner is skipped: subfolders are not read; put its files here",
        "notes.txt is skipped: only files that end with .csv are drops; rename it if it is one",
        "pipe.csv is skipped: not a regular file; save it as one",
    ]
    assert ticks.reason().endswith(
        " Skipped: a.csv.gz (an archive is not a drop; unpack it), book.xlsx (a spreadsheet is not a drop; save it"
        " as CSV UTF-8), dangling.csv (a link that leads nowhere; put the file itself here) and 4 more."
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
    assert [line.split(" is passed")[0] for line in ticks.said] == ["a�[31m�b.txt", "�.txt"]


@pytest.mark.unit
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told_and_taken_when_it_may(ticks: Ticks) -> None:
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
    assert ticks.ticks(2) == [f"{number:05}.csv" for number in range(REQUESTS)]
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
    assert len(ticks.cursor or "") < 100, "10,000 files that were judged are not in it"


@pytest.mark.unit
def test_the_cursor_of_a_great_backlog_stays_small(ticks: Ticks) -> None:
    for number in range(3_000):
        (ticks.folder / f"{number}.csv").touch()
    ticks.tick()
    assert len(Cursor.read(ticks.cursor).waiting) == WAITING
    assert len(ticks.cursor or "") < 50_000


@pytest.mark.unit
def test_the_sensors_run_unless_somebody_stops_them_and_know_their_targets() -> None:
    repository = defs().get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {drop_folder.name, report_after_drops.name}
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert drop_folder.job_name == "ingest_drop"
