"""The lists of the admin panel: in pages, by filter and as files; rejected rows and the ledger among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx
import pytest
from builders import an_entity, uid, write_drop
from panel import HTML, names_in, shown, table
from playwright.sync_api import Page
from serving import V1
from visiting import log_in

from crm_core.access.tokens import create_token
from crm_core.drops.registry import rejects_of_all
from crm_core.model import Change
from crm_core.postgres.connection import Database

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api]


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
