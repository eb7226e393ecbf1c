"""Fixtures go in by the same merge as drops, and going in again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from psycopg.sql import SQL, Identifier

from crm_core.database import Connection, Database
from crm_core.errors import DetailTypeInUse, FixtureRefused, UnknownType
from crm_core.fixtures import DetailTypeFixture, EntityTypeFixture, Fixtures, read_fixtures
from crm_core.loaddata import load_fixtures
from crm_core.model import Change, DetailType
from crm_core.quality import check
from crm_core.reference import reference_types
from crm_core.resources import DATA
from crm_core.temporal import history, snapshot

pytestmark = pytest.mark.integration

SHIPPED = sorted((DATA / "fixtures").glob("*.json"))
UID = UUID("0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01")
EMAIL = DetailTypeFixture("email", "E-mail", "", True, "casefold")
PERSON = EntityTypeFixture("PERSON", "Person", "", True)


def a_change(day: int = 1, name: str = "Anna", **details: str | None) -> Change:
    return Change(UID, datetime(2024, 1, day, tzinfo=UTC), "upsert", name, "PERSON", details)


def fixtures(*changes: Change, detail_type: DetailTypeFixture = EMAIL) -> Fixtures:
    return Fixtures((PERSON,), (detail_type,), list(changes), 2 + len(changes))


def detail_types(connection: Connection) -> Mapping[str, DetailType]:
    return {known.code: known for known in reference_types(connection).detail_types}


def versions(connection: Connection) -> list[tuple[object, ...]]:
    """Everything that stands, physical place included: a row written again would have moved."""
    query = SQL("select {}, ctid::text, xmin::text, t::text from {} t order by ctid")
    return [
        row
        for table in ("entity_type", "detail_type", "entity", "entity_detail", "ledger")
        for row in connection.execute(query.format(table, Identifier(table)))
    ]


def test_the_shipped_fixtures_become_types_and_versions(connection: Connection) -> None:
    load_fixtures(connection, read_fixtures(SHIPPED))
    types = reference_types(connection)
    assert [known.code for known in types.entity_types] == ["INSTITUTION", "PERSON"]
    assert [(known.code, known.compares) for known in types.detail_types] == [
        ("address", "text"),
        ("email", "casefold"),
        ("phone", "text"),
        ("website", "text"),
    ]
    apple = [json.loads(document) for document in history(connection, UUID("5de05894-68ae-487d-9270-8b0e99aff724"))]
    assert [
        (version["display_name"], version["valid_from"], version["valid_to"])
        for version in apple
        if version["kind"] == "entity"
    ] == [
        ("Apple Computer, Inc.", "1977-01-03T00:00:00Z", "2007-01-09T00:00:00Z"),
        ("Apple Inc.", "2007-01-09T00:00:00Z", None),
    ]


def test_loaded_fixtures_keep_every_invariant(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        load_fixtures(connection, read_fixtures(SHIPPED))
    with fresh_database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []


@pytest.mark.idempotency
def test_loading_twice_changes_nothing(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        load_fixtures(connection, read_fixtures(SHIPPED))
    with fresh_database.transaction() as connection:
        before = versions(connection)
    with fresh_database.transaction() as connection:
        load_fixtures(connection, read_fixtures(SHIPPED))
    with fresh_database.transaction() as connection:
        assert versions(connection) == before
    assert len(before) > 40


def test_the_changes_of_a_fixture_say_so_in_the_ledger(connection: Connection) -> None:
    load_fixtures(connection, fixtures(a_change()), actor="ops")
    recorded = connection.execute("select actor, source, drop_sha256 from batch join ledger using (batch_id)")
    assert recorded.fetchall() == [("ops", "fixture", None)]


def test_a_type_is_updated_by_its_code_whatever_the_case_and_keeps_its_spelling(connection: Connection) -> None:
    connection.execute("insert into detail_type (code, name, compares) values ('Email', 'Mail', 'text')")
    load_fixtures(connection, fixtures(a_change(email="a@example.org"), detail_type=replace(EMAIL, is_active=False)))
    (email,) = detail_types(connection).values()
    assert (email.code, email.name, email.is_active, email.compares) == ("Email", "E-mail", False, "casefold")
    document = snapshot(connection, UID)
    assert document is not None
    assert [detail["detail_type"] for detail in json.loads(document)["details"]] == ["Email"]


def test_how_values_compare_cannot_change_once_there_are_some(connection: Connection) -> None:
    load_fixtures(connection, fixtures(a_change(email="a@example.org")))
    with pytest.raises(DetailTypeInUse, match="'email' has values that compare as casefold"):
        load_fixtures(connection, fixtures(detail_type=replace(EMAIL, compares="exact")))
    load_fixtures(connection, fixtures(detail_type=replace(EMAIL, name="Post")))
    assert (detail_types(connection)["email"].name, detail_types(connection)["email"].compares) == ("Post", "casefold")


def test_how_values_compare_may_change_while_there_are_none(connection: Connection) -> None:
    load_fixtures(connection, fixtures(a_change()))
    load_fixtures(connection, fixtures(detail_type=replace(EMAIL, compares="exact")))
    assert detail_types(connection)["email"].compares == "exact"


def test_loading_again_and_again_draws_no_number(connection: Connection) -> None:
    for _ in range(3):
        load_fixtures(connection, fixtures())
    load_fixtures(connection, Fixtures((), (EMAIL, replace(EMAIL, code="fax")), [], 2))
    numbers = sorted(known.detail_type_id for known in reference_types(connection).detail_types)
    assert numbers[1] == numbers[0] + 1


def test_an_unknown_type_is_named_with_those_there_are(connection: Connection) -> None:
    unknown = replace(a_change(), entity_type="ROBOT")
    with pytest.raises(UnknownType, match="unknown entity type 'ROBOT'; there are: PERSON"):
        load_fixtures(connection, fixtures(unknown))


def test_fixtures_and_drops_of_one_entity_fold_into_one_timeline(connection: Connection) -> None:
    load_fixtures(connection, fixtures(a_change(1, "Anna"), a_change(20, "Anna")))
    load_fixtures(connection, fixtures(a_change(10, "Anna Berg")))
    names = [json.loads(document)["display_name"] for document in history(connection, UID)]
    assert names == ["Anna", "Anna Berg", "Anna"]


@pytest.mark.parametrize("code", ["two words", "1st", "naïve", "x" * 64])
def test_a_code_that_the_tables_would_refuse_is_refused_by_its_record(tmp_path: Path, code: str) -> None:
    file = tmp_path / "types.json"
    file.write_text(json.dumps([{"model": "entitytype", "pk": code, "fields": {}}]), encoding="utf-8")
    with pytest.raises(FixtureRefused, match=r"types\.json: record 1: code .* cannot be used"):
        read_fixtures([file])


def test_the_samples_are_where_the_commands_look_for_them() -> None:
    assert [path.name[:3] for path in SHIPPED] == ["001", "002", "003", "004"]
    assert Path(DATA / "drops").is_dir()


def test_the_shipped_fixtures_may_be_loaded_one_by_one(connection: Connection) -> None:
    for file in SHIPPED:
        load_fixtures(connection, read_fixtures([file]))
    apart = connection.execute(
        "select detail_value, hashdiff, valid_from, valid_to from entity_detail order by 1, 2, 3"
    ).fetchall()
    connection.rollback()
    load_fixtures(connection, read_fixtures(SHIPPED))
    together = connection.execute(
        "select detail_value, hashdiff, valid_from, valid_to from entity_detail order by 1, 2, 3"
    ).fetchall()
    assert apart == together != []
