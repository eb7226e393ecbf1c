"""What a new user sees in Dagster's UI: drops arrive, their runs, checks, rejects and report; then all is run again.

CRM_TEST_SCREENSHOTS names a folder to keep pictures of it in.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from psycopg.sql import SQL, Identifier
from running import ASKING, Up, alive, new_home, running_up, until
from servers import Server

from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from crm_core.timeline.invariants import check

pytest_plugins = ("browser",)
pytestmark = pytest.mark.integration

INITIAL = DATA / "drops" / "2020-01-01_initial.csv"
LATE = INITIAL.with_name("2022-02-15_late.csv")
DIRTY = INITIAL.with_name("2022-06-01_dirty.csv")
AGAIN = "2023-01-01_again.csv"  # the bytes of INITIAL
NAMES = [INITIAL.name, LATE.name, DIRTY.name, AGAIN]
SECONDS = 150  # a minute where nothing else runs; tests share their machine
WAITING = "select from pg_locks where relation = 'drop_file'::regclass and not granted"
TABLES = ("entity_type", "detail_type", "entity", "entity_detail", "ledger", "drop_file", "reject", "batch")


@pytest.fixture(scope="module")
def up(server: Server) -> Iterator[Up]:
    """A `crm up` over a server of the user's own, who has dropped a file and then a late, a dirty and a known one."""
    with new_home() as home, server.clone("template0") as given, running_up(home, given) as up:
        for file, name in ((INITIAL, INITIAL.name), (LATE, LATE.name), (DIRTY, DIRTY.name), (INITIAL, AGAIN)):
            up.drop(file, name)
        until(lambda: {run.drop for run in up.runs() if run.status == "SUCCESS"}.issuperset(NAMES), SECONDS, ASKING)
        yield up


@pytest.fixture(scope="module")
def ui(up: Up, browser: Browser) -> Iterator[Page]:
    """A page on a desk, the same for all tests: the UI's scripts are large, and loaded once."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page


def stands(database: Database) -> list[tuple[object, ...]]:
    """Every row of every table."""
    query = SQL(" union all ").join(
        SQL("select {}, t::text from {} t").format(table, Identifier(table)) for table in TABLES
    )
    with database.connect() as connection:
        return sorted(connection.execute(query).fetchall())


def freshness(up: Up, asset: str) -> str:
    """Return what the daemon found when it last looked whether an asset is as new as it should be."""
    path = f'assetNodeOrError(assetKey: {{path: ["{asset}"]}})'
    said = up.ask(f"{{ {path} {{ ... on AssetNode {{ freshnessStatusInfo {{ freshnessStatus }} }} }} }}")
    return str(said["assetNodeOrError"]["freshnessStatusInfo"]["freshnessStatus"])


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("CRM_TEST_SCREENSHOTS"):
        page.wait_for_timeout(1000)  # pictures of plots and graphs that still move are of no use
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_runs_of_the_drops_are_seen(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/runs")
    for name in NAMES:
        expect(ui.get_by_text(f"partition: {name}")).to_be_visible()
    expect(ui.get_by_text("Failure")).to_have_count(0)
    expect(ui.get_by_text("Join the community")).to_have_count(0)
    keep(ui, "runs")


def test_the_graph_tells_the_flow(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/asset-groups")
    expect(ui.get_by_text("Global asset lineage")).to_be_visible()
    keep(ui, "groups")
    ui.goto(f"{up.address}/assets/data_quality_report?view=lineage&lineageScope=upstream&lineageDepth=4")
    for asset in ("drop_file", "staged_changes", "rejected_rows", "entity_versions", "detail_versions", "invariants"):
        expect(ui.get_by_text(asset, exact=True).filter(visible=True).first).to_be_visible()
    keep(ui, "lineage")


def test_the_rejected_rows_of_a_drop_are_seen_with_line_and_reason(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/assets/rejected_rows?view=partitions&partition={DIRTY.name}")
    expect(ui.get_by_text("Latest materialization")).to_be_visible()
    expect(ui.get_by_role("row", name=re.compile("rows_rejected 13"))).to_be_visible()
    expect(ui.get_by_role("row", name="details_not_json 2", exact=True)).to_be_visible()
    keep(ui, "rejects")


def test_the_checks_of_a_drop_are_seen(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/assets/entity_versions?view=checks")
    for name in ("entities_are_the_fold", "entity_hashdiffs", "entity_intervals", "one_current_entity"):
        expect(ui.get_by_text(name).first).to_be_visible()
    expect(ui.get_by_text("Succeeded")).to_have_count(5)
    keep(ui, "checks")


def test_a_repeat_byte_for_byte_is_seen_to_change_nothing(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/assets/staged_changes?view=partitions&partition={AGAIN}")
    expect(ui.get_by_text("replayed").first).to_be_visible()
    expect(ui.get_by_role("row", name=re.compile("rows_changed 0"))).to_be_visible()
    keep(ui, "replay")


def test_the_report_is_made_and_opens(up: Up, ui: Page) -> None:
    until(lambda: freshness(up, "data_quality_report") == "HEALTHY", SECONDS, ASKING)
    ui.goto(f"{up.address}/assets/data_quality_report")
    for text in ("Passing", "data-quality.html"):
        expect(ui.get_by_text(text).first).to_be_visible()
    keep(ui, "report-asset")
    ui.goto((up.home / "reports" / "data-quality.html").as_uri())
    for name in (INITIAL.name, LATE.name, DIRTY.name):
        expect(ui.get_by_text(name).filter(visible=True).first).to_be_visible()
    keep(ui, "report")


def test_the_automation_is_on(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/automation")
    expect(ui.get_by_text("drop_folder")).to_be_visible()
    expect(ui.locator("input[type=checkbox]:checked")).to_have_count(8)
    keep(ui, "automation")


@pytest.mark.idempotency
def test_one_drop_run_again_and_all_of_them_backfilled_by_clicks_change_nothing(up: Up, ui: Page) -> None:
    with up.database() as database:
        before = stands(database)
        runs = len(up.runs())
        ui.goto(f"{up.address}/assets/entity_versions?view=partitions&partition={LATE.name}")
        materialize(ui, "Launch 1 run")
        ui.goto(f"{up.address}/assets/entity_versions?view=partitions")
        materialize(ui, "Launch backfill", partitions="All")  # the daemon looks at backfills every half minute
        until(lambda: [run.status for run in up.runs(LATE.name)] == ["SUCCESS"] * 2, SECONDS, ASKING)
        until(lambda: backfilled(up) == ["SUCCESS"], SECONDS, ASKING)
        ui.goto(f"{up.address}/runs")
        expect(ui.get_by_text("Backfill", exact=True)).to_be_visible()
        expect(ui.get_by_text("Failure")).to_have_count(0)
        keep(ui, "after-backfill")

        assert len(up.runs()) >= runs + 2
        assert {run.status for run in up.runs()} <= {"SUCCESS", "QUEUED", "STARTING", "STARTED"}
        assert stands(database) == before
        assert len(before) > 100
        with database.connect(autocommit=True) as connection:
            assert [found for found in check(connection) if not found.holds] == []
    ui.goto(f"{up.address}/assets/entity_versions?view=checks")
    expect(ui.get_by_text("Succeeded")).to_have_count(5)


def test_a_run_that_waits_for_a_lock_is_terminated_by_a_click_and_stays_so(up: Up, ui: Page) -> None:
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("lock table drop_file in share mode")
        up.launch(DIRTY.name)
        until(lambda: observer.execute(WAITING).fetchall(), 60)
        run = up.runs(DIRTY.name)[0]
        ui.goto(f"{up.address}/runs/{run.run_id}")
        ui.get_by_role("button", name="Terminate").click()
        keep(ui, "terminate")
        ui.get_by_role("dialog").get_by_role("button", name="Terminate").click()
        until(lambda: not observer.execute(WAITING).fetchall(), 20)
        until(lambda: up.runs(DIRTY.name)[0].status == "CANCELED", 20, ASKING)
        assert up.runs(DIRTY.name)[0].run_id == run.run_id, "it is not tried again"
        keep(ui, "terminated")


def test_ctrl_c_ends_it_all_with_the_ui_open(up: Up, ui: Page) -> None:
    ui.goto(f"{up.address}/runs")  # it keeps a connection open
    everything = up.all_processes()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(15) == 0
    assert alive(everything) == []
    assert up.said().endswith("Stopping …\nStopped.\n")


def materialize(ui: Page, launch: str, partitions: str | None = None) -> None:
    """Click through what the UI asks before it launches."""
    ui.get_by_role("button", name="Materialize").first.click()
    ui.get_by_role("button", name="Confirm").click()  # that one transaction makes the five assets
    dialog = ui.get_by_role("dialog")
    if partitions:
        dialog.get_by_role("button", name=partitions, exact=True).click()
    keep(ui, launch.lower().replace(" ", "-"))
    dialog.get_by_role("button", name=launch).click()
    expect(dialog).to_be_hidden()


def backfilled(up: Up) -> list[str]:
    """The state of each run of a backfill."""
    return [run.status for run in up.runs() if "dagster/backfill" in run.tags]
