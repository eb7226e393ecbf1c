"""The audit of all entities: its order, its filters, and what each change did when it was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from builders import an_entity, day, reference_data, uid, write_drop
from servers import Server

from crm_core.drops.ingest import Options, ingest, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_batch
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import audit, audit_walk, history, reads
from crm_core.reading.audit import Recorded, RecordedPosition
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.temporal]


@pytest.fixture(scope="module")
def database(any_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Two drops, some requests of ann and bob, and a late one; each committed, so that each has its moment."""
    folder = tmp_path_factory.mktemp("drops")
    with any_server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        first = [an_entity(f"who {n}", at=1, name=f"Who {n}", email=f"{n}@x.org") for n in range(4)]
        assert ingest(database, write_drop(folder / "first.csv", first), Options("loader")).status == "merged"
        second = [an_entity("who 0", at=5, name="Zero", phone="1"), an_entity("who 9", at=5, name="Nine")]
        assert ingest(database, write_drop(folder / "second.csv", second), Options("loader")).status == "merged"
        for actor, change in (
            ("ann", Change(uid("who 1"), day(6), "patch", "One")),
            ("bob", Change(uid("who 1"), day(3), "patch", "Late", None, {"email": None})),
            ("ann", Change(uid("who 2"), day(7), "delete")),
        ):
            with database.transaction() as connection:
                origin = Origin(actor, "request", request_id=f"{actor}'s")
                record(connection, reference_types(connection), [change], origin)
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connect(autocommit=True) as connection:
        connection.execute("analyze ledger")
        yield connection


def listed(connection: Connection, which: Recorded | None = None, **at: object) -> list[dict[str, object]]:
    return [json.loads(d) for d in audit.audit_of_all(connection, which, **at).documents]  # type: ignore[arg-type]


def said(entries: Sequence[dict[str, object]]) -> list[tuple[object, ...]]:
    return [(entry["actor"], entry["op"], entry["display_name"]) for entry in entries]


NEWEST = [("ann", "delete", "Who 2"), ("bob", "patch", "One"), ("ann", "patch", "One")]


def test_the_newest_batch_comes_first_and_within_it_the_order_is_of_uids(connection: Connection) -> None:
    entries = listed(connection)
    assert said(entries)[:3] == NEWEST
    assert [entry["actor"] for entry in entries[3:]] == ["loader"] * 6
    for batch in (entries[3:5], entries[5:]):
        uids = [str(entry["entity_uid"]) for entry in batch]
        assert uids == sorted(uids, reverse=True)
    assert {entry["display_name"] for entry in entries[5:]} == {"Zero", "One", "Who 2", "Who 3"}, (
        "the names now, or last"
    )


def test_an_entry_is_that_of_the_entitys_own_audit(connection: Connection) -> None:
    for entry in listed(connection):
        name = entry.pop("display_name")
        assert name
        own = [json.loads(d) for d in reads.audit(connection, uid_of(entry))]
        assert own.count(entry) == 1
    late = listed(connection, Recorded(actor="bob"))[0]
    assert late["before"] == {"display_name": "Who 1", "entity_type": "PERSON", "details": {"email": "1@x.org"}}
    assert late["after"] == {"display_name": "Late", "entity_type": "PERSON", "details": {}}
    assert late["source"] == {"kind": "request", "request_id": "bob's"}


def uid_of(entry: dict[str, object]) -> UUID:
    return UUID(str(entry["entity_uid"]))


def moment(entry: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(entry["recorded_at"]))


def every_filter(connection: Connection) -> list[tuple[Recorded, int]]:
    entries = listed(connection)
    sha256 = str(entries[-1]["source"]["sha256"])  # type: ignore[index]
    third = moment(entries[2])
    return [
        (Recorded(), 9),
        (Recorded(actor="ann"), 2),
        (Recorded(actor="nobody"), 0),
        (Recorded(from_=third), 3),
        (Recorded(to=third), 6),
        (Recorded(from_=third, to=third + timedelta.resolution), 1),
        (Recorded(drop=sha256), 4),
        (Recorded(drop=sha256.upper()), 4),
        (Recorded(drop="second.csv"), 2),
        (Recorded(drop="third.csv"), 0),
        (Recorded(op="delete"), 1),
        (Recorded(op="patch"), 2),
        (Recorded(op="upsert"), 6),
        (Recorded(detail_type="email"), 5),
        (Recorded(detail_type="phone"), 1),
        (Recorded(detail_type="note"), 0),
        (Recorded(entity_uid=uid("who 1")), 3),
        (Recorded(entity_uid=uid("nobody")), 0),
        (Recorded(actor="ann", op="patch", entity_uid=uid("who 1")), 1),
        (Recorded(actor="loader", detail_type="email", drop="first.csv", from_=day(0)), 4),
    ]


@pytest.mark.parametrize("few", [0.0, 2.0])
def test_filters_pages_counts_and_streams_agree_whichever_way_changes_are_found(
    connection: Connection, few: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few changes are found from the ledger and many from the batches: with `few` at 0 all are many, at 2 few."""
    everything = listed(connection)
    monkeypatch.setattr(audit, "FEW", few)
    for which, number in every_filter(connection):
        whole = audit.audit_of_all(connection, which, limit=100)
        assert (len(whole.documents), whole.next) == (number, None), which
        assert [entry for entry in everything if entry in [json.loads(d) for d in whole.documents]] == [
            json.loads(document) for document in whole.documents
        ]
        assert audit.count_audit_of_all(connection, which) == number
        assert audit.count_audit_of_all(connection, which, at_most=2) == min(2, number)
        streamed = b"".join(audit.stream_audit_of_all(connection, which)).decode().splitlines()
        assert tuple(streamed) == whole.documents
        for limit in (1, 2, 4):
            walked: list[str] = []
            after: RecordedPosition | None = None
            while True:
                page = audit.audit_of_all(connection, which, after=after, limit=limit)
                walked += page.documents
                if (after := page.next) is None:
                    break
            assert tuple(walked) == whole.documents
            assert (
                audit.audit_of_all(connection, which, offset=1, limit=limit).documents
                == (whole.documents[1 : 1 + limit])
            )


def test_a_cursor_goes_on_where_it_was_though_something_new_was_recorded(
    database: Database, connection: Connection
) -> None:
    whole = audit.audit_of_all(connection, limit=100).documents
    after = audit.audit_of_all(connection, limit=4).next
    with database.connect() as connection:
        origin = Origin("eve", "request", request_id="r")
        record(connection, reference_types(connection), [an_entity("new", name="New")], origin)
        assert audit.audit_of_all(connection, after=after, limit=100).documents == whole[4:]
        assert said(listed(connection, limit=1)) == [("eve", "upsert", "New")]
        connection.rollback()


def test_a_long_past_is_walked_once_for_a_page(database: Database) -> None:
    """Two hundred changes of one entity: every fifth late, some deletions among them."""
    with database.connect() as connection:
        types, who = reference_types(connection), "long"
        for number in range(200):
            at = number if number % 5 else number / 2
            change = an_entity(
                who, at=at, op="delete" if number % 17 == 16 else "upsert", name=f"N{number}", note=str(at)
            )
            record(connection, types, [change], Origin("t", "request", request_id="r"))
        entries = [json.loads(document) for document in reads.audit(connection, uid(who))]
        for number, entry in enumerate(entries):
            if number % 17 == 16:
                assert entry["after"] is None
            else:
                at = number if number % 5 else number / 2
                assert entry["after"]["display_name"] == f"N{number}"
                assert entry["after"]["details"] == {"note": str(at)}
        assert entries[1]["before"] == entries[0]["after"]
        connection.rollback()


@pytest.mark.parametrize("seed", range(3))
def test_a_page_of_a_long_past_is_that_of_a_short_one(
    database: Database, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of every kind, some late, some of one instant, snapshots, at last an undo; wherever the walk starts."""
    random = Random(seed)
    with database.connect() as connection:
        types = reference_types(connection)
        for number in range(40):
            if number % 4 == 3:
                end_by_snapshot(connection, random, tmp_path / f"{number}.csv")
            else:
                changes = [anything(random) for _ in range(random.randint(1, 3))]
                record(connection, types, changes, Origin("t", "request", request_id="r"))
        check_starts(connection, monkeypatch)
        of_long = "select batch_id from ledger where entity_uid = %s order by 1"
        ids = connection.execute(of_long, [uid("long")]).fetchall()
        undo_batch(connection, ids[len(ids) // 2][0], "undo", Who("t", "to see"))
        record(connection, types, [anything(random) for _ in range(3)], Origin("t", "request", request_id="r"))
        check_starts(connection, monkeypatch)
        connection.rollback()


def end_by_snapshot(connection: Connection, random: Random, path: Path) -> None:
    """Record a snapshot that does not list the entity; it ends it if it has the type then."""
    of = SnapshotOptions(random.choice(["PERSON", "PERSON,INSTITUTION"]), day(random.randint(0, 12)))
    drop = write_drop(path, [an_entity(path.name, at=(of.at - day(0)).days)])  # type: ignore[operator]
    assert ingest_on(connection, drop, Options(snapshot=of, snapshot_limit=1.0)).status == "merged"


def anything(random: Random) -> Change:
    at, (op,) = day(random.randint(0, 12)), random.choices(["upsert", "patch", "delete"], [4, 6, 1])
    if op == "delete":
        return Change(uid("long"), at, "delete")
    details = {code: random.choice([None, "a", "A", "b"]) for code in random.sample(["email", "phone", "note"], 2)}
    name, kind = random.choice(["A", "B"]), random.choice(["PERSON", "INSTITUTION"])
    if op == "upsert":
        return Change(uid("long"), at, "upsert", name, kind, details)
    return Change(uid("long"), at, "patch", random.choice([None, name]), random.choice([None, kind]), details)


def check_starts(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare pages for which the walk starts as late as it can with the list that is walked from the beginning."""
    whole = history.audit_page(connection, uid("long"), limit=1_000).documents
    assert len(whole) > 20
    monkeypatch.setattr(audit_walk, "LONG", 0)
    for limit in (1, 4):
        for offset in range(len(whole)):
            page = history.audit_page(connection, uid("long"), offset=offset, limit=limit)
            assert page.documents == whole[offset : offset + limit]
    monkeypatch.undo()


def test_a_value_that_compares_equal_is_shown_as_it_was_first_asserted(database: Database) -> None:
    """As the versions show it: an e-mail address in other capitals is no change."""
    steps = [
        (1, "A@x.org", "A@x.org"),
        (3, "a@X.org", "A@x.org"),
        (2, "a@x.ORG", "A@x.org"),
        (4, "b@x.org", "b@x.org"),
        (4, "a@x.org", "A@x.org"),  # supersedes the one before, so that there are equal neighbours again
        (5, None, None),
        (6, "a@x.org", "a@x.org"),
        (0, "a@x.ORG", "a@x.ORG"),
    ]
    with database.connect() as connection:
        types, who = reference_types(connection), Origin("t", "request", request_id="r")
        record(connection, types, [an_entity("eve", at=-1)], who)
        for at, email, shown in steps:
            record(connection, types, [Change(uid("eve"), day(at), "patch", None, None, {"email": email})], who)
            entry = json.loads(reads.audit(connection, uid("eve"))[-1])
            assert entry["asserted"]["details"] == {"email": email}
            assert entry["after"]["details"].get("email") == shown
            document = json.loads(reads.snapshot(connection, uid("eve"), as_of=day(at)) or "")
            assert entry["after"]["details"] == {d["detail_type"]: d["detail_value"] for d in document["details"]}
        connection.rollback()


def test_the_count_as_known_is_that_of_the_list_as_known(connection: Connection) -> None:
    types = reference_types(connection)
    counts = []
    for entry in reversed(listed(connection)):
        for as_of in (day(0), day(2), day(5), day(8)):
            then = {"as_of": as_of, "known_at": moment(entry)}
            number = len(reads.entities(connection, types, limit=100, **then).documents)  # type: ignore[arg-type]
            assert reads.count_entities(connection, types, **then) == number  # type: ignore[arg-type]
            assert reads.count_entities(connection, types, at_most=2, **then) == min(2, number)  # type: ignore[arg-type]
            counts.append(number)
    assert counts[:4] == [0, 4, 4, 4], "the first drop alone"
    assert counts[-4:] == [0, 4, 5, 4], "all, and one has ended"


def test_instants_without_entries_have_none(connection: Connection) -> None:
    far = datetime(1990, 1, 1, tzinfo=UTC)
    assert listed(connection, Recorded(to=far)) == []
    assert audit.documents(connection, []) == []


def test_a_file_name_alone_names_its_drop(connection: Connection, tmp_path: Path) -> None:
    assert listed(connection, Recorded(drop=str(tmp_path / "first.csv"))) == []
    assert len(listed(connection, Recorded(drop="first.csv"))) == 4
