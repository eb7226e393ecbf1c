"""The page of the report: it needs nothing from outside, shows hostile values as text, and can be read by everybody."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import an_entity, as_row, reference_data, write_drop
from playwright.sync_api import Page

from crm_core.drops.ingest import Options, ingest_on
from crm_core.model import Change, MergeReport, Reason
from crm_core.postgres.connection import Connection, Database
from crm_core.report.numbers import (
    Report,
    collect,
)
from crm_core.report.page import MEANING, as_html

pytest_plugins = ("browser",)
pytestmark = pytest.mark.integration

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='run'<script>.csv",  # a file's name holds no slash
    '"><img src=x onerror="document.title=\'run\'">.csv',
    "\u202egnp.exe \u0007\x1b[2J\n' autofocus onfocus='document.title=1.csv",
    "{{ 7 * 7 }} &amp; %s {% raw %}.csv",
    "long" * 60 + ".csv",
)


def take(connection: Connection, path: Path, *rows: Change | dict[str, str]) -> MergeReport:
    return ingest_on(connection, write_drop(path, rows), Options())


# the page


@pytest.fixture(scope="module")
def hostile(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report in which every text that others choose is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    value = f"</code><script>document.title='run'</script>\u202e{'x' * 400}\\x00"
    bad = as_row(an_entity(name=value)) | {"op": value, "entity_uid": "\u2066\"'<b>"}
    bad |= {"entity_type": "ROBOT", "details": "[", "change_ts": "soon"}
    (folder / "<b>no.csv").write_text("<script>document.title='run'</script>\n1\n")
    with database.connect() as connection:
        reference_data(connection)
        for number, name in enumerate(HOSTILE):
            again = [an_entity(at=5, name=f"{value} {number} {turn}", email=f"{value}@x.org") for turn in range(3)]
            take(connection, folder / name, bad, an_entity(name=f"{number}", at=number), *again)
        ingest_on(connection, folder / "<b>no.csv", Options())
        report = collect(connection, now=NOW, show_values=True)
        connection.rollback()
    return report


def opened(page: Page, html: str, folder: Path) -> list[str]:
    """Open a page as a file with every drop unfolded, and return what it complained of or tried to load."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.endswith("/report.html") else None)
    (folder / "report.html").write_text(html, encoding="utf-8")
    page.goto((folder / "report.html").as_uri())
    for summary in page.query_selector_all("summary"):
        summary.click()
    return said


def overflow(page: Page) -> int:
    """How many pixels the page is wider than the window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wider


def test_the_page_needs_nothing_from_outside_and_has_no_scripts(hostile: Report) -> None:
    html = as_html(hostile)
    tags = {name.lower() for name in re.findall(r"<([a-zA-Z]+)", html)}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "input", "base", "b0"}
    assert not re.search(r"\b(src|onclick|onload|srcset|action)\s*=\s*[\"']", re.sub(r"&\S+?;|>[^<]*<", "><", html))
    assert re.search(r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'", html)
    assert "{{" not in html.replace("{{ 7 * 7 }}", "")


def test_hostile_names_and_values_are_shown_and_do_nothing(hostile: Report, page: Page, tmp_path: Path) -> None:
    assert opened(page, as_html(hostile), tmp_path) == []
    assert page.title().startswith("Data quality")
    assert page.locator("script, img, b:not(.bad)").count() == 0
    text = page.locator("body").inner_text()
    for name in HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[4]:
        assert name in text
    assert "\\u202egnp.exe \\x07\\x1b[2J\\x0a' autofocus" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", text), "what cannot be seen is written out"


def test_the_policy_of_the_page_keeps_a_script_from_running(hostile: Report, page: Page, tmp_path: Path) -> None:
    said = opened(page, as_html(hostile).replace("</body>", "<script>document.title='run'</script></body>"), tmp_path)
    assert page.title() != "run"
    assert any("Content Security Policy" in message for message in said)


@pytest.mark.parametrize("letter_spacing", ["normal", "0.12em"], ids=["plain", "spaced"])
@pytest.mark.parametrize("width", [320, 390, 700, 1200])
def test_the_page_scrolls_down_only(
    hostile: Report, page: Page, tmp_path: Path, width: int, letter_spacing: str
) -> None:
    """Whatever the fonts: the wider letters are those that readers may ask for (WCAG 1.4.12)."""
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, as_html(hostile), tmp_path)
    page.evaluate(
        "spacing => document.querySelectorAll('body, body *').forEach(each => { each.style.letterSpacing = spacing })",
        letter_spacing,
    )
    assert overflow(page) == 0


def test_paper_is_white_and_shows_what_is_folded(hostile: Report, page: Page, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark")
    opened(page, as_html(hostile), tmp_path)
    for summary in page.query_selector_all("summary"):
        summary.click()  # fold them again
    assert not page.locator("details caption").first.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less the margins, at 96 dots an inch
    assert page.locator("details caption").first.is_visible()
    assert overflow(page) == 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(hostile: Report, page: Page, tmp_path: Path, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 for text."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    opened(page, as_html(hostile), tmp_path)
    faint = page.evaluate(
        """() => {
            const numbers = color => color.match(/[\\d.]+/g).map(Number)
            const light = color => numbers(color).slice(0, 3).map(part => part / 255)
                .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0)
            const behind = element => {
                for (; element; element = element.parentElement) {
                    const color = getComputedStyle(element).backgroundColor
                    if (numbers(color)[3] !== 0) return color
                }
                return "rgb(255, 255, 255)"
            }
            const contrast = element => {
                const style = getComputedStyle(element)
                const ink = light(element instanceof SVGElement ? style.fill : style.color)
                const both = [ink, light(behind(element))].sort((a, b) => b - a)
                return (both[0] + 0.05) / (both[1] + 0.05)
            }
            return [...document.querySelectorAll("body *")]
                .filter(element => [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim()))
                .filter(element => !["title", "desc"].includes(element.tagName) && contrast(element) < 4.5)
                .map(element => `${element.tagName} ${element.textContent.trim().slice(0, 30)} ${contrast(element)}`)
        }"""
    )
    assert faint == []


def test_the_pictures_have_a_text_in_their_place_and_a_bar_for_each_drop(
    hostile: Report, page: Page, tmp_path: Path
) -> None:
    opened(page, as_html(hostile), tmp_path)
    rows, shares = page.locator("svg.picture").all()
    assert rows.locator("g").count() == shares.locator("circle").count() == len(HOSTILE)
    for picture in (rows, shares):
        named = (picture.get_attribute("aria-labelledby") or "").split()
        assert picture.get_attribute("role") == "img"
        assert all(page.locator(f"[id='{name}']").text_content() for name in named)
        assert len(named) == 2
    heights = {kind: [float(rect.get_attribute("height") or 0) for rect in rows.locator(f".{kind}").all()]
               for kind in ("changed", "unchanged", "rejected")}  # fmt: skip
    drop = hostile.drops[-1]
    assert heights["unchanged"][0] / heights["rejected"][0] == pytest.approx(
        drop.rows_unchanged / drop.rows_rejected, 0.01
    )
    assert heights["changed"][0] / heights["rejected"][0] == pytest.approx(drop.rows_changed / drop.rows_rejected, 0.01)


def test_an_empty_database_has_a_report_that_says_what_to_do(
    connection: Connection, page: Page, tmp_path: Path
) -> None:
    report = collect(connection, now=NOW)
    assert opened(page, as_html(report), tmp_path) == []
    text = page.locator("body").inner_text()
    assert "No drop has arrived yet" in text
    assert "crm loaddata" in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("at", "age"),
    [(NOW - timedelta(days=2), "2 days ago"), (NOW - timedelta(days=1), "24 hours ago"), (NOW, "just now")],
)
def test_an_age_is_shown_in_its_largest_unit(connection: Connection, at: datetime, age: str) -> None:
    connection.execute(
        "insert into drop_file (sha256, file_name, bytes, first_seen_at, status)"
        " values (repeat('a', 64), 'a', 1, %s, 'seen')",
        (at,),
    )
    assert f"<dd>{age}</dd>" in as_html(collect(connection, now=NOW))


@pytest.mark.unit
def test_every_reason_has_a_meaning() -> None:
    assert set(MEANING) == set(Reason)
