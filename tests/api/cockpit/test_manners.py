"""What all pages have in common: instants as people write them, faults that can be put right, prefixes, time zones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import Page, expect
from psycopg import sql
from servers import Server
from serving import ENTITIES, entity, served, served_with_types

from api.cockpit.pages.overview import bars
from api.cockpit.time_bar import TimeBar, address, iso, time_bar
from crm_core.access.accounts import create_account
from crm_core.postgres.connection import Database
from crm_core.reading.moments import DayOfChange

pytest_plugins = ("browser", "cockpit")
pytestmark = [pytest.mark.integration, pytest.mark.api]

KOLKATA = ZoneInfo("Asia/Kolkata")
PASSWORD = "correct horse battery staple"
HTML = {"Accept": "text/html"}
PREFIX = "/crm"  # which a proxy takes from the addresses


def at(site: httpx.Client, path: str) -> str:
    return f"{str(site.base_url).rstrip('/')}{path}"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("31.01.2024", datetime(2024, 1, 31, tzinfo=UTC)),
        ("1.2.2024 14:30", datetime(2024, 2, 1, 14, 30, tzinfo=UTC)),
        ("2021-10", datetime(2021, 10, 1, tzinfo=UTC)),
        ("2021", datetime(2021, 1, 1, tzinfo=UTC)),
        (" now ", None),
        ("", None),
    ],
)
def test_an_instant_is_read_as_people_write_it(text: str, instant: datetime | None) -> None:
    assert time_bar({"as_of": text}, UTC).as_of == instant


@pytest.mark.parametrize("zone", [UTC, KOLKATA, ZoneInfo("America/Sao_Paulo")])
@pytest.mark.parametrize(
    "instant",
    [datetime(2024, 1, 31, tzinfo=UTC), datetime(2018, 11, 4, 3, tzinfo=UTC), datetime(2024, 5, 1, 18, 30, tzinfo=UTC)],
)
def test_an_instant_that_is_written_into_an_address_is_read_as_the_same(zone: ZoneInfo, instant: datetime) -> None:
    bar = TimeBar(as_of=instant, zone=zone)
    text = dict(re.findall(r"[?&](\w+)=([^&]*)", address("", "/", bar, {})))["as_of"].replace("%3A", ":")
    assert time_bar({"as_of": text}, zone).as_of == instant


def test_the_first_instant_of_a_day_of_the_zone_is_written_as_the_day() -> None:
    assert iso(datetime(2024, 1, 30, 18, 30, tzinfo=UTC), KOLKATA) == "2024-01-31"
    assert iso(datetime(2024, 1, 31, tzinfo=UTC), KOLKATA) == "2024-01-31T00:00:00Z"


def test_a_first_load_does_not_flatten_the_picture_of_changes() -> None:
    days = [DayOfChange(datetime(2024, 1, day, tzinfo=UTC), begun, 0) for day, begun in ((1, 1_000), (2, 8), (3, 4))]
    first, second, third = bars(days)
    assert (first.is_cut, second.is_cut, third.is_cut) == (True, False, False)
    assert (first.changes, second.changes) == (1_000, 8)
    assert first.height > second.height == 2 * third.height


@pytest.mark.parametrize("path", ["/", "/search", "/audit", "/compare"])
def test_an_instant_that_makes_no_sense_stays_in_the_time_bar_to_be_corrected(site: httpx.Client, path: str) -> None:
    answer = site.get(path, params={"as_of": "yesterday"})
    assert answer.status_code == 400
    assert 'name="as_of" value="yesterday"' in answer.text
    assert "As of: &#39;yesterday&#39; is not an instant; write 2024-01-31 or 2024-01-31 14:30" in answer.text
    assert answer.text.count("is not an instant") == 1


def test_what_is_typed_into_a_form_stays_while_it_makes_no_sense_yet(page: Page, site: httpx.Client) -> None:
    page.goto(at(site, "/compare?from=2021-10-27&to=2021-10-28"))
    page.fill("#from", "2021-10-2")
    expect(page.locator(".form-fault")).to_contain_text("From: '2021-10-2' is not an instant")
    expect(page.locator("#from")).to_have_value("2021-10-2")
    expect(page.locator("tr", has_text="Meta Platforms, Inc.")).to_be_visible()
    page.fill("#from", "29.10.2021")
    page.fill("#to", "30.10.2021")
    expect(page.locator(".form-fault")).to_have_count(0)
    expect(page.locator("tr", has_text="Meta Platforms, Inc.")).to_have_count(0)


def test_a_new_entity_is_made_in_the_browser(page: Page, site: httpx.Client) -> None:
    page.goto(at(site, "/search?q=Nobody+Yet"))
    page.click("text=New entity")
    expect(page.locator("#display_name")).to_have_value("Nobody Yet")
    page.select_option("#entity_type", "PERSON")
    page.fill("#change_ts", "31.01.2024")
    page.click("text=Preview")
    expect(page.locator("#preview-card")).to_contain_text("From 2024-01-31 on")
    page.click("button:has-text('Save')")
    expect(page.locator("h1")).to_have_text("Nobody Yet")


@pytest.mark.parametrize("width", [1200, 390])
def test_a_long_word_wraps(page: Page, site: httpx.Client, width: int) -> None:
    name = "Donaudampfschiff" * 30
    answer = site.post("/api/v1/entities", json={"display_name": name, "entity_type": "PERSON", "details": []})
    assert answer.status_code == 201
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/search?q=donaudampf", "/search?q=donaudampf&sort=name", f"/entities/{answer.json()['entity_uid']}"):
        page.goto(at(site, path))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert site.delete(f"/api/v1/entities/{answer.json()['entity_uid']}").status_code == 204


def test_every_page_says_the_same_day_in_another_time_zone(sampled: Database) -> None:
    with served(sampled, time_zone=KOLKATA) as client:
        client.headers.update(HTML)
        uid = entity(client, "Meta Platforms, Inc.")
        shown = client.get(f"/entities/{uid}", params={"as_of": "2021-10-28"}).text
        assert "Facebook, Inc." in re.findall(r"<h1[^>]*>(.*?)</h1>", shown)[0], "it was renamed at 05:30 of that day"
        assert 'name="as_of" value="2021-10-28"' in shown
        (audit,) = set(re.findall(r'href="(/compare\?as_of=[^"]*)"', shown))
        assert "as_of=2021-10-28" in audit
        renamed = re.findall(r'href="([^"]*as_of=2021-10-28T00%3A00%3A00Z[^"]*)"', shown)
        assert renamed, "the instant of the renaming is not the beginning of a day there"
        later = client.get(renamed[0].replace("&amp;", "&")).text
        assert "Meta Platforms, Inc." in re.findall(r"<h1[^>]*>(.*?)</h1>", later)[0]


@pytest.mark.parametrize("zone", [ZoneInfo("UTC"), KOLKATA, ZoneInfo("America/New_York")])
def test_the_first_and_the_last_instant_are_shown_in_every_time_zone(server: Server, zone: ZoneInfo) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    with server.clone() as database, served_with_types(database, time_zone=zone) as client:
        body = {"display_name": "Ever There", "entity_type": "PERSON", "change_ts": first}
        uid = client.post(ENTITIES, json=body).json()["entity_uid"]
        client.headers.update(HTML)
        for path in ("/", "/search", "/audit", f"/entities/{uid}"):
            for at in ({}, {"as_of": first}, {"as_of": last}, {"known_at": last}):
                answer = client.get(path, params=at)
                assert answer.status_code == 200, (path, at)
        assert first in client.get(f"/entities/{uid}").text
        assert "Ever There" in client.get("/search", params={"as_of": first}).text
        assert client.get("/compare", params={"from": first, "to": last}).status_code == 200
        assert client.get(f"/entities/{uid}", params={"since": first, "until": last}).status_code == 200
        assert client.get("/compare", params={"to": "0001-01-02"}).status_code == 200, "no year is earlier"


def test_what_changed_begins_a_year_before_the_last_change_as_the_overview_does(site: httpx.Client) -> None:
    against = re.findall(r'<input[^>]*name="against"[^>]*value="([^"]*)"', site.get("/").text)
    from_ = re.findall(r'<input[^>]*name="from"[^>]*value="([^"]*)"', site.get("/compare").text)
    assert from_ == against
    assert "Nothing differs" not in site.get("/compare").text


@pytest.fixture
def guarded(server: Server) -> Iterator[Database]:
    """A database with one account."""
    with server.clone() as database:
        with database.transaction() as connection:
            create_account(connection, "rita", PASSWORD, "reader", now=datetime.now(UTC))
        yield database


def test_every_link_keeps_the_prefix_of_a_proxy(sampled: Database) -> None:
    with served(sampled, prefix=PREFIX) as client:
        for path in ("/", "/search?q=berlin", "/compare?from=2021-10-27&to=2021-10-28", "/drops", "/quality", "/audit"):
            text = client.get(path, headers=HTML).text
            for link in re.findall(r'(?:href|src|action)="([^"#][^"]*)"', text):
                assert link.startswith("/crm/"), f"{link} on {path}"


def test_who_signs_in_behind_a_prefix_comes_to_the_page_that_was_asked_for(guarded: Database) -> None:
    with served(guarded, prefix=PREFIX) as client:
        asked = client.get("/audit?op=delete", headers=HTML)
        assert asked.headers["location"] == "/crm/login?next=/audit%3Fop%3Ddelete"
        form = client.get("/login?next=/audit%3Fop%3Ddelete", headers=HTML)
        sent = dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', form.text))
        wrong = client.post("/login", data=sent | {"username": "rita", "password": "no"}, headers=HTML)
        assert wrong.status_code == 401
        sent = dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', wrong.text))
        right = client.post("/login", data=sent | {"username": "rita", "password": PASSWORD}, headers=HTML)
        assert (right.status_code, right.headers["location"]) == (303, "/crm/audit?op=delete")


def test_while_the_database_is_away_a_page_says_so_and_comes_again_by_itself(server: Server) -> None:
    with server.clone() as database, served(database) as client:
        client.headers.update(HTML)
        assert client.get("/drops").status_code == 200
        with database.connect(autocommit=True) as connection:
            name = connection.info.dbname
        with server.database("postgres").connect(autocommit=True) as connection:
            refuse = sql.SQL("alter database {} allow_connections {}")
            connection.execute(refuse.format(sql.Identifier(name), sql.SQL("false")))
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            for path in ("/", "/drops", "/search"):
                away = client.get(path)
                assert (away.status_code, away.headers["refresh"]) == (503, "5"), away.text
                assert "Sign in to go on" not in away.text
            connection.execute(refuse.format(sql.Identifier(name), sql.SQL("true")))
        assert client.get("/drops").status_code == 200


def test_who_is_signed_in_is_not_asked_to_sign_in_for_what_the_role_may_not_do(guarded: Database) -> None:
    with served(guarded) as client:
        client.headers.update(HTML)
        form = dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', client.get("/login").text))
        assert client.post("/login", data=form | {"username": "rita", "password": PASSWORD}).status_code == 303
        refused = client.get("/entities/new")
        assert refused.status_code == 403
        assert "rita has the role reader" in refused.text
        assert "/login" not in refused.text
        drops = client.get("/drops").text
        assert 'type="file"' not in drops
        assert "New entity" not in client.get("/search").text


def test_paper_is_light_and_says_of_which_instant_it_is(page: Page, site: httpx.Client) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(at(site, "/compare?from=2021-10-27&to=2021-10-28&as_of=2022-01-01"))
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")
    expect(page.locator("#time-note")).to_have_text("You see the past: how things were at 2022-01-01.")
    expect(page.locator("tr", has_text="Meta Platforms, Inc.")).to_be_visible()
    for hidden in ("#menu", "input[name=known_at]:not([type=hidden])", "form.filters", "text=Download as CSV"):
        expect(page.locator(hidden)).to_be_hidden()
    page.emulate_media(media="screen", color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_the_documentation_of_the_api_works_under_its_policy(page: Page, site: httpx.Client) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    for path in ("/docs", "/redoc"):
        page.goto(at(site, path))
        page.get_by_text("/api/v1/entities").first.wait_for()
    assert [text for text in said if "cdn.redoc.ly" not in text] == []  # a logo of the library, which is not loaded
