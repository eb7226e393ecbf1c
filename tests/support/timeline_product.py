"""The product, fed step by step beside the model of the rules of time, and compared with it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest
from builders import COLUMNS, a_request, as_row, day, write_drop
from timeline_model import COMPARES, Model, Snapshot, said_by, source_of

from crm_core.drops.held import approve
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.errors import EntityAbsent, EntityExists, UndoRefused, UnknownEntity
from crm_core.model import Change, MergeReport, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.feed import feed, parse_cursor
from crm_core.reading.keys import SourceKey
from crm_core.reading.known import as_known, is_all_known
from crm_core.reading.lists import Page
from crm_core.reference import put_source, reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.single_change import Provenance, apply_change
from crm_core.timeline.undo import Who

PEOPLE = [UUID(int=(n << 120) + n) for n in (0x01, 0x3F, 0xFE)]  # first, middle and last of the locks' buckets
EFFECTS = ("snapshot", "undo", "reinstate")
REFUSALS = {"exists": EntityExists, "unknown": UnknownEntity, "absent": EntityAbsent}
Kind = Literal["drop", "request", "fixture"]
Step = (
    tuple[Kind, list[Change]]
    | tuple[Literal["replay"], int, list[Change], str | None]  # again, with some that are new, by a source or the same
    | tuple[Literal["undo", "reinstate"], int]
    | tuple[Literal["snapshot"], str, datetime, list[Change], set[UUID]]
)


class Product:
    """The product over one connection, fed step by step beside the model."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.folder = connection, folder
        for source in ("erp", "shop"):
            put_source(connection, code=source, name=source)
        self.types: ReferenceTypes = reference_types(connection)
        self.model = Model()
        self.known: list[tuple[datetime, int]] = []  # when it was recorded, and how many batches the model held then
        self.follower = Follower(connection)
        self.sources: dict[
            int, str | None
        ] = {}  # by the place of a batch that brought changes: the SHA-256 of its drop

    def take(self, steps: Sequence[Step]) -> None:
        taken: list[tuple[Kind, list[Change]]] = []
        for number, step in enumerate(steps):
            if step[0] == "undo" or step[0] == "reinstate":
                self.retract(step[0], step[1])
                self.note()
                continue
            if step[0] == "snapshot":
                self.take_snapshot(f"{number}.csv", *step[1:])
                self.note()
                continue
            if step[0] == "replay":
                kind, changes = taken[step[1] % len(taken)] if taken else ("drop", [])
                changes = random.Random(number).sample([*changes, *step[2]], len(changes) + len(step[2]))
                if step[3] != "same":
                    changes = [said_by(step[3], change) for change in changes]
            else:
                kind, changes = step
            if not changes:
                continue
            taken.append((kind, changes))
            if kind == "drop":
                drop = _drop(self.folder / f"{number}.csv", changes)
                report = ingest_on(self.connection, drop, Options())
                assert report.status in ("merged", "replayed"), report
                assert report.rows_accepted == len(changes) == report.rows_changed + report.rows_unchanged
                if report.status == "merged":
                    self.sources[len(self.model.batches)] = report.sha256
                    self.model.record(*changes)
                    self.agrees_what_ended(report)
            elif kind == "fixture":
                self.sources[len(self.model.batches)] = None
                record(self.connection, self.types, changes, Origin("test", kind))
                self.model.record(*[said_by(None, change) for change in changes])
            else:
                self.ask_for(changes)
            self.note()

    def take_snapshot(self, name: str, scope: str, at: datetime, changes: list[Change], rejected: set[UUID]) -> None:
        """Take in a snapshot, however much it ends; an empty one has to be approved."""
        bad = [
            {"entity_uid": str(uid), "display_name": "Ada", "entity_type": "NONE", "details": ""} for uid in rejected
        ]
        drop = _drop(self.folder / name, changes, bad)
        report = ingest_on(self.connection, drop, Options(snapshot=SnapshotOptions(scope, at), snapshot_limit=1.0))
        assert (report.status == "held") == (not changes and not bad and report.status != "replayed"), report
        if report.status == "held":
            report = approve(self.connection, report.sha256 or "", Who("test", "so it is"))
        assert report.rows_accepted == len(changes)
        if report.status == "merged":
            self.sources[len(self.model.batches)] = report.sha256
            listed = frozenset(change.entity_uid for change in changes) | rejected
            types, _, source = scope.partition("source=")
            types_named = frozenset(types.upper().split(","))
            self.model.record(*changes, snapshot=Snapshot(at, types_named, listed, source.lower() or None))
            self.agrees_what_ended(report)

    def agrees_what_ended(self, report: MergeReport) -> None:
        """Compare how many entities end at snapshots because of the last batch, before anything new that it says."""
        place = len(self.model.batches) - 1
        news = self.model.batches[place].news
        ended = [
            uid
            for uid, since in self.model.effects(place).items()
            if not any(change.entity_uid == uid and change.change_ts <= since for change in news)
        ]
        assert report.entities_ended == len(ended)

    def note(self) -> None:
        """Take note of when a step was recorded, and have the follower go on."""
        (recorded_at,) = self.connection.execute("select max(recorded_at) from batch").fetchone() or ()
        if recorded_at is not None:
            self.known.append((recorded_at, len(self.model.batches)))
        self.follower.go_on()

    def retract(self, kind: Literal["undo", "reinstate"], number: int) -> None:
        """Undo or reinstate one of the batches, or the drop that it is of; what cannot be is refused."""
        if not self.sources:
            return
        place = [*self.sources][number % len(self.sources)]
        sha256, undone = self.sources[place], self.model.undone
        same = [each for each, of in self.sources.items() if each == place or (sha256 and of == sha256)]
        if kind == "undo":
            places = [each for each in same if each not in undone]
        elif sha256 is None or undone.issuperset(same):
            last = [batch.undoes for batch in self.model.batches if batch.undoes.intersection(same)][-1:]
            places = [each for each in same if each in undone and each in last[0]]
        else:
            places = []
        with nullcontext() if places else pytest.raises(UndoRefused):
            if sha256 is None:
                undo_batch(self.connection, self.batch_ids()[place], kind, Who("test", "because"))
            else:
                undo_drop(self.connection, sha256, kind, Who("test", "because"))
        if places:
            (self.model.undo if kind == "undo" else self.model.reinstate)(*places)

    def batch_ids(self) -> list[int]:
        """The numbers of the batches, in the places that they have in the model."""
        found = [batch for (batch,) in self.connection.execute("select batch_id from batch order by batch_id")]
        assert len(found) == len(self.model.batches)
        return found

    def ask_for(self, changes: Sequence[Change]) -> None:
        """Make changes by request, one by one; what the model refuses, the product refuses for the same reason."""
        for number, asked in enumerate(changes):
            key = self.key_of(asked)
            change = said_by(source_of(asked) if key else None, asked)
            refusal, before = None if key else self.model.refuses(change), len(self.model.batches)
            with nullcontext() if refusal is None else pytest.raises(REFUSALS[refusal]):
                request = a_request(change, provenance=Provenance("test", f"r-{number}"), named_by=key)
                apply_change(self.connection, self.types, request, now=datetime.now(UTC), time_zone=UTC)
            if refusal is None:
                self.model.request(change)
                self.sources |= dict.fromkeys(range(before, len(self.model.batches)))

    def key_of(self, change: Change) -> SourceKey | None:
        """The key of a complete change's source, if it names the entity now."""
        for source in self.types.sources:
            key = SourceKey(source, str(change.entity_uid))
            query = "select entity_of_key(%s)"
            ((uid,),) = self.connection.execute(query, [key.key_uid])
            if source.code == source_of(change) and change.op == "upsert" and uid == change.entity_uid:
                return key
        return None

    def agrees_with_the_feed(self) -> None:
        """Compare what a follower was told, and its copy, the keys included."""
        assert self.follower.events == self.model.events()
        page = reads.entities(self.connection, self.types, limit=200)
        copy = [entity for entity in self.follower.copy.values() if entity is not None]
        assert sorted(copy, key=itemgetter("entity_uid")) == sorted(
            map(json.loads, page.documents), key=itemgetter("entity_uid")
        )

    def agrees(self, model: Model, known_at: datetime | None = None) -> None:
        """Compare history, as-of and diff, as known at an instant."""
        for uid in PEOPLE:
            documents = [json.loads(d) for d in reads.history(self.connection, uid, known_at=known_at)]
            if known_at is not None and is_all_known(self.connection, uid, known_at):
                assert documents == [json.loads(d) for d in reads.history(self.connection, uid)]
            assert _entity_versions(documents) == model.entity_versions(uid)
            for detail_type in COMPARES:
                assert _detail_versions(documents, detail_type) == model.detail_versions(uid, detail_type)
        for at in (day(-1), day(2), day(4.5), day(9)):
            page = reads.entities(self.connection, self.types, as_of=at, known_at=known_at)
            assert _snapshots(page) == model.as_of(at)
            assert b"".join(reads.stream_entities(self.connection, self.types, as_of=at, known_at=known_at)) == _lines(
                page
            )
            assert reads.count_entities(self.connection, self.types, as_of=at, known_at=known_at) == len(page.documents)
        for from_, to in ((day(-1), day(9)), (day(2), day(4)), (day(3), day(6.5))):
            page = reads.diff(self.connection, from_, to, known_at=known_at)
            assert _diffs(page) == model.diff(from_, to)
            assert b"".join(reads.stream_diff(self.connection, from_, to, known_at=known_at)) == _lines(page)
            assert reads.count_diff(self.connection, from_, to, known_at=known_at) == len(page.documents)
            page = reads.transitions(self.connection, from_, to, known_at=known_at, limit=200)
            assert _transitions(page) == model.transitions(from_, to)
            assert b"".join(reads.stream_transitions(self.connection, from_, to, known_at=known_at)) == _lines(page)
            assert reads.count_transitions(self.connection, from_, to, known_at=known_at) == len(page.documents)
            self.agree_with_the_audit(page, model, known_at)

    def agree_on_effects(self) -> None:
        """The audit has the states before and after of entities that batches changed without saying anything new."""
        places = {batch_id: place for place, batch_id in enumerate(self.batch_ids())}
        for uid in PEOPLE:
            found = [e for e in map(json.loads, reads.audit(self.connection, uid)) if e["op"] in EFFECTS]
            query = "select batch_id from batch where utc(recorded_at) = %s"
            for entry in found:
                ((batch_id,),) = self.connection.execute(query, [entry["recorded_at"]])
                place, at = places[batch_id], datetime.fromisoformat(entry["change_ts"])
                before, after = (self.model.known_after(count).as_of(at).get(uid) for count in (place, place + 1))
                assert (entry["before"], entry["after"]) == (_audited(before), _audited(after))

    def agree_with_the_audit(self, page: Page, model: Model, known_at: datetime | None) -> None:
        """A transition is recorded with the last change of its instant that acts, or with the snapshot that ends it."""
        query = (
            "select utc(l.change_ts), l.entity_uid::text, utc(b.recorded_at) from ledger l"
            " join batch b on b.batch_id = l.batch_id where l.acts order by l.batch_id, l.row_no"
        )
        with as_known(self.connection, known_at):
            last = {(at, uid): recorded_at for at, uid, recorded_at in self.connection.execute(query)}
        ledger = {
            (entry["change_ts"], entry["entity_uid"], entry["recorded_at"]): entry  # the last one of each batch
            for uid in PEOPLE
            for entry in map(json.loads, reads.audit(self.connection, uid, known_at=known_at))
        }
        for document in map(json.loads, page.documents):
            at, uid = document["at"], document["entity_uid"]
            if (at, uid) not in last:
                assert document["source"]["sha256"] == self.ended_by(model, UUID(uid), datetime.fromisoformat(at))
                assert document["source"]["line"] is None
                continue
            entry = ledger[at, uid, last[at, uid]]
            for origin in ("recorded_at", "actor", "source"):
                assert document[origin] == entry[origin]

    def ended_by(self, model: Model, uid: UUID, at: datetime) -> str | None:
        """The first snapshot of an instant that ends an entity."""
        before = model.state(uid, at - timedelta.resolution)
        for place, batch in enumerate(model.batches):
            said = batch.snapshot
            if said is None or place in model.undone or said.at != at or uid in said.listed:
                continue
            if before.entity_type in said.types or model.is_named(uid, said.source, at):
                return self.sources[place]
        raise AssertionError(at, uid)


class Follower:
    """A reader of the feed, which keeps a copy of what every entity is."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.cursor = ""
        self.events: list[tuple[UUID, datetime, str]] = []
        self.copy: dict[str, dict[str, object] | None] = {}

    def go_on(self) -> None:
        while (found := feed(self.connection, parse_cursor(self.cursor), limit=2, with_entities=True)).documents:
            self.cursor = str(found.next)
            for event in map(json.loads, found.documents):
                since = datetime.fromisoformat(event["since"])
                if (
                    event["since"] != event["recorded_at"]
                ):  # otherwise it tells of a key that a repeat gave, or of its undo
                    self.events.append((UUID(event["entity_uid"]), since, event["op"]))
                self.copy[event["entity_uid"]] = event["entity"]


def _drop(path: Path, changes: Iterable[Change], more: Iterable[dict[str, str]] = ()) -> Path:
    """Write a drop; a row of a source names its entity by a key of it too."""
    rows = [
        as_row(change)
        | ({"source": source, "source_key": str(change.entity_uid)} if (source := source_of(change)) else {})
        for change in changes
    ]
    return write_drop(path, [*rows, *more], (*COLUMNS, "source", "source_key"))


def _audited(state: tuple[str, str, dict[str, str]] | None) -> dict[str, object] | None:
    return None if state is None else dict(zip(("display_name", "entity_type", "details"), state, strict=True))


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _entity_versions(documents: list[dict[str, str]]) -> list[tuple[object, ...]]:
    return [
        (d["display_name"], d["entity_type"], _instant(d["valid_from"]), _instant(d["valid_to"]))
        for d in documents
        if d["kind"] == "entity"
    ]


def _detail_versions(documents: list[dict[str, str]], detail_type: str) -> list[tuple[object, ...]]:
    return [
        (d["detail_value"], _instant(d["valid_from"]), _instant(d["valid_to"]))
        for d in documents
        if d["kind"] == "detail" and d["detail_type"] == detail_type
    ]


def _snapshots(page: Page) -> dict[UUID, tuple[str, str, dict[str, str]]]:
    answer = {}
    for document in map(json.loads, page.documents):
        details = {d["detail_type"]: d["detail_value"] for d in document["details"]}
        answer[UUID(document["entity_uid"])] = (document["display_name"], document["entity_type"], details)
    return answer


def _diffs(page: Page) -> dict[UUID, tuple[str, dict[str, tuple[str | None, str | None]]]]:
    answer = {}
    for document in map(json.loads, page.documents):
        changes = {change["field"]: (change["from"], change["to"]) for change in document["changes"]}
        answer[UUID(document["entity_uid"])] = (document["action"], changes)
    return answer


def _lines(page: Page) -> bytes:
    return "".join(f"{document}\n" for document in page.documents).encode()


def _transitions(page: Page) -> list[tuple[object, ...]]:
    return [
        (
            _instant(document["at"]),
            UUID(document["entity_uid"]),
            document["action"],
            {change["field"]: (change["from"], change["to"]) for change in document["changes"]},
        )
        for document in map(json.loads, page.documents)
    ]
