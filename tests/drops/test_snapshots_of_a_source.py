"""Snapshots whose scope is a source: what a row of it names before ends, by whatever row, and whenever that comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import a_request, an_entity, as_row, day, reference_data, uid
from desk import ANY, Desk

from crm_core.drops import registry
from crm_core.drops.held import approve
from crm_core.drops.ingest import Options
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.errors import SnapshotRefused
from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.feed import feed
from crm_core.reading.keys import SourceKey
from crm_core.reference import put_source, reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.links import link
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.temporal, pytest.mark.idempotency]

WHO = Who("steward", "so it is")
ERP = "source=erp"


@pytest.fixture
def desk(any_connection: Connection, tmp_path: Path) -> Desk:
    reference_data(any_connection)
    for source in ("erp", "shop"):
        put_source(any_connection, code=source, name=source)
    return Desk(any_connection, tmp_path)


@pytest.fixture(autouse=True)
def sound(request: pytest.FixtureRequest) -> object:
    """Every test leaves a sound database behind."""
    desk = request.getfixturevalue("desk")
    yield
    assert [(c.name, c.examples) for c in check(desk.connection) if not c.holds] == []


def by(source: str, change: Change, key: str | None = None) -> dict[str, str]:
    """A row of a source; its key is the uid of its entity, if no other is given."""
    return as_row(change) | {"source": source, "source_key": key or str(change.entity_uid)}


def the_key(desk: Desk, source: str, key: str) -> SourceKey:
    (found,) = [each for each in reference_types(desk.connection).sources if each.code == source]
    return SourceKey(found, key)


def put(desk: Desk, change: Change, key: SourceKey | None = None) -> None:
    types = reference_types(desk.connection)
    apply_change(desk.connection, types, a_request(change, named_by=key), now=datetime.now(UTC), time_zone=UTC)


def events(desk: Desk, who: str = "ada") -> list[tuple[str, str]]:
    """What the feed told of an entity: op and since."""
    told = [json.loads(event) for event in feed(desk.connection, None, limit=50).documents]
    return [(event["op"], event["since"][:10]) for event in told if event["entity_uid"] == str(uid(who))]


def retract(desk: Desk, kind: str, report: MergeReport) -> None:
    undo_drop(desk.connection, report.sha256 or "", "undo" if kind == "undo" else "reinstate", WHO)


def test_what_the_source_names_before_and_its_snapshot_does_not_list_ends(desk: Desk) -> None:
    desk.take("erp", by("erp", an_entity(at=1)), by("erp", an_entity("bob", at=1, type_="INSTITUTION")))
    desk.take("others", by("shop", an_entity("cleo", at=1)), an_entity("dan", at=1))
    report = desk.snapshot("s", 5, by("erp", an_entity("bob", at=5, type_="INSTITUTION")), scope="SOURCE = Erp")
    assert (report.status, report.entities_ended, report.rows_changed) == ("merged", 1, 0)
    assert report.unlisted is not None
    assert (report.unlisted.would_end, report.unlisted.in_scope) == (1, 2)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert [desk.lives(who) for who in ("bob", "cleo", "dan")] == [[("2024-01-02", None)]] * 3
    kept = json.loads(registry.drop(desk.connection, report.sha256 or "") or "")
    assert (kept["mode"], kept["scope"], kept["entities_ended"]) == ("snapshot", ERP, 1)
    (transition,) = map(json.loads, reads.transitions(desk.connection, day(4), day(5)).documents)
    assert (transition["action"], transition["source"]["sha256"]) == ("ended", report.sha256)


def test_a_row_of_its_instant_or_later_names_nobody_for_it(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1)), by("erp", an_entity(at=5, name="A.")))
    assert desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP).entities_ended == 0
    assert desk.lives() == [("2024-01-02", "2024-01-06"), ("2024-01-06", None)]
    assert desk.details() == []


def test_a_row_that_comes_later_and_is_dated_before_brings_its_entity_into_the_scope(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1, email="a@x.org")))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    assert desk.lives() == [("2024-01-02", None)]
    assert desk.take("late", by("erp", an_entity(at=3, email="b@x.org"))).rows_changed == 1
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.details() == [("a@x.org", "2024-01-02", "2024-01-04"), ("b@x.org", "2024-01-04", "2024-01-06")]


def test_so_does_a_row_that_repeats_what_another_source_said(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1, email="a@x.org")))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    known_at = datetime.now(UTC)
    report = desk.take("again", by("erp", an_entity(at=1, email="a@x.org")))
    assert (report.rows_changed, report.rows_unchanged, report.entities_ended) == (0, 1, 1)
    assert any("1 entity ended, for by this file" in note for note in report.notes)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.details() == [("a@x.org", "2024-01-02", "2024-01-06")]
    assert json.loads(reads.snapshot(desk.connection, uid("ada"), as_of=day(7), known_at=known_at) or "")["is_current"]
    assert reads.snapshot(desk.connection, uid("ada"), as_of=day(7), known_at=datetime.now(UTC)) is None
    assert desk.take("third", by("shop", an_entity(at=1, email="a@x.org"), "7")).entities_ended == 0


def test_undo_and_reinstatement_of_that_repeat_take_it_out_of_the_scope_and_back(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1)))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    report = desk.take("again", by("erp", an_entity(at=1)))
    retract(desk, "undo", report)
    assert desk.lives() == [("2024-01-02", None)]
    retract(desk, "reinstate", report)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert events(desk) == [
        ("upsert", "2024-01-02"),
        ("snapshot", "2024-01-06"),
        ("undo", "2024-01-06"),
        ("reinstate", "2024-01-06"),
    ]
    entries = [json.loads(entry) for entry in reads.audit(desk.connection, uid("ada"))][1:]
    state = {"display_name": "Ada Lovelace", "entity_type": "PERSON", "details": {}}
    assert [(entry["op"], entry["change_ts"][:10], entry["before"], entry["after"]) for entry in entries] == [
        ("snapshot", "2024-01-06", state, None),
        ("undo", "2024-01-06", None, state),
        ("reinstate", "2024-01-06", state, None),
    ]
    assert (entries[0]["source"]["sha256"], entries[0]["source"]["line"]) == (report.sha256, None)


def test_a_repeat_names_its_entity_too_when_it_stands_in_the_place_of_another_row(desk: Desk) -> None:
    first = desk.take("a", by("shop", an_entity(at=1)))
    again = desk.take("again", by("erp", an_entity(at=1)))
    retract(desk, "undo", first)
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    retract(desk, "reinstate", first)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    retract(desk, "undo", again)
    assert desk.lives() == [("2024-01-02", None)]
    assert events(desk)[-1] == ("undo", "2024-01-02")


def test_the_feed_tells_since_when_an_entity_differs_that_is_repeated_and_stated_later(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1)))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    report = desk.take("more", by("erp", an_entity(at=1)), by("erp", an_entity(at=7)))
    assert (report.rows_changed, report.entities_ended) == (1, 1)
    assert desk.lives() == [("2024-01-02", "2024-01-06"), ("2024-01-08", None)]
    assert events(desk) == [("upsert", "2024-01-02"), ("upsert", "2024-01-06")]


def test_each_source_that_says_the_same_in_one_file_names_the_entity(desk: Desk) -> None:
    desk.take("both", by("shop", an_entity(at=1)), by("erp", an_entity(at=1)))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    desk.snapshot("t", 4, by("shop", an_entity("bob", at=4)), scope="source=shop")
    assert desk.lives() == [("2024-01-02", "2024-01-05")]


def test_a_request_by_a_key_of_the_source_names_its_entity(desk: Desk) -> None:
    key = the_key(desk, "erp", "4711")
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    put(desk, an_entity(at=1))
    link(desk.connection, key, uid("ada"), WHO)
    assert desk.lives() == [("2024-01-02", None)]
    put(desk, an_entity(at=3, name="Ada L."), key)
    assert desk.lives() == [("2024-01-02", "2024-01-04"), ("2024-01-04", "2024-01-06")]
    ((batch,),) = desk.connection.execute("select max(batch_id) from ledger where source_id is not null").fetchall()
    undo_batch(desk.connection, batch, "undo", WHO)
    assert desk.lives() == [("2024-01-02", None)]


def test_a_link_moves_no_entity_into_the_scope_or_out_of_it(desk: Desk) -> None:
    desk.take("a", by("erp", an_entity(at=1), "1"), an_entity("bob", at=1))
    link(desk.connection, the_key(desk, "erp", "1"), uid("bob"), WHO)
    desk.snapshot("s", 5, by("erp", an_entity("cleo", at=5)), scope=ERP)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.lives("bob") == [("2024-01-02", None)]
    desk.take("late", as_row(an_entity(at=3)) | {"entity_uid": "", "source": "erp", "source_key": "1"})
    assert desk.lives("bob")[-1][1] == "2024-01-06"


def test_a_partial_change_or_a_deletion_names_its_entity_as_well(desk: Desk) -> None:
    desk.take("a", an_entity(at=2))
    desk.take("b", by("erp", Change(uid("ada"), day(1), "delete")))
    assert desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP).entities_ended == 1
    assert desk.lives() == [("2024-01-03", "2024-01-06")]


def test_a_snapshot_of_a_source_in_the_past_and_its_undo(desk: Desk) -> None:
    desk.take("a", by("erp", an_entity(at=1)), by("erp", an_entity(at=7)), by("shop", an_entity("bob", at=1)))
    report = desk.snapshot("s", 4, by("erp", an_entity("cleo", at=4)), scope=ERP)
    assert desk.lives() == [("2024-01-02", "2024-01-05"), ("2024-01-08", None)]
    retract(desk, "undo", report)
    assert desk.lives() == [("2024-01-02", None)]
    retract(desk, "reinstate", report)
    assert desk.lives() == [("2024-01-02", "2024-01-05"), ("2024-01-08", None)]
    assert desk.lives("bob") == [("2024-01-02", None)]


def test_a_row_of_an_undone_drop_names_nobody(desk: Desk) -> None:
    desk.take("a", by("shop", an_entity(at=1)))
    late = desk.take("late", by("erp", an_entity(at=2, phone="1")))
    desk.snapshot("s", 5, by("erp", an_entity("bob", at=5)), scope=ERP)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    retract(desk, "undo", late)
    assert desk.lives() == [("2024-01-02", None)]
    retract(desk, "reinstate", late)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]


def test_it_is_held_if_it_would_end_too_much_of_what_the_source_names(desk: Desk) -> None:
    desk.take("a", *(by("erp", an_entity(f"p{n}", at=1, name=f"P {n}")) for n in range(10)))
    desk.take("b", *(by("shop", an_entity(f"q{n}", at=1)) for n in range(90)))
    rows = [by("erp", an_entity(f"p{n}", at=5)) for n in range(8)]
    report = desk.snapshot("s", 5, *rows, scope=ERP, limit=0.1)
    assert report.status == "held"
    assert "2 of 10 entities would end (P 8, P 9), which is more than 10 %" in (report.error or "")
    assert (approve(desk.connection, report.sha256 or "", WHO).entities_ended, desk.lives("q1")) == (
        2,
        [("2024-01-02", None)],
    )
    assert desk.snapshot("s", 5, *rows, scope="source=ERP", limit=0.1).status == "replayed"
    assert desk.snapshot("s", 5, *rows, scope="source=shop", limit=0.1).status == "held"


def test_a_rejected_row_lists_its_entity(desk: Desk) -> None:
    desk.take("a", by("erp", an_entity(at=1)), by("erp", an_entity("bob", at=1)))
    bad = by("erp", an_entity(at=5)) | {"entity_type": "NOBODY"}
    report = desk.snapshot("s", 5, bad, scope=ERP)
    assert (report.rows_rejected, report.entities_ended) == (1, 1)
    assert desk.lives() == [("2024-01-02", None)]


def test_a_dry_run_counts_and_changes_nothing(desk: Desk) -> None:
    desk.take("a", by("erp", an_entity(at=1)), by("shop", an_entity("bob", at=1)))
    report = desk.snapshot("s", 5, by("erp", an_entity("cleo", at=5)), scope=ERP, limit=0.1, dry_run=True)
    assert (report.status, report.entities_ended) == ("merged", 1)
    assert any("it would be held: 1 of 1 entities would end" in note for note in report.notes)
    assert desk.lives() == [("2024-01-02", None)]


def test_an_unknown_source_is_refused_with_the_choice(desk: Desk) -> None:
    of = SnapshotOptions("source=crm", day(5))
    with pytest.raises(SnapshotRefused, match="'crm' in the scope is not a source; choose from: erp, shop"):
        desk.take("s", an_entity(), options=Options(snapshot=of, snapshot_limit=ANY))
