"""Held drops in the cockpit: what they would end, and the decision of a writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from builders import an_entity, day, reference_data, uid, write_drop
from serving import served
from visiting import a_browser, an_account, send

from crm_core.drops.ingest import Options, ingest
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]
PAGE = {"Accept": "text/html"}


@pytest.fixture
def sha256(fresh_database: Database, tmp_path: Path) -> str:
    """A snapshot that would end <Ada> and is held."""
    with fresh_database.transaction() as connection:
        reference_data(connection)
    for name, role in (("rita", "reader"), ("will", "writer")):
        an_account(fresh_database, name, role)  # type: ignore[arg-type]
    ingest(fresh_database, write_drop(tmp_path / "a.csv", [an_entity(name="<Ada>"), an_entity("bob")]))
    of = SnapshotOptions("PERSON", day(5))
    report = ingest(fresh_database, write_drop(tmp_path / "s.csv", [an_entity("bob", at=5)]), Options(snapshot=of))
    assert report.status == "held"
    return report.sha256 or ""


@pytest.fixture
def site(fresh_database: Database, sha256: str) -> Iterator[httpx.Client]:
    with served(fresh_database) as client:
        yield client


def test_a_writer_sees_what_would_end_and_approves_it(site: httpx.Client, sha256: str) -> None:
    with a_browser(site, "will") as browser:
        assert "A held snapshot" in browser.get("/", headers=PAGE).text
        page = browser.get(f"/drops/{sha256}", headers=PAGE).text
        assert "1 of 2 entities would end" in page
        assert f'<a href="/entities/{uid("ada")}">&lt;Ada&gt;</a>' in page
        answer = send(browser, f"/drops/{sha256}/approve", reason="she has left")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/drops/{sha256}")
        page = browser.get(f"/drops/{sha256}", headers=PAGE).text
        assert "It is in. Entities that ended: 1" in page
        assert "1 entity that it does not list ended then" in page
        audit = browser.get("/audit", params={"op": "snapshot"}, headers=PAGE).text
        assert "which does not list it" in audit
        assert '>approved</span> <span class="text-break">sent by crm: she has left</span>' in audit


def test_to_decline_needs_a_reason_and_is_shown(site: httpx.Client, sha256: str) -> None:
    with a_browser(site, "will") as browser:
        assert send(browser, f"/drops/{sha256}/decline", reason=" ").status_code == 400
        assert send(browser, f"/drops/{sha256}/decline", reason="half <a> file").status_code == 303
        page = browser.get(f"/drops/{sha256}", headers=PAGE).text
        assert "will declined it: <q>half &lt;a&gt; file</q>" in page
        assert "Approve: let it in" in page
        assert "Decline it</button>" not in page


def test_a_reader_sees_it_and_cannot_decide(site: httpx.Client, sha256: str) -> None:
    with a_browser(site, "rita") as browser:
        page = browser.get(f"/drops/{sha256}", headers=PAGE).text
        assert "A writer can approve or decline it." in page
        assert "Approve: let it in" not in page
        assert send(browser, f"/drops/{sha256}/approve").status_code == 403
