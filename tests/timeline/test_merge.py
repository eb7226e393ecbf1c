"""Versions open and close as the contract's section 2 says; each rule by an example a reader can check by eye."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from builders import an_entity, day, reference_data, uid

from crm_core.model import Change
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.merge import Merged, Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.scd2]


class Book:
    """What a test records and reads: days for instants."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.types = reference_types(connection)

    def record(self, *changes: Change) -> Merged:
        return record(self.connection, self.types, changes, Origin("tester", "fixture"))

    def names(self, who: str = "ada") -> list[tuple[str, float | None, float | None]]:
        return [
            (d["display_name"], _day(d["valid_from"]), _day(d["valid_to"]))
            for d in map(json.loads, reads.history(self.connection, uid(who)))
            if d["kind"] == "entity"
        ]

    def values(self, detail_type: str, who: str = "ada") -> list[tuple[str, float | None, float | None]]:
        return [
            (d["detail_value"], _day(d["valid_from"]), _day(d["valid_to"]))
            for d in map(json.loads, reads.history(self.connection, uid(who)))
            if d.get("detail_type") == detail_type
        ]


def _day(instant: str | None) -> float | None:
    return None if instant is None else (datetime.fromisoformat(instant) - day(0)).total_seconds() / 86_400


@pytest.fixture
def book(connection: Connection) -> Book:
    reference_data(connection)
    return Book(connection)


def test_a_change_closes_the_version_before_it(book: Book) -> None:
    book.record(an_entity(at=1, name="Ada Byron"), an_entity(at=2, name="Ada Lovelace"))
    assert book.names() == [("Ada Byron", 1, 2), ("Ada Lovelace", 2, None)]


def test_a_late_change_is_placed_in_the_past(book: Book) -> None:
    book.record(an_entity(at=1, name="A"))
    book.record(an_entity(at=3, name="A"))
    merged = book.record(an_entity(at=2, name="B"))
    assert book.names() == [("A", 1, 2), ("B", 2, 3), ("A", 3, None)]
    assert (merged.rows_changed, merged.rows_late, merged.entity_versions_added) == (1, 1, 2)


def test_an_unchanged_row_is_remembered(book: Book) -> None:
    book.record(an_entity(at=1, name="A"))
    assert book.record(an_entity(at=3, name="A")).rows_changed == 0
    assert book.names() == [("A", 1, None)]
    book.record(an_entity(at=2, name="B"))
    assert book.names()[-1] == ("A", 3, None)


def test_a_late_change_before_everything_moves_the_beginning_back(book: Book) -> None:
    book.record(an_entity(at=3, name="A", email="a@x.org"))
    merged = book.record(an_entity(at=1, name="A", email="a@x.org"))
    assert (book.names(), book.values("email")) == ([("A", 1, None)], [("a@x.org", 1, None)])
    assert merged.rows_changed == 1


def test_a_detail_not_listed_keeps_its_value_and_null_ends_it(book: Book) -> None:
    book.record(an_entity(at=1, email="a@x.org", phone="1"))
    book.record(an_entity(at=2, phone="2"))
    book.record(an_entity(at=3, email=None))
    assert book.values("email") == [("a@x.org", 1, 3)]
    assert book.values("phone") == [("1", 1, 2), ("2", 2, None)]
    assert book.names() == [("Ada Lovelace", 1, None)]


def test_null_for_a_missing_detail_is_not_a_change(book: Book) -> None:
    assert book.record(an_entity(at=1, email=None)).detail_versions_added == 0
    assert book.record(an_entity(at=2, email=None)).rows_changed == 0
    assert book.values("email") == []


def test_a_patch_sets_only_what_it_names(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org", phone="1"))
    book.record(an_entity(at=2, op="patch", name=None, type_=None, phone="2"))
    book.record(an_entity(at=3, op="patch", name="B", type_=None))
    assert book.names() == [("A", 1, 3), ("B", 3, None)]
    assert book.values("email") == [("a@x.org", 1, None)]
    assert book.values("phone") == [("1", 1, 2), ("2", 2, None)]


def test_a_patch_of_what_does_not_exist_then_has_an_effect_only_when_it_comes_to_exist(book: Book) -> None:
    book.record(an_entity(at=2, op="patch", name=None, type_=None, phone="2"))
    assert (book.names(), book.values("phone")) == ([], [])
    book.record(an_entity(at=1, name="A"))
    assert (book.names(), book.values("phone")) == ([("A", 1, None)], [("2", 2, None)])


def test_a_deletion_ends_the_entity_and_its_details_and_a_revival_starts_without_them(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    book.record(an_entity(at=2, op="delete"))
    assert reads.snapshot(book.connection, uid("ada")) is None
    book.record(an_entity(at=4, name="A"))
    assert book.names() == [("A", 1, 2), ("A", 4, None)]
    assert book.values("email") == [("a@x.org", 1, 2)]


def test_a_deletion_of_an_unknown_entity_ends_what_arrives_late_before_it(book: Book) -> None:
    book.record(an_entity(at=2, op="delete"))
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    assert (book.names(), book.values("email")) == ([("A", 1, 2)], [("a@x.org", 1, 2)])


def test_a_deletion_and_a_revival_at_one_instant_leave_no_gap(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org", phone="1"))
    book.record(an_entity(at=2, op="delete"), an_entity(at=2, name="A", email="a@x.org"))
    assert (book.names(), book.values("email")) == ([("A", 1, None)], [("a@x.org", 1, None)])
    assert book.values("phone") == [("1", 1, 2)]


def test_a_revival_recorded_at_the_instant_of_the_deletion_is_a_change(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    book.record(an_entity(at=3, op="delete"))
    merged = book.record(an_entity(at=3, name="A", email="a@x.org"))
    assert (book.names(), book.values("email")) == ([("A", 1, None)], [("a@x.org", 1, None)])
    assert (merged.rows_changed, merged.rows_superseded, merged.entity_versions_added) == (1, 1, 0)


def test_a_version_between_two_lives_is_found_by_both(book: Book) -> None:
    """A late version takes its place in the gap."""
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    book.record(an_entity(at=2, op="delete"))
    book.record(an_entity(at=8, name="C", email="c@x.org"))
    book.record(an_entity(at=5, name="B", email="b@x.org"), an_entity(at=6, op="delete"))
    assert book.names() == [("A", 1, 2), ("B", 5, 6), ("C", 8, None)]
    assert book.values("email") == [("a@x.org", 1, 2), ("b@x.org", 5, 6), ("c@x.org", 8, None)]
    assert [c.name for c in check(book.connection) if not c.holds] == []


def test_at_one_instant_the_last_recorded_change_wins_and_the_others_are_counted(book: Book) -> None:
    merged = book.record(an_entity(at=1, name="A"), an_entity(at=1, name="B"), an_entity(at=1, name="C"))
    assert book.names() == [("C", 1, None)]
    assert (merged.rows_superseded, merged.rows_changed) == (2, 1)
    assert book.record(an_entity(at=1, name="D")).rows_superseded == 1
    assert book.names() == [("D", 1, None)]


@pytest.mark.idempotency
def test_a_replay_changes_nothing_even_when_superseded_since(book: Book) -> None:
    book.record(an_entity(at=1, name="A"))
    book.record(an_entity(at=1, name="B"))
    merged = book.record(an_entity(at=1, name="A"))
    assert book.names() == [("B", 1, None)]
    assert (merged.rows_changed, merged.rows_superseded, merged.rows_late) == (0, 0, 0)
    assert len(reads.audit(book.connection, uid("ada"))) == 2


@pytest.mark.idempotency
def test_rows_known_already_beside_new_ones_change_nothing(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org"), an_entity(at=3, name="B", email="b@x.org"))
    merged = book.record(an_entity(at=1, name="A", email="a@x.org"), an_entity(at=5, name="C", email="c@x.org"))
    assert book.names() == [("A", 1, 3), ("B", 3, 5), ("C", 5, None)]
    assert book.values("email") == [("a@x.org", 1, 3), ("b@x.org", 3, 5), ("c@x.org", 5, None)]
    assert (merged.rows_changed, merged.rows_late) == (1, 0)


@pytest.mark.idempotency
def test_the_same_row_twice_in_one_drop_is_one_change(book: Book) -> None:
    assert book.record(an_entity(), an_entity(), an_entity()).rows_changed == 1
    assert len(reads.audit(book.connection, uid("ada"))) == 1


@pytest.mark.idempotency
def test_within_one_batch_the_last_row_of_an_instant_wins_even_if_it_returns_to_an_earlier_value(book: Book) -> None:
    a, b = an_entity(name="A", email="a@x.org"), an_entity(name="B", email="b@x.org")
    assert book.record(a, b, a).rows_superseded == 2
    assert (book.names(), book.values("email")) == ([("A", 1, None)], [("a@x.org", 1, None)])
    assert book.record(b, an_entity(name="C"), b, b).rows_changed == 1, "a repeat, then news, and what comes after"
    assert (book.names(), book.values("email")) == ([("B", 1, None)], [("b@x.org", 1, None)])


def test_equal_neighbours_are_one_version_that_shows_the_value_asserted_first(book: Book) -> None:
    book.record(an_entity(at=2, email="ADA@x.org"))
    book.record(an_entity(at=3, email="ada@X.ORG"))
    assert book.values("email") == [("ADA@x.org", 2, None)]
    book.record(an_entity(at=1, email="Ada@x.org"))
    assert book.values("email") == [("Ada@x.org", 1, None)]


def test_a_corrected_capital_of_a_name_is_a_change(book: Book) -> None:
    book.record(an_entity(at=1, name="Ian Mcdonald"), an_entity(at=2, name="Ian McDonald"))
    assert book.names() == [("Ian Mcdonald", 1, 2), ("Ian McDonald", 2, None)]


def test_a_change_of_type_is_a_version(book: Book) -> None:
    book.record(an_entity(at=1), an_entity(at=2, type_="INSTITUTION"))
    assert [name for name, *_ in book.names()] == ["Ada Lovelace", "Ada Lovelace"]


def test_a_rename_does_not_touch_the_details(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    assert book.record(an_entity(at=2, name="B", email="a@x.org")).detail_versions_added == 0


@pytest.mark.temporal
def test_known_at_answers_as_it_was_known_then(book: Book) -> None:
    first = book.record(an_entity(at=1, name="A", email="a@x.org"))
    book.record(an_entity(at=3, name="C"))
    book.record(an_entity(at=2, name="B", email=None))
    assert book.names() == [("A", 1, 2), ("B", 2, 3), ("C", 3, None)]
    document = json.loads(reads.snapshot(book.connection, uid("ada"), known_at=first.recorded_at) or "null")
    assert (document["display_name"], document["details"][0]["detail_value"]) == ("A", "a@x.org")
    assert len(reads.history(book.connection, uid("ada"), known_at=first.recorded_at)) == 2
    assert len(reads.audit(book.connection, uid("ada"), known_at=first.recorded_at)) == 1
    page = reads.diff(book.connection, day(0), day(9), known_at=first.recorded_at)
    assert json.loads(page.documents[0])["changes"][0] == {"field": "display_name", "from": None, "to": "A"}
    assert book.names() == [("A", 1, 2), ("B", 2, 3), ("C", 3, None)], "the tables are back in sight"


@pytest.mark.temporal
def test_the_audit_says_who_when_from_where_and_what(book: Book) -> None:
    book.record(an_entity(at=1, name="A", email="a@x.org"))
    book.record(an_entity(at=2, op="patch", name="B", type_=None, email=None))
    before, after = map(json.loads, reads.audit(book.connection, uid("ada")))
    assert before["before"] is None
    assert before["after"] == {"display_name": "A", "entity_type": "PERSON", "details": {"email": "a@x.org"}}
    assert after["before"] == before["after"]
    assert after["after"] == {"display_name": "B", "entity_type": "PERSON", "details": {}}
    assert after["asserted"] == {"display_name": "B", "entity_type": None, "details": {"email": None}}
    assert (after["actor"], after["source"]) == ("tester", {"kind": "fixture", "request_id": None})
    assert after["change_ts"] == "2024-01-03T00:00:00Z"
    assert before["recorded_at"] < after["recorded_at"]
