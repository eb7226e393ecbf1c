"""One change by request, in the core: made under conditions, once for its key, beside other writers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from builders import a_request, an_entity, day, reference_data, uid
from servers import Server

from crm_core.errors import EntityAbsent, EntityExists, EntityStale, KeyReused, RequestRefused, UnknownEntity
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.single_change import (
    NO_PRECONDITIONS,
    ChangeRequest,
    ChangeResult,
    Preconditions,
    Provenance,
    apply_change,
)

pytestmark = [pytest.mark.integration, pytest.mark.scd2]


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        yield database
        with database.connect() as connection:
            assert [found.invariant for found in check(connection) if not found.holds] == []


def apply(connection: Connection, request: ChangeRequest) -> ChangeResult:
    return apply_change(connection, reference_types(connection), request, now=datetime.now(UTC), time_zone=UTC)


def make(connection: Connection, change: Change, conditions: Preconditions = NO_PRECONDITIONS) -> ChangeResult:
    return apply(connection, a_request(change, preconditions=conditions))


def make_now(connection: Connection, change: Change, conditions: Preconditions = NO_PRECONDITIONS) -> ChangeResult:
    return apply(connection, a_request(change, preconditions=conditions, is_dated=False))


def refused(
    connection: Connection, change: Change, conditions: Preconditions = NO_PRECONDITIONS, *, is_dated: bool = True
) -> RequestRefused:
    """The refusal of a change, of which nothing is recorded then."""
    before = _ledger(connection)
    with pytest.raises(RequestRefused) as refusal:
        apply(connection, a_request(change, preconditions=conditions, is_dated=is_dated))
    assert _ledger(connection) == before
    return refusal.value


def _ledger(connection: Connection) -> tuple[int, ...]:
    row = connection.execute("select (select count(*) from ledger), (select count(*) from batch)").fetchone()
    assert row is not None
    return row


def tag(document: str | None) -> str:
    return hashlib.md5((document or "").encode(), usedforsecurity=False).hexdigest()


def test_the_answer_is_the_entity_as_a_read_answers_it(connection: Connection) -> None:
    made = make(connection, an_entity(at=1, email="a@x.org", phone="1"))
    assert (made.outcome, made.was_replayed) == ("created", False)
    assert made.document == reads.snapshot(connection, uid("ada"))
    changed = make(connection, an_entity(at=2, op="patch", name="B", type_=None))
    assert (changed.outcome, changed.document) == ("changed", reads.snapshot(connection, uid("ada")))
    deleted = make(connection, an_entity(at=3, op="delete"))
    assert (deleted.outcome, deleted.document) == ("deleted", None)
    past = make(connection, an_entity(at=1.5, op="patch", name="C", type_=None))
    assert past.document == reads.snapshot(connection, uid("ada"), as_of=day(1.5)), "it has ended since"


def test_what_does_not_meet_the_state_is_refused(connection: Connection) -> None:
    patch, end = an_entity(at=2, op="patch", name="B", type_=None), an_entity(at=2, op="delete")
    assert isinstance(refused(connection, patch), UnknownEntity)
    assert isinstance(refused(connection, end), UnknownEntity)
    make(connection, an_entity(at=1))
    for at in (0.5, 1, 2):
        assert isinstance(refused(connection, an_entity(at=at, name="Again")), EntityExists)
    early = refused(connection, replace(patch, change_ts=day(0)))
    assert isinstance(early, EntityAbsent)
    assert (early.at, early.ended_at) == (day(0), None)
    make(connection, replace(end, change_ts=day(5)))
    gone = refused(connection, patch, is_dated=False)
    assert isinstance(gone, EntityAbsent)
    assert (gone.at, gone.ended_at) == (None, day(5))
    assert isinstance(refused(connection, end, is_dated=False), EntityAbsent)
    assert isinstance(refused(connection, replace(end, change_ts=day(6))), EntityAbsent)
    assert make(connection, replace(end, change_ts=day(5))).outcome == "deleted", "the same deletion again"


def test_a_condition_is_met_by_the_document_as_it_stands(connection: Connection) -> None:
    made = make(connection, an_entity(at=1))
    patch = an_entity(at=2, op="patch", name="B", type_=None)
    for conditions in ([], ["x"], [tag("x"), tag(made.document).upper()]):
        assert isinstance(refused(connection, patch, Preconditions(only_if=conditions)), EntityStale)
    changed = make(connection, patch, Preconditions(only_if=["x", tag(made.document)]))
    assert isinstance(refused(connection, patch, Preconditions(only_if=[tag(made.document)])), EntityStale)
    assert make(connection, replace(patch, change_ts=day(3)), Preconditions(only_if=["*"])).outcome == "changed"
    assert changed.document == reads.snapshot(connection, uid("ada"))
    make(connection, an_entity(at=4, op="delete"))
    assert isinstance(
        refused(connection, replace(patch, change_ts=day(3.5)), Preconditions(only_if=["*"])), EntityStale
    )
    assert isinstance(refused(connection, an_entity("bob", at=1), Preconditions(only_if=["*"])), EntityStale)


def test_a_key_is_answered_once_and_for_one_request(connection: Connection) -> None:
    asked = Preconditions(key="k", fingerprint=b"1")
    first = make(connection, an_entity(at=1), asked)
    make(connection, an_entity(at=2, op="patch", name="B", type_=None))
    again = make(connection, an_entity(at=1), asked)
    assert again == replace(first, was_replayed=True)
    assert isinstance(refused(connection, an_entity(at=1), replace(asked, fingerprint=b"2")), KeyReused)
    bob = Provenance("bob", "request-1")
    other = apply(connection, a_request(an_entity("bob", at=1), provenance=bob, preconditions=asked))
    assert (other.outcome, other.was_replayed) == ("created", False)
    assert isinstance(refused(connection, an_entity(at=1), replace(asked, key="other")), EntityExists)
    assert make(connection, an_entity("eve", at=1), replace(asked, key="other")).outcome == "created", "not kept"


def test_a_key_is_forgotten_after_a_day(connection: Connection) -> None:
    asked = Preconditions(key="k", fingerprint=b"1")
    make(connection, an_entity(at=1), asked)
    connection.execute("update idempotency_key set answered_at = answered_at - interval '25 hours'")
    make(connection, an_entity("bob", at=1), replace(asked, key="another"))
    assert connection.execute("select key from idempotency_key").fetchall() == [("another",)]


def test_an_undated_change_holds_when_it_is_answered(connection: Connection) -> None:
    """Even behind a change that is a little ahead, and beside one of the same moment."""
    ahead = datetime.now(UTC) + timedelta(minutes=4)
    make(connection, replace(an_entity(), change_ts=ahead))
    answers = [make_now(connection, Change(uid("ada"), day(0), "patch", f"Name {number}")) for number in range(3)]
    names = [json.loads(answer.document or "")["display_name"] for answer in answers]
    assert names == ["Name 0", "Name 1", "Name 2"]
    assert json.loads(reads.snapshot(connection, uid("ada")) or "")["display_name"] == "Name 2"


def test_who_asked_is_in_the_ledger(connection: Connection) -> None:
    apply(connection, a_request(an_entity(at=1), provenance=Provenance("Zoë", "r-9")))
    (entry,) = [json.loads(document) for document in reads.audit(connection, uid("ada"))]
    assert (entry["actor"], entry["source"]) == ("Zoë", {"kind": "request", "request_id": "r-9"})


def test_no_acknowledged_change_is_lost_among_many_writers(database: Database) -> None:
    who, writers, each = "crowd", 6, 15
    with database.transaction() as connection:
        make(connection, an_entity(who, at=1))

    def write(writer: int) -> list[str]:
        done = []
        with database.connect(autocommit=True) as connection:
            for number in range(each):
                change = Change(uid(who), day(0), "patch", None, None, {"note": f"{writer}/{number}"})
                answer = make_now(connection, change)
                note = json.loads(answer.document or "")["details"][0]["detail_value"]
                assert note == f"{writer}/{number}", "the answer shows what was asked for, although others write too"
                done.append(note)
        return done

    with ThreadPoolExecutor(writers) as many:
        done = {note for notes in many.map(write, range(writers)) for note in notes}
    with database.connect() as connection:
        versions = [json.loads(document) for document in reads.history(connection, uid(who))]
    notes = [version for version in versions if version["kind"] == "detail"]
    assert {version["detail_value"] for version in notes} == done
    assert len(notes) == writers * each
    assert all(before["valid_to"] == after["valid_from"] for before, after in pairwise(notes))


def test_of_writers_with_the_same_condition_one_is_let_in(database: Database) -> None:
    who = "race"
    with database.transaction() as connection:
        document = make(connection, an_entity(who, at=1)).document

    def write(writer: int) -> bool:
        with database.connect(autocommit=True) as connection:
            try:
                change = Change(uid(who), day(0), "patch", f"Writer {writer}")
                make_now(connection, change, Preconditions(only_if=[tag(document)]))
            except EntityStale:
                return False
            return True

    with ThreadPoolExecutor(6) as many:
        assert sum(many.map(write, range(6))) == 1


def test_of_writers_that_create_the_same_entity_one_is_let_in(database: Database) -> None:
    def write(_: int) -> bool:
        with database.connect(autocommit=True) as connection:
            try:
                make_now(connection, an_entity("first"))
            except EntityExists:
                return False
            return True

    with ThreadPoolExecutor(6) as many:
        assert sum(many.map(write, range(6))) == 1
