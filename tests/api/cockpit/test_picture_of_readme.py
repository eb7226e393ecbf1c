"""The picture in the README is the page of an entity; `CRM_TEST_WRITE_PICTURE=1` before this test takes it again."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from serving import entity

pytest_plugins = ("browser", "cockpit")
pytestmark = [pytest.mark.integration, pytest.mark.api]

ROOT = Path(__file__).parents[3]
PICTURE = ROOT / "docs" / "cockpit.png"
WIDTH, HEIGHT = 1200, 750
MOST_BYTES = 200_000


def test_the_readme_shows_a_picture_of_the_cockpit() -> None:
    content = PICTURE.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) <= MOST_BYTES
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (WIDTH, HEIGHT)
    assert "(docs/cockpit.png)" in "".join((ROOT / "README.md").read_text().splitlines(keepends=True)[:25])


def test_the_page_in_the_picture_is_still_there(browser: Browser, site: httpx.Client) -> None:
    uid = entity(site, "Meta Platforms, Inc.")
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light") as context:
        page = context.new_page()
        page.goto(f"{str(site.base_url).rstrip('/')}/entities/{uid}?as_of=2021-10-27")
        expect(page.locator("h1")).to_have_text("Facebook, Inc.")
        expect(page.locator("#timeline")).to_contain_text("Meta Platforms, Inc.")
        expect(page.locator("#time-note")).to_be_in_viewport()
        expect(page.locator("#timeline-help")).to_be_in_viewport()
        if os.environ.get("CRM_TEST_WRITE_PICTURE"):
            page.screenshot(path=PICTURE)
