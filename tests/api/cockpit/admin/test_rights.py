"""Who may open the admin panel, and what closes and opens it."""

from __future__ import annotations

import re

import httpx
import pytest
from builders import uid
from panel import HTML, fault, shown
from serving import ENTITIES, served
from starlette.routing import Route
from visiting import PASSWORD, a_browser, form_token, send, sign_in

from api.cockpit.site import PAGES, PANEL
from crm_core.access.accounts import accounts
from crm_core.access.tokens import tokens
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

ROUTES = [route for part in PANEL for route in part.routes]
SHA256 = "0" * 64


def place(route: Route) -> str:
    """An address of a route, at things that exist where they can."""
    code = "PERSON" if "entity" in route.path else "erp" if "source" in route.path else "email"
    values = {
        "code": code,
        "username": "walt",
        "token_id": "000000000000",
        "sha256": SHA256,
        "kind": "undo",
        "uid": str(uid("ada")),
    }
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: values[match[1]], route.path)


def methods(route: Route) -> list[str]:
    return [method for method in ("GET", "POST") if method in (route.methods or ())]


@pytest.mark.parametrize("who", ["rita", "walt"])
def test_who_is_no_admin_is_refused_at_every_address_of_the_panel(client: httpx.Client, who: str) -> None:
    with a_browser(client, who) as browser:
        assert 'href="/admin/"' not in shown(browser, "/")
        token = form_token(browser)
        for route in ROUTES:
            for method in methods(route):
                data = {"csrf": token} if method == "POST" else None
                answer = browser.request(method, place(route), data=data, headers=HTML)
                assert answer.status_code == 403, (method, route.path)
                assert "needs the role admin" in answer.text


def test_who_is_not_signed_in_is_led_to_sign_in_and_then_to_where_they_went(client: httpx.Client) -> None:
    with a_browser(client) as browser:
        token = form_token(browser)
        for route in ROUTES:
            for method in methods(route):
                answer = browser.request(method, place(route), data={"csrf": token} if method == "POST" else None)
                if method == "POST":
                    assert answer.status_code == 401, route.path
                else:
                    assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={place(route)}")
        answer = sign_in(browser, "ann", next="/admin/tokens")
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin/tokens")


def test_an_admin_gets_every_page_of_the_panel(ann: httpx.Client) -> None:
    assert 'href="/admin/"' in shown(ann, "/")
    for route in ROUTES:
        if "GET" in methods(route) and route.path != "/admin":
            assert ann.get(place(route)).status_code == 200, route.path
    answer = ann.get("/admin")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/")


def test_no_form_of_the_site_is_taken_from_elsewhere(client: httpx.Client, world: Database) -> None:
    """Without the token of the form, and with one of another browser of the same account."""
    with a_browser(client, "ann") as browser, a_browser(client, "ann") as other:
        foreign = form_token(other)
        taken = []
        for route in (route for part in (*PAGES, *PANEL) for route in part.routes):
            if "POST" not in methods(route):
                continue
            for sent in ({}, {"csrf": foreign}, {"csrf": ""}):
                files = {"file": ("a.csv", b"x")} if route.path == "/drops" else None
                answer = browser.post(place(route), data=sent, files=files, headers=HTML)
                if answer.status_code != 403 or "was not sent from this site" not in answer.text:
                    taken.append((route.path, sent, answer.status_code))
        assert taken == []
        assert browser.get("/account").status_code == 200  # nor was this session ended
    with world.connect() as connection:
        assert [one.username for one in accounts(connection) if one.is_active] == ["ann", "rita", "walt"]


def test_the_panel_tells_what_there_is(ann: httpx.Client) -> None:
    html = shown(ann, "/admin/")
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "You are signed in as ann with the role admin." in text
    assert "Entity types 2 2 active" in text
    assert "Detail types 5 5 active" in text
    assert "Accounts 3 3 can sign in" in text
    assert re.search(r"CRM core \d\S+, schema 00\d\d\.", text)
    assert "Access is open" not in text


def test_a_reader_cannot_have_everything_recomputed(client: httpx.Client) -> None:
    with a_browser(client, "rita") as browser:
        answer = browser.post("/quality", data={"csrf": form_token(browser)}, headers=HTML)
        assert answer.status_code == 403
        assert "this page needs the role writer" in answer.text


def test_the_first_account_closes_what_was_open_and_is_an_admin(fresh_database: Database) -> None:
    with served(fresh_database) as client, a_browser(client) as browser:
        assert "Access is open" in shown(browser, "/admin/")
        assert client.get(ENTITIES).status_code == 200
        fields = {"username": "ann", "password": PASSWORD, "again": PASSWORD}
        answer = send(browser, "/admin/accounts/new", role="writer", **fields)
        assert answer.status_code == 400
        assert "make the first account an admin" in fault(answer.text, "role")
        answer = send(browser, "/admin/tokens/new", name="robot", role="admin", expires="")
        assert answer.status_code == 400
        assert "A token ends the open access" in answer.text
        with fresh_database.connect() as connection:
            assert (accounts(connection), tokens(connection)) == ([], [])
        answer = send(browser, "/admin/accounts/new", role="admin", **fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fadmin%2F")
        assert client.get(ENTITIES).status_code == 401
        assert browser.get("/").status_code == 303
        assert "Sign in with it." in shown(browser, "/login")
        assert sign_in(browser, "ann", next="/admin/").headers["location"] == "/admin/"
        assert "signed in as" in shown(browser, "/admin/")


def test_with_authentication_off_the_panel_says_what_to_do(fresh_database: Database) -> None:
    with served(fresh_database, auth="off") as client:
        assert "CRM_AUTH=off" in shown(client, "/admin/")
