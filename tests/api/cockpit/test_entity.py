"""The page of an entity: its state with sources, its timeline, what was believed when, its history and audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from builders import an_entity, uid, write_drop
from playwright.sync_api import Browser, Page, expect
from servers import Server
from serving import V1, served_with_types

from crm_core.access.tokens import create_token
from crm_core.model import Change
from crm_core.postgres.connection import Database

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.temporal]

ADA, BIG = uid("ada"), uid("big")
HERE = f"/entities/{ADA}"
NASTY = "<script>alert(1)</script> & \"Co\" 'x'"


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        yield database


@pytest.fixture(scope="module")
def client(world: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Ada begins, is renamed, ends and begins again; a late drop names her otherwise. Day 0 is 2024-01-01."""
    with served_with_types(world) as client:
        folder = tmp_path_factory.mktemp("drops")
        first = [
            an_entity(at=0, name="Ada Byron", email="ada@x.org"),
            an_entity(at=100, name="Ada King", phone="+1"),
            an_entity(at=200, op="delete"),
            an_entity(at=300, name="Ada Lovelace", note=NASTY),
        ]
        send(client, folder / "first.csv", first)
        send(client, folder / "late.csv", [an_entity(at=50, name="Augusta Ada")])
        send(client, folder / "big.csv", [an_entity("big", at=n / 10, name=f"reading {n}") for n in range(3_000)])
        send(client, folder / "never.csv", [an_entity("never", at=1, op="delete")])
        yield client


def send(client: httpx.Client, path: Path, changes: list[Change]) -> None:
    write_drop(path, changes)
    answer = client.post(f"{V1}/drops", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code in (200, 201), answer.text


def shown(client: httpx.Client, path: str = HERE, params: dict[str, str] | None = None, *, status: int = 200) -> str:
    answer = client.get(path, params=params or {}, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    return answer.text


def plain(html: str) -> str:
    """What a reader sees of a piece of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def section(html: str, name: str) -> str:
    found: list[str] = re.findall(rf'<section class="card" id="{name}".*?</section>', html, re.DOTALL)
    return found[0]


def head(html: str) -> str:
    found: list[str] = re.findall(r'<div class="entity-head">.*?</h1>.*?</p>', html, re.DOTALL)
    return plain(found[0])


def test_the_state_says_since_when_and_where_each_value_came_from(client: httpx.Client) -> None:
    html = shown(client, params={"as_of": "2024-04-20"})
    assert head(html) == f"Ada King PERSON existed then {ADA}"
    state = plain(section(html, "state"))
    assert "As it was on 2024-04-20" in state
    assert re.search(r"name Ada King 2024-04-10 first\.csv , line 3 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d by anonymous", state)
    assert "email ada@x.org 2024-01-01 first.csv , line 2" in state
    assert re.search(r'<a href="/drops/[0-9a-f]{64}\?as_of=2024-04-20">first\.csv</a>, line 3', section(html, "state"))


def test_a_late_fact_is_said_to_be_learnt_later(client: httpx.Client) -> None:
    html = shown(client, params={"as_of": "2024-03-01"})
    assert "name Augusta Ada 2024-02-20 late.csv , line 2" in (state := plain(section(html, "state")))
    assert state.count("learnt later") == 1
    assert len(re.findall(r'class="bar[^"]*is-late"', html)) == 1


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"as_of": "2024-08-01"}, "Ada King gap It ended on 2024-07-19 and began again on 2024-10-27 ."),
        ({"as_of": "2023-01-01"}, "Ada Byron not begun then It begins on 2024-01-01 ."),
        ({"known_at": "2024-01-01"}, "Not known then not yet known then First recorded at"),
        ({}, "Ada Lovelace PERSON current"),
    ],
)
def test_where_the_entity_does_not_exist_the_page_says_why(
    client: httpx.Client, params: dict[str, str], told: str
) -> None:
    assert head(shown(client, params=params)).startswith(told)


def test_the_nearest_instants_at_which_it_existed_are_one_click_away(client: httpx.Client) -> None:
    html = shown(client, params={"as_of": "2024-08-01"})
    assert "as_of=2024-07-18T23%3A59%3A59.999999Z" in html
    assert head(shown(client, params={"as_of": "2024-07-18T23:59:59.999999Z"})).startswith(
        "Ada King PERSON existed then"
    )


def test_what_never_existed_has_a_page_if_its_end_was_recorded(client: httpx.Client) -> None:
    html = shown(client, f"/entities/{uid('never')}")
    assert "never existed Only its end was recorded" in head(html)
    assert "1 change was recorded" in plain(section(html, "audit"))


@pytest.mark.parametrize("unknown", [str(uid("nobody")), "no-uid"])
def test_an_unknown_entity_is_a_404_that_leads_to_the_search(client: httpx.Client, unknown: str) -> None:
    assert 'href="/search"' in shown(client, f"/entities/{unknown}", status=404)


def test_values_that_look_like_markup_are_text(client: httpx.Client) -> None:
    html = shown(client, params={"field": "details.note"})
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;Co&#34; &#39;x&#39;") >= 5


def test_every_version_is_a_bar_and_a_row_of_the_table(client: httpx.Client) -> None:
    html = shown(client)
    labels = re.findall(r'class="bar[^"]*"[^>]*aria-label="(name: [^"]*)"', html)
    parts = [re.sub(r"; learnt .*", "", label) for label in labels]
    assert parts == [
        "name: Ada Byron, from 2024-01-01 to 2024-02-20",
        "name: Augusta Ada, from 2024-02-20 to 2024-04-10",
        "name: Ada King, from 2024-04-10 to 2024-07-19",
        "name: Ada Lovelace, from 2024-10-27 to further notice",
    ]
    history = plain(section(html, "values"))
    assert "History 9 values" in history
    assert history.index("Ada Lovelace 2024-10-27 open") < history.index("Ada King 2024-04-10 2024-07-19")


def test_the_audit_tells_what_each_change_did_the_newest_first(client: httpx.Client) -> None:
    audit = plain(section(shown(client), "audit"))
    assert "5 changes were recorded" in audit
    assert "late.csv , line 2 2024-02-20 name Ada Byron → Augusta Ada" in audit
    assert audit.index("late.csv") < audit.index("first.csv")
    assert "ended name Ada King" in audit


def test_two_instants_are_compared_whichever_comes_first(client: httpx.Client) -> None:
    for pair in ({"from": "2024-01-10", "to": "2024-05-01"}, {"to": "2024-01-10", "from": "2024-05-01"}):
        html = shown(client, params=pair)
        assert "name Ada Byron → Ada King phone +1" in plain(html)
        assert f"/compare?entity={ADA}&amp;from=2024-01-10&amp;to=2024-05-01" in html
    assert "Nothing differs between these two instants." in shown(
        client, params={"from": "2024-04-20", "to": "2024-05-01"}
    )


def test_what_was_believed_of_a_field_has_a_row_for_each_recording_that_changed_it(client: httpx.Client) -> None:
    html = section(shown(client, params={"field": "display_name"}), "believed")
    labels = re.findall(r'class="bar[^"]*"[^>]*aria-label="([^"]*): believed', html)
    assert labels == [
        "Ada Byron, from 2024-01-01 to 2024-02-20",
        "Augusta Ada, from 2024-02-20 to 2024-04-10",
        "Ada King, from 2024-04-10 to 2024-07-19",
        "Ada Lovelace, from 2024-10-27 to further notice",
        "Ada Byron, from 2024-01-01 to 2024-04-10",
    ]
    assert re.findall(r'<span class="lane-value">([^<]*)', html) == ["late.csv, line 2", "first.csv, line 2"]


def test_an_entity_with_thousands_of_versions_is_drawn_with_hundreds_of_bars(client: httpx.Client) -> None:
    html = shown(client, f"/entities/{BIG}")
    assert "3,000 values" not in html
    assert "History 3,001 values" in plain(section(html, "values"))
    counts = [int(count) for count in re.findall(r'data-count="(\d+)"', html)]
    assert sum(counts) + len(re.findall(r'data-value="reading', html)) == 3_000
    assert html.count('class="bar') < 500
    assert "Page 1 of 151" in plain(html)
    near = shown(client, f"/entities/{BIG}", {"since": "2024-02-01", "until": "2024-02-02"})
    assert len(re.findall(r'data-value="reading', near)) in (10, 11, 12)


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2024-02-01", "until": "2024-01-01"},
        {"since": "yesterday"},
        {"from": "2024-13-01"},
        {"values": "0"},
        {"audit": "x"},
        {"field": "details.shoe_size"},
    ],
)
def test_an_address_that_makes_no_sense_is_refused(client: httpx.Client, params: dict[str, str]) -> None:
    *_, name = params
    text = shown(client, params=params, status=400)
    assert re.search(f'<p class="empty-subtitle">{name}: ', text, re.IGNORECASE)


def test_the_time_bar_stops_where_this_entity_changes(client: httpx.Client) -> None:
    (moments,) = re.findall(r'data-moments="([^"]*)"', shown(client))
    days = [text.partition("T")[0] for text in moments.split()]
    assert days == ["2024-01-01", "2024-02-20", "2024-04-10", "2024-07-19", "2024-10-27"]


def test_what_only_writers_may_do_is_not_offered_to_readers(server: Server) -> None:
    with server.clone() as database, served_with_types(database, public_read=True) as client:
        body = {"entity_uid": str(ADA), "display_name": "Ada", "entity_type": "PERSON", "details": []}
        assert client.post(f"{V1}/entities", json=body).status_code == 201
        assert f"{HERE}/change" in shown(client)
        with database.transaction() as connection:
            create_token(connection, "somebody", "admin", now=datetime.now(UTC))
        closed = client.get(HERE, headers={"Accept": "text/html"})
        while f"{HERE}/change" in closed.text:  # a process notices the first token within a second
            closed = client.get(HERE, headers={"Accept": "text/html"})
        assert closed.status_code == 200
        assert "Ada" in closed.text


# ---- in a browser


@pytest.fixture
def site(client: httpx.Client, page: Page) -> Iterator[Page]:
    """A page that must not complain: no error of a script, and nothing that the security policy forbids."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(str(client.base_url.join(HERE)))
    yield page
    assert complaints == []


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def bar_of(page: Page, value: str) -> tuple[float, float, float]:
    """Left, right and middle (of the height) of the bar of a value."""
    box = page.locator(f'#picture a.bar[data-value="{value}"] > svg').bounding_box()
    assert box is not None
    return box["x"], box["x"] + box["width"], box["y"] + box["height"] / 2


def test_a_click_into_a_bar_sets_the_instant_and_the_page_follows(site: Page) -> None:
    left, right, y = bar_of(site, "Augusta Ada")
    site.mouse.click((left + right) / 2, y)
    expect(site.locator("h1")).to_have_text("Augusta Ada")
    assert "2024-02-20" < asked(site)["as_of"] < "2024-04-10"
    expect(site.locator("#state")).to_contain_text("late.csv, line 2")
    site.mouse.click(left + 2, y)  # near its beginning: that is what is meant
    expect(site.locator('#time-bar input[name="as_of"]')).to_have_value("2024-02-20")


def test_hover_tells_where_a_bar_came_from(site: Page) -> None:
    left, right, y = bar_of(site, "Augusta Ada")
    site.mouse.move((left + right) / 2, y)
    card = site.locator("#timeline-card")
    for part in ("Augusta Ada", "2024-02-20", "2024-04-10", "learnt later", "late.csv, line 2", "by anonymous"):
        expect(card).to_contain_text(part)
    expect(card.locator("a")).to_have_attribute("href", re.compile("^/drops/[0-9a-f]{64}$"))
    site.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_keys_go_from_bar_to_bar_and_enter_shows_it(site: Page) -> None:
    site.locator('#picture a.bar[tabindex="0"]').focus()
    expect(site.locator("#picture a.bar:focus")).to_have_attribute("data-value", "Ada Lovelace")
    site.keyboard.press("ArrowLeft")
    site.keyboard.press("ArrowLeft")
    expect(site.locator("#picture a.bar:focus")).to_have_attribute("data-value", "Augusta Ada")
    expect(site.locator("#timeline-card")).to_contain_text("late.csv, line 2")
    site.keyboard.press("Enter")
    expect(site.locator("h1")).to_have_text("Augusta Ada")
    assert asked(site)["as_of"].startswith("2024-02-20")
    expect(site.locator("#picture a.bar:focus")).to_have_attribute("data-value", "Augusta Ada")
    site.keyboard.press("ArrowDown")
    expect(site.locator("#picture a.bar:focus")).to_have_attribute("data-field", "type")
    site.keyboard.press("Home")
    site.keyboard.press("ArrowUp")
    expect(site.locator("#picture a.bar:focus")).to_have_attribute("data-value", "Ada Byron")


def test_zoom_and_moves_are_in_the_address_and_all_is_shown_again(site: Page) -> None:
    site.locator('#picture a.bar[tabindex="0"]').focus()
    before = bar_of(site, "Ada King")
    site.keyboard.press("+")
    expect(site).to_have_url(re.compile("since="))
    after = bar_of(site, "Ada Lovelace")
    assert after[1] - after[0] > before[1] - before[0]
    since = asked(site)["since"]
    site.locator("#pan-left").click()
    expect(site).not_to_have_url(re.compile(re.escape(f"since={since.replace(':', '%3A')}")))
    assert asked(site)["since"] < since
    site.locator("#zoom-fit").click()
    expect(site).not_to_have_url(re.compile("since="))
    left, right, y = bar_of(site, "Ada King")
    site.mouse.move((left + right) / 2, y)
    site.keyboard.down("Control")
    site.mouse.wheel(0, -100)
    site.keyboard.up("Control")
    expect(site).to_have_url(re.compile("since="))
    zoomed = bar_of(site, "Ada King")
    assert zoomed[1] - zoomed[0] > 1.2 * (right - left)


def test_dragging_the_picture_moves_it_and_sets_no_instant(site: Page) -> None:
    left, right, y = bar_of(site, "Ada King")
    middle = (left + right) / 2
    site.mouse.move(middle, y)
    site.mouse.down()
    site.mouse.move(middle + 60, y, steps=4)
    site.mouse.up()
    expect(site).to_have_url(re.compile("since="))
    assert "as_of" not in asked(site)
    assert bar_of(site, "Ada King")[0] == pytest.approx(left + 60, abs=3)


def test_two_handles_give_the_difference(site: Page) -> None:
    site.locator("#compare").click()
    found = site.locator(".compare-body")
    expect(found).to_contain_text("Ada Lovelace")
    left, right, _ = bar_of(site, "Augusta Ada")
    handle = site.locator("#handle-from circle").bounding_box()
    assert handle is not None
    site.mouse.move(handle["x"] + 8, handle["y"] + 8)
    site.mouse.down()
    site.mouse.move((left + right) / 2, handle["y"], steps=5)
    site.mouse.up()
    expect(found.locator("del").first).to_contain_text("Augusta Ada")
    assert "2024-02-20" < asked(site)["from"] < "2024-04-10"
    assert "as_of" not in asked(site)
    site.locator("#handle-from").focus()
    site.keyboard.press("ArrowRight")  # to the next instant at which something changed
    expect(found.locator("del").first).to_contain_text("Ada King")
    assert asked(site)["from"].startswith("2024-04-10")
    site.locator("#compare").click()
    expect(found).to_have_count(0)


def test_a_click_into_what_was_believed_sets_both_instants(site: Page) -> None:
    site.locator("#believed nav a", has_text="name").click()
    believed = site.locator("svg.believed")
    expect(believed).to_be_visible()
    older = site.locator('svg.believed a.bar[data-value="Ada Byron"] > svg').last
    older.scroll_into_view_if_needed()
    box = older.bounding_box()
    assert box is not None
    site.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    expect(site.locator("h1")).to_have_text("Ada Byron")
    said = asked(site)
    assert "2024-02-20" < said["as_of"] < "2024-04-10"  # by now we know that she was called otherwise then
    assert said["known_at"] > "2026"
    expect(site.locator("svg.believed a.bar")).to_have_count(5)  # what was learnt since is still to be seen
    expect(site.locator(".believed-labels li").nth(1)).to_have_attribute("aria-current", "true")


def test_the_slider_stops_at_the_entitys_own_instants(site: Page) -> None:
    site.locator(".time-slider").focus()
    site.keyboard.press("ArrowLeft")
    expect(site).to_have_url(re.compile("as_of=2024-10-27"))
    site.keyboard.press("ArrowLeft")
    expect(site.locator(".entity-note")).to_contain_text("gap")


def test_without_scripts_the_picture_leads_on_and_the_table_is_there(client: httpx.Client, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        page.goto(str(client.base_url.join(HERE)))
        expect(page.locator('#picture a.bar[data-value="Ada King"]')).to_be_visible()
        expect(page.locator("#values tbody tr")).to_have_count(9)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.locator('#picture a.bar[data-value="Ada King"] > svg').click()
        expect(page.locator("h1")).to_have_text("Ada King")
        page.locator("#zoom-in").click()
        expect(page).to_have_url(re.compile("since="))
