"""Signing in and out against those who mean harm: stolen and planted sessions, guessed passwords, other sites."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from serving import ENTITIES, V1, served
from visiting import PASSWORD, a_browser, an_account, form_token, send, sign_in

from crm_core.access.accounts import change_account, set_password
from crm_core.access.sessions import IDLE, LONGEST
from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

HTML = {"Accept": "text/html"}
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


def test_a_session_of_before_the_login_is_worth_nothing_after_it(client: httpx.Client) -> None:
    with a_browser(client, "walt") as browser, a_browser(client) as thief:
        planted = browser.cookies["crm_session"]
        thief.cookies.set("crm_session", planted)
        assert thief.get("/account").status_code == 200
        assert send(browser, "/login", username="ann", password=PASSWORD).status_code == 303
        mine = browser.cookies["crm_session"]
        assert mine.split(".")[0] != planted.split(".")[0]
        assert ">ann<" in browser.get("/account", headers=HTML).text
        assert thief.get("/account").status_code == 303
    with a_browser(client) as browser:
        browser.cookies.set("crm_session", f"{'0' * 16}.{'A' * 43}")  # chosen by somebody else
        sign_in(browser, "walt")
        found = {cookie.value for cookie in browser.cookies.jar if cookie.name == "crm_session" and cookie.domain != ""}
        assert f"{'0' * 16}.{'A' * 43}" not in found


def test_the_secret_of_the_browser_is_no_session(client: httpx.Client) -> None:
    with a_browser(client) as browser:
        form_token(browser)
        browser.cookies.set("crm_session", browser.cookies["crm_browser"])
        assert browser.get("/account").status_code == 303


@pytest.mark.parametrize("there", ELSEWHERE)
def test_nobody_is_led_elsewhere_by_a_login(client: httpx.Client, there: str) -> None:
    with a_browser(client) as browser:
        html = browser.get("/login", params={"next": there}, headers=HTML).text
        assert 'name="next" value="/"' in html
        answer = sign_in(browser, "rita", next=there)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "a" not in answer.cookies


def test_wrong_names_and_wrong_passwords_get_one_answer(client: httpx.Client, world: Database) -> None:
    an_account(world, "gone", "reader")
    with world.transaction() as connection:
        change_account(connection, "gone", is_active=False)
    with a_browser(client) as browser:

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


def test_an_unknown_name_costs_as_much_work_as_a_known_one(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the hashes that are made, for seconds say little on a busy machine."""
    from pwdlib.hashers.argon2 import Argon2Hasher

    made: list[bool] = []
    verify = Argon2Hasher.verify

    def counted(self: Argon2Hasher, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002
        made.append(True)
        return verify(self, password, hash)

    with a_browser(client) as browser:
        sign_in(browser, "nobody-at-first", PASSWORD)  # the hash of nobody is made once
        monkeypatch.setattr(Argon2Hasher, "verify", counted)
        work = []
        for username in ("walt", "nobody-else", "<b>"):
            made.clear()
            assert sign_in(browser, username, "not the password").status_code == 401
            work.append(len(made))
    assert work == [1, 1, 1]


@pytest.fixture
def twins(world: Database, tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two processes of one service, as far as limits go: they share the folder."""
    with served(world, limits=tmp_path) as one, served(world, limits=tmp_path) as other:
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


def test_cookies_are_for_our_pages_alone(client: httpx.Client) -> None:
    with a_browser(client) as browser:
        answers = [browser.get("/login", headers=HTML), sign_in(browser, "rita")]
        answers.append(send(browser, "/account/sessions"))
        set_by = cookies_of(*answers)
    assert set(set_by) == {"crm_browser", "crm_session", "crm_message"}
    for flags in set_by.values():
        assert {"httponly", "samesite=lax", "path=/"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)


def test_under_https_cookies_go_over_https_alone_and_are_of_this_host(world: Database) -> None:
    with served(world, secure=True, trusted_proxies=("127.0.0.1",)) as client:
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


def test_the_api_takes_no_cookie(client: httpx.Client) -> None:
    with a_browser(client, "ann") as browser:
        assert browser.get("/admin/").status_code == 200
        assert browser.get(ENTITIES).status_code == 401
        body = {"display_name": "By a cookie", "entity_type": "PERSON", "details": []}
        assert browser.post(ENTITIES, json=body).status_code == 401
        assert browser.post(f"{V1}/detail-types", json={"code": "x", "name": "X"}).status_code == 401


def test_the_pages_take_no_token(client: httpx.Client, world: Database) -> None:
    with world.connect(autocommit=True) as connection:
        _, token = create_token(connection, "pages", "admin", now=datetime.now(UTC))
    answer = client.get("/admin/", headers={"Authorization": f"Bearer {token}"} | HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/admin/")


def test_pages_of_other_origins_may_not_write(client: httpx.Client) -> None:
    with a_browser(client, "ann") as browser:
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


def test_a_session_ends_by_itself(client: httpx.Client, world: Database) -> None:
    for column, age in (("expires_at", LONGEST), ("last_used_at", IDLE)):
        with a_browser(client, "rita") as browser:
            session_id = browser.cookies["crm_session"].split(".")[0]
            with world.connect(autocommit=True) as connection:
                now = datetime.now(UTC)
                gone = now - timedelta(seconds=1) if column == "expires_at" else now - age
                done = connection.execute(  # as if the time had passed
                    f"update session set {column} = %s where session_id = %s",  # noqa: S608
                    (gone, session_id),
                )
                assert done.rowcount == 1
            assert refused(partial(status_of, browser, "/account")), column


def test_a_password_that_is_changed_ends_the_other_sessions(client: httpx.Client, world: Database) -> None:
    an_account(world, "pia", "reader")
    new = "another long password"
    with a_browser(client, "pia") as mine, a_browser(client, "pia") as stolen:
        assert send(mine, "/account/password", old=PASSWORD, new=new, again=new).status_code == 303
        assert mine.get("/account").status_code == 200
        assert stolen.get("/account").status_code == 303
        with world.transaction() as connection:  # as on the command line, in another process
            set_password(connection, "pia", PASSWORD, now=datetime.now(UTC))
        assert refused(lambda: mine.get("/account").status_code)


def test_an_account_that_is_deactivated_elsewhere_is_out(client: httpx.Client, world: Database) -> None:
    an_account(world, "tim", "admin")
    with a_browser(client, "tim") as browser:
        assert browser.get("/admin/").status_code == 200
        with world.transaction() as connection:
            change_account(connection, "tim", role="reader")
        assert refused(lambda: browser.get("/admin/").status_code, 403)
        with world.transaction() as connection:
            change_account(connection, "tim", is_active=False)
        assert refused(lambda: browser.get("/account").status_code)


def test_nobody_ends_the_session_of_another(client: httpx.Client) -> None:
    with a_browser(client, "ann") as ann, a_browser(client, "rita") as rita:
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
