"""The sample drops tell a long story of public facts and a small one of contacts, and are safe to publish."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from samples import ALL, CONTACTS, DELTA, DIRTY, INITIAL, LAST, LATE, REPLAY
from timeline_model import Model

from crm_core.fixtures.django_format import read_fixtures
from crm_core.model import Change

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[1] / "data"
FILES = [*CONTACTS, DATA / "sample_ingest.csv"]
PUBLIC = [path for path in ALL if path not in CONTACTS]  # the long story
CLEAN = [path for path in FILES if path != DIRTY]
GOOD_LINES = {2, 3, 17, 18}  # of the dirty drop

Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True, restkey="surplus"))


def details(row: Row) -> dict[str, str | None]:
    return {item["detail_type"]: item["detail_value"] for item in json.loads(row["details"] or "[]")}


def instant(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)


def change(row: Row) -> Change:
    uid, at = UUID(row["entity_uid"]), instant(row["change_ts"])
    if row["op"] == "delete":
        return Change(uid, at, "delete")
    return Change(uid, at, "upsert", row["display_name"], row["entity_type"], details(row))


@pytest.fixture(scope="module")
def story() -> Model:
    """All sample data, recorded in order of arrival; of the dirty drop the good rows."""
    model = Model()
    model.record(*read_fixtures(sorted((DATA / "fixtures").glob("*.json"))).changes)
    for path in [INITIAL, DELTA, LATE, REPLAY]:
        model.record(*(change(row) for row in rows(path) if row["entity_uid"]))
    model.record(*(change(row) for line, row in enumerate(rows(DIRTY), start=2) if line in GOOD_LINES))
    model.record(*(change(row) for row in rows(LAST) if row["entity_uid"]))
    return model


def uid_of(name: str) -> UUID:
    return next(UUID(row["entity_uid"]) for path in CONTACTS for row in rows(path) if row["display_name"] == name)


def names(story: Model, name: str) -> list[tuple[str, str, str | None]]:
    """Every version of the entity that was ever called so: name, first day, day after the last."""
    versions = story.entity_versions(uid_of(name))
    return [(shown, f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}" if end else None) for shown, _, start, end in versions]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_sample_is_short_and_has_every_column(path: Path) -> None:
    header = path.read_text(encoding="utf-8").partition("\n")[0]
    assert header == "entity_uid,display_name,entity_type,details,change_ts,op"
    assert 1 <= len(rows(path)) <= 40


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.name)
def test_a_clean_sample_keeps_the_drop_contract(path: Path) -> None:
    for row in rows(path):
        assert "surplus" not in row
        assert row["display_name"].strip()
        assert row["entity_type"] in {"PERSON", "INSTITUTION"}
        assert row["op"] in {"", "upsert", "delete"}
        assert not row["entity_uid"] or str(UUID(row["entity_uid"])) == row["entity_uid"]
        assert details(row).keys() <= {"email", "phone", "address", "website"}
        assert instant(row["change_ts"]) < datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_a_drop_of_the_long_story_is_sorted_dated_and_has_a_column_for_each_detail(path: Path) -> None:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    if path.name.endswith("_closed.csv"):
        assert header == "entity_uid,change_ts,op"
    else:
        columns = "address,website,head,owner,role,capital"
        assert header == f"entity_uid,display_name,entity_type,change_ts,op,{columns},details"
    assert 1 <= len(lines) < 500
    if not path.name.endswith("_dirty.csv"):
        instants = [instant(row["change_ts"]) for row in rows(path)]
        assert instants == sorted(instants)
        assert instants[-1] <= instant(path.name[:10]), "nothing is known before it happens"
        assert {str(UUID(row["entity_uid"])) for row in rows(path)} == {row["entity_uid"] for row in rows(path)}


def test_no_mail_address_or_phone_number_can_belong_to_anybody() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [*ALL, *FILES, *(DATA / "fixtures").glob("*.json")])
    domains = set(re.findall(r"@([\w.-]+)", text))
    phones = re.findall(r"\+1[ ,]+\d+ +\d+ +\d+", text)
    assert domains
    assert all(re.fullmatch(r"([\w-]+\.)*example\.(org|com|net)", domain) for domain in domains)
    assert len(phones) > 20
    assert all(re.fullmatch(r"\+1,? 202 555 01\d\d", phone) for phone in phones)


def test_the_names_and_values_need_quoting_and_unicode() -> None:
    shown = " ".join(row["display_name"] for path in CONTACTS for row in rows(path))
    assert all(letter in shown for letter in ("É", "Ş", "ß", "李", "'", '"', ","))


def test_the_replay_is_the_delta_byte_for_byte() -> None:
    assert REPLAY.read_bytes() == DELTA.read_bytes()


def test_most_rows_of_the_delta_are_unchanged() -> None:
    before = {(row["entity_uid"], row["display_name"], row["details"]) for row in rows(INITIAL)}
    unchanged = [row for row in rows(DELTA) if (row["entity_uid"], row["display_name"], row["details"]) in before]
    assert len(rows(DELTA)) / 2 < len(unchanged) < len(rows(DELTA)) * 0.7


def test_institutions_are_renamed_on_the_day_they_were(story: Model) -> None:
    assert names(story, "Meta Platforms, Inc.") == [
        ("Facebook, Inc.", "2020-01-01", "2021-10-28"),
        ("Meta Platforms, Inc.", "2021-10-28", None),
    ]
    assert names(story, "TotalEnergies SE") == [
        ("Total S.A.", "2020-01-01", "2020-07-16"),
        ("Total SE", "2020-07-16", "2021-05-28"),
        ("TotalEnergies SE", "2021-05-28", None),
    ]
    assert names(story, "Panasonic Corporation") == [
        ("Matsushita Electric Industrial Co., Ltd.", "1935-12-15", "2008-10-01"),
        ("Panasonic Corporation", "2008-10-01", "2022-04-01"),
        ("Panasonic Holdings Corporation", "2022-04-01", None),
    ]
    assert story.detail_versions(uid_of("X Corp."), "website") == [
        ("https://twitter.com", instant("2020-01-01"), instant("2024-05-17")),
        ("https://x.com", instant("2024-05-17"), None),
    ]


def test_a_name_learnt_late_is_placed_between_two_periods_of_the_same_name(story: Model) -> None:
    assert names(story, "Anna Lindqvist") == [
        ("Anna Lindqvist", "2020-01-01", "2020-09-12"),
        ("Anna Lindqvist-Berg", "2020-09-12", "2022-01-01"),
        ("Anna Lindqvist", "2022-01-01", None),
    ]


def test_who_leaves_and_comes_back_leaves_a_gap_and_loses_the_old_phone(story: Model) -> None:
    assert names(story, "Siobhán O'Connor") == [
        ("Siobhán O'Connor", "2020-01-01", "2021-09-30"),
        ("Siobhán O'Connor", "2024-03-01", None),
    ]
    phones = story.detail_versions(uid_of("Siobhán O'Connor"), "phone")
    assert phones == [("+1 202 555 0141", instant("2020-01-01"), instant("2021-09-30"))]


def test_a_corrected_capital_is_a_change(story: Model) -> None:
    assert [name for name, _, _ in names(story, "Fiona McDonald")] == ["Fiona Mcdonald", "Fiona McDonald"]


def test_a_correction_at_the_same_instant_outlives_the_replay_of_what_it_corrects(story: Model) -> None:
    assert [value for value, _, _ in story.detail_versions(uid_of("Zoë de Vries"), "phone")] == [
        "+1 202 555 0171",
        "+1 202 555 0172",
    ]
