"""Markup in everything that is stored or sent is text on every page, and every page says how it may be used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from builders import reference_data, uid
from playwright.sync_api import Browser, Dialog
from servers import Server
from serving import ENTITIES, V1, served
from visiting import PASSWORD, ROLES, a_browser, an_account, form_token, send, sign_in

from api.cockpit.site import PAGES, PANEL
from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database
from crm_core.reference import put_detail_type, put_entity_type, put_source

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api]

HTML = {"Accept": "text/html"}
SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
HOSTILE = (SCRIPT, IMAGE, "javascript:alert(3)", "{{7*7}}", "'-alert(4)-'")
NAME = " ".join(HOSTILE)
FILE = f"{IMAGE.replace('/', '')}.csv"
BAD = uid("bad")


@dataclass(frozen=True, slots=True)
class Site:
    """A service with an account of each role, and where its pages are."""

    client: httpx.Client  # without a session
    database: Database
    sha256: str  # of a hostile drop

    @property
    def address(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def paths(self) -> list[str]:
        """Every address of a page, at things that exist."""
        values = {"username": "walt", "sha256": self.sha256, "uid": str(BAD), "token_id": "0" * 12}
        values["kind"] = "undo"
        found = []
        for route in (route for part in (*PAGES, *PANEL) for route in part.routes):
            if "GET" in (route.methods or ()) and not route.path.endswith((".csv", ".html")) and route.path != "/admin":
                code = "PERSON" if "entity-types" in route.path else "bad" if "sources" in route.path else "email"
                path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
                found.append(path.format(**values, code=code))
        return found


@pytest.fixture(scope="module")
def site(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Hostile text in each place that can hold text: names, values, types, files, rejects, browsers."""
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
            put_entity_type(connection, code="BAD", name=NAME, description=NAME)
            put_detail_type(connection, code="bad", name=NAME, description=NAME)
            put_source(connection, code="bad", name=NAME, description=NAME)
        for username, role in ROLES.items():
            an_account(database, username, role)
        with database.connect(autocommit=True) as connection:
            _, token = create_token(connection, "x.onerror@evil", "writer", now=datetime.now(UTC))
        with served(database) as client:
            details = [{"detail_type": code, "detail_value": f"{code} {NAME}"} for code in ("bad", "email", "phone")]
            body = {"entity_uid": str(BAD), "display_name": NAME, "entity_type": "BAD", "details": details}
            bearer = {"Authorization": f"Bearer {token}"}
            for number, name in enumerate((NAME, f"{NAME} again")):
                given = body | {"display_name": name, "change_ts": f"2024-01-0{number + 1}"}
                answer = (
                    client.post(ENTITIES, json=given, headers=bearer | {"X-Request-ID": "a" * 32})
                    if number == 0
                    else client.patch(
                        f"{ENTITIES}/{BAD}", json={"display_name": name, "change_ts": "2024-01-02"}, headers=bearer
                    )
                )
                assert answer.status_code in (200, 201), answer.text
            rows = [
                f'{BAD},"{NAME.replace(chr(34), chr(34) * 2)} late",BAD,[],2023-06-01',
                f',"{NAME.replace(chr(34), chr(34) * 2)}",NOSUCH,[],',
                f",{SCRIPT},BAD,[],{IMAGE.replace(',', '')[2:]}",
            ]
            text = "\n".join(["entity_uid,display_name,entity_type,details,change_ts", *rows, ""])
            answer = client.post(f"{V1}/drops", files={"file": (FILE, text.encode())}, headers=bearer)
            assert answer.status_code in (200, 201), answer.text
            yield Site(client, database, answer.json()["sha256"])


@contextmanager
def hostile_browser(site: Site, username: str) -> Iterator[httpx.Client]:
    """A browser that names itself in markup."""
    with a_browser(site.client) as browser:
        browser.headers["User-Agent"] = NAME
        assert sign_in(browser, username).status_code == 303
        yield browser


def test_hostile_text_is_text_on_every_page(site: Site) -> None:
    seen = set()
    with hostile_browser(site, "ann") as browser:
        queries = ("", f"?q={SCRIPT}", f"?actor={IMAGE}&drop={FILE}", f"?display_name={NAME}&change_ts={IMAGE}")
        for path in site.paths():
            for query in queries:
                html = browser.get(f"{path}{query}", headers=HTML).text
                assert "<script>alert" not in html, (path, query)
                assert "<img" not in html.lower(), (path, query)
                assert not re.search(r'(href|src|action)="\s*javascript:', html), (path, query)
                assert "49" not in re.findall(r"\{\{7\*7\}\}|>49<", html), (path, query)
                if "&lt;script&gt;alert(1)" in html and not query:
                    seen.add(path)
    assert {"/search", f"/entities/{BAD}", "/audit", f"/drops/{site.sha256}", "/admin/rejects", "/admin/ledger"} <= seen
    assert {"/admin/entity-types", "/admin/detail-types", "/account", "/entities/new"} <= seen


def test_a_real_browser_opens_every_page_without_running_what_is_stored(site: Site, browser: Browser) -> None:
    with hostile_browser(site, "ann") as signed_in, browser.new_context() as context:
        (name, value), *_ = [(name, value) for name, value in signed_in.cookies.items() if name == "crm_session"]
        context.add_cookies([{"name": name, "value": value, "url": site.address}])
        page = context.new_page()
        said: list[str] = []

        def dismissed(dialog: Dialog) -> None:
            said.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismissed)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        for path in site.paths():
            if path.endswith("/reinstate"):  # it is not undone
                continue
            answer = page.goto(f"{site.address}{path}")
            assert answer is not None
            assert answer.status == 200, path
            page.wait_for_load_state("networkidle")
        page.goto(f"{site.address}/search")
        page.locator("#q").press_sequentially("<script>al")
        page.wait_for_url("**q=**")
        page.wait_for_load_state("networkidle")
        assert page.locator("main img, main script").count() == 0
        page.goto(f"{site.address}/entities/{BAD}")
        for element in page.locator("main svg a, main svg [tabindex]").all()[:10]:
            element.dispatch_event("focus")
            element.dispatch_event("mouseover")
        assert page.locator("main img").count() == 0
        assert said == []


def test_what_a_form_is_sent_comes_back_as_text(site: Site) -> None:
    forms = {
        "/admin/accounts/new": {"username": NAME, "role": SCRIPT, "password": PASSWORD, "again": "x"},
        "/admin/tokens/new": {"name": NAME, "role": SCRIPT, "expires": IMAGE},
        "/admin/detail-types/new": {"code": NAME, "name": "", "description": NAME, "compares": IMAGE},
        "/entities/new": {"uid": str(uid("x")), "display_name": NAME, "entity_type": SCRIPT, "change_ts": IMAGE},
        "/account/password": {"old": NAME, "new": NAME, "again": NAME},
        f"/drops/{site.sha256}/correct": {"row": f"{SCRIPT},{IMAGE}"},
    }
    with a_browser(site.client, "ann") as browser:
        for path, fields in forms.items():
            html = send(browser, path, **fields).text
            assert "<script>alert" not in html, path
            assert "<img" not in html.lower(), path
        files = {"file": (FILE, b"display_name,entity_type,details\n" + SCRIPT.encode() + b",BAD,[]\n")}
        html = browser.post("/drops", data={"csrf": form_token(browser)}, files=files, headers=HTML).text
        assert "&lt;script&gt;alert(1)" in html
        assert "<img" not in html.lower()
        html = sign_in(browser, NAME, "wrong").text
        assert "<script>alert" not in html


def test_every_page_says_how_it_may_be_used(site: Site) -> None:
    """Clickjacking, sniffing, caching; also on pages of errors and for who is not signed in."""
    with a_browser(site.client, "ann") as browser:
        answers = [
            browser.get(path, headers=HTML)
            for path in (*site.paths(), "/nosuch", "/entities/nosuch")
            if path != "/login"
        ]
        answers += [site.client.get(path, headers=HTML) for path in ("/login", "/nosuch")]
        with a_browser(site.client, "rita") as rita:
            answers.append(rita.get("/admin/", headers=HTML))
    assert {answer.status_code for answer in answers} == {200, 403, 404, 409}
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert (policy["script-src"], policy["style-src"]) == ("'self'", "'self'")
        assert (policy["frame-ancestors"], policy["form-action"], policy["base-uri"]) == ("'none'", "'self'", "'none'")
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_files_of_the_site_are_not_kept_by_others(site: Site) -> None:
    with a_browser(site.client, "ann") as browser:
        paths = ("/search.csv", "/compare.csv", "/admin/ledger.csv", f"/drops/{site.sha256}/rejects.csv")
        for path in (*paths, "/quality/report.html"):
            answer = browser.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["cache-control"] == "no-store", path
            assert answer.headers["content-disposition"].startswith("attachment"), path
