"""Lists come in pages by number or from a position on, counts agree with them, and streams are all pages at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

import psycopg
import pytest
from builders import an_entity, day, reference_data, uid

from crm_core import temporal
from crm_core.blocks import BLOCK_BYTES
from crm_core.database import Connection, Database
from crm_core.errors import UnknownType
from crm_core.merge import Origin, record
from crm_core.model import ReferenceTypes
from crm_core.reference import reference_types
from crm_core.temporal import Filter, Page, Position

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
    record(any_connection, types, changes, Origin("tester", "fixture"))
    any_connection.execute("update entity set entity_uid = %s where entity_uid = %s", (NOBODY, uid("who 8")))
    any_connection.execute("update entity_detail set entity_uid = %s where entity_uid = %s", (NOBODY, uid("who 8")))
    any_connection.execute("update ledger set entity_uid = %s where entity_uid = %s", (NOBODY, uid("who 8")))
    return any_connection


Read = Callable[..., Page]


def reads(connection: Connection) -> dict[str, Read]:
    types = reference_types(connection)
    return {
        "current": lambda **at: temporal.entities(connection, types, **at),
        "of a type": lambda **at: temporal.entities(connection, types, Filter(entity_type="person"), **at),
        "as of": lambda **at: temporal.entities(connection, types, as_of=day(2.5), **at),
        "diff": lambda **at: temporal.diff(connection, day(1.5), day(9), **at),
        "transitions": lambda **at: temporal.transitions(connection, day(0), day(9), **at),
    }


@pytest.mark.parametrize("name", ["current", "of a type", "as of", "diff", "transitions"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_by_number_and_pages_by_position_are_the_whole_list_in_its_order(
    crowd: Connection, name: str, limit: int
) -> None:
    read = reads(crowd)[name]
    whole = read(limit=200)
    assert whole.next is None
    assert len(whole.documents) >= 5
    numbered: list[str] = []
    while page := read(offset=len(numbered), limit=limit).documents:
        numbered += page
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
    names = [json.loads(d)["display_name"] for d in temporal.entities(crowd, types, limit=50).documents]
    page = temporal.entities(crowd, types, after=Position(NOBODY, "Bp"))
    assert [json.loads(d)["display_name"] for d in page.documents] == [name for name in names if name >= "Bp"]


def test_transitions_begin_behind_an_instant_only(crowd: Connection) -> None:
    everything = temporal.transitions(crowd, day(0), day(9)).documents
    assert temporal.transitions(crowd, day(0), day(9), after=Position(NOBODY)).documents == everything
    assert temporal.transitions(crowd, day(0), day(9), after=Position(NOBODY, at=day(-5))).documents == everything
    later = temporal.transitions(crowd, day(0), day(9), after=Position(temporal.LAST_UID, at=day(1))).documents
    assert later == tuple(d for d in everything if json.loads(d)["at"] > "2024-01-02T00:00:00Z")


def test_a_transition_says_what_changed_and_who_recorded_it(crowd: Connection) -> None:
    created, renamed, ended = (
        document
        for document in map(json.loads, temporal.transitions(crowd, day(0), day(9), limit=100).documents)
        if document["entity_uid"] == str(uid("who 0"))
    )
    recorded = {key: created.pop(key) for key in ("recorded_at", "actor", "source")}
    assert recorded == {
        "recorded_at": json.loads(temporal.audit(crowd, uid("who 0"))[0])["recorded_at"],
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
        page = temporal.entities(crowd, types, which, as_of=as_of, limit=100)
        count = len(page.documents)
        assert temporal.count_entities(crowd, types, which, as_of=as_of) == count
        for at_most in (1, 2, 5, 100):
            assert temporal.count_entities(crowd, types, which, as_of=as_of, at_most=at_most) == min(at_most, count)
        if as_of is not None:
            assert streamed(temporal.stream_entities(crowd, types, which, as_of=as_of)) == list(page.documents)


@pytest.mark.parametrize("window", [(0, 9), (1, 2), (1.5, 3), (2, 9), (3, 3.5), (0, 0.5)])
def test_counts_and_streams_of_changes_agree_with_their_lists(crowd: Connection, window: tuple[float, float]) -> None:
    from_, to = map(day, window)
    for read, count, stream in (
        (temporal.diff, temporal.count_diff, temporal.stream_diff),
        (temporal.transitions, temporal.count_transitions, temporal.stream_transitions),
    ):
        documents = list(read(crowd, from_, to, limit=100).documents)
        assert count(crowd, from_, to) == len(documents)
        for at_most in (1, 2, 3, 100):
            assert count(crowd, from_, to, at_most=at_most) == min(at_most, len(documents))
        assert streamed(stream(crowd, from_, to)) == documents


def streamed(blocks: Iterator[bytes]) -> list[str]:
    text = b"".join(blocks).decode()
    assert text.endswith("\n") or not text
    return text.removesuffix("\n").split("\n") if text else []


def test_an_unknown_type_is_said_at_once(connection: Connection) -> None:
    reference_data(connection)
    types = reference_types(connection)
    for which in (Filter(entity_type="ROBOT"), Filter(details={"shoe": "42"})):
        with pytest.raises(UnknownType):
            temporal.entities(connection, types, which)
        with pytest.raises(UnknownType):
            temporal.count_entities(connection, types, which)
        with pytest.raises(UnknownType):
            temporal.stream_entities(connection, types, which, as_of=LATE)


@pytest.fixture(scope="module")
def many(database: Database) -> ReferenceTypes:
    """Some hundreds of entities, committed: more than one block of a stream."""
    with database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
        record(
            connection,
            types,
            [an_entity(str(n), at=1, name="n" * 900, note="x" * 900) for n in range(600)],
            Origin("t", "fixture"),
        )
        return types


def test_a_stream_comes_in_blocks_of_whole_lines(database: Database, many: ReferenceTypes) -> None:
    with database.connect(autocommit=True) as connection:
        blocks = list(temporal.stream_entities(connection, many, as_of=LATE))
        assert len(blocks) > 2
        assert all(block.endswith(b"\n") for block in blocks)
        assert all(len(block) < BLOCK_BYTES + 4_000 for block in blocks)
        assert sum(block.count(b"\n") for block in blocks) == 600


@pytest.mark.parametrize("known_at", [None, datetime.max.replace(tzinfo=LATE.tzinfo)])
def test_a_reader_who_leaves_a_stream_leaves_the_connection_usable(
    database: Database, many: ReferenceTypes, known_at: datetime | None
) -> None:
    with database.connect(autocommit=True) as connection:
        stream = temporal.stream_entities(connection, many, as_of=LATE, known_at=known_at)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert temporal.count_entities(connection, many) == 600


def test_a_stream_is_of_one_snapshot(database: Database, many: ReferenceTypes) -> None:
    with database.connect(autocommit=True) as reader, database.connect() as writer:
        stream = temporal.stream_entities(reader, many, as_of=LATE)
        first = next(stream)
        writer.execute("delete from entity_detail")
        writer.execute("delete from entity")
        writer.commit()
        assert (first + b"".join(stream)).count(b'"detail_type":"note"') == 600
