"""Snapshots: what is not in the file ends, whenever it is learnt; a guard holds a file that would end too much."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import a_request, an_entity, as_row, day, reference_data, uid, write_drop
from desk import ANY, Desk

from crm_core.drops import registry
from crm_core.drops.held import approve, decline
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_drop
from crm_core.errors import DecisionRefused, SnapshotRefused, UnknownDrop
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.audit import Recorded, audit_of_all, count_audit_of_all
from crm_core.reading.feed import feed
from crm_core.reading.keys import SourceKey
from crm_core.reference import reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.links import link
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.temporal, pytest.mark.idempotency]

WHO = Who("steward", "so it is")


@pytest.fixture
def desk(any_connection: Connection, tmp_path: Path) -> Desk:
    reference_data(any_connection)
    return Desk(any_connection, tmp_path)


@pytest.fixture(autouse=True)
def sound(request: pytest.FixtureRequest) -> object:
    """Every test leaves a sound database behind."""
    desk = request.getfixturevalue("desk")
    yield
    assert [(c.name, c.examples) for c in check(desk.connection) if not c.holds] == []


def test_what_a_snapshot_does_not_list_ends_with_its_details(desk: Desk) -> None:
    desk.take("all", an_entity(at=1, email="ada@x.org"), an_entity("bob", at=1), an_entity("firm", type_="INSTITUTION"))
    report = desk.snapshot("today", 5, an_entity("bob", at=5))
    assert (report.status, report.entities_ended, report.rows_unchanged) == ("merged", 1, 1)
    assert report.unlisted is not None
    assert [each.entity_uid for each in report.unlisted.first] == [str(uid("ada"))]
    assert (report.unlisted.would_end, report.unlisted.in_scope) == (1, 2)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.details() == [("ada@x.org", "2024-01-02", "2024-01-06")]
    assert desk.lives("bob") == [("2024-01-02", None)]
    assert desk.lives("firm") == [("2024-01-02", None)]


def test_a_row_that_comes_later_and_is_not_in_the_snapshot_ends_there(desk: Desk) -> None:
    desk.take("a", an_entity(at=1))
    desk.snapshot("s", 5, an_entity(at=5))
    desk.take("late", an_entity("bob", at=3, email="b@x.org"))
    assert desk.lives("bob") == [("2024-01-04", "2024-01-06")]
    assert desk.details("bob") == [("b@x.org", "2024-01-04", "2024-01-06")]
    desk.take("later", an_entity("bob", at=7))
    assert desk.lives("bob") == [("2024-01-04", "2024-01-06"), ("2024-01-08", None)]
    assert desk.details("bob") == [("b@x.org", "2024-01-04", "2024-01-06")]


def test_so_does_what_a_request_creates_before_it(desk: Desk) -> None:
    desk.snapshot("s", 5, an_entity(at=5))
    types = reference_types(desk.connection)
    apply_change(desk.connection, types, a_request(an_entity("bob", at=3)), now=datetime.now(UTC), time_zone=UTC)
    assert desk.lives("bob") == [("2024-01-04", "2024-01-06")]
    apply_change(
        desk.connection, types, a_request(an_entity("bob", at=6), is_dated=False), now=datetime.now(UTC), time_zone=UTC
    )
    assert [end for _, end in desk.lives("bob")] == ["2024-01-06", None]


def test_the_type_counts_that_an_entity_has_just_before(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity(at=5, type_="INSTITUTION"), an_entity("bob", at=1))
    desk.take("b", an_entity("bob", at=3, type_="INSTITUTION"))
    desk.snapshot("s", 5, an_entity("cleo", at=5))
    assert desk.lives() == [("2024-01-02", "2024-01-06"), ("2024-01-06", None)]  # it ended, and began again at once
    assert desk.lives("bob") == [("2024-01-02", "2024-01-04"), ("2024-01-04", None)]


def test_what_is_stated_at_its_instant_comes_after_it(desk: Desk) -> None:
    desk.take("a", an_entity(at=1, email="a@x.org"))
    desk.take("b", an_entity(at=5, phone="1"))
    assert desk.snapshot("s", 5, an_entity("bob", at=5)).entities_ended == 1
    assert desk.lives() == [("2024-01-02", None)]  # nothing that an entity is compared by has changed
    assert desk.details() == [("a@x.org", "2024-01-02", "2024-01-06"), ("1", "2024-01-06", None)]


def test_late_snapshots_act_in_the_past_and_only_the_first_ends_a_life(desk: Desk) -> None:
    desk.take("a", an_entity(at=1))
    desk.snapshot("later", 7, an_entity("bob", at=7))
    assert desk.lives() == [("2024-01-02", "2024-01-08")]
    desk.snapshot("earlier", 4, an_entity("bob", at=4))
    assert desk.lives() == [("2024-01-02", "2024-01-05")]
    desk.snapshot("of everybody", 5, an_entity("bob", at=5), scope="institution, PERSON")
    assert desk.lives() == [("2024-01-02", "2024-01-05")]


def test_rows_without_an_instant_are_of_the_snapshots(desk: Desk) -> None:
    desk.snapshot("s", 5, as_row(an_entity()) | {"change_ts": ""})
    assert desk.lives() == [("2024-01-06", None)]


def test_without_an_instant_it_is_of_the_moment_when_it_was_first_seen(desk: Desk) -> None:
    desk.take("a", an_entity(at=1))
    before = datetime.now(UTC)
    report = desk.snapshot("s", None, an_entity("bob", at=2))
    seen = json.loads(registry.drop(desk.connection, report.sha256 or "") or "")
    assert before <= datetime.fromisoformat(seen["snapshot_at"]) <= datetime.now(UTC)
    (state,) = reads.history(desk.connection, uid("ada"))
    assert json.loads(state)["valid_to"] == seen["snapshot_at"]
    assert desk.snapshot("s", None, an_entity("bob", at=2)).status == "replayed"


def test_a_repeat_lists_its_entity(desk: Desk) -> None:
    desk.take("a", an_entity(at=1))
    report = desk.snapshot("s", 5, an_entity(at=1))
    assert (report.status, report.entities_ended, report.rows_changed) == ("merged", 0, 0)
    assert desk.lives() == [("2024-01-02", None)]
    assert desk.snapshot("t", 6, an_entity("bob", at=6)).entities_ended == 1
    assert desk.lives() == [("2024-01-02", "2024-01-07")]


def test_a_rejected_row_counts_as_present_if_its_entity_can_be_told(desk: Desk) -> None:
    nameless = as_row(an_entity("cleo", at=5)) | {"entity_uid": "", "display_name": "Cleo"}
    desk.take("a", an_entity(at=1), an_entity("bob", at=1), an_entity("dan", at=1), nameless | {"change_ts": ""})
    assert reads.count_entities(desk.connection, reference_types(desk.connection)) == 4
    bad = (as_row(an_entity(at=5)) | {"entity_type": "NOBODY"}, nameless | {"change_ts": "soon"})
    path = write_drop(desk.folder / "s.csv", bad)
    with path.open("a") as file:
        file.write(f"{str(uid('bob')).upper()},too,few\n")
    of = SnapshotOptions("PERSON", datetime.now(UTC))
    report = ingest_on(desk.connection, path, Options(snapshot=of, snapshot_limit=ANY))
    assert (report.rows_rejected, report.entities_ended) == (3, 1)
    assert desk.lives("dan")[-1][1] is not None
    assert reads.count_entities(desk.connection, reference_types(desk.connection)) == 3


def test_rejected_rows_are_validated_again_and_nothing_else_happens(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    desk.connection.execute("update entity_type set is_active = false where code = 'INSTITUTION'")
    rows = an_entity("bob", at=5), an_entity("firm", at=5, type_="INSTITUTION")
    assert desk.snapshot("s", 5, *rows).rows_rejected == 1
    desk.take("b", an_entity("late", at=3))
    desk.connection.execute("update entity_type set is_active = true")
    report = desk.snapshot("s", 5, *rows)
    assert (report.status, report.rows_rejected, report.entities_ended) == ("merged", 0, 0)
    assert desk.lives("firm") == [("2024-01-06", None)]
    assert desk.lives("late") == [("2024-01-04", "2024-01-06")]
    assert json.loads(registry.drop(desk.connection, report.sha256 or "") or "")["entities_ended"] == 1


def test_the_same_file_is_another_drop_with_another_mode_scope_or_instant(desk: Desk) -> None:
    rows = (an_entity(at=1), an_entity("firm", at=1, type_="INSTITUTION"))
    reports = [
        desk.take("a", *rows),
        desk.snapshot("a", 5, *rows, scope="PERSON,INSTITUTION"),
        desk.snapshot("a", 5, *rows, scope="institution, person"),
        desk.snapshot("a", 5, *rows),
        desk.snapshot("a", 6, *rows),
        desk.take("a", *rows),
    ]
    assert [report.status for report in reports] == ["merged", "merged", "replayed", "merged", "merged", "replayed"]
    assert len({report.sha256 for report in reports}) == 4


def test_undo_takes_the_ends_back_and_reinstating_makes_them_again(desk: Desk) -> None:
    desk.take("a", an_entity(at=1, email="a@x.org"))
    report = desk.snapshot("s", 5, an_entity("bob", at=5))
    desk.take("late", an_entity("cleo", at=3))
    done = undo_drop(desk.connection, report.sha256 or "", "undo", WHO)
    assert (done.entities, done.entity_versions_removed) == (3, 1)
    assert desk.lives() == [("2024-01-02", None)]
    assert desk.details() == [("a@x.org", "2024-01-02", None)]
    assert desk.lives("cleo") == [("2024-01-04", None)]
    assert desk.lives("bob") == []
    undo_drop(desk.connection, report.sha256 or "", "reinstate", WHO)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.lives("cleo") == [("2024-01-04", "2024-01-06")]
    undo_drop(desk.connection, report.sha256 or "", "undo", WHO)
    assert desk.snapshot("s", 5, an_entity("bob", at=5)).entities_ended == 2


def test_the_feed_and_the_audit_tell_of_what_no_row_names(desk: Desk) -> None:
    desk.take("a", an_entity(at=1, email="a@x.org"), an_entity("bob", at=1))
    report = desk.snapshot("s", 5, an_entity("bob", at=6))
    undo_drop(desk.connection, report.sha256 or "", "undo", WHO)
    events = [json.loads(event) for event in feed(desk.connection, None, limit=50).documents]
    assert [(e["op"], e["since"][:10]) for e in events if e["entity_uid"] == str(uid("ada"))] == [
        ("upsert", "2024-01-02"),
        ("snapshot", "2024-01-06"),
        ("undo", "2024-01-06"),
    ]
    _, ended, undone = map(json.loads, reads.audit(desk.connection, uid("ada")))
    assert (ended["op"], ended["change_ts"][:10], ended["actor"]) == ("snapshot", "2024-01-06", "sender")
    assert ended["source"] == {"kind": "drop", "sha256": report.sha256, "file_name": "s.csv", "line": None}
    state = {"display_name": "Ada Lovelace", "entity_type": "PERSON", "details": {"email": "a@x.org"}}
    assert (ended["before"], ended["after"]) == (state, None)
    assert (undone["op"], undone["before"], undone["after"], undone["reason"]) == ("undo", None, state, "so it is")
    for which in (Recorded(op="snapshot"), Recorded(entity_uid=uid("ada"), op="snapshot")):
        (entry,) = audit_of_all(desk.connection, which).documents
        assert json.loads(entry)["entity_uid"] == str(uid("ada"))
        assert count_audit_of_all(desk.connection, which) == 1
    assert count_audit_of_all(desk.connection) == len(audit_of_all(desk.connection).documents) == 6


def test_a_transition_names_the_snapshot_that_ended_an_entity(desk: Desk) -> None:
    desk.take("a", an_entity(at=1))
    report = desk.snapshot("s", 5, an_entity("bob", at=6))
    (document,) = reads.transitions(desk.connection, day(4), day(5)).documents
    transition = json.loads(document)
    assert (transition["action"], transition["actor"], transition["source"]["sha256"]) == (
        "ended",
        "sender",
        report.sha256,
    )


def test_it_is_held_if_it_would_end_too_much_and_nothing_goes_in(desk: Desk) -> None:
    desk.take("a", *(an_entity(f"p{n}", at=1, name=f"P {n}") for n in range(10)))
    rows = [an_entity(f"p{n}", at=5) for n in range(8)]
    report = desk.snapshot("s", 5, *rows, an_entity("new", at=5), limit=0.1)
    assert (report.status, report.rows_read, report.rows_changed, report.entities_ended) == ("held", 9, 0, 0)
    assert "2 of 10 entities would end (P 8, P 9), which is more than 10 %" in (report.error or "")
    assert desk.lives("p9") == [("2024-01-02", None)]
    assert desk.lives("new") == []
    (kept,) = registry.drops(desk.connection, limit=1).documents
    assert (json.loads(kept)["status"], json.loads(kept)["mode"], json.loads(kept)["scope"]) == (
        "held",
        "snapshot",
        "PERSON",
    )
    held = json.loads(kept)["held"]
    assert (held["would_end"], held["in_scope"], held["sent_by"], held["decision"]) == (2, 10, "sender", None)
    assert held["first"] == [{"entity_uid": str(uid(f"p{n}")), "display_name": f"P {n}"} for n in (8, 9)]
    assert desk.snapshot("t", 5, *rows, limit=0.2).status == "merged"


def test_it_goes_in_as_it_was_sent_when_it_is_approved(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    held = desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1)
    (desk.folder / "s.csv").unlink()
    report = approve(desk.connection, held.sha256 or "", WHO)
    assert (report.status, report.sha256, report.file, report.entities_ended) == ("merged", held.sha256, "s.csv", 1)
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    kept = json.loads(registry.drop(desk.connection, held.sha256 or "") or "")
    assert (kept["status"], kept["error"], kept["entities_ended"]) == ("merged", None, 1)
    assert (kept["held"]["decision"], kept["held"]["decided_by"], kept["held"]["reason"]) == (
        "approved",
        "steward",
        "so it is",
    )
    assert desk.connection.execute("select count(*) from held_part").fetchone() == (0,)
    with pytest.raises(DecisionRefused, match="merged"):
        approve(desk.connection, held.sha256 or "", WHO)
    assert desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1).status == "replayed"


def test_declining_is_remembered_and_can_be_taken_back(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    held = desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1)
    decline(desk.connection, held.sha256 or "", WHO)
    again = desk.snapshot("s", 5, an_entity("bob", at=6), limit=ANY)
    assert (again.status, again.sha256) == ("declined", held.sha256)
    assert "declined by steward" in (again.error or "")
    assert "so it is" in (again.error or "")
    assert desk.lives() == [("2024-01-02", None)]
    with pytest.raises(DecisionRefused, match="declined"):
        decline(desk.connection, held.sha256 or "", WHO)
    assert approve(desk.connection, held.sha256 or "", WHO).status == "merged"
    assert desk.lives() == [("2024-01-02", "2024-01-06")]


def test_a_held_drop_that_ends_less_now_goes_in_when_it_comes_again(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    assert desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1).status == "held"
    desk.take("b", an_entity(at=2, op="delete"))
    report = desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1)
    assert (report.status, report.entities_ended) == ("merged", 0)


def test_an_undone_snapshot_that_comes_again_is_held_again(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    sha256 = desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1).sha256 or ""
    approve(desk.connection, sha256, WHO)
    undo_drop(desk.connection, sha256, "undo", WHO)
    assert desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1).status == "held"
    assert desk.lives() == [("2024-01-02", None)]
    kept = json.loads(registry.drop(desk.connection, sha256) or "")
    numbers = ("rows_changed", "rows_unchanged", "entities_ended", "entity_versions_added", "seconds")
    assert [kept[number] for number in numbers] == [0, 1, 0, 0, 0], "nothing of what it did before it was undone"
    assert approve(desk.connection, sha256, WHO).entities_ended == 1
    undo_drop(desk.connection, sha256, "undo", WHO)
    assert desk.lives() == [("2024-01-02", None)]


@pytest.mark.parametrize("content", ["", "display_name,entity_type,details\n"], ids=["nothing", "a header"])
def test_an_empty_file_is_held_and_ends_all_when_it_is_approved(desk: Desk, content: str) -> None:
    desk.take("a", an_entity(at=1), an_entity("firm", at=1, type_="INSTITUTION"))
    path = desk.folder / "empty.csv"
    path.write_text(content)
    held = ingest_on(desk.connection, path, Options(snapshot=SnapshotOptions("PERSON", day(5)), snapshot_limit=ANY))
    assert held.status == "held"
    assert "the file has no rows, and 1 of 1 entities would end (Ada Lovelace)" in (held.error or "")
    assert approve(desk.connection, held.sha256 or "", WHO).entities_ended == 1
    assert desk.lives() == [("2024-01-02", "2024-01-06")]
    assert desk.lives("firm") == [("2024-01-02", None)]


def test_a_dry_run_says_what_would_end_and_changes_nothing(desk: Desk) -> None:
    desk.take("a", an_entity(at=1), an_entity("bob", at=1))
    report = desk.snapshot("s", 5, an_entity("bob", at=6), limit=0.1, dry_run=True)
    assert (report.status, report.entities_ended) == ("merged", 1)
    assert any("it would be held: 1 of 2 entities would end" in note for note in report.notes)
    assert desk.lives() == [("2024-01-02", None)]
    assert registry.drop(desk.connection, report.sha256 or "") is None


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("", "needs a scope.*INSTITUTION, PERSON"),
        ("PERSON,NOBODY", "'NOBODY' in the scope.*INSTITUTION, PERSON"),
        ("source=erp", "'erp' in the scope is not a source; choose from: none is loaded"),
        ("source=erp,PERSON", "names a source and more; name one source alone, or entity types"),
    ],
)
def test_a_scope_that_is_none_is_refused_with_the_choice(desk: Desk, scope: str, said: str) -> None:
    with pytest.raises(SnapshotRefused, match=said):
        desk.snapshot("s", 5, an_entity(), scope=scope)
    assert registry.count_drops(desk.connection) == 0


def test_a_snapshot_of_the_future_is_refused(desk: Desk) -> None:
    of = SnapshotOptions("PERSON", datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(SnapshotRefused, match="future"):
        desk.take("s", an_entity(), options=Options(snapshot=of))


def test_only_what_is_held_can_be_decided(desk: Desk) -> None:
    report = desk.take("a", an_entity())
    with pytest.raises(DecisionRefused, match="merged"):
        decline(desk.connection, report.sha256 or "", WHO)
    for decide in (approve, decline):
        with pytest.raises(UnknownDrop):
            decide(desk.connection, "0" * 64, WHO)


def test_what_a_row_names_by_a_linked_key_is_listed(desk: Desk) -> None:
    desk.connection.execute("insert into source (code, name) values ('erp', 'ERP')")
    desk.take("a", an_entity(at=1), an_entity("bob", at=1), an_entity("cleo", at=1))
    (erp,) = reference_types(desk.connection).sources
    for who, key in (("ada", "1"), ("bob", "2")):
        link(desk.connection, SourceKey(erp, key), uid(who), WHO)
    path = desk.folder / "s.csv"
    path.write_text(
        "source,source_key,display_name,entity_type,details,change_ts\n"
        "erp,1,Ada Lovelace,PERSON,,2030-01-01\n"  # in the future, so it is rejected
        "erp,2,Bob,PERSON,,2024-01-06\n"
    )
    of = SnapshotOptions("PERSON", datetime.now(UTC))
    report = ingest_on(desk.connection, path, Options(snapshot=of, snapshot_limit=ANY))
    assert (report.rows_accepted, report.rows_rejected, report.entities_ended) == (1, 1, 1)
    assert [desk.lives(who)[-1][1] is None for who in ("ada", "bob", "cleo")] == [True, True, False]
