"""What a drop says for itself: rows validated again, deletions of nobody, namesakes, dry runs, progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import an_entity, day, reference_data, uid, write_drop

from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest_on
from crm_core.model import MergeReport, Reason
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.reference import put_detail_type, put_entity_type
from crm_core.report.numbers import collect_drop
from crm_core.timeline.invariants import check

pytestmark = pytest.mark.integration

HEADER = "entity_uid,display_name,entity_type,details,change_ts,op"
BOOKS = ("status", "rows_read", "rows_accepted", "rows_rejected", "rows_changed", "rows_unchanged")


@pytest.fixture
def empty(fresh_database: Database) -> Iterator[Connection]:
    """A database of the test's own without types; each drop commits."""
    with fresh_database.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture
def crm(empty: Connection) -> Connection:
    reference_data(empty)
    return empty


def take(connection: Connection, path: Path, *lines: str, header: str = HEADER, **options: Any) -> MergeReport:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return ingest_on(connection, path, Options(**options))


def books(report: MergeReport) -> tuple[object, ...]:
    return tuple(getattr(report, name) for name in BOOKS)


def kept(connection: Connection, report: MergeReport) -> dict[str, object]:
    return dict(json.loads(registry.drop(connection, report.sha256 or "") or ""))


def batches(connection: Connection) -> int:
    row = connection.execute("select count(*) from batch").fetchone()
    assert row is not None
    return int(row[0])


def breaches(connection: Connection) -> list[str]:
    return [example for found in check(connection) for example in found.examples]


@pytest.mark.idempotency
def test_rejected_rows_are_merged_once_the_reason_has_passed(crm: Connection, tmp_path: Path) -> None:
    linkedin = '"[{""detail_type"":""linkedin"",""detail_value"":""in/bo""}]"'
    lines = (
        f"{uid('ada')},Ada,PERSON,[],2024-01-01,",
        f"{uid('bo')},Bo,PERSON,{linkedin},2024-01-02,",
        "",
        f"{uid('cy')},Cy,ROBOT,[],,",  # undated: of the moment when the drop was first seen
        "not-a-uid,Di,PERSON,[],2024-01-03,",
        "short",
    )
    path = tmp_path / "drop.csv"
    first = take(crm, path, *lines)
    assert books(first) == ("merged", 5, 1, 4, 1, 0)
    first_seen = kept(crm, first)["first_seen_at"]

    again = take(crm, path, *lines)
    assert books(again) == ("replayed", 5, 1, 4, 0, 1)
    assert [reject.line for reject in again.rejects] == [3, 5, 6, 7]
    assert again.notes == ("rejected as before: 4 rows; correct them in the file of its rejects, and ingest that file",)
    assert batches(crm) == 1, "what is in already records nothing"

    put_detail_type(crm, code="linkedin", name="LinkedIn")
    assert books(take(crm, path, *lines, dry_run=True)) == ("merged", 5, 2, 3, 1, 1)
    assert books(take(crm, path, *lines, strict=True)) == ("refused", 0, 0, 0, 0, 0)
    assert batches(crm) == 1
    some = take(crm, path, *lines)
    assert books(some) == ("merged", 5, 2, 3, 1, 1)
    assert [(reject.line, reject.reasons) for reject in registry.rejects(crm, some.sha256 or "")] == [
        (5, (Reason.UNKNOWN_ENTITY_TYPE,)),
        (6, (Reason.INVALID_UID,)),
        (7, (Reason.WRONG_FIELD_COUNT,)),
    ]

    put_entity_type(crm, code="ROBOT", name="Robot")
    assert books(take(crm, path, *lines)) == ("merged", 5, 3, 2, 1, 2)
    assert books(take(crm, path, *lines)) == ("replayed", 5, 3, 2, 0, 3)
    cy = json.loads(reads.snapshot(crm, uid("cy")) or "")
    assert cy["valid_from"] == first_seen
    found = kept(crm, first)
    assert tuple(found[name] for name in BOOKS) == ("merged", 5, 3, 2, 3, 0)
    assert (found["entity_versions_added"], found["detail_versions_added"]) == (3, 1)
    assert batches(crm) == 3
    assert breaches(crm) == []

    report = collect_drop(crm, first.sha256 or "")
    assert report.balances
    assert {row.field: row.created for row in report.field_changes} == {
        "display_name": 3, "entity_type": 3, "details.linkedin": 1,
    }  # fmt: skip


@pytest.mark.idempotency
def test_a_row_that_was_dated_ahead_is_merged_later(crm: Connection, tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5, seconds=1)).isoformat()
    path = tmp_path / "drop.csv"
    assert books(take(crm, path, f"{uid('ada')},Ada,PERSON,[],{soon},")) == ("merged", 1, 0, 1, 0, 0)
    while datetime.now(UTC) + timedelta(minutes=5) < datetime.fromisoformat(soon):
        pass
    assert books(take(crm, path, f"{uid('ada')},Ada,PERSON,[],{soon},")) == ("merged", 1, 1, 0, 1, 0)
    assert breaches(crm) == []


@pytest.mark.idempotency
def test_a_file_dropped_before_the_types_were_loaded_is_merged_afterwards(empty: Connection, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "early.csv", [an_entity(f"{n}", email=f"{n}@x.org") for n in range(300)])
    first = ingest_on(empty, drop, Options())
    assert books(first) == ("merged", 300, 0, 300, 0, 0)
    assert first.notes == (
        "no entity types are loaded, so every row is rejected; load them with crm loaddata, then ingest the file again",
    )
    assert kept(empty, first)["notes"] == list(first.notes)
    reference_data(empty)
    assert books(ingest_on(empty, drop, Options())) == ("merged", 300, 300, 0, 300, 0)
    assert kept(empty, first)["notes"] == []
    assert breaches(empty) == []


def test_a_file_of_which_every_row_is_rejected_says_so(crm: Connection, tmp_path: Path) -> None:
    report = take(crm, tmp_path / "drop.csv", "x,Ada,PERSON,[],,", "y,Bo,PERSON,[],,")
    assert books(report) == ("merged", 2, 0, 2, 0, 0)
    assert report.notes == ("nothing was changed: every row was rejected (2); see the reasons",)


def test_a_file_without_rows_says_so(crm: Connection, tmp_path: Path) -> None:
    report = take(crm, tmp_path / "drop.csv")
    assert books(report) == ("merged", 0, 0, 0, 0, 0)
    assert report.notes == ("nothing was changed: the file has no rows; if it should have some, export it again",)


def test_a_deletion_that_ends_nobody_is_counted_and_named(crm: Connection, tmp_path: Path) -> None:
    ingest_on(crm, write_drop(tmp_path / "day1.csv", [an_entity("ada", at=1), an_entity("bo", at=5)]), Options())
    lines = (
        ",Ada Neu,PERSON,[],2024-01-09,delete",  # by content, which has another uid
        f"{uid('ada')},,,,2024-01-09,delete",
        f"{uid('bo')},,,,2024-01-02,delete",  # before it began
        f"{uid('nobody')},,,,2024-01-09,delete",
        f"{uid('nobody')},,,,2024-01-10,delete",
    )
    report = take(crm, tmp_path / "day9.csv", *lines)
    assert (report.status, report.rows_accepted, report.rows_ending_nobody) == ("merged", 5, 4)
    assert report.notes[0].startswith("deletions that ended no entity: 4 rows (lines 2, 4, 5 and 1 more); ")
    assert kept(crm, report)["rows_ending_nobody"] == 4
    assert collect_drop(crm, report.sha256 or "").notes == list(report.notes)
    again = take(crm, tmp_path / "again.csv", *lines, "")
    assert again.rows_ending_nobody == 4, "said again it still ends nobody, and what it ended stays ended"


def test_rows_without_a_uid_that_fall_together_are_counted_and_named(crm: Connection, tmp_path: Path) -> None:
    lines = (
        ",John Smith,PERSON,[],2024-01-01,",
        ",Jane Smith,PERSON,[],2024-01-01,",
        ", John  Smith ,person,,2024-01-02,",
        f"{uid('john')},John Smith,PERSON,[],2024-01-01,",
        ",John Smith,PERSON,[],2024-01-01,",
    )
    report = take(crm, tmp_path / "drop.csv", *lines)
    assert (report.rows_accepted, report.rows_fallen_together) == (5, 2)
    assert report.notes[0].startswith("the same as an earlier row: 2 rows (lines 4, 6); ")
    assert kept(crm, report)["rows_fallen_together"] == 2


def test_a_last_line_without_an_end_is_taken_and_noted(crm: Connection, tmp_path: Path) -> None:
    path = tmp_path / "drop.csv"
    path.write_text(f"{HEADER}\n{uid('ada')},Ada,PERSON,[],2024-01-01,")
    report = ingest_on(crm, path, Options())
    assert books(report) == ("merged", 1, 1, 0, 1, 0)
    assert report.notes == (
        "the last line does not end with a line break; if the file was cut off there, ingest it again when "
        "it is complete",
    )


def test_a_dry_run_says_that_it_is_one(crm: Connection, tmp_path: Path) -> None:
    report = take(crm, tmp_path / "drop.csv", f"{uid('ada')},Ada,PERSON,[],2024-01-01,", dry_run=True)
    assert (report.as_json()["status"], report.as_json()["dry_run"]) == ("merged", True)
    assert registry.count_drops(crm) == 0
    assert take(crm, tmp_path / "no.csv", header="x", dry_run=True).as_json()["dry_run"] is True
    assert take(crm, tmp_path / "drop.csv", f"{uid('ada')},Ada,PERSON,[],2024-01-01,").as_json()["dry_run"] is False


def test_progress_is_reported_for_the_reading_in_bytes_and_for_each_step_of_the_merge(
    crm: Connection, tmp_path: Path
) -> None:
    found: list[tuple[str, int, int | None]] = []
    drop = write_drop(tmp_path / "drop.csv", [an_entity(f"{n}") for n in range(10)])
    ingest_on(crm, drop, Options(), lambda *progress: found.append(progress))
    size = drop.stat().st_size
    assert found[:2] == [("reading", 0, size), ("reading", size, size)]
    assert [done for _, done, _ in found[2:]] == list(range(1, len(found) - 1))
    assert {total for _, _, total in found[2:]} == {None}
    assert "append ledger" in {phase for phase, _, _ in found}
    assert not any(char.isdigit() or char in "/_" for phase, _, _ in found for char in phase)


def test_a_file_of_deletions_alone_ends_whom_it_names(crm: Connection, tmp_path: Path) -> None:
    ingest_on(crm, write_drop(tmp_path / "day1.csv", [an_entity("ada"), an_entity("bo")]), Options())
    report = take(
        crm, tmp_path / "gone.csv", f"delete,{uid('ada')}", f"upsert,{uid('bo')}", ",", header="op,entity_uid"
    )
    assert books(report) == ("merged", 3, 1, 2, 1, 0)
    assert [reject.reasons for reject in report.rejects] == [
        (Reason.MISSING_DISPLAY_NAME, Reason.UNKNOWN_ENTITY_TYPE)
    ] * 2
    assert reads.snapshot(crm, uid("ada")) is None
    assert reads.snapshot(crm, uid("ada"), as_of=day(2)) is not None


def test_a_detail_type_may_be_a_column_of_its_own(crm: Connection, tmp_path: Path) -> None:
    json_of = '"[{""detail_type"":""email"",""detail_value"":""json@x.org""}]"'
    lines = (
        f"{uid('ada')},Ada,PERSON,ada@x.org, +1  55 ,,2024-01-01",
        f"{uid('bo')},Bo,PERSON,\u200b ,,,2024-01-01",
        f"{uid('cy')},Cy,PERSON,,2,{json_of},2024-01-01",
        f"{uid('di')},Di,PERSON,di@x.org,,{json_of},2024-01-01",
        f"{uid('eve')},Eve,PERSON,,,[,2024-01-01",
        f"{uid('fay')},Fay,PERSON,{'x' * 100_001},,,2024-01-01",
        f"{uid('ada')},Ada,PERSON,,,,2024-01-02",
    )
    report = take(
        crm, tmp_path / "wide.csv", *lines, header="entity_uid,display_name,entity_type,EMAIL,phone,details,change_ts"
    )
    assert books(report) == ("merged", 7, 4, 3, 3, 1)
    assert [(reject.line, reject.reasons) for reject in report.rejects] == [
        (5, (Reason.DUPLICATE_DETAIL_TYPE,)),
        (6, (Reason.DETAILS_NOT_JSON,)),
        (7, (Reason.VALUE_TOO_LONG,)),
    ]

    def details(who: str) -> dict[str, str]:
        entity = json.loads(reads.snapshot(crm, uid(who)) or "")
        return {detail["detail_type"]: detail["detail_value"] for detail in entity["details"]}

    assert details("ada") == {"email": "ada@x.org", "phone": "+1 55"}, "blank says nothing of it"
    assert (details("bo"), details("cy")) == ({}, {"email": "json@x.org", "phone": "2"})
    assert breaches(crm) == []


def test_a_file_may_have_columns_of_details_instead_of_json(crm: Connection, tmp_path: Path) -> None:
    lines = (f"Ada,PERSON,ada@x.org,{uid('ada')},", f",,gone@x.org,{uid('ada')},delete", ",,,,delete")
    report = take(crm, tmp_path / "wide.csv", *lines, header="display_name,entity_type,email,entity_uid,op")
    assert (report.rows_accepted, report.rows_rejected) == (2, 1)
    row = 'Bo,PERSON,"[{""detail_type"":""email"",""detail_value"":""b""}]",2024-01-01'
    same = take(crm, tmp_path / "one.csv", row, header="display_name,entity_type,details,change_ts")
    wide = take(crm, tmp_path / "two.csv", "Bo,PERSON,b,2024-01-01", header="display_name,entity_type,email,change_ts")
    assert (same.rows_changed, wide.rows_changed, wide.rows_unchanged) == (1, 0, 1), "the same uid is worked out"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("display_name,entity_type,emial", "has an unknown column 'emial', is it email?; lacks the column details; "),
        ("display_name,entity_type,email,Email", "has the column email 2 times; "),
        ("display_name,entity_type,fax,details", "has an unknown column 'fax'; "),
    ],
)
def test_a_column_that_is_of_no_detail_type_is_refused(crm: Connection, tmp_path: Path, header: str, said: str) -> None:
    report = take(crm, tmp_path / "wide.csv", "Ada,PERSON,x", header=header)
    assert report.status == "refused"
    assert said in (report.error or "")


def test_a_dry_run_shows_the_differences_that_it_would_make_and_makes_none(crm: Connection, tmp_path: Path) -> None:
    known = [an_entity(at=1, name="A", email="a@x.org"), an_entity(at=3, name="A"), an_entity("bob", at=1, name="Bob")]
    ingest_on(crm, write_drop(tmp_path / "known.csv", known), Options())
    changes = [
        an_entity(at=2, name="B"),  # late: between A and A
        an_entity("bob", at=4, name="Bob"),  # says what is known
        an_entity("eve", at=5, name="Eve", phone="1"),
    ]
    report = ingest_on(crm, write_drop(tmp_path / "new.csv", changes), Options(dry_run=True))
    assert [(d.entity_uid, d.at, d.field, d.before, d.after) for d in report.differences] == [
        (str(uid("ada")), "2024-01-03T00:00:00Z", "display_name", "A", "B"),
        (str(uid("eve")), "2024-01-06T00:00:00Z", "display_name", None, "Eve"),
        (str(uid("eve")), "2024-01-06T00:00:00Z", "entity_type", None, "PERSON"),
        (str(uid("eve")), "2024-01-06T00:00:00Z", "details.phone", None, "1"),
    ]
    assert (report.rows_changed, report.rows_late, report.dry_run) == (2, 1, True)
    assert reads.snapshot(crm, uid("eve")) is None
    assert ingest_on(crm, write_drop(tmp_path / "real.csv", changes), Options()).differences == ()
