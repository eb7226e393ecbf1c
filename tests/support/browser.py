"""A real browser for the tests of pages: fixtures `browser` and `page`; without Chromium these tests are skipped.

A test module asks for them by `pytest_plugins = ("browser",)`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # a container's /dev/shm is too small for it
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return where Chromium is: CRM_TEST_CHROMIUM, or the first of its names in the path."""
    return os.environ.get("CRM_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own, gone after the module: its event loop would disturb Dagster's."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or set CRM_TEST_CHROMIUM to it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on a desk of 1200 by 900 pixels; set_viewport_size and emulate_media make a phone or paper of it."""
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        yield context.new_page()
