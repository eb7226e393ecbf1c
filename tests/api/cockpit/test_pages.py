"""Every page over the sample data: there for everybody, without faults, by keyboard, on a phone, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, Route, expect
from serving import drop, entity

from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import CHECKS

pytest_plugins = ("browser", "cockpit")
pytestmark = [pytest.mark.integration, pytest.mark.api]

PAGES = (
    "/", "/?as_of=2019-06-01", "/?known_at=2020-01-01", "/search", "/search?q=berlin",
    "/search?q=bank&as_of=2019-01-01",
    "/search?detail_type=capital&detail_value=astana", "/compare", "/compare?from=2021-10-01&to=2021-11-01",
    "/compare?from=2015-06-01&action=changed&field=display_name", "/drops", "/drops/{dirty}", "/quality", "/audit",
    "/audit?op=delete", "/audit?drop=2025-03-01_late.csv", "/entities/{meta}", "/entities/{meta}?as_of=2016-01-01",
    "/entities/{meta}?field=display_name", "/entities/{meta}/change", "/entities/{meta}/end", "/entities/{meta}/keys",
    "/entities/new", "/login",
    "/admin/", "/admin/entity-types", "/admin/entity-types/of/PERSON", "/admin/detail-types/new", "/admin/sources",
    "/admin/profiles", "/admin/accounts",
    "/admin/accounts/new", "/admin/tokens", "/admin/tokens/new", "/admin/rejects", "/admin/ledger",
)  # fmt: skip

ALIKE = (  # as others of the same template, with more of the same
    "/?known_at=2020-01-01", "/search?q=bank&as_of=2019-01-01", "/compare", "/audit", "/audit?drop=2025-03-01_late.csv",
    "/compare?from=2015-06-01&action=changed&field=display_name",
)  # fmt: skip
SCHEMES: dict[Literal["light", "dark"], dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast"]},  # all else is the same as in light
}


@pytest.fixture(scope="module")
def addresses(site: httpx.Client) -> dict[str, str]:
    return {"meta": entity(site, "Meta Platforms, Inc."), "dirty": drop(site, "2023-02-01_dirty.csv")}


@pytest.fixture
def seen(page: Page, site: httpx.Client) -> Iterator[Page]:
    """A page of a browser that reports nothing on its console, but that a conflict was answered as one."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(15_000)
    expect.set_options(timeout=15_000)
    yield page
    assert [text for text in said if "409 (Conflict)" not in text] == []


def at(site: httpx.Client, path: str) -> str:
    """The address of a page for a browser."""
    return str(site.base_url.join(path))


def go(page: Page, site: httpx.Client, path: str, addresses: dict[str, str]) -> None:
    page.goto(at(site, path.format(**addresses)))
    expect(page.locator("[data-again]")).to_have_count(0, timeout=60_000)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_there_under_a_strict_policy(site: httpx.Client, addresses: dict[str, str], path: str) -> None:
    answer = site.get(path.format(**addresses))
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", answer.text), "no script stands in a page"
    assert not re.search(r'\s(style|on[a-z]+)="', answer.text), "no style and no handler stands in a page"
    for host in re.findall(r'(?:src|href)="(https?://[^"]+)"', answer.text):
        pytest.fail(f"the page leads to {host}")


@pytest.mark.parametrize("path", [path for path in PAGES if path not in ALIKE])
def test_nothing_serious_bars_anybody_from_a_page(
    seen: Page, site: httpx.Client, addresses: dict[str, str], path: str
) -> None:
    go(seen, site, path, addresses)
    for scheme, rules in SCHEMES.items():
        seen.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colour is on its way to another
        expect(seen.locator("html")).to_have_attribute("data-bs-theme", scheme)
        found = Axe().run(seen, options=rules).response["violations"]
        serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        shown = [(fault["id"], [node["html"][:200] for node in fault["nodes"][:3]]) for fault in serious]
        assert shown == [], f"{path} in {scheme}"
    seen.set_viewport_size({"width": 390, "height": 844})
    width = seen.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"{path} scrolls sideways on a phone"


def test_a_page_says_as_much_without_javascript(
    browser: Browser, site: httpx.Client, addresses: dict[str, str]
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(at(site, f"/entities/{addresses['meta']}?as_of=2019-01-01"))
        expect(page.locator("h1")).to_contain_text("Facebook, Inc.")
        page.fill("input[name=as_of]", "2023-01-01")
        page.click("#time-bar button[type=submit]")
        expect(page.locator("h1")).to_contain_text("Meta Platforms, Inc.")
        page.goto(at(site, "/search"))
        page.fill("#q", "menlo park")
        page.click("form[role=search] button[type=submit]")
        expect(page.locator("main")).to_contain_text("Meta Platforms, Inc.")


def test_search_follows_while_one_types(seen: Page, site: httpx.Client) -> None:
    seen.goto(at(site, "/search"))
    seen.keyboard.press("Escape")
    seen.locator("#q").press_sequentially("menlo p", delay=30)
    expect(seen.locator("main")).to_contain_text("address: Menlo Park, California")
    assert "q=menlo+p" in seen.url
    expect(seen.locator("#q")).to_be_focused()
    seen.click("text=Meta Platforms, Inc.")
    expect(seen.locator("h1")).to_contain_text("Meta Platforms, Inc.")


def test_the_time_bar_moves_a_page_by_slider_by_key_and_by_hand(
    seen: Page, site: httpx.Client, addresses: dict[str, str]
) -> None:
    seen.goto(at(site, f"/entities/{addresses['meta']}"))
    expect(seen.locator("h1")).to_contain_text("Meta Platforms, Inc.")
    slider = seen.locator(".time-slider")
    slider.focus()
    slider.press("Home")
    expect(seen.locator("h1")).to_contain_text("Facebook, Inc.")
    assert "as_of=2015-01-01" in seen.url
    expect(seen.locator("#time-note")).to_contain_text("You see the past")
    expect(seen.locator("input[name=as_of]")).to_have_value("2015-01-01")
    expect(slider).to_have_attribute("aria-valuetext", "2015-01-01")
    seen.locator("h1").click()
    seen.keyboard.press("n")
    expect(seen.locator("h1")).to_contain_text("Meta Platforms, Inc.")
    seen.fill("input[name=as_of]", "2021-10-27")
    seen.keyboard.press("Enter")
    expect(seen.locator("h1")).to_contain_text("Facebook, Inc.")
    seen.click("text=Overview")
    assert "as_of=2021-10-27" in seen.url, "the instant goes along"


def test_what_changed_is_found_by_mouse_alone(seen: Page, site: httpx.Client, addresses: dict[str, str]) -> None:
    go(seen, site, "/compare?from=2021-10-27&to=2021-10-28", addresses)
    row = seen.locator("tr", has_text="Meta Platforms, Inc.")
    expect(row).to_contain_text("changed")
    expect(row.locator("del").first).to_have_text("Facebook, Inc.")
    expect(row.locator("ins").first).to_have_text("Meta Platforms, Inc.")
    with seen.expect_download() as download:
        seen.click("text=Download as CSV")
    text = download.value.path().read_text()
    assert f'{addresses["meta"]},"Meta Platforms, Inc.",INSTITUTION,changed,display_name,"Facebook, Inc.",' in text


def test_rejected_rows_are_corrected_in_place_and_sent_again(seen: Page, site: httpx.Client, sampled: Database) -> None:
    seen.goto(at(site, "/drops"))
    bad = "display_name,entity_type,details,change_ts\nGood One,PERSON,[],2024-01-01\n,PERSON,[],2024-01-01\n"
    seen.set_input_files("#file", {"name": "two.csv", "mimeType": "text/csv", "buffer": bad.encode()})
    seen.click("text=Preview")
    expect(seen.locator("main")).to_contain_text("Good One")
    expect(seen.locator("main")).to_contain_text("missing_display_name")
    with sampled.connect() as connection:
        assert connection.execute("select count(*) from entity where display_name = 'Good One'").fetchone() == (0,)
    seen.click("text=Send it")
    expect(seen.locator("h1")).to_contain_text("two.csv")
    row = seen.locator("textarea")
    expect(row).to_have_value(",PERSON,[],2024-01-01")
    row.fill("Good Two,PERSON,[],2024-01-01")
    seen.click("text=Preview the corrected rows")
    expect(seen.locator("main")).to_contain_text("Good Two")
    seen.click("text=Send it")
    expect(seen.locator("h1")).to_contain_text("two_corrected.csv")
    with sampled.connect() as connection:
        names = connection.execute(
            "select display_name from entity where display_name like 'Good %' order by 1"
        ).fetchall()
    assert names == [("Good One",), ("Good Two",)]


def test_what_one_corrects_stays_while_the_page_waits_for_its_numbers(seen: Page, site: httpx.Client) -> None:
    (dirty,) = (
        d for d in site.get("/api/v1/drops?page_size=200").json()["results"] if d["file"] == "2023-02-01_dirty.csv"
    )
    asked = []

    def wait_for_numbers(route: Route) -> None:
        answer = route.fetch()
        asked.append(answer.url)
        route.fulfill(response=answer, body=answer.text().replace("</main>", "<p data-again>being counted</p></main>"))

    seen.clock.install()
    seen.route(f"**/drops/{dirty['sha256']}", wait_for_numbers)
    seen.goto(at(site, f"/drops/{dirty['sha256']}"))
    row = seen.locator("textarea").first
    stated = row.input_value()
    row.fill("Typed,PERSON,[]")
    seen.locator("textarea").nth(1).focus()  # where one types next
    for _ in range(3):
        seen.clock.run_for(20_000)
        seen.evaluate("fetch(location.href).then((answer) => answer.text())")  # what was asked before is answered then
    before = len(asked)
    expect(row).to_have_value("Typed,PERSON,[]")
    row.fill(stated)
    with seen.expect_response(f"**/drops/{dirty['sha256']}"):
        seen.clock.run_for(20_000)
    assert len(asked) > before, "with nothing typed the page asks again"


def test_an_edit_shows_its_effect_on_the_past_before_it_is_made(seen: Page, site: httpx.Client) -> None:
    uid = entity(site, "Bank of England")
    seen.goto(at(site, f"/entities/{uid}/change"))
    seen.fill("#details-address", "Moorgate, London")
    seen.fill("#change_ts", "2017-03-01")
    seen.click("text=Preview")
    expect(seen.locator("#preview-card")).to_contain_text("Changes the past: 1 version")
    seen.click("button:has-text('Save')")
    expect(seen.locator("main")).to_contain_text("The change of Bank of England is recorded.")
    history = site.get(f"/api/v1/entities/{uid}/history", headers={"Accept": "application/json"}).json()["results"]
    moved = [one for one in history if one.get("detail_value") == "Moorgate, London"]
    assert [one["valid_from"] for one in moved] == ["2017-03-01T00:00:00Z"]


def test_of_two_that_edit_at_once_the_second_sees_both_and_chooses(
    browser: Browser, page: Page, site: httpx.Client
) -> None:
    uid = entity(site, "Bank of Japan")
    address = at(site, f"/entities/{uid}/change")
    page.goto(address)
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(address)
        other.fill("#details-head", "Somebody Else")
        other.click("text=Preview")
        other.click("button:has-text('Save')")
        expect(other.locator("main")).to_contain_text("is recorded")
    page.fill("#display_name", "The Bank of Japan")
    page.click("text=Preview")
    expect(page.locator("#conflict")).to_be_visible()
    expect(page.locator("tr", has_text="Head")).to_contain_text("Somebody Else")
    expect(page.locator("#details-head")).to_have_value("Somebody Else")
    page.click("button:has-text('Save')")
    expect(page.locator("h1")).to_contain_text("The Bank of Japan")
    expect(page.locator("main")).to_contain_text("Somebody Else")


def test_an_entity_ends_and_is_revived(seen: Page, site: httpx.Client) -> None:
    uid = entity(site, "Berlin")
    seen.goto(at(site, f"/entities/{uid}/end"))
    seen.click("text=Preview")
    seen.click("button:has-text('End it')")
    expect(seen.locator("main")).to_contain_text("Berlin has been ended.")
    assert site.get(f"/api/v1/entities/{uid}", headers={"Accept": "application/json"}).status_code == 410
    seen.goto(at(site, f"/entities/{uid}/change"))
    expect(seen.locator("#display_name")).to_have_value("Berlin")
    seen.click("text=Preview")
    seen.click("button:has-text('Save')")
    expect(seen.locator("main")).to_contain_text("Berlin is recorded.")
    assert site.get(f"/api/v1/entities/{uid}", headers={"Accept": "application/json"}).status_code == 200


def test_the_invariants_are_recomputed_on_request(seen: Page, site: httpx.Client) -> None:
    seen.goto(at(site, "/quality"))
    seen.click("text=Recompute all now")
    expect(seen.locator(".status-green")).to_have_count(len(CHECKS))
    expect(seen.locator(".status-red")).to_have_count(0)


def test_a_drop_is_undone_with_a_preview_and_reinstated(seen: Page, site: httpx.Client) -> None:
    uid = entity(site, "Pope Leo XIV")
    sha256 = drop(site, "2025-07-01_changes.csv")
    seen.goto(at(site, f"/drops/{sha256}"))
    seen.click("text=Undo")
    expect(seen.locator("main")).to_contain_text("changes undone")
    seen.fill("#reason", "it was the wrong file")
    seen.click("button:has-text('Undo it')")
    expect(seen.locator("[data-again]")).to_have_count(0)  # what it changed was counted, and the page asked again
    expect(seen.locator("main")).to_contain_text("The drop is undone")
    now = site.get(f"/api/v1/entities/{uid}", headers={"Accept": "application/json"}).json()
    assert now["display_name"] == "Robert Francis Prevost"
    for path in (f"/audit?op=undo&entity={uid}", f"/entities/{uid}"):
        seen.goto(at(site, path))
        expect(seen.locator("main")).to_contain_text("an undo of 2025-07-01_changes.csv")
        expect(seen.locator("main")).to_contain_text("it was the wrong file")
    seen.goto(at(site, f"/drops/{sha256}"))
    seen.click("text=Reinstate")
    seen.fill("#reason", "it was right after all")
    seen.click("button:has-text('Reinstate it')")
    expect(seen.locator("main")).to_contain_text("The drop is reinstated")
    now = site.get(f"/api/v1/entities/{uid}", headers={"Accept": "application/json"}).json()
    assert now["display_name"] == "Pope Leo XIV"
