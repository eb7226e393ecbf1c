"""Visitors of the pages: an account, a browser of httpx that is signed in with it, and forms sent as from our pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
from playwright.sync_api import Page, expect

from crm_core.access.accounts import create_account
from crm_core.access.principal import Role
from crm_core.postgres.connection import Database

ROLES: dict[str, Role] = {"ann": "admin", "rita": "reader", "walt": "writer"}  # of the accounts that tests sign in with
PASSWORD = "correct horse battery staple"
_FORM_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


def an_account(database: Database, username: str, role: Role, password: str = PASSWORD) -> None:
    """Make an account."""
    with database.connect(autocommit=True) as connection:
        create_account(connection, username, password, role, now=datetime.now(UTC))


def form_token(client: httpx.Client) -> str:
    """The token of the forms that this browser is given."""
    for path in ("/account", "/login"):
        answer = client.get(path, headers={"Accept": "text/html"})
        if found := _FORM_TOKEN.search(answer.text):
            return found[1]
    raise AssertionError(answer.text)


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send a form as from one of our pages."""
    return client.post(path, data={"csrf": form_token(client), **fields}, headers={"Accept": "text/html"})


def sign_in(client: httpx.Client, username: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    """Sign in with an account."""
    return send(client, "/login", username=username, password=password, **fields)


@contextmanager
def a_browser(client: httpx.Client, username: str | None = None) -> Iterator[httpx.Client]:
    """Another browser that visits the same service, signed in if a username is given."""
    with httpx.Client(base_url=client.base_url, trust_env=False, timeout=30) as browser:
        if username is not None:
            answer = sign_in(browser, username)
            assert answer.status_code == 303, answer.text
        yield browser


def log_in(page: Page, address: str, username: str) -> None:
    """Sign in with an account, as a person does."""
    page.goto(address)
    if not page.url.partition("?")[0].endswith("/login"):
        page.goto(f"{address.partition('/admin')[0]}/login")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text(username).first).to_be_visible()
