"""Fixtures in Django's format say the same as the changes that would have made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm_core.errors import FixtureRefused
from crm_core.fixtures import DetailTypeFixture, EntityTypeFixture, Fixtures, Json, read_fixtures
from crm_core.model import Change

pytestmark = pytest.mark.unit

ANNA = UUID("0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01")
SHIPPED = sorted((Path(__file__).parents[1] / "data" / "fixtures").glob("*.json"))

Read = Callable[..., Fixtures]


def at(day: int, month: int = 1) -> datetime:
    return datetime(2024, month, day, tzinfo=UTC)


def entity(pk: Json = 1, **fields: Json) -> dict[str, Json]:
    known = {"entity_uid": str(ANNA), "display_name": "Anna", "entity_type": "PERSON", "valid_from": "2024-01-01"}
    return {"model": "entity.entity", "pk": pk, "fields": known | fields}


def detail(pk: Json = 1, **fields: Json) -> dict[str, Json]:
    known = {"entity": 1, "detail_type": "EMAIL", "detail_value": "anna@example.org", "valid_from": "2024-01-01"}
    return {"model": "entity.entitydetail", "pk": pk, "fields": known | fields}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write each list of records to a file of its own and read the files."""

    def write_and_read(*files: list[dict[str, Json]], time_zone: tzinfo = UTC) -> Fixtures:
        paths = [tmp_path / f"{number}.json" for number in range(1, len(files) + 1)]
        for path, records in zip(paths, files, strict=True):
            path.write_text(json.dumps(records), encoding="utf-8")
        return read_fixtures(paths, time_zone)

    return write_and_read


def test_types_are_read_with_canonical_codes(read: Read) -> None:
    fixtures = read(
        [
            {"model": "entity.EntityType", "pk": "person", "fields": {"name": "Person"}},
            {"model": "detailtype", "pk": "EMAIL", "fields": {}},
            {"model": "crm.detailtype", "pk": 7, "fields": {"code": "Badge", "compares": "exact", "is_active": False}},
        ]
    )
    assert fixtures.entity_types == (EntityTypeFixture("PERSON", "Person", "", is_active=True),)
    assert fixtures.detail_types == (
        DetailTypeFixture("email", "email", "", is_active=True, compares="casefold"),
        DetailTypeFixture("badge", "badge", "", is_active=False, compares="exact"),
    )


def test_a_detail_that_begins_with_its_entity_is_part_of_that_change(read: Read) -> None:
    fixtures = read([entity(), detail()])
    assert fixtures.changes == [Change(ANNA, at(1), "upsert", "Anna", "PERSON", {"email": "anna@example.org"})]


def test_a_detail_that_begins_later_is_a_patch(read: Read) -> None:
    fixtures = read([entity(), detail(valid_from="2024-01-05")])
    assert fixtures.changes[1:] == [Change(ANNA, at(5), "patch", details={"email": "anna@example.org"})]


def test_a_detail_that_ends_while_its_entity_goes_on_is_ended_by_a_patch(read: Read) -> None:
    fixtures = read([entity(), detail(valid_to="2024-01-05")])
    assert fixtures.changes[1:] == [Change(ANNA, at(5), "patch", details={"email": None})]


def test_a_detail_that_ends_at_a_rename_is_ended_by_that_change(read: Read) -> None:
    renamed = entity(2, display_name="Anne", valid_from="2024-01-05")
    fixtures = read([entity(valid_to="2024-01-05"), renamed, detail(valid_to="2024-01-05")])
    assert fixtures.changes[1:] == [Change(ANNA, at(5), "upsert", "Anne", "PERSON", {"email": None})]


def test_a_detail_followed_by_another_is_not_ended_in_between(read: Read) -> None:
    later = detail(2, detail_value="a@example.org", valid_from="2024-01-05")
    fixtures = read([entity(), detail(valid_to="2024-01-05"), later])
    assert fixtures.changes[1:] == [Change(ANNA, at(5), "patch", details={"email": "a@example.org"})]


def test_an_entity_that_ended_is_deleted_and_takes_its_details_along(read: Read) -> None:
    fixtures = read([entity(valid_to="2024-01-05"), detail(valid_to="2024-01-05"), detail(2, detail_type="PHONE")])
    assert fixtures.changes[1:] == [Change(ANNA, at(5), "delete")]


def test_an_entity_may_leave_and_come_back(read: Read) -> None:
    fixtures = read([entity(valid_to="2024-01-05"), entity(2, valid_from="2024-01-09")])
    assert [(change.op, change.change_ts) for change in fixtures.changes] == [
        ("upsert", at(1)),
        ("delete", at(5)),
        ("upsert", at(9)),
    ]


def test_an_open_version_ends_where_the_next_begins(read: Read) -> None:
    fixtures = read([entity(), entity(2, display_name="Anne", valid_from="2024-01-05")])
    assert [(change.op, change.display_name) for change in fixtures.changes] == [("upsert", "Anna"), ("upsert", "Anne")]


def test_records_may_come_in_any_order_and_in_any_files(read: Read) -> None:
    records = [
        {"model": "entity.detailtype", "pk": "EMAIL", "fields": {}},
        entity(valid_to="2024-01-05"),
        entity(2, display_name="Anne", valid_from="2024-01-05"),
        detail(valid_to="2024-01-03"),
        detail(2, entity=2, valid_from="2024-01-05"),
    ]
    assert read(*([record] for record in reversed(records))) == read(records)


def test_a_detail_may_name_its_entity_by_uid(read: Read) -> None:
    assert read([entity(None), detail(entity=str(ANNA).upper())]) == read([entity(), detail()])


def test_values_are_in_normal_form_and_exact_ones_untouched(read: Read) -> None:
    badge = {"model": "entity.detailtype", "pk": "BADGE", "fields": {"compares": "exact"}}
    padded = detail(2, detail_type="badge", detail_value=" 7  ")
    fixtures = read([badge, entity(display_name="  E\u0301lodie \u00a0 G "), detail(detail_value=" a@x.org "), padded])
    assert fixtures.changes[0].display_name == "\u00c9lodie G"
    assert fixtures.changes[0].details == {"email": "a@x.org", "badge": " 7  "}


def test_a_naive_instant_is_read_in_the_time_zone(read: Read) -> None:
    fixtures = read([entity(valid_from="2024-07-01T12:00:00")], time_zone=ZoneInfo("Europe/Kyiv"))
    assert fixtures.changes[0].change_ts == datetime(2024, 7, 1, 9, tzinfo=UTC)


def test_fields_that_only_django_keeps_are_ignored(read: Read) -> None:
    kept = {"created_at": "2024-01-01T00:00:00Z", "updated_at": None, "hashdiff": "h1"}
    assert read([entity(**kept), detail(**kept)]) == read([entity(), detail()])


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"model": "auth.user", "pk": 1, "fields": {}}, "model auth.user is not known"),
        ({"model": "entity.entity"}, "it is no record"),
        ({"model": "entity.entitytype", "pk": None, "fields": {}}, "pk is null"),
        ({"model": "entity.detailtype", "pk": "FAX", "fields": {"compares": "fuzzy"}}, 'compares is "fuzzy"'),
        ({"model": "entity.entitytype", "pk": "X", "fields": {"is_active": "yes"}}, 'is_active is "yes"'),
        (entity(1), "pk 1 is taken by record 1 of 1.json"),
        (entity(2), "it begins with record 1 of 1.json"),
        (entity(2, entity_uid="anna"), 'entity_uid is "anna"'),
        (entity(2, display_name=" \u00a0"), "display_name is"),
        (entity(2, display_name="\ud800"), "half a surrogate pair"),
        (entity(2, display_name=None), "display_name is null"),
        (entity(2, valid_from=None), "valid_from is null"),
        (entity(2, valid_from="2024-02-30"), 'valid_from is "2024-02-30"'),
        (entity(2, valid_from="0001-01-01T00:00:00+14:00"), "valid_from is"),
        (entity(2, valid_from="2024-01-05", valid_to="2024-01-05"), "valid_to is not after valid_from"),
        (entity(2, valid_from="2024-01-05", is_current=False), "nothing says since when"),
        (detail(entity=9), "entity 9 is in none of the files"),
        (detail(detail_value=12), "detail_value is 12"),
        (detail(valid_from="2023-12-31"), "its entity does not exist at valid_from"),
    ],
)
def test_a_faulty_record_is_refused_by_file_and_number(read: Read, record: Mapping[str, Json], fault: str) -> None:
    with pytest.raises(FixtureRefused) as refusal:
        read([entity()], [dict(record)])
    assert (Path(refusal.value.file).name, refusal.value.record) == ("2.json", 1)
    assert fault in refusal.value.fault
    assert ";" in refusal.value.fault  # the cure follows


def test_a_detail_that_lasts_while_its_entity_was_away_is_refused(read: Read) -> None:
    with pytest.raises(FixtureRefused, match="record 3: it lasts while its entity was away"):
        read([entity(valid_to="2024-01-05"), entity(2, valid_from="2024-01-09"), detail()])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it is no JSON in UTF-8"),
        (b"[{]", "it is no JSON in UTF-8"),
        (b'["\xe9"]', "it is no JSON in UTF-8"),
        (b"[" * 100_000, "it is no JSON in UTF-8"),
        (b'{"model": "entity.entity"}', "it holds no JSON list"),
    ],
)
def test_a_file_that_is_no_fixture_is_refused_by_name(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "faulty.json"
    path.write_bytes(content)
    with pytest.raises(FixtureRefused, match=f"faulty.json: {fault}"):
        read_fixtures([path])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FixtureRefused, match=r"none\.json: it cannot be read \(No such file or directory\)"):
        read_fixtures([tmp_path / "none.json"])


def test_the_shipped_fixtures_hold_the_types_of_the_contract_and_a_few_histories() -> None:
    fixtures = read_fixtures(SHIPPED)
    assert [entity_type.code for entity_type in fixtures.entity_types] == ["PERSON", "INSTITUTION"]
    assert [(detail_type.code, detail_type.compares) for detail_type in fixtures.detail_types] == [
        ("email", "casefold"),
        ("phone", "text"),
        ("address", "text"),
        ("website", "text"),
    ]
    assert {change.op for change in fixtures.changes} == {"upsert", "patch", "delete"}
    apple = [change for change in fixtures.changes if change.display_name and change.display_name.startswith("Apple")]
    assert [(change.display_name, change.change_ts) for change in apple] == [
        ("Apple Computer, Inc.", datetime(1977, 1, 3, tzinfo=UTC)),
        ("Apple Inc.", datetime(2007, 1, 9, tzinfo=UTC)),
    ]
