"""The sample drops go in, in any order, and answer what docs/sample-data.md says of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from samples import ALL, CORRECTED, DIRTY, FOLDER, REPLAY
from servers import Server
from serving import Document, served

from crm_core.drops.ingest import ingest
from crm_core.drops.registry import rejects
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.formats.files import fingerprint
from crm_core.model import MergeReport
from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from crm_core.timeline.invariants import check

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "sample-data.md").read_text()
ADDRESSES = re.findall(r"^curl -s 'http://localhost:8000(\S+)'$", PAGE, re.MULTILINE)
SPOILT = FOLDER / "2023-02-01_dirty.csv"
VERSIONS = """
    select entity_uid, 'name' as field, display_name, code, valid_from, valid_to, entity.hashdiff
    from entity join entity_type using (entity_type_id)
    union all
    select entity_uid, code, detail_value, '', valid_from, valid_to, entity_detail.hashdiff
    from entity_detail join detail_type using (detail_type_id)
    order by 1, 2, 5
"""


def taken_in(database: Database, drops: Sequence[Path]) -> dict[str, MergeReport]:
    """Load all fixtures, then the drops in this order."""
    with database.transaction() as connection:
        load_fixtures(connection, read_fixtures(sorted((DATA / "fixtures").glob("*.json"))))
    return {path.stem: ingest(database, path) for path in drops}


def versions(database: Database) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(VERSIONS).fetchall()


@pytest.fixture(scope="module")
def reports(database: Database) -> dict[str, MergeReport]:
    """What each of the drops did, in the order of their names."""
    return taken_in(database, ALL)


@pytest.fixture(scope="module")
def client(database: Database, reports: dict[str, MergeReport]) -> Iterator[httpx.Client]:
    assert reports
    with served(database) as client:
        yield client


def answer(client: httpx.Client, number: int) -> Document:
    """What the API says to a question of the page."""
    response = client.get(ADDRESSES[number])
    assert response.status_code == 200, response.text
    return dict(response.json())


def head(entity: Document) -> str | None:
    return next((str(d["detail_value"]) for d in entity["details"] if d["detail_type"] == "head"), None)


def test_every_row_goes_in_but_those_of_the_two_dirty_drops(reports: dict[str, MergeReport]) -> None:
    assert {name: report.status for name, report in reports.items() if report.status != "merged"} == {
        REPLAY.stem: "replayed"
    }
    assert {name: report.rows_rejected for name, report in reports.items() if report.rows_rejected} == {
        DIRTY.stem: 13,
        SPOILT.stem: 12,
    }


def test_the_story_has_late_facts_corrections_and_rows_that_change_nothing(reports: dict[str, MergeReport]) -> None:
    assert reports["2019-02-01_late"].rows_late + reports["2025-03-01_late"].rows_late == 40
    assert reports["2023-02-10_corrected"].rows_superseded == 3
    assert reports["2020-01-15_census"].rows_unchanged > 300
    assert reports["2024-03-01_closed"].rows_changed == 4


def test_no_invariant_is_broken(database: Database, reports: dict[str, MergeReport]) -> None:
    assert reports
    with database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []


@pytest.mark.scd2
@pytest.mark.parametrize("seed", [1, 2])
def test_the_drops_in_any_order_give_the_same_versions(
    server: Server, database: Database, reports: dict[str, MergeReport], seed: int
) -> None:
    """But for what corrects another drop at the same instant: it stays behind that one."""
    assert reports
    drops = random.Random(seed).sample(ALL, len(ALL))
    for wrong, right in CORRECTED:
        first, second = sorted((drops.index(wrong), drops.index(right)))
        drops[first], drops[second] = wrong, right
    with server.clone() as other:
        taken_in(other, drops)
        assert versions(other) == versions(database)
    assert len(versions(database)) > 1700


def test_there_are_hundreds_of_entities_with_gaps_and_many_versions(
    database: Database, reports: dict[str, MergeReport]
) -> None:
    assert reports
    rows = versions(database)
    types = Counter({uid: code for uid, field, _, code, _, _, _ in rows if field == "name"}.values())
    assert (types["COUNTRY"], types["CITY"]) == (39, 24)
    assert types["INSTITUTION"] > 230
    assert types["PERSON"] > 60
    many = Counter(row[0] for row in rows)
    assert sum(count >= 8 for count in many.values()) >= 20
    lives = Counter(row[0] for row in rows if row[1] == "name" and row[5] is None)
    assert 25 < len(many) - len(lives) < 50, "have ended"


def test_astana_had_another_name_for_a_while(client: httpx.Client) -> None:
    assert answer(client, 0)["display_name"] == "Nur-Sultan"
    history = client.get(ADDRESSES[0].partition("?")[0] + "/history").json()["results"]
    assert [(v["display_name"], v["valid_from"][:10]) for v in history if v["kind"] == "entity"] == [
        ("Astana", "2015-01-01"),
        ("Nur-Sultan", "2019-03-23"),
        ("Astana", "2022-09-17"),
    ]


def test_nobody_led_volkswagen_for_two_days_as_a_line_of_a_late_drop_says(client: httpx.Client) -> None:
    then = answer(client, 1)
    assert (then["display_name"], head(then)) == ("Volkswagen AG", None)
    (late,) = [e for e in answer(client, 2)["results"] if e["change_ts"] == "2015-09-23T00:00:00Z"]
    assert (late["source"]["file_name"], late["source"]["line"]) == ("2019-02-01_late.csv", 5)


def test_on_a_day_one_company_got_another_name_and_address_and_one_ended(client: httpx.Client) -> None:
    changed = {
        (result["action"], change["field"], change["from"], change["to"])
        for result in answer(client, 3)["results"]
        for change in result["changes"]
    }
    assert {
        ("changed", "display_name", "Discovery, Inc.", "Warner Bros. Discovery, Inc."),
        ("changed", "details.address", "Silver Spring, Maryland", "New York, New York"),
        ("ended", "display_name", "Warner Media, LLC", None),
    } <= changed


def test_one_man_led_a_bank_and_later_a_country(client: httpx.Client) -> None:
    for number, name in ((4, "Bank of England"), (5, "Canada")):
        assert [entity["display_name"] for entity in answer(client, number)["results"]] == [name]


def test_twelve_rows_were_rejected_for_a_reason_each(database: Database, reports: dict[str, MergeReport]) -> None:
    assert reports
    with database.connect() as connection:
        found = list(rejects(connection, fingerprint(SPOILT), limit=100))
    assert len(found) == 12
    assert [reject.reasons for reject in found] == [
        ("invalid_change_ts",),
        ("details_not_json",),
        ("invalid_uid",),
        ("wrong_field_count",),
        ("unknown_entity_type",),
        ("missing_display_name",),
        ("unknown_op",),
        ("future_change_ts",),
        ("unknown_detail_type",),
        ("details_not_list",),
        ("duplicate_detail_type",),
        ("invalid_detail_value",),
    ]


def test_every_question_of_the_page_is_asked() -> None:
    assert len(ADDRESSES) == 6
    assert PAGE.count("\n**") == 5
