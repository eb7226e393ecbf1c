"""Undo and reinstate: as if a batch had not come, whatever came before or after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import an_entity, day, reference_data, uid, write_drop

from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.errors import UndoRefused, UnknownBatch, UnknownDrop
from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.audit import Recorded, audit_of_all, count_audit_of_all
from crm_core.reference import reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.undo import Kind, Retraction, Who

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.temporal, pytest.mark.idempotency]

WHO = Who("steward", "the wrong file")
ADA = uid("ada")


@pytest.fixture
def crm(any_connection: Connection) -> Connection:
    reference_data(any_connection)
    return any_connection


class Drops:
    """Drops that are taken in, undone and reinstated by name."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.folder = connection, folder

    def take(self, name: str, *changes: Change) -> MergeReport:
        report = ingest_on(self.connection, write_drop(self.folder / f"{name}.csv", changes), Options())
        assert report.status in ("merged", "replayed"), report
        return report

    def undo(self, report: MergeReport, kind: Kind = "undo", *, dry_run: bool = False) -> Retraction:
        assert report.sha256 is not None
        done = undo_drop(self.connection, report.sha256, kind, WHO, dry_run=dry_run)
        assert [(c.name, c.examples) for c in check(self.connection) if not c.holds] == []
        return done

    def ask(self, change: Change) -> int:
        """Make a change by request; return its batch."""
        origin = Origin("steward", "request", request_id="r")
        return record(self.connection, reference_types(self.connection), [change], origin).batch_id


@pytest.fixture
def drops(crm: Connection, tmp_path: Path) -> Drops:
    return Drops(crm, tmp_path)


def names(connection: Connection, who: str = "ada") -> list[tuple[str, str, str | None]]:
    documents = [json.loads(document) for document in reads.history(connection, uid(who))]
    return [
        (d["display_name"], d["valid_from"][:10], d["valid_to"] and d["valid_to"][:10])
        for d in documents
        if d["kind"] == "entity"
    ]


def everything(connection: Connection) -> Sequence[tuple[object, ...]]:
    """All versions, but for when they were written."""
    return connection.execute(
        "select entity_uid, display_name, entity_type_id, valid_from, valid_to from entity"
        " union all select entity_uid, detail_value, detail_type_id, valid_from, valid_to from entity_detail"
        " order by 1, 4, 3, 2"
    ).fetchall()


def acting(connection: Connection) -> Sequence[tuple[object, ...]]:
    return connection.execute(
        "select entity_uid, change_ts, batch_id, row_no from ledger where acts order by 1, 2, 3, 4"
    ).fetchall()


def test_what_came_between_is_gone_and_what_came_after_stays(drops: Drops) -> None:
    drops.take("a", an_entity(at=1, name="A", email="a@x.org"))
    wrong = drops.take("b", an_entity(at=2, name="B", email="b@x.org"), an_entity("bob", at=2))
    drops.take("c", an_entity(at=3, name="C"))
    assert names(drops.connection) == [
        ("A", "2024-01-02", "2024-01-03"),
        ("B", "2024-01-03", "2024-01-04"),
        ("C", "2024-01-04", None),
    ]
    done = drops.undo(wrong)
    assert names(drops.connection) == [("A", "2024-01-02", "2024-01-04"), ("C", "2024-01-04", None)]
    assert names(drops.connection, "bob") == []
    assert json.loads(reads.snapshot(drops.connection, ADA) or "")["details"][0]["detail_value"] == "a@x.org"
    assert (done.kind, done.changes, done.repeats, done.entities) == ("undo", 2, 0, 2)
    assert (done.entity_versions_added, done.entity_versions_removed) == (0, 2)
    assert (done.detail_versions_added, done.detail_versions_removed) == (0, 1)
    assert ("display_name", "2024-01-03T00:00:00Z", "B", "A") in [
        (d.field, d.at, d.before, d.after) for d in done.differences
    ]


def test_a_deletion_is_undone_like_anything_else(drops: Drops) -> None:
    drops.take("a", an_entity(at=1, name="A"))
    wrong = drops.take("b", an_entity(at=2, op="delete"))
    drops.take("c", an_entity(at=3, name="A"))
    drops.undo(wrong)
    assert names(drops.connection) == [("A", "2024-01-02", None)]


def test_undo_and_reinstate_is_the_identity_and_the_ledger_keeps_all(drops: Drops) -> None:
    first = drops.take("a", an_entity(at=1, name="A"), an_entity("bob", at=1, email="b@x.org"))
    drops.take("b", an_entity(at=1, name="A"), an_entity(at=2, name="B"))
    batch = drops.ask(an_entity(at=3, name=None, type_=None, op="patch", email="x@x.org"))
    before, acted = everything(drops.connection), acting(drops.connection)
    (recorded,) = drops.connection.execute("select count(*) from ledger").fetchone() or ()
    for _ in range(2):
        drops.undo(first)
        assert everything(drops.connection) != before
        undo_batch(drops.connection, batch, "undo", WHO)
        undo_batch(drops.connection, batch, "reinstate", WHO)
        drops.undo(first, "reinstate")
        assert everything(drops.connection) == before
        assert acting(drops.connection) == acted
    assert drops.connection.execute("select count(*) from ledger where promoted_by is null").fetchone() == (recorded,)


def test_undo_of_everything_leaves_empty_tables_and_a_full_ledger(drops: Drops) -> None:
    reports = [drops.take(f"{n}", an_entity(at=n, name=f"{n}"), an_entity("bob", at=1)) for n in range(4)]
    for report in reports:
        drops.undo(report)
    assert everything(drops.connection) == []
    assert acting(drops.connection) == []
    assert drops.connection.execute("select count(*) from ledger where promoted_by is null").fetchone() == (5,)


def test_what_another_drop_said_as_well_stays(drops: Drops) -> None:
    first = drops.take("a", an_entity(at=1, name="A"))
    second = drops.take("b", an_entity(at=1, name="A"), an_entity("bob", at=1))
    assert second.rows_unchanged == 1
    done = drops.undo(first)
    assert (done.changes, done.repeats, done.entities) == (1, 1, 0)
    assert names(drops.connection) == [("A", "2024-01-02", None)]
    drops.undo(second)
    assert names(drops.connection) == []
    drops.undo(second, "reinstate")
    assert names(drops.connection) == [("A", "2024-01-02", None)]


def test_a_repeat_stands_where_it_was_recorded(drops: Drops) -> None:
    """A steward's correction came after the repeat, so it stands; one that came before it does not."""
    first = drops.take("a", an_entity(at=1, name="A"), an_entity("bob", at=1, name="A"))
    drops.ask(an_entity("bob", at=1, name="Corrected before"))
    drops.take("b", an_entity(at=1, name="A"), an_entity("bob", at=1, name="A"), an_entity("eve", at=1))
    drops.ask(an_entity(at=1, name="Corrected"))
    assert [name for name, *_ in names(drops.connection, "bob")] == ["Corrected before"]
    drops.undo(first)
    assert [name for name, *_ in names(drops.connection)] == ["Corrected"]
    assert [name for name, *_ in names(drops.connection, "bob")] == ["A"], "as if the first drop had not come"
    drops.undo(first, "reinstate")
    assert [name for name, *_ in names(drops.connection, "bob")] == ["Corrected before"]


def test_repeats_of_what_is_superseded_are_counted_and_named_with_the_cure(drops: Drops) -> None:
    drops.take("a", an_entity(at=1, name="A"), an_entity("bob", at=1), an_entity("eve", at=1))
    drops.ask(an_entity(at=1, name="Corrected"))
    drops.ask(an_entity("bob", at=2, name="Later"))
    drops.ask(an_entity("eve", at=1, name="Corrected"))
    drops.ask(an_entity("eve", at=2, name="Later"))
    nightly = drops.take("b", an_entity("bob", at=1), an_entity(at=1, name="A"), an_entity("eve", at=1))
    assert nightly.notes == (
        "repeats of what is superseded since: 2 rows (lines 3, 4); they change nothing: undo what superseded them, or"
        " date them later",
    )
    assert [name for name, *_ in names(drops.connection)] == ["Corrected"]
    assert drops.take("c", an_entity("bob", at=1)).notes == ()


def test_the_same_bytes_go_in_again_after_an_undo(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"))
    drops.undo(report)
    again = drops.take("a", an_entity(at=1, name="A"))
    assert (again.status, again.sha256, again.rows_changed) == ("merged", report.sha256, 1)
    assert names(drops.connection) == [("A", "2024-01-02", None)]
    with pytest.raises(UndoRefused, match="not undone"):
        drops.undo(report, "reinstate")
    drops.undo(report)
    assert names(drops.connection) == []


def test_a_read_as_known_before_answers_as_before(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"))

    def known(at: object) -> list[str]:
        page = reads.entities(drops.connection, reference_types(drops.connection), as_of=day(5), known_at=at)  # type: ignore[arg-type]
        return [json.loads(document)["display_name"] for document in page.documents]

    moments = []
    for step in (
        lambda: None,
        lambda: drops.undo(report),
        lambda: drops.undo(report, "reinstate"),
        lambda: drops.undo(report),
    ):
        step()
        (now,) = drops.connection.execute("select max(recorded_at) from batch").fetchone() or ()
        moments.append(now)
    assert [known(at) for at in moments] == [["A"], [], ["A"], []]


def test_a_dry_run_says_what_would_change_and_changes_nothing(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"))
    before = everything(drops.connection)
    would = drops.undo(report, dry_run=True)
    assert everything(drops.connection) == before
    assert drops.connection.execute("select count(*) from retraction").fetchone() == (0,)
    did = drops.undo(report)
    assert (would.changes, would.entities, would.differences) == (did.changes, did.entities, did.differences)


def test_the_audit_says_who_undid_what_and_why_and_what_that_did(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"))
    drops.ask(an_entity(at=2, name=None, type_=None, op="patch", email="a@x.org"))
    drops.undo(report)
    entries = [json.loads(document) for document in reads.audit(drops.connection, ADA)]
    assert [(e["op"], e["actor"], e.get("reason")) for e in entries] == [
        ("upsert", "crm", None), ("patch", "steward", None), ("undo", "steward", "the wrong file"),
    ]  # fmt: skip
    assert entries[2]["source"]["kind"] == "undo"
    assert (entries[2]["before"]["display_name"], entries[2]["after"]) == ("A", None)
    assert entries[1]["after"]["details"] == {"email": "a@x.org"}, "what the patch did when it was recorded"


def test_the_audit_of_all_has_undos_too(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"), an_entity("bob", at=2, name="B"))
    drops.undo(report)
    drops.undo(report, "reinstate")
    drops.take("other", an_entity("cy", at=1))
    drop = report.sha256
    for which, count in (
        (Recorded(), 7), (Recorded(op="undo"), 2), (Recorded(entity_uid=ADA), 3), (Recorded(drop=drop), 6),
        (Recorded(drop=drop, op="reinstate"), 2), (Recorded(drop="a.csv", entity_uid=ADA), 3),
        (Recorded(drop="b.csv"), 0),
    ):  # fmt: skip
        whole = audit_of_all(drops.connection, which, limit=50)
        assert len(whole.documents) == count == count_audit_of_all(drops.connection, which)
        walked, after = list[str](), None
        while True:
            page = audit_of_all(drops.connection, which, after=after, limit=1)
            walked += page.documents
            if (after := page.next) is None:
                break
        assert tuple(walked) == whole.documents
    entries = map(json.loads, audit_of_all(drops.connection, Recorded(entity_uid=ADA)).documents)
    found = [
        (e["op"], e["before"] and e["before"]["display_name"], e["after"] and e["after"]["display_name"])
        for e in entries
    ]
    assert found == [("reinstate", None, "A"), ("undo", "A", None), ("upsert", None, "A")]


def test_what_cannot_be_undone_is_refused(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1))
    (of_drop,) = drops.connection.execute("select max(batch_id) from batch").fetchone() or ()
    with pytest.raises(UndoRefused, match="undo the drop"):
        undo_batch(drops.connection, of_drop, "undo", WHO)
    done = drops.undo(report)
    with pytest.raises(UndoRefused, match="undone already"):
        drops.undo(report)
    with pytest.raises(UndoRefused, match="themselves"):
        undo_batch(drops.connection, done.batch_id, "undo", WHO)
    with pytest.raises(UnknownBatch):
        undo_batch(drops.connection, 10**9, "undo", WHO)
    with pytest.raises(UnknownDrop):
        undo_drop(drops.connection, "0" * 64, "undo", WHO)
    assert names(drops.connection) == []


def test_the_same_bytes_again_keep_no_repeats_and_another_file_keeps_one_a_row(drops: Drops) -> None:
    drops.take("a", an_entity(at=1), an_entity("bob", at=1))
    assert drops.take("a", an_entity(at=1), an_entity("bob", at=1)).status == "replayed"
    assert drops.connection.execute("select count(*) from repeat").fetchone() == (0,)
    drops.take("b", an_entity(at=1), an_entity(at=1), an_entity("bob", at=1))
    assert drops.connection.execute("select count(*) from repeat").fetchone() == (2,)


def test_rows_that_were_corrected_afterwards_are_undone_with_their_drop(drops: Drops, tmp_path: Path) -> None:
    """A drop whose rejected rows go in later has two batches."""
    rows = [an_entity(at=1), an_entity("bob", at=1, type_="ROBOT")]
    first = drops.take("a", *rows)
    assert first.rows_rejected == 1
    drops.connection.execute("insert into entity_type (code, name) values ('ROBOT', 'Robot')")
    assert drops.take("a", *rows).rows_rejected == 0
    assert len(drops.undo(first).batches) == 2
    assert everything(drops.connection) == []


def test_the_list_as_known_is_counted_without_what_was_undone_then(drops: Drops) -> None:
    report = drops.take("a", an_entity(at=1, name="A"))
    drops.take("b", an_entity("bob", at=1, name="B"))
    types, counts = reference_types(drops.connection), []
    for step in (lambda: None, lambda: drops.undo(report), lambda: drops.undo(report, "reinstate")):
        step()
        (now,) = drops.connection.execute("select max(recorded_at) from batch").fetchone() or ()
        counts.append(now)
    assert [reads.count_entities(drops.connection, types, as_of=day(5), known_at=at) for at in counts] == [2, 1, 2]
