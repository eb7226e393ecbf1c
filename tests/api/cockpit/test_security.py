"""The pages against those who mean harm: markup in what is stored, stolen and planted sessions, guessed passwords."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from builders import reference_data, uid
from playwright.sync_api import Browser, Dialog
from servers import Server
from serving import ENTITIES, V1, served
from visiting import PASSWORD, a_browser, an_account, form_token, send, sign_in

from api.cockpit.site import PAGES, PANEL
from crm_core.access.accounts import change_account, set_password
from crm_core.access.principal import Role
from crm_core.access.sessions import IDLE, LONGEST
from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database
from crm_core.reference import put_detail_type, put_entity_type

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api]

HTML = {"Accept": "text/html"}
SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
HOSTILE = (SCRIPT, IMAGE, "javascript:alert(3)", "{{7*7}}", "'-alert(4)-'")
NAME = " ".join(HOSTILE)
FILE = f"{IMAGE.replace('/', '')}.csv"
USERNAMES: dict[str, Role] = {"ann": "admin", "rita": "reader", "walt": "writer"}
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
                code = "PERSON" if "entity-types" in route.path else "email"
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
        for username, role in USERNAMES.items():
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


def test_a_session_of_before_the_login_is_worth_nothing_after_it(site: Site) -> None:
    with a_browser(site.client, "walt") as browser, a_browser(site.client) as thief:
        planted = browser.cookies["crm_session"]
        thief.cookies.set("crm_session", planted)
        assert thief.get("/account").status_code == 200
        assert send(browser, "/login", username="ann", password=PASSWORD).status_code == 303
        mine = browser.cookies["crm_session"]
        assert mine.split(".")[0] != planted.split(".")[0]
        assert ">ann<" in browser.get("/account", headers=HTML).text
        assert thief.get("/account").status_code == 303
    with a_browser(site.client) as browser:
        browser.cookies.set("crm_session", f"{'0' * 16}.{'A' * 43}")  # chosen by somebody else
        sign_in(browser, "walt")
        found = {cookie.value for cookie in browser.cookies.jar if cookie.name == "crm_session" and cookie.domain != ""}
        assert f"{'0' * 16}.{'A' * 43}" not in found


def test_the_secret_of_the_browser_is_no_session(site: Site) -> None:
    with a_browser(site.client) as browser:
        form_token(browser)
        browser.cookies.set("crm_session", browser.cookies["crm_browser"])
        assert browser.get("/account").status_code == 303


ELSEWHERE = (
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\r\nSet-Cookie: a=b",
    "evil.example",
    "/\u2028/evil.example",
    "",
)


@pytest.mark.parametrize("there", ELSEWHERE)
def test_nobody_is_led_elsewhere_by_a_login(site: Site, there: str) -> None:
    with a_browser(site.client) as browser:
        html = browser.get("/login", params={"next": there}, headers=HTML).text
        assert 'name="next" value="/"' in html
        answer = sign_in(browser, "rita", next=there)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "a" not in answer.cookies


def test_wrong_names_and_wrong_passwords_get_one_answer(site: Site) -> None:
    an_account(site.database, "gone", "reader")
    with site.database.transaction() as connection:
        change_account(connection, "gone", is_active=False)
    with a_browser(site.client) as browser:

        def answered(username: str, password: str) -> tuple[int, str, list[str]]:
            answer = sign_in(browser, username, password)
            text = re.sub(r'value="[^"]*"', "", answer.text)
            names = sorted(set(answer.headers) - {"x-request-id", "date", "content-length"})
            return answer.status_code, text, names

        wrong = answered("rita", "not her password")
        assert wrong[0] == 401
        assert "The username or the password is wrong." in wrong[1]
        assert answered("nobody", PASSWORD) == wrong
        assert answered("gone", PASSWORD) == wrong
        assert answered("a name <that> nobody can have", PASSWORD) == wrong


def test_an_unknown_name_costs_as_much_work_as_a_known_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the hashes that are made, for seconds say little on a busy machine."""
    from pwdlib.hashers.argon2 import Argon2Hasher

    made: list[bool] = []
    verify = Argon2Hasher.verify

    def counted(self: Argon2Hasher, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002
        made.append(True)
        return verify(self, password, hash)

    with a_browser(site.client) as browser:
        sign_in(browser, "nobody-at-first", PASSWORD)  # the hash of nobody is made once
        monkeypatch.setattr(Argon2Hasher, "verify", counted)
        work = []
        for username in ("walt", "nobody-else", "<b>"):
            made.clear()
            assert sign_in(browser, username, "not the password").status_code == 401
            work.append(len(made))
    assert work == [1, 1, 1]


@pytest.fixture
def twins(site: Site, tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two processes of one service, as far as limits go: they share the folder."""
    with served(site.database, limits=tmp_path) as one, served(site.database, limits=tmp_path) as other:
        yield one, other


def test_guessing_a_password_ends_soon_whichever_process_is_asked(twins: tuple[httpx.Client, httpx.Client]) -> None:
    statuses = []
    for number in range(12):
        with a_browser(twins[number % 2]) as browser:
            statuses.append(sign_in(browser, "walt", f"guess number {number}").status_code)
    assert statuses == [401] * 10 + [429] * 2
    with a_browser(twins[0]) as browser:
        answer = sign_in(browser, "walt")
        assert answer.status_code == 429  # the right one too, so that nobody learns that it is
        assert int(answer.headers["retry-after"]) <= 300
        assert "too many attempts" in answer.text
        assert sign_in(browser, "rita").status_code == 303  # others can sign in


def test_many_guesses_at_once_are_no_way_around_the_limit(twins: tuple[httpx.Client, httpx.Client]) -> None:
    with a_browser(twins[0]) as browser, ThreadPoolExecutor(20) as threads:
        data = {"csrf": form_token(browser), "username": "walt"}
        sent = [threads.submit(browser.post, "/login", data=data | {"password": f"guess {n}"}) for n in range(20)]
        statuses = [each.result().status_code for each in sent]
    assert set(statuses) == {401, 429}
    assert 10 <= statuses.count(401) <= 11  # two are looked at at one time


def test_guessing_names_ends_soon_too(twins: tuple[httpx.Client, httpx.Client]) -> None:
    with a_browser(twins[0]) as one, a_browser(twins[1]) as other:
        statuses = [sign_in((one, other)[n % 2], f"name{n}", PASSWORD).status_code for n in range(31)]
    assert statuses == [401] * 30 + [429]


def test_the_old_password_cannot_be_guessed_by_who_has_taken_a_session(
    twins: tuple[httpx.Client, httpx.Client],
) -> None:
    with a_browser(twins[0], "walt") as browser:
        new = "a password of the thief"
        tried = [send(browser, "/account/password", old=f"guess {n}", new=new, again=new) for n in range(11)]
    assert [answer.status_code for answer in tried] == [400] * 10 + [429]


def test_cookies_are_for_our_pages_alone(site: Site) -> None:
    with a_browser(site.client) as browser:
        answers = [browser.get("/login", headers=HTML), sign_in(browser, "rita")]
        answers.append(send(browser, "/account/sessions"))
        set_by = cookies_of(*answers)
    assert set(set_by) == {"crm_browser", "crm_session", "crm_message"}
    for flags in set_by.values():
        assert {"httponly", "samesite=lax", "path=/"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)


def test_under_https_cookies_go_over_https_alone_and_are_of_this_host(site: Site) -> None:
    with served(site.database, secure=True, trusted_proxies=("127.0.0.1",)) as client:
        with httpx.Client(base_url=client.base_url, trust_env=False, headers={"X-Forwarded-Proto": "https"}) as browser:
            first = browser.get("/login", headers=HTML)
            kept = {"__Host-crm_browser": re.findall(r"__Host-crm_browser=([^;]+)", first.headers["set-cookie"])[0]}
            (token,) = set(re.findall(r'name="csrf" value="([0-9a-f]{64})"', first.text))
            fields = {"csrf": token, "username": "rita", "password": PASSWORD}
            sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in kept.items())}
            signed_in = browser.post("/login", data=fields, headers=HTML | sent)
            assert signed_in.status_code == 303, signed_in.text
            session = re.findall(r"__Host-crm_session=([^;]+)", signed_in.headers["set-cookie"])[0]
            sent = {"Cookie": f"__Host-crm_session={session}"}
            page = browser.get("/account", headers=HTML | sent)
            assert page.status_code == 200
            (token,) = set(re.findall(r'name="csrf" value="([0-9a-f]{64})"', page.text))
            out = browser.post("/logout", data={"csrf": token}, headers=HTML | sent)
            assert browser.get("/account", headers=HTML | {"Cookie": f"crm_session={session}"}).status_code == 303
        set_by = cookies_of(first, signed_in, out)
    assert set(set_by) == {"__Host-crm_browser", "__Host-crm_session", "__Host-crm_message"}
    for flags in set_by.values():
        assert {"httponly", "samesite=lax", "path=/", "secure"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)


def test_the_api_takes_no_cookie(site: Site) -> None:
    with a_browser(site.client, "ann") as browser:
        assert browser.get("/admin/").status_code == 200
        assert browser.get(ENTITIES).status_code == 401
        body = {"display_name": "By a cookie", "entity_type": "PERSON", "details": []}
        assert browser.post(ENTITIES, json=body).status_code == 401
        assert browser.post(f"{V1}/detail-types", json={"code": "x", "name": "X"}).status_code == 401


def test_the_pages_take_no_token(site: Site) -> None:
    with site.database.connect(autocommit=True) as connection:
        _, token = create_token(connection, "pages", "admin", now=datetime.now(UTC))
    answer = site.client.get("/admin/", headers={"Authorization": f"Bearer {token}"} | HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/admin/")


def test_pages_of_other_origins_may_not_write(site: Site) -> None:
    with a_browser(site.client, "ann") as browser:
        data = {"csrf": form_token(browser), "code": "evil", "name": "Evil", "compares": "text"}
        answer = browser.post("/admin/detail-types/new", data=data, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert browser.get("/admin/detail-types/of/evil").status_code == 404


def test_who_has_signed_out_is_out_in_every_process(twins: tuple[httpx.Client, httpx.Client]) -> None:
    with a_browser(twins[0], "rita") as browser, httpx.Client(base_url=twins[1].base_url, trust_env=False) as other:
        session = browser.cookies["crm_session"]
        other.cookies.set("crm_session", session)
        assert other.get("/account").status_code == 200
        answer = send(browser, "/logout")
        assert answer.headers["location"] == "/login"
        assert "crm_session" not in browser.cookies
        browser.cookies.set("crm_session", session)
        assert browser.get("/account").status_code == 303  # at once where one signed out
        assert refused(lambda: other.get("/account").status_code)


def test_a_session_ends_by_itself(site: Site) -> None:
    for column, age in (("expires_at", LONGEST), ("last_used_at", IDLE)):
        with a_browser(site.client, "rita") as browser:
            session_id = browser.cookies["crm_session"].split(".")[0]
            with site.database.connect(autocommit=True) as connection:
                now = datetime.now(UTC)
                gone = now - timedelta(seconds=1) if column == "expires_at" else now - age
                done = connection.execute(  # as if the time had passed
                    f"update session set {column} = %s where session_id = %s",  # noqa: S608
                    (gone, session_id),
                )
                assert done.rowcount == 1
            assert refused(partial(status_of, browser, "/account")), column


def test_a_password_that_is_changed_ends_the_other_sessions(site: Site) -> None:
    an_account(site.database, "pia", "reader")
    new = "another long password"
    with a_browser(site.client, "pia") as mine, a_browser(site.client, "pia") as stolen:
        assert send(mine, "/account/password", old=PASSWORD, new=new, again=new).status_code == 303
        assert mine.get("/account").status_code == 200
        assert stolen.get("/account").status_code == 303
        with site.database.transaction() as connection:  # as on the command line, in another process
            set_password(connection, "pia", PASSWORD, now=datetime.now(UTC))
        assert refused(lambda: mine.get("/account").status_code)


def test_an_account_that_is_deactivated_elsewhere_is_out(site: Site) -> None:
    an_account(site.database, "tim", "admin")
    with a_browser(site.client, "tim") as browser:
        assert browser.get("/admin/").status_code == 200
        with site.database.transaction() as connection:
            change_account(connection, "tim", role="reader")
        assert refused(lambda: browser.get("/admin/").status_code, 403)
        with site.database.transaction() as connection:
            change_account(connection, "tim", is_active=False)
        assert refused(lambda: browser.get("/account").status_code)


def test_nobody_ends_the_session_of_another(site: Site) -> None:
    with a_browser(site.client, "ann") as ann, a_browser(site.client, "rita") as rita:
        session_id = ann.cookies["crm_session"].split(".")[0]
        send(rita, "/account/sessions", session_id=session_id)
        assert ann.get("/account").status_code == 200


def cookies_of(*answers: httpx.Response) -> dict[str, set[str]]:
    """The flags of each cookie that was set, by its name."""
    found: dict[str, set[str]] = {}
    for line in (line for answer in answers for line in answer.headers.get_list("set-cookie")):
        pair, *flags = line.split(";")
        found[pair.partition("=")[0]] = {flag.strip().lower() for flag in flags}
    return found


def status_of(browser: httpx.Client, path: str) -> int:
    return browser.get(path).status_code


def refused(status: Callable[[], int], expected: int = 303) -> bool:
    """Whether an address is refused within the second for which a process may remember a session."""
    until = time.monotonic() + 5  # the machine may be busy
    while time.monotonic() < until:
        if status() == expected:
            return True
        time.sleep(0.1)
    return False
