"""Types, accounts and tokens in the admin panel: what each form does, and what it says when something is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from panel import HTML, fault, names_in, shown, table
from serving import ENTITIES, create
from visiting import PASSWORD, a_browser, an_account, send, sign_in

from crm_core.access.accounts import verified_account
from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database
from crm_core.reference import reference_types

pytestmark = [pytest.mark.integration, pytest.mark.api]


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


def test_a_source_is_made_and_renamed(ann: httpx.Client) -> None:
    answer = send(ann, "/admin/sources/new", code="Shop", name="Shop", is_active="yes")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/sources")
    html = shown(ann, "/admin/sources", q="shop")
    assert names_in(html) == ["Shop"]
    assert "The source Shop is made." in html
    assert send(ann, "/admin/sources/of/shop", name="Web shop").status_code == 303
    (row,) = table(ann, "/admin/sources.csv", q="web")
    assert row == {"code": "Shop", "name": "Web shop", "description": "", "is_active": "False"}


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
        ("/admin/sources/new", {"code": "ERP"}, "code", "the source erp exists already"),
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
    for path in ("/admin/detail-types/of/nosuch", "/admin/sources/of/nosuch", "/admin/accounts/of/nobody"):
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
