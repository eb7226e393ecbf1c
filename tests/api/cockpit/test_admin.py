"""The admin panel: who may open it, what each of its forms does, and what it says when something is wrong."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from builders import an_entity, reference_data, uid, write_drop
from playwright.sync_api import Browser, Page, expect
from servers import Server
from serving import ENTITIES, V1, create, served
from starlette.routing import Route
from visiting import PASSWORD, a_browser, an_account, form_token, send, sign_in

from api.cockpit.site import PAGES, PANEL
from crm_core.access.accounts import accounts, verified_account
from crm_core.access.tokens import create_token, tokens
from crm_core.drops.registry import rejects_of_all
from crm_core.model import Change
from crm_core.postgres.connection import Database
from crm_core.reference import reference_types

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api]

HTML = {"Accept": "text/html"}
ROUTES = [route for part in PANEL for route in part.routes]
SHA256 = "0" * 64


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[Database]:
    """A service with an account of each role."""
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        for username in ("ann", "rita", "walt"):
            an_account(database, username, {"ann": "admin", "rita": "reader", "walt": "writer"}[username])  # type: ignore[arg-type]
        yield database


@pytest.fixture(scope="module")
def client(world: Database) -> Iterator[httpx.Client]:
    with served(world) as client:
        yield client


@pytest.fixture(scope="module")
def ann(client: httpx.Client) -> Iterator[httpx.Client]:
    """The browser of an admin."""
    with a_browser(client, "ann") as browser:
        yield browser


def place(route: Route) -> str:
    """An address of a route, at things that exist where they can."""
    code = "PERSON" if "entity" in route.path else "email"
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


def shown(client: httpx.Client, path: str, status: int = 200, **params: str) -> str:
    answer = client.get(path, params=params or None, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def fault(html: str, name: str) -> str:
    """What a form says beside a field."""
    found = re.search(rf'<div class="invalid-feedback d-block" id="{name}-told" role="alert">(.*?)</div>', html)
    assert found is not None, html
    return found[1].replace("&#39;", "'")


def names_in(html: str) -> list[str]:
    """The names of the rows of a list, in its order."""
    return [
        re.sub(r"<[^>]*>", " ", name).split()[0] for name in re.findall(r'<th scope="row">(.*?)</th>', html, re.DOTALL)
    ]


def table(client: httpx.Client, path: str, **params: str) -> list[dict[str, str]]:
    answer = client.get(path, params=params or None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


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


def test_a_detail_type_is_made_changed_and_used(ann: httpx.Client, world: Database) -> None:
    fields = {"code": "fax", "name": "Fax", "description": "a < b", "is_active": "yes", "compares": "exact"}
    answer = send(ann, "/admin/detail-types/new", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/detail-types")
    html = shown(ann, "/admin/detail-types", q="a < B")
    assert names_in(html) == ["fax"]
    assert "The detail type fax is made." in html
    changed = {"name": "Telefax", "description": "", "is_active": "yes", "compares": "casefold"}
    assert send(ann, "/admin/detail-types/of/FAX", **changed).status_code == 303
    (row,) = [row for row in table(ann, "/admin/detail-types.csv") if row["code"] == "fax"]
    assert row == {"code": "fax", "name": "Telefax", "description": "", "is_active": "True", "compares": "casefold"}
    assert 'name="details.fax"' in shown(ann, "/entities/new")
    assert send(ann, "/admin/detail-types/of/fax", name="Telefax", compares="casefold").status_code == 303  # inactive
    with world.connect() as connection:
        (kind,) = [kind for kind in reference_types(connection).detail_types if kind.code == "fax"]
    assert (kind.name, kind.is_active, kind.compares) == ("Telefax", False, "casefold")
    assert 'name="details.fax"' not in shown(ann, "/entities/new")


def test_an_entity_type_is_made_and_changed(ann: httpx.Client) -> None:
    fields = {"code": "FUND", "name": "Fund", "is_active": "yes"}
    assert send(ann, "/admin/entity-types/new", **fields).status_code == 303
    assert send(ann, "/admin/entity-types/of/FUND", name="Investment fund").status_code == 303
    (row,) = table(ann, "/admin/entity-types.csv", q="investment")
    assert row == {"code": "FUND", "name": "Investment fund", "description": "", "is_active": "False"}


@pytest.mark.parametrize(
    ("path", "given", "field", "said"),
    [
        ("/admin/detail-types/new", {"code": "1st"}, "code", "begin with a letter"),
        ("/admin/detail-types/new", {"code": "Email"}, "code", "the detail type email exists already"),
        ("/admin/detail-types/new", {"code": "q"}, "code", "already a parameter of the lists"),
        ("/admin/detail-types/new", {"code": "fine", "name": " "}, "name", "give one"),
        ("/admin/detail-types/new", {"code": "fine", "compares": "magic"}, "compares", "Choose one of the three."),
        ("/admin/detail-types/new", {"code": "fine", "description": "x" * 10_001}, "description", "10,000"),
        ("/admin/entity-types/new", {"code": "person"}, "code", "the entity type PERSON exists already"),
    ],
)
def test_what_is_wrong_with_a_type_stands_beside_its_field(
    ann: httpx.Client, path: str, given: dict[str, str], field: str, said: str
) -> None:
    answer = send(ann, path, **{"code": "fine", "name": "Kept & shown", "compares": "text", **given})
    assert answer.status_code == 400
    assert said in fault(answer.text, field)
    assert given.get("name") or 'value="Kept &amp; shown"' in answer.text


def test_how_values_compare_cannot_change_once_there_are_some(
    client: httpx.Client, ann: httpx.Client, world: Database
) -> None:
    with world.connect(autocommit=True) as connection:
        _, token = create_token(connection, "filler", "writer", now=datetime.now(UTC))
    client.headers["Authorization"] = f"Bearer {token}"
    create(client, "Ada", email="ada@x.org")
    answer = send(ann, "/admin/detail-types/of/email", name="E-mail", is_active="yes", compares="exact")
    assert answer.status_code == 400
    assert "has values that compare as casefold" in fault(answer.text, "compares").replace("&#39;", "'")


def test_an_unknown_type_account_and_token_have_a_page_that_says_so(ann: httpx.Client) -> None:
    for path in ("/admin/detail-types/of/nosuch", "/admin/accounts/of/nobody"):
        assert ann.get(path, headers=HTML).status_code == 404
    assert send(ann, "/admin/accounts/of/nobody", role="reader").status_code == 404
    assert send(ann, "/admin/accounts/of/nobody/password", new=PASSWORD, again=PASSWORD).status_code == 404
    assert send(ann, "/admin/tokens/of/000000000000/revoke").status_code == 404


def test_an_account_is_made_and_managed(client: httpx.Client, ann: httpx.Client, world: Database) -> None:
    fields = {"username": "bob", "role": "reader", "password": PASSWORD, "again": PASSWORD}
    assert send(ann, "/admin/accounts/new", **fields).headers["location"] == "/admin/accounts/of/bob"
    with a_browser(client, "bob") as bob:
        (row,) = [row for row in table(ann, "/admin/accounts.csv") if row["username"] == "bob"]
        assert (row["role"], row["is_active"], row["sessions"], row["last_login_at"] != "") == (
            "reader",
            "True",
            "1",
            True,
        )
        assert bob.get("/entities/new").status_code == 403
        send(ann, "/admin/accounts/of/bob", role="writer")
        assert bob.get("/entities/new").status_code == 200  # at once, in the session under way
        send(ann, "/admin/accounts/of/bob/sessions")
        assert bob.get("/account").status_code == 303
    new = "a horse that is another"
    with a_browser(client, "bob") as bob:
        assert send(ann, "/admin/accounts/of/bob/password", new=new, again=new).status_code == 303
        assert bob.get("/account").status_code == 303
        assert sign_in(bob, "bob", new).status_code == 303
        assert send(ann, "/admin/accounts/of/bob", active="no").status_code == 303
        assert bob.get("/account").status_code == 303
        assert sign_in(bob, "bob", new).status_code == 401
    assert 'value="yes">Activate' in shown(ann, "/admin/accounts/of/bob")
    send(ann, "/admin/accounts/of/bob", active="yes")
    with world.connect() as connection:
        account = verified_account(connection, "bob", new)
    assert account is not None
    assert (account.role, account.is_active) == ("writer", True)


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"username": "rita"}, "username", "exists already"),
        ({"username": "<b>"}, "username", "cannot be used"),
        ({"role": "owner"}, "role", "Choose reader, writer or admin."),
        ({"again": "something else"}, "again", "The two passwords differ."),
        ({"password": "short", "again": "short"}, "password", "too short"),
        ({"password": "eve" * 4, "again": "eve" * 4}, "password", "too similar to the username"),
    ],
)
def test_what_is_wrong_with_an_account_stands_beside_its_field(
    ann: httpx.Client, given: dict[str, str], field: str, said: str
) -> None:
    fields = {"username": "eve", "role": "reader", "password": PASSWORD, "again": PASSWORD} | given
    answer = send(ann, "/admin/accounts/new", **fields)
    assert answer.status_code == 400
    assert said in fault(answer.text, field)
    assert PASSWORD not in answer.text


def test_the_last_admin_stays_and_is_warned(ann: httpx.Client, world: Database) -> None:
    assert "This is your own account." in shown(ann, "/admin/accounts/of/ann")
    for given, field in (({"role": "reader"}, "role"), ({"active": "no"}, "active")):
        answer = send(ann, "/admin/accounts/of/ann", **given)
        assert answer.status_code == 400, field
        assert "is the last active admin" in answer.text
    assert send(ann, "/admin/accounts/of/ann/sessions").status_code == 303
    assert ann.get("/admin/").status_code == 200  # one's own session goes on
    an_account(world, "ada", "admin")
    answer = send(ann, "/admin/accounts/of/ada", role="reader")
    assert answer.status_code == 303


def test_a_token_is_shown_once_used_and_revoked(client: httpx.Client, ann: httpx.Client) -> None:
    answer = send(ann, "/admin/tokens/new", name="nightly", role="reader", expires="2099-01-31")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    (text,) = re.findall(r">(crm_[a-z0-9]{12}_[A-Za-z0-9]{43})</textarea>", answer.text)
    assert f"curl -H &#34;Authorization: Bearer {text}&#34; {client.base_url}" in answer.text.replace(
        "/api/v1/entities", ""
    )
    bearer = {"Authorization": f"Bearer {text}"}
    assert httpx.get(f"{client.base_url}{ENTITIES}", headers=bearer, trust_env=False).status_code == 200
    html = shown(ann, "/admin/tokens", q="nightly")
    assert text not in html
    assert names_in(html) == ["nightly"]
    (row,) = table(ann, "/admin/tokens.csv", q="nightly")
    assert (row["role"], row["state"], row["expires_at"]) == ("reader", "active", "2099-01-31 00:00:00+00:00")
    assert "secret" not in "".join(row)
    assert send(ann, f"/admin/tokens/of/{row['token_id']}/revoke").status_code == 303
    assert httpx.get(f"{client.base_url}{ENTITIES}", headers=bearer, trust_env=False).status_code == 401
    assert [row["state"] for row in table(ann, "/admin/tokens.csv", q="nightly", state="revoked")] == ["revoked"]
    assert table(ann, "/admin/tokens.csv", q="nightly", state="active") == []


def test_an_expired_token_is_shown_as_such(ann: httpx.Client, world: Database) -> None:
    now = datetime.now(UTC)
    with world.connect(autocommit=True) as connection:
        then = now - timedelta(days=2)
        create_token(connection, "old", "reader", now=then, expires_at=now - timedelta(days=1))
    assert [row["name"] for row in table(ann, "/admin/tokens.csv", state="expired")] == ["old"]


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"name": "a b"}, "name", "cannot be used"),
        ({"role": ""}, "role", "Choose reader, writer or admin."),
        ({"expires": "2001-01-01"}, "expires", "in the past"),
        ({"expires": "soon"}, "expires", "soon"),
    ],
)
def test_what_is_wrong_with_a_token_stands_beside_its_field(
    ann: httpx.Client, given: dict[str, str], field: str, said: str
) -> None:
    answer = send(ann, "/admin/tokens/new", **({"name": "robot", "role": "reader", "expires": ""} | given))
    assert answer.status_code == 400
    assert said in fault(answer.text, field)


def test_lists_go_on_by_key(ann: httpx.Client, world: Database) -> None:
    with world.connect(autocommit=True) as connection:
        for number in range(60):
            create_token(connection, f"many{number:02}", "reader", now=datetime.now(UTC))
    first = shown(ann, "/admin/tokens", q="many")
    (after,) = re.findall(r'href="(/admin/tokens\?[^"]*after=[^"]*)">Next page', first)
    second = shown(ann, after.replace("&amp;", "&"))
    seen = names_in(first) + names_in(second)
    assert (len(names_in(first)), seen) == (50, [f"many{number:02}" for number in range(60)])
    assert "Next page" not in second


@pytest.fixture(scope="module")
def loaded(world: Database, ann: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    """Two drops by the API: Bea with a change and a deletion; and three rejected rows, one of them in the first."""
    folder = tmp_path_factory.mktemp("drops")
    with world.connect(autocommit=True) as connection:
        _, token = create_token(connection, "loader", "writer", now=datetime.now(UTC))
    good = [an_entity("bea", at=1, name="Bea", phone="+1"), an_entity("bea", at=2, op="delete")]
    drops: dict[str, list[Change | Mapping[str, str]]] = {
        "first.csv": [*good, {"display_name": "", "entity_type": "PERSON", "details": "[]"}],
        "second.csv": [
            {"display_name": "X", "entity_type": "ROBOT", "details": "[]"},
            {"display_name": "", "entity_type": "ROBOT", "details": "[]"},
        ],
    }
    for name, rows in drops.items():
        path = write_drop(folder / name, rows)
        files = {"file": (name, path.read_bytes())}
        answer = httpx.post(
            f"{ann.base_url}{V1}/drops", files=files, headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        assert answer.status_code in (200, 201), answer.text
    return ann


def test_rejects_of_all_drops_are_listed_by_file_and_reason(loaded: httpx.Client) -> None:
    def found(**params: str) -> list[tuple[str, str, str]]:
        return [(row["file"], row["line"], row["reasons"]) for row in table(loaded, "/admin/rejects.csv", **params)]

    both = [("second.csv", "2", "unknown_entity_type"), ("second.csv", "3", "missing_display_name unknown_entity_type")]
    assert found() == [*both, ("first.csv", "4", "missing_display_name")]
    assert found(drop="FIRST") == [("first.csv", "4", "missing_display_name")]
    assert found(reason="unknown_entity_type") == both
    assert found(drop="first", reason="unknown_entity_type") == []
    assert names_in(shown(loaded, "/admin/rejects", reason="missing_display_name")) == ["second.csv", "first.csv"]
    assert loaded.get("/admin/rejects", params={"reason": "bad"}, headers=HTML).status_code == 400
    assert loaded.get("/admin/rejects", params={"after": "x"}, headers=HTML).status_code == 400


def test_rejects_go_on_behind_a_place(loaded: httpx.Client, world: Database) -> None:
    with world.connect() as connection:
        whole, end = rejects_of_all(connection, limit=10)
        assert end is None
        parts, after = [], None
        for _ in range(len(whole)):
            (document,), after = rejects_of_all(connection, after=after, limit=1)
            parts.append(document)
    assert (tuple(parts), after) == (whole, None)


def test_the_ledger_is_listed_as_it_stands(loaded: httpx.Client) -> None:
    rows = table(loaded, "/admin/ledger.csv", drop="first.csv")
    assert [(row["op"], row["display_name"], row["entity_type"], row["details"], row["line"]) for row in rows] == [
        ("delete", "", "", "", "3"),
        ("upsert", "Bea", "PERSON", '{"phone": "+1"}', "2"),
    ]
    assert {row["actor"] for row in rows} == {"loader"}
    assert {row["entity_uid"] for row in rows} == {str(uid("bea"))}
    assert [row["change_ts"] for row in rows] == ["2024-01-03T00:00:00Z", "2024-01-02T00:00:00Z"]
    html = shown(loaded, "/admin/ledger", drop="first.csv", op="upsert")
    assert names_in(html) == [str(uid("bea"))]
    assert "<form" not in html.partition('aria-label="Rows of the ledger"')[2]  # nothing here changes anything
    (batch,) = set(re.findall(r'href="(/admin/ledger\?from=[^"]*)" title="All rows of this batch"', html))
    assert len(names_in(shown(loaded, batch.replace("&amp;", "&")))) == 2
    assert loaded.get("/admin/ledger", params={"op": "bad"}, headers=HTML).status_code == 400


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
        assert "A token closes what is open now" in answer.text
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


def test_in_a_browser_an_account_a_token_and_a_type_are_made_and_used(
    browser: Browser, page: Page, fresh_database: Database
) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    an_account(fresh_database, "ann", "admin")
    with served(fresh_database) as client:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        log_in(page, f"{client.base_url}/admin/", "ann")

        page.get_by_role("link", name="New account").click()
        page.get_by_label("Name").fill("walt")
        page.get_by_label("Role").select_option("writer")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("status")).to_contain_text("The account walt is made, with the role writer.")

        page.goto(f"{client.base_url}/admin/detail-types/new")
        page.get_by_label("Code").fill("fax")
        page.get_by_label("Name").fill("Fax number")
        page.get_by_role("button", name="Make the type").click()
        expect(page.get_by_role("row", name="fax")).to_contain_text("Fax number")

        page.goto(f"{client.base_url}/admin/tokens/new")
        page.get_by_label("Name").fill("robot")
        page.get_by_label("Role").select_option("writer")
        page.get_by_role("button", name="Make the token").click()
        text = page.get_by_role("textbox", name="Token").input_value()
        copy = page.get_by_role("button", name="Copy").first
        copy.click()
        expect(page.locator("[data-copy=token]")).to_have_text(re.compile("Copied|Marked"))
        bearer = {"Authorization": f"Bearer {text}"}
        made = client.post(
            ENTITIES, json={"display_name": "Ada", "entity_type": "PERSON", "details": []}, headers=bearer
        )
        assert made.status_code == 201, made.text
        page.get_by_role("link", name="I have it").click()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Revoke robot").click()
        expect(page.get_by_role("status")).to_contain_text("The token robot is revoked.")
        assert client.get(ENTITIES, headers=bearer).status_code == 401

        with browser.new_context() as context:
            other = context.new_page()
            log_in(other, f"{client.base_url}/", "walt")
            expect(other.get_by_role("link", name="Admin")).to_have_count(0)
            answer = other.goto(f"{client.base_url}/admin/")
            assert answer is not None
            assert answer.status == 403
            other.goto(f"{client.base_url}/entities/new")
            other.get_by_label("Name").fill("Grace")
            other.get_by_label("Fax number").fill("+1 555")
            other.get_by_role("button", name=re.compile("Preview")).click()
            other.get_by_role("button", name=re.compile("Save|Record|Make|Create")).first.click()
            expect(other.get_by_role("heading", level=1)).to_contain_text("Grace")
            expect(other.locator("main")).to_contain_text("+1 555")
        assert errors == []


def test_in_a_browser_a_reader_is_offered_nothing_that_is_forbidden(
    client: httpx.Client, loaded: httpx.Client, page: Page
) -> None:
    log_in(page, f"{client.base_url}/", "rita")
    sha256 = table(loaded, "/admin/rejects.csv")[0]["sha256"]
    for path in (
        "/",
        "/search",
        "/drops",
        f"/drops/{sha256}",
        "/quality",
        "/audit",
        "/compare",
        f"/entities/{uid('bea')}",
    ):
        page.goto(f"{client.base_url}{path}")
        offered = page.eval_on_selector_all(
            "form[method=post]", "forms => forms.map(form => new URL(form.action).pathname)"
        )
        assert offered == ["/logout"], path
        assert page.get_by_role("button", name="Preview the corrected rows").count() == 0
        links = page.eval_on_selector_all("a", "links => links.map(link => link.getAttribute('href').split(/[?#]/)[0])")
        assert not [link for link in links if re.search(r"^/admin|/new$|/change$|/end$|/undo$|/reinstate$", link)], path


def test_a_reader_cannot_have_everything_recomputed(client: httpx.Client) -> None:
    with a_browser(client, "rita") as browser:
        answer = browser.post("/quality", data={"csrf": form_token(browser)}, headers=HTML)
        assert answer.status_code == 403
        assert "this page needs the role writer" in answer.text


def log_in(page: Page, address: str, username: str) -> None:
    page.goto(address)
    if not page.url.partition("?")[0].endswith("/login"):
        page.goto(f"{address.partition('/admin')[0]}/login")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text(username).first).to_be_visible()
