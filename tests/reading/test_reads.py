"""Lists come in pages by number or from a position on, counts agree with them, and streams are all pages at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from builders import an_entity, day, reference_data, uid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timeline_model import Model, compared

from crm_core.errors import TooMuchToFold, UnknownType
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import history, reads
from crm_core.reading.known import as_known, uids
from crm_core.reading.lists import LAST_UID, NAME_BYTES, Filter, Page, Position
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.temporal]

ODD = 'Quote " and \\ backslash, \x7f\x01\x02é😀 \u2028'  # what JSON and CSV might trip over
NOBODY = UUID(int=0)  # the first of all uids is one as any other
LATE = day(99)


@pytest.fixture
def crowd(any_connection: Connection) -> Connection:
    """Nine entities from day 1; on days 2 to 4 some change, end and come back."""
    reference_data(any_connection)
    types = reference_types(any_connection)
    names = ["Ada", "ada", "Bo", "Bo", "Émile", "x" * 300 + "a", "x" * 300 + "b", ODD, "Zoë"]
    changes = [an_entity(f"who {n}", at=1, name=name, email=f"{n}@X.org") for n, name in enumerate(names)]
    changes += [
        an_entity(f"who {n}", at=2, name=f"{name}!", email=f"{n}@x.org", note=ODD) for n, name in enumerate(names[:4])
    ]
    changes += [an_entity("who 0", at=3, op="delete"), an_entity("who 1", at=3, name="ada", email=None)]
    changes += [an_entity("who 8", at=4, type_="INSTITUTION", name="Zoë", email="8@x.org")]
    changes = [
        replace(change, entity_uid=NOBODY) if change.entity_uid == uid("who 8") else change for change in changes
    ]
    record(any_connection, types, changes, Origin("tester", "fixture"))
    return any_connection


Read = Callable[..., Page]


def every_read(connection: Connection) -> dict[str, Read]:
    types = reference_types(connection)
    return {
        "current": lambda **at: reads.entities(connection, types, **at),
        "of a type": lambda **at: reads.entities(connection, types, Filter(entity_type="person"), **at),
        "as of": lambda **at: reads.entities(connection, types, as_of=day(2.5), **at),
        "diff": lambda **at: reads.diff(connection, day(1.5), day(9), **at),
        "transitions": lambda **at: reads.transitions(connection, day(0), day(9), **at),
        "transitions up to the instant of many": lambda **at: reads.transitions(connection, day(0), day(1), **at),
    }


@pytest.mark.parametrize(
    "name", ["current", "of a type", "as of", "diff", "transitions", "transitions up to the instant of many"]
)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_by_number_and_pages_by_position_are_the_whole_list_in_its_order(
    crowd: Connection, name: str, limit: int
) -> None:
    read = every_read(crowd)[name]
    whole = read(limit=200)
    assert whole.next is None
    assert len(whole.documents) >= 5
    numbered: list[str] = []
    while documents := read(offset=len(numbered), limit=limit).documents:
        numbered += documents
    assert tuple(numbered) == whole.documents
    walked: list[str] = []
    after: Position | None = None
    while True:
        page = read(after=after, limit=limit)
        walked += page.documents
        after = page.next
        if after is None:
            break
        assert len(page.documents) == limit
    assert tuple(walked) == whole.documents
    assert read(offset=10_000).documents == ()


def test_a_page_by_name_begins_anywhere_even_where_nobody_is(crowd: Connection) -> None:
    types = reference_types(crowd)
    names = [json.loads(d)["display_name"] for d in reads.entities(crowd, types, limit=50).documents]
    page = reads.entities(crowd, types, after=Position(NOBODY, "Bp"))
    assert [json.loads(d)["display_name"] for d in page.documents] == [name for name in names if name >= "Bp"]


def test_transitions_begin_behind_an_instant_only(crowd: Connection) -> None:
    everything = reads.transitions(crowd, day(0), day(9)).documents
    assert reads.transitions(crowd, day(0), day(9), after=Position(NOBODY)).documents == everything
    assert reads.transitions(crowd, day(0), day(9), after=Position(NOBODY, at=day(-5))).documents == everything
    later = reads.transitions(crowd, day(0), day(9), after=Position(LAST_UID, at=day(1))).documents
    assert later == tuple(d for d in everything if json.loads(d)["at"] > "2024-01-02T00:00:00Z")


def test_a_transition_says_what_changed_and_who_recorded_it(crowd: Connection) -> None:
    created, renamed, ended = (
        document
        for document in map(json.loads, reads.transitions(crowd, day(0), day(9), limit=100).documents)
        if document["entity_uid"] == str(uid("who 0"))
    )
    recorded = {key: created.pop(key) for key in ("recorded_at", "actor", "source")}
    assert recorded == {
        "recorded_at": json.loads(reads.audit(crowd, uid("who 0"))[0])["recorded_at"],
        "actor": "tester",
        "source": {"kind": "fixture", "request_id": None},
    }
    assert created == {
        "entity_uid": str(uid("who 0")),
        "at": "2024-01-02T00:00:00Z",
        "action": "created",
        "changes": [
            {"field": "display_name", "from": None, "to": "Ada"},
            {"field": "entity_type", "from": None, "to": "PERSON"},
            {"field": "details.email", "from": None, "to": "0@X.org"},
        ],
    }
    assert (renamed["at"], renamed["action"]) == ("2024-01-03T00:00:00Z", "changed")
    assert renamed["changes"] == [  # the address changed its case alone
        {"field": "display_name", "from": "Ada", "to": "Ada!"},
        {"field": "details.note", "from": None, "to": ODD},
    ]
    assert (ended["at"], ended["action"]) == ("2024-01-04T00:00:00Z", "ended")
    assert [change["to"] for change in ended["changes"]] == [None] * 4


FILTERS = (
    None,
    Filter(name_contains="a"),
    Filter(name_contains="é"),
    Filter(name_contains="b%"),
    Filter(name_contains=""),
    Filter(entity_type="Person"),
    Filter(details={"EMAIL": "0@x.ORG"}),
    Filter(details={"email": "1@x.org", "note": ODD}),
    Filter(name_contains="bo", entity_type="person", details={"email": "2@x.org"}),
    Filter(details={"email": " "}),
)


@pytest.mark.parametrize("which", FILTERS)
def test_counts_and_streams_agree_with_the_list(crowd: Connection, which: Filter | None) -> None:
    types = reference_types(crowd)
    for as_of in (None, day(0.5), day(1), day(2.5), day(3), LATE):
        page = reads.entities(crowd, types, which, as_of=as_of, limit=100)
        count = len(page.documents)
        assert reads.count_entities(crowd, types, which, as_of=as_of) == count
        for at_most in (1, 2, 5, 100):
            assert reads.count_entities(crowd, types, which, as_of=as_of, at_most=at_most) == min(at_most, count)
        if as_of is not None:
            assert streamed(reads.stream_entities(crowd, types, which, as_of=as_of)) == list(page.documents)


@pytest.mark.parametrize("window", [(0, 9), (1, 2), (1.5, 3), (2, 9), (3, 3.5), (0, 0.5)])
def test_counts_and_streams_of_changes_agree_with_their_lists(crowd: Connection, window: tuple[float, float]) -> None:
    from_, to = map(day, window)
    for read, count, stream in (
        (reads.diff, reads.count_diff, reads.stream_diff),
        (reads.transitions, reads.count_transitions, reads.stream_transitions),
    ):
        documents = list(read(crowd, from_, to, limit=100).documents)
        assert count(crowd, from_, to) == len(documents)
        for at_most in (1, 2, 3, 100):
            assert count(crowd, from_, to, at_most=at_most) == min(at_most, len(documents))
        assert streamed(stream(crowd, from_, to)) == documents


SOON = day(99_999)  # everything is known by then


@pytest.mark.parametrize("which", FILTERS)
def test_a_list_as_known_is_the_list_itself_when_all_is_known(crowd: Connection, which: Filter | None) -> None:
    types = reference_types(crowd)
    for as_of in (day(0.5), day(1), day(2.5), day(3), LATE):
        whole = reads.entities(crowd, types, which, as_of=as_of, limit=100).documents
        assert reads.entities(crowd, types, which, as_of=as_of, known_at=SOON, limit=100).documents == whole
        assert reads.count_entities(crowd, types, which, as_of=as_of, known_at=SOON) == len(whole)
        assert reads.count_entities(crowd, types, which, as_of=as_of, known_at=SOON, at_most=2) == min(2, len(whole))
        assert streamed(reads.stream_entities(crowd, types, which, as_of=as_of, known_at=SOON)) == list(whole)
    for as_of in (day(2.5), LATE):
        whole = reads.entities(crowd, types, which, as_of=as_of, limit=100).documents
        walked: list[str] = []
        after = None
        while True:
            page = reads.entities(crowd, types, which, as_of=as_of, known_at=SOON, after=after, limit=2)
            walked += page.documents
            if (after := page.next) is None:
                break
        assert tuple(walked) == whole
        for offset in (1, 3, 50):
            page = reads.entities(crowd, types, which, as_of=as_of, known_at=SOON, offset=offset, limit=2)
            assert page.documents == whole[offset : offset + 2]


@pytest.mark.parametrize("window", [(0, 9), (1, 2), (1.5, 3), (2, 9), (3, 3.5), (0, 0.5)])
def test_changes_as_known_are_the_changes_themselves_when_all_is_known(
    crowd: Connection, window: tuple[float, float]
) -> None:
    from_, to = map(day, window)
    for read, count, stream in (
        (reads.diff, reads.count_diff, reads.stream_diff),
        (reads.transitions, reads.count_transitions, reads.stream_transitions),
    ):
        whole = read(crowd, from_, to, limit=100).documents
        assert read(crowd, from_, to, known_at=SOON, limit=100).documents == whole
        assert read(crowd, from_, to, known_at=SOON, offset=1, limit=2).documents == whole[1:3]
        assert count(crowd, from_, to, known_at=SOON) == len(whole)
        assert streamed(stream(crowd, from_, to, known_at=SOON)) == list(whole)
        walked: list[str] = []
        after = None
        while True:
            page = read(crowd, from_, to, known_at=SOON, after=after, limit=2)
            walked += page.documents
            if (after := page.next) is None:
                break
        assert tuple(walked) == whole


def test_a_walk_of_too_many_entities_ends_with_an_error_that_names_the_way_out(crowd: Connection) -> None:
    with as_known(crowd, SOON):
        assert sum(map(len, uids(crowd, to=LATE))) == 9
    record(
        crowd,
        reference_types(crowd),
        [an_entity(f"one more {n}", at=1, name="One") for n in range(50)],
        Origin("tester", "fixture"),
    )
    with pytest.raises(TooMuchToFold, match="NDJSON"), as_known(crowd, SOON):
        list(uids(crowd, to=LATE, at_most=40))


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀", '"', "\\"])
def test_a_walk_by_name_goes_on_at_any_name_though_its_entity_is_renamed_or_ended(
    any_connection: Connection, letter: str
) -> None:
    """Names of 500 characters that only differ at their ends; a position holds a beginning that is the same of all."""
    reference_data(any_connection)
    types = reference_types(any_connection)
    names = [f"{letter * 497}{number:03}" for number in range(6)]
    changes = [an_entity(name, at=1, name=name) for name in names] + [an_entity("twin", at=1, name=names[2])]
    record(any_connection, types, changes, Origin("tester", "fixture"))
    everyone = reads.entities(any_connection, types, limit=100).documents
    walked: list[str] = []
    after: Position | None = None
    while True:
        page = reads.entities(any_connection, types, after=after, limit=1)
        walked += page.documents
        after = page.next
        if after is None:
            break
        assert len(json.dumps(after.display_name, ensure_ascii=False).encode()) <= NAME_BYTES + 2
        passed = json.loads(page.documents[0])["entity_uid"]
        gone = [change for change in changes if str(change.entity_uid) == passed]
        if len(walked) % 2:
            record(any_connection, types, [Change(gone[0].entity_uid, day(2), "delete")], Origin("tester", "fixture"))
        else:
            renamed = Change(gone[0].entity_uid, day(2), "patch", "! comes first")
            record(any_connection, types, [renamed], Origin("tester", "fixture"))
    assert tuple(walked) == everyone


WHO = uid("ada")
INSTANTS = st.integers(0, 4).map(day)
DETAILS = st.dictionaries(
    st.sampled_from(["email", "note"]), st.none() | st.sampled_from(["a@x.org", "A@x.org", "b"]), max_size=2
)
NAMED = st.sampled_from(["Ada", "ADA", "Bo"])
TYPED = st.sampled_from(["PERSON", "INSTITUTION"])
CHANGES = (
    st.builds(Change, st.just(WHO), INSTANTS, st.just("upsert"), NAMED, TYPED, DETAILS)
    | st.builds(Change, st.just(WHO), INSTANTS, st.just("patch"), st.none() | NAMED, st.none() | TYPED, DETAILS)
    | st.builds(Change, st.just(WHO), INSTANTS, st.just("delete"))
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(changes=st.lists(CHANGES, min_size=1, max_size=8, unique_by=repr))
def test_an_audit_says_what_each_change_did_when_it_was_recorded(database: Database, changes: list[Change]) -> None:
    with database.connect() as connection:
        reference_data(connection)
        types = reference_types(connection)
        for change in changes:
            record(connection, types, [change], Origin("tester", "request", request_id="r"))
        documents = [json.loads(document) for document in reads.audit(connection, WHO)]
        model = Model()
        recorded = []
        for change in changes:
            states = [model.as_of(change.change_ts).get(WHO)]
            model.record(change)
            states.append(model.as_of(change.change_ts).get(WHO))
            recorded.append(states)
        connection.rollback()
    found = [
        [_state(**document[name]) if document[name] else None for name in ("before", "after")] for document in documents
    ]
    assert found == [[_state(*state) if state else None for state in states] for states in recorded]


def _state(display_name: str, entity_type: str, details: dict[str, str]) -> tuple[object, ...]:
    """A state but for the case of what compares without: a version shows what was said first, a change what it said."""
    return display_name, entity_type, {code: compared(code, value) for code, value in details.items()}


@pytest.mark.parametrize("known_at", [None, SOON])
def test_pages_of_a_past_are_the_whole_of_it(crowd: Connection, known_at: datetime | None) -> None:
    for whole, page_of, count in (
        (reads.history, history.history_page, history.count_history),
        (reads.audit, history.audit_page, history.count_audit),
    ):
        for who in ("who 0", "who 3"):
            documents = tuple(whole(crowd, uid(who), known_at=known_at))
            assert len(documents) == count(crowd, uid(who), known_at=known_at) > 1
            for limit in (1, 2, 50):
                walked: list[str] = []
                after: Any = None  # a position of the kind that the page has
                while True:
                    page = page_of(crowd, uid(who), known_at=known_at, after=after, limit=limit)
                    walked += page.documents
                    if (after := page.next) is None:
                        break
                assert tuple(walked) == documents
                assert (
                    page_of(crowd, uid(who), known_at=known_at, offset=1, limit=limit).documents
                    == (documents[1 : 1 + limit])
                )


def streamed(blocks: Iterator[bytes]) -> list[str]:
    text = b"".join(blocks).decode()
    assert text.endswith("\n") or not text
    return text.removesuffix("\n").split("\n") if text else []


def test_an_unknown_type_is_said_at_once(connection: Connection) -> None:
    reference_data(connection)
    types = reference_types(connection)
    for which in (Filter(entity_type="ROBOT"), Filter(details={"shoe": "42"})):
        with pytest.raises(UnknownType):
            reads.entities(connection, types, which)
        with pytest.raises(UnknownType):
            reads.count_entities(connection, types, which)
        with pytest.raises(UnknownType):
            reads.stream_entities(connection, types, which, as_of=LATE)
