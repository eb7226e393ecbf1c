"""The sensor of alerts: each fault is reported once, and once more when it is mended, whatever the webhook does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, day, reference_data, write_drop
from project import Project, a_project
from receiving import Hook, a_hook, a_mail_server
from servers import Server

from crm_core.alerts.delivery import Webhook
from crm_core.alerts.message import Fault
from crm_core.drops.held import approve, decline
from crm_core.drops.ingest import Options, ingest
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.timeline.undo import Who
from pipelines.alerts import alerts
from pipelines.definitions import defs
from pipelines.outbox import ALONE, FIRST_PAUSE, MAX_WAITING, Outbox
from pipelines.resources import CrmDatabase

pytestmark = pytest.mark.integration


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[Project]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        with a_project(database, tmp_path / "drops") as project:
            yield project


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with a_hook() as hook:
        monkeypatch.setenv("CRM_ALERT_WEBHOOK", hook.url)
        monkeypatch.setenv("CRM_ALERT_LINK", "http://ui")
        yield hook


class Watch:
    """The daemon's part: it keeps the cursor."""

    def __init__(self, project: Project, hook: Hook) -> None:
        self.project, self.hook = project, hook
        self.cursor: str | None = None
        self.said = ""

    def tick(self) -> list[tuple[str, str, str]]:
        """Tick, and answer what was told: state, kind and what."""
        before = len(self.hook.posts)
        with dg.build_sensor_context(
            self.project.instance, self.cursor, resources={"crm_database": CrmDatabase()}
        ) as context:
            result = alerts(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        assert result.skip_reason is not None
        self.said = result.skip_reason.skip_message or ""
        told = [json.loads(body) for _, body in self.hook.posts[before:]]
        return [(one["state"], one["kind"], one["what"]) for one in told]

    def wait_over(self) -> None:
        """Let the pauses after failures be over."""
        outbox = Outbox.read(self.cursor, 0)
        for queue in outbox.queues.values():
            queue.not_before = 0
        self.cursor = outbox.write()


@pytest.fixture
def watch(project: Project, hook: Hook) -> Watch:
    watch = Watch(project, hook)
    assert watch.tick() == []
    return watch


def a_bad_file(project: Project, name: str = "bad.csv") -> str:
    (project.folder / name).write_text("colour\nred\n")
    return project.know(name)


# What is reported


def test_a_refused_drop_is_one_fault_and_mended_when_its_name_comes_again(project: Project, watch: Watch) -> None:
    project.ingest(a_bad_file(project))
    ((state, kind, what),) = watch.tick()
    assert (state, kind) == ("fault", "drop_refused")
    assert what.startswith("The drop bad.csv was refused: ")
    assert "\n" not in what
    (post,) = watch.hook.posts
    assert json.loads(post[1])["where"] == "http://ui/assets/drop_file?partition=bad.csv"
    assert [watch.tick() for _ in range(3)] == [[], [], []]
    write_drop(project.folder / "bad.csv", [an_entity()])
    project.materialize("bad.csv")
    assert watch.tick() == [("mended", "drop_refused", what)]
    assert watch.tick() == []


def test_a_drop_that_was_refused_without_a_run_is_told_too(project: Project, watch: Watch) -> None:
    (project.folder / "other.csv").write_text("colour\nred\n")
    ingest(project.database, project.folder / "other.csv")
    ((_, kind, what),) = watch.tick()
    assert (kind, what[:19]) == ("drop_refused", "The drop other.csv ")


def test_what_went_wrong_before_the_first_tick_is_not_told(project: Project, hook: Hook) -> None:
    project.ingest(a_bad_file(project))
    time.sleep(0.01)
    watch = Watch(project, hook)
    assert [watch.tick(), watch.tick()] == [[], []]


def test_a_failed_run_is_told_with_its_address_and_mended_by_the_next(project: Project, watch: Watch) -> None:
    key = project.know("gone.csv")
    failed = project.ingest(key)
    assert watch.tick() == [("fault", "run_failed", "A run of ingest_drop for gone.csv failed")]
    assert json.loads(watch.hook.posts[0][1])["where"] == f"http://ui/runs/{failed.result.run_id}"
    project.ingest(key)
    assert watch.tick() == [], "it failed again: that is the same fault"
    write_drop(project.folder / "gone.csv", [an_entity()])
    project.materialize(key)
    assert watch.tick() == [("mended", "run_failed", "A run of ingest_drop for gone.csv failed")]


def test_a_failed_check_of_all_data_is_one_fault_and_its_run_none(project: Project, watch: Watch) -> None:
    write_drop(project.folder / "a.csv", [an_entity()])
    project.materialize(project.know("a.csv"))
    project.execute("update entity set hashdiff = sha256('x')")
    project.run("integrity")
    told = watch.tick()
    assert {(state, kind) for state, kind, _ in told} == {("fault", "check_failed")}
    assert any(what.startswith("The check entity_hashdiffs failed: 1 breaches") for _, _, what in told)
    assert watch.tick() == []
    project.execute("delete from entity", "delete from ledger", "delete from batch", "delete from drop_file")
    project.run("integrity")
    mended = watch.tick()
    assert sorted(what for _, _, what in mended) == sorted(what for _, _, what in told)
    assert {state for state, _, _ in mended} == {"mended"}


def test_a_drop_of_which_most_rows_are_bad_is_told(project: Project, watch: Watch) -> None:
    bad = {"display_name": "Bad", "entity_type": "NONE", "details": "[]"}
    write_drop(project.folder / "a.csv", [an_entity(), bad, bad, bad])
    project.ingest(project.know("a.csv"))
    assert watch.tick() == [("fault", "check_failed", "Most rows of the drop a.csv are bad: 3 of 4 rows were rejected")]
    assert watch.tick() == []


def test_that_no_drop_comes_any_more_is_told(project: Project, watch: Watch) -> None:
    write_drop(project.folder / "a.csv", [an_entity()])
    project.materialize(project.know("a.csv"))
    assert watch.tick() == []
    project.execute("update drop_file set first_seen_at = now() - interval '37 hours'")
    assert watch.tick() == [("fault", "nothing_fresh", "No drop has come for more than 36 hours")]
    assert watch.tick() == []
    write_drop(project.folder / "b.csv", [an_entity("bob")])
    project.materialize(project.know("b.csv"))
    assert watch.tick() == [("mended", "nothing_fresh", "No drop has come for more than 36 hours")]


@pytest.mark.parametrize(("hours", "told"), [("40", []), ("36", ["nothing_fresh"]), ("0", [])])
def test_the_settings_say_how_long_nothing_may_come(
    project: Project, watch: Watch, monkeypatch: pytest.MonkeyPatch, hours: str, told: list[str]
) -> None:
    monkeypatch.setenv("CRM_ALERT_FRESH_HOURS", hours)
    write_drop(project.folder / "a.csv", [an_entity()])
    project.materialize(project.know("a.csv"))
    project.execute("update drop_file set first_seen_at = now() - interval '37 hours'")
    assert [kind for _, kind, _ in watch.tick()] == told


@pytest.mark.parametrize("decide", ["approve", "decline"])
def test_a_held_drop_is_told_until_somebody_decides(project: Project, watch: Watch, decide: str) -> None:
    ingest(project.database, write_drop(project.folder / "all.csv", [an_entity("ada"), an_entity("bob")]))
    only_ada = write_drop(project.folder / "snapshot.csv", [an_entity("ada", at=4)])
    held = ingest(project.database, only_ada, Options(snapshot=SnapshotOptions("PERSON", day(5))))
    assert held.status == "held"
    what = "The drop snapshot.csv is held until somebody approves or declines it"
    assert watch.tick() == [("fault", "drop_held", what)]
    assert watch.tick() == []
    with project.database.connect(autocommit=True) as connection:
        if decide == "approve":
            approve(connection, held.sha256 or "", Who("ann", "it is so"))
        else:
            decline(connection, held.sha256 or "", Who("ann", "it is so"))
    assert watch.tick() == [("mended", "drop_held", what)]


def test_many_faults_at_once_are_one_message(project: Project, watch: Watch) -> None:
    for number in range(ALONE + 1):
        (project.folder / f"{number}.csv").write_text(f"colour\n{number}\n")
        ingest(project.database, project.folder / f"{number}.csv")
    assert len(watch.tick()) == 1
    assert f"(and {ALONE:,} more)" in json.loads(watch.hook.posts[0][1])["text"]


# How it is reported


def test_a_webhook_that_is_down_gets_it_later_and_is_asked_at_growing_pauses(project: Project, watch: Watch) -> None:
    watch.hook.answers = 503
    project.ingest(a_bad_file(project))
    assert len(watch.tick()) == 1, "it was tried"
    assert watch.tick() == [], "it is left alone for a while"
    assert "1 messages wait" in watch.said
    pauses = []
    for _ in range(3):
        watch.wait_over()
        begun = time.time()
        assert len(watch.tick()) == 1
        pauses.append(round((Outbox.read(watch.cursor, 0).queues["webhook"].not_before - begun) / FIRST_PAUSE))
    assert pauses == [2, 4, 8]
    watch.hook.answers = 200
    watch.wait_over()
    assert [kind for _, kind, _ in watch.tick()] == ["drop_refused"]
    assert "0 messages wait" in watch.said
    watch.wait_over()
    assert watch.tick() == []


def test_of_a_fault_that_was_mended_before_it_was_told_nothing_is_said(project: Project, watch: Watch) -> None:
    watch.hook.answers = 503
    project.ingest(a_bad_file(project))
    assert len(watch.tick()) == 1
    write_drop(project.folder / "bad.csv", [an_entity()])
    project.materialize("bad.csv")
    watch.hook.answers = 200
    assert watch.tick() == []
    watch.wait_over()
    assert watch.tick() == []


def test_mail_goes_out_though_the_webhook_is_down(
    project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_mail_server() as box:
        monkeypatch.setenv("CRM_ALERT_MAIL_TO", "ann@example.org")
        monkeypatch.setenv("CRM_ALERT_MAIL_SERVER", f"smtp://{box.address}")
        watch = Watch(project, hook)
        watch.tick()
        hook.answers = 500
        project.ingest(a_bad_file(project))
        watch.tick()
        watch.wait_over()
        watch.tick()
        assert [mail["Subject"][:24] for mail in box.mails] == ["[crm] The drop bad.csv w"], "once"


def test_without_settings_nothing_is_sent_and_the_sensor_says_how_to(project: Project) -> None:
    with dg.build_sensor_context(project.instance, resources={"crm_database": CrmDatabase()}) as context:
        result = alerts(context)
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason is not None
    assert result.skip_reason.skip_message == "Nobody gets alerts: set CRM_ALERT_WEBHOOK or CRM_ALERT_MAIL_TO."


def test_the_sensor_is_on() -> None:
    sensor = defs().get_repository_def().get_sensor_def("alerts")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


@pytest.mark.unit
@pytest.mark.parametrize("text", [None, "", "no", "{}", "[]", '{"since": 1, "told": 3, "queues": {}}'])
def test_a_cursor_that_is_not_valid_begins_now(text: str | None) -> None:
    assert Outbox.read(text, 7.0) == Outbox(7.0)


@pytest.mark.unit
def test_a_cursor_comes_back_as_it_was_and_has_a_bound() -> None:
    hook = Webhook("http://127.0.0.1:9/")
    outbox = Outbox(1.0)
    for number in range(MAX_WAITING + 50):
        fault = Fault(f"drop {number}", "drop_refused", f"{number}", "2026-01-01T00:00:00Z", "x")
        outbox.compare(outbox.told | {fault.key: fault}, [hook])
    assert Outbox.read(outbox.write(), 0) == outbox
    assert len(outbox.queues["webhook"].messages) == MAX_WAITING
