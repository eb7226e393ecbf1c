"""Drops whose rows name their entity by keys of sources: which entity they are of, what they state, and links."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from builders import day, reference_data, uid, write_drop
from tables import FORMATS, write_table

from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_drop
from crm_core.errors import Contended
from crm_core.model import MergeReport, Reason, Retracting
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.sqlstates import domain_error
from crm_core.profiles.toml import read_profile
from crm_core.reading import reads
from crm_core.reading.feed import Cursor, feed
from crm_core.reading.keys import KeyOfEntity, find_key, keys_of
from crm_core.reading.lists import Filter
from crm_core.reference import put_source, reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.links import link, unlink
from crm_core.timeline.undo import Who
from crm_core.values.hashing import key_uid

ANN = Who("ann", "it is the same person", "request-1")
A, B = key_uid("erp", "A"), key_uid("erp", "B")
ADA = uid("ada")
PROFILE = """
[columns]
source = "erp"
source_key = "{No}"
display_name = "{Name}"
entity_type = "PERSON"
[details]
email = "{Mail}"
"""
PARTIAL = """
partial = true
[columns]
source = "erp"
source_key = "{No}"
[details]
email = "{Mail}"
"""


@pytest.fixture
def crm(fresh_database: Database) -> Iterator[Connection]:
    """Types and two sources; each drop commits, and every invariant must hold in the end."""
    with fresh_database.connect(autocommit=True) as connection:
        reference_data(connection)
        put_source(connection, code="ERP", name="ERP")
        put_source(connection, code="shop", name="Shop")
        yield connection
        assert [found.examples for found in check(connection) if not found.holds] == []


def row(key: str = "A", name: str = "Ada", at: float = 1, source: str = "erp", **cells: str) -> dict[str, str]:
    entity = {"display_name": name, "entity_type": "PERSON", "change_ts": day(at).isoformat()}
    return {**entity, "source": source if key else "", "source_key": key, **cells}


def take(connection: Connection, path: Path, *rows: Mapping[str, str], **options: Any) -> MergeReport:
    columns = ["details", *dict.fromkeys(name for one in rows for name in one)]
    return ingest_on(connection, write_drop(path, rows, columns), Options(**options))


def snapshot(connection: Connection, path: Path, at: float, *rows: Mapping[str, str]) -> MergeReport:
    return take(connection, path, *rows, snapshot=SnapshotOptions("PERSON", day(at)), snapshot_limit=1.0)


def is_current(connection: Connection, name: str) -> bool:
    return connection.execute("select from entity where display_name = %s and is_current", (name,)).rowcount > 0


def names(connection: Connection, entity: UUID) -> list[str]:
    """The names of an entity's versions, in order."""
    found = connection.execute("select display_name from entity where entity_uid = %s order by valid_from", (entity,))
    return [name for (name,) in found]


def entities(connection: Connection) -> set[UUID]:
    return {one for (one,) in connection.execute("select distinct entity_uid from entity")}


def rejected(connection: Connection, report: MergeReport) -> dict[int, tuple[Reason, ...]]:
    return {reject.line: reject.reasons for reject in registry.rejects(connection, report.sha256 or "")}


@pytest.mark.integration
class TestADrop:
    def test_may_give_one_key_twice_in_a_row(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", entity_uid=str(ADA)) | {"key.erp": "A"})
        assert (report.rows_changed, report.rows_rejected) == (1, 0)
        assert keys_of(crm, ADA) == [KeyOfEntity("ERP", "A", is_linked=True)]

    def test_finds_the_entity_of_a_key_again_whatever_else_has_changed(self, crm: Connection, path: Path) -> None:
        first = take(crm, path, row("A", "Ada"), row("B", "Bob"))
        later = take(crm, path, row("A", "Ada King", 3), row("a", "Another", 3))
        late = take(crm, path, row("A", "Ada L.", 2, source="ERP"))
        assert [report.rows_changed for report in (first, later, late)] == [2, 2, 1]
        assert names(crm, A) == ["Ada", "Ada L.", "Ada King"]
        assert entities(crm) == {A, B, key_uid("erp", "a")}
        assert keys_of(crm, A) == [KeyOfEntity("ERP", "A", is_linked=False)]

    @pytest.mark.parametrize("ends", FORMATS)
    def test_may_have_any_format(self, crm: Connection, tmp_path: Path, ends: str) -> None:
        rows = [
            row("0042", "Ada") | {"email": "a@x", "key.shop": "S1"},
            row("S1", "Ada King", 2, source="shop") | {"email": "", "key.shop": ""},
        ]
        report = ingest_on(crm, write_table(tmp_path / f"drop.{ends}", rows), Options())
        assert (report.status, report.rows_rejected) == ("merged", 0)
        assert names(crm, key_uid("erp", "0042")) == ["Ada", "Ada King"]

    def test_may_have_the_keys_of_a_profile(self, crm: Connection, tmp_path: Path) -> None:
        rows = [{"No": "A", "Name": "Ada", "Mail": "a@x"}, {"No": "", "Name": "Bob", "Mail": "b@x"}]
        path = write_table(tmp_path / "erp.csv", rows)
        report = ingest_on(crm, path, Options(profile=read_profile("erp", PROFILE, "erp.toml")))
        assert names(crm, A) == ["Ada"]
        assert rejected(crm, report) == {3: (Reason.MISSING_SOURCE_KEY,)}
        assert [raw for _, _, raw in crm.execute("select line, reasons, raw from reject")] == [",Bob,b@x"]

    def test_may_be_partial_and_says_nothing_else_of_the_entity(self, crm: Connection, tmp_path: Path) -> None:
        take(crm, tmp_path / "erp.csv", row("A", "Ada"))
        path = write_table(tmp_path / "mail.csv", [{"No": "A", "Mail": "a@x"}, {"No": "Z", "Mail": "z@x"}])
        report = ingest_on(crm, path, Options(profile=read_profile("mail", PARTIAL, "mail.toml")))
        assert (report.rows_changed, report.rows_rejected) == (1, 0)
        (document,) = reads.entities(crm, reference_types(crm)).documents
        assert json.loads(document)["details"][0]["detail_value"] == "a@x"
        assert json.loads(document)["display_name"] == "Ada"

    def test_again_is_a_replay_and_its_rows_in_another_file_are_repeats(self, crm: Connection, path: Path) -> None:
        rows = row("A", "Ada"), row("B", "Bob")
        take(crm, path, *rows)
        assert take(crm, path, *rows).status == "replayed"
        again = take(crm, path, *rows, row("C", "Cid"))
        assert (again.rows_changed, again.rows_unchanged) == (1, 2)
        assert crm.execute("select source_id is not null from repeat").fetchall() == [(True,), (True,)]

    def test_remembers_which_source_said_what(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A"), row("A", source="shop", at=2), row("", entity_uid=str(ADA)))
        said = crm.execute(
            "select l.entity_uid, s.code from ledger l left join source s using (source_id) order by l.row_no"
        ).fetchall()
        assert said == [(A, "ERP"), (key_uid("shop", "A"), "shop"), (ADA, None)]

    def test_of_deletions_needs_op_and_the_key(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada"), row("B", "Bob"))
        deletion = {"op": "delete", "source": "erp", "source_key": "B"}
        report = ingest_on(crm, write_drop(path, [deletion], list(deletion)), Options())
        assert (report.status, report.rows_changed, report.notes) == ("merged", 1, ())
        assert crm.execute("select entity_uid from entity where is_current").fetchall() == [(A,)]

    def test_of_deletions_needs_op_and_the_uid(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada"))
        deletion = {"op": "delete", "entity_uid": str(A)}
        report = ingest_on(crm, write_drop(path, [deletion], list(deletion)), Options())
        assert (report.status, report.rows_changed, report.notes) == ("merged", 1, ())

    def test_may_not_lack_the_columns_of_other_rows_when_it_has_no_op(self, crm: Connection, path: Path) -> None:
        report = ingest_on(
            crm, write_drop(path, [{"source": "erp", "source_key": "B"}], ["source", "source_key"]), Options()
        )
        assert report.status == "refused"
        assert "lacks the columns display_name, entity_type, details" in (report.error or "")

    def test_dry_run_says_what_it_would_do_and_keeps_no_key(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada"), dry_run=True)
        assert {one.entity_uid for one in report.differences} == {str(A)}
        assert crm.execute("select from source_key").fetchall() == []

    def test_undone_and_dropped_again_is_of_the_same_entity(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada"))
        undo_drop(crm, report.sha256 or "", "undo", ANN)
        assert entities(crm) == set()
        take(crm, path, row("A", "Ada"))
        assert names(crm, A) == ["Ada"]

    def test_rejected_rows_go_in_when_their_source_is_there(self, crm: Connection, path: Path) -> None:
        rows = row("A"), row("1", "Bob", source="partner")
        report = take(crm, path, *rows)
        assert rejected(crm, report) == {3: (Reason.UNKNOWN_SOURCE,)}
        put_source(crm, code="partner", name="Partner")
        assert take(crm, path, *rows).rows_rejected == 0
        assert entities(crm) == {A, key_uid("partner", "1")}


@pytest.mark.integration
class TestARowThatNamesItsEntityTwice:
    def test_gives_a_new_key_to_the_entity_for_later_rows(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("", "Ada", entity_uid=str(ADA)))
        take(crm, path, row("A", "Ada K.", 2, entity_uid=str(ADA)))
        take(crm, path, row("A", "Ada King", 3))
        assert names(crm, ADA) == ["Ada", "Ada K.", "Ada King"]
        assert entities(crm) == {ADA}
        assert keys_of(crm, ADA) == [KeyOfEntity("ERP", "A", is_linked=True)]

    def test_does_so_for_rows_of_the_same_file_too(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada", entity_uid=str(ADA)), row("A", "Ada King", 2))
        assert report.rows_changed == 2
        assert names(crm, ADA) == ["Ada", "Ada King"]

    def test_is_rejected_when_the_key_names_another_entity(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada"))
        report = take(crm, path, row("A", "Eve", 2, entity_uid=str(ADA)), row("B", "Bob"))
        assert rejected(crm, report) == {2: (Reason.KEY_OF_ANOTHER_ENTITY,)}
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (2, 1, 1)
        assert entities(crm) == {A, B}

    def test_is_rejected_when_an_earlier_row_of_the_file_gave_the_key_away(self, crm: Connection, path: Path) -> None:
        eve = str(uid("eve"))
        report = take(
            crm, path, row("A", "Ada"), row("A", "Eve", entity_uid=eve), row("B", "Eve", entity_uid=eve),
            row("B", "E.", 2), row("B", "Bob", entity_uid=str(ADA)),
        )  # fmt: skip
        assert rejected(crm, report) == {3: (Reason.KEY_OF_ANOTHER_ENTITY,), 6: (Reason.KEY_OF_ANOTHER_ENTITY,)}
        assert names(crm, uid("eve")) == ["Eve", "E."]

    def test_may_name_it_by_the_uid_that_the_key_has(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada", entity_uid=str(A)), row("A", "Ada King", 2))
        assert report.rows_rejected == 0
        assert keys_of(crm, A) == [KeyOfEntity("ERP", "A", is_linked=False)]

    def test_is_rejected_with_the_uid_of_a_key_that_is_linked(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada", entity_uid=str(ADA)))
        report = take(crm, path, row("A", "Eve", 2, entity_uid=str(A)))
        assert rejected(crm, report) == {2: (Reason.KEY_OF_ANOTHER_ENTITY,)}

    def test_is_taken_back_with_its_drop(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada", entity_uid=str(ADA)))
        undo_drop(crm, report.sha256 or "", "undo", ANN)
        right = take(crm, path, row("A", "Ada", entity_uid=str(uid("right"))))
        assert right.rows_rejected == 0
        take(crm, path, row("A", "Ada King", 2))
        assert names(crm, uid("right")) == ["Ada", "Ada King"]
        assert keys_of(crm, ADA) == []

    def test_is_there_again_when_its_drop_is_reinstated(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada", entity_uid=str(ADA)))
        for kind in ("undo", "reinstate"):
            undo_drop(crm, report.sha256 or "", kind, ANN)
        take(crm, path, row("A", "Ada King", 2))
        assert names(crm, ADA) == ["Ada", "Ada King"]


@pytest.mark.integration
class TestARowWithKeysOfSeveralSources:
    def test_names_its_entity_by_each_of_them_from_then_on(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada") | {"key.shop": " S1 "}, row("B", "Bob") | {"key.shop": ""})
        take(crm, path, row("S1", "Ada King", 2, source="shop"))
        assert names(crm, A) == ["Ada", "Ada King"]
        assert entities(crm) == {A, B}
        assert keys_of(crm, A) == [KeyOfEntity("ERP", "A", False), KeyOfEntity("shop", "S1", True)]

    def test_may_name_it_by_them_alone(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("", "Ada", entity_uid=str(ADA)) | {"key.shop": "S1", "key.erp": "A"})
        take(crm, path, row("S1", "A", 2, source="shop"), row("A", "Ada King", 3))
        assert names(crm, ADA) == ["Ada", "A", "Ada King"]

    def test_may_have_one_key_twice(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada", entity_uid=str(ADA)) | {"key.erp": "A"})
        assert report.rows_rejected == 0
        assert keys_of(crm, ADA) == [KeyOfEntity("ERP", "A", is_linked=True)]

    def test_may_be_one_of_two_that_name_each_other(self, crm: Connection, path: Path) -> None:
        report = take(
            crm, path, row("A", "Ada") | {"key.shop": "S1", "key.erp": ""},
            row("S1", "Ada King", 2, source="shop") | {"key.erp": "A", "key.shop": ""},
        )  # fmt: skip
        assert report.rows_rejected == 0
        assert names(crm, A) == ["Ada", "Ada King"]

    def test_is_rejected_when_one_of_them_names_another_entity(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("S1", "Eve", source="shop"))
        report = take(crm, path, row("A", "Ada") | {"key.shop": "S1"})
        assert rejected(crm, report) == {2: (Reason.KEY_OF_ANOTHER_ENTITY,)}

    def test_is_rejected_when_one_of_them_is_too_long(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada") | {"key.shop": "x" * 501})
        assert rejected(crm, report) == {2: (Reason.VALUE_TOO_LONG,)}

    def test_needs_sources_that_are_known(self, crm: Connection, path: Path) -> None:
        report = take(crm, path, row("A", "Ada") | {"key.shopp": "S1"})
        assert report.status == "refused"
        assert "unknown column 'key.shopp', is it key.shop?" in (report.error or "")


@pytest.mark.integration
class TestASnapshot:
    def test_lists_the_entities_of_its_keys_also_of_linked_ones(self, crm: Connection, path: Path) -> None:
        take(crm, path, row("A", "Ada"), row("B", "Bob"), row("", "Linked", entity_uid=str(ADA)), row("C", "Cid"))
        link(crm, find_key(reference_types(crm), "erp", "L"), ADA, ANN)
        report = snapshot(crm, path, 9, row("A", "Ada", 9), row("L", "Linked", 9))
        assert report.entities_ended == 2
        assert {name for name in ("Ada", "Bob", "Linked", "Cid") if is_current(crm, name)} == {"Ada", "Linked"}

    def test_takes_rejected_rows_with_a_key_for_present(self, crm: Connection, path: Path) -> None:
        types = reference_types(crm)
        rows = [
            row("A", "Ada"),
            row("B", "Bob"),
            row("", "Linked", entity_uid=str(ADA)),
            row("C", "Cid"),
            row("D", "Dan"),
        ]
        take(crm, path, *rows)
        link(crm, find_key(types, "erp", "L"), ADA, ANN)
        bad = [row("A", "Ada", 9, entity_type="ALIEN"), row("L", "Linked", 9, entity_type="ALIEN")]
        report = snapshot(crm, path, 9, *bad, row("B", "x", 9, entity_uid=str(key_uid("erp", "C"))))
        assert (report.rows_rejected, report.entities_ended) == (3, 1)
        assert not is_current(crm, "Dan")


@pytest.mark.integration
class TestALinkThatIsMadeWhileADropIsRead:
    """By another connection, when all rows are staged and nothing is locked yet."""

    def ingest(self, database: Database, path: Path, *rows: Mapping[str, str]) -> MergeReport:
        def link_first(phase: str, _done: int, _all: int | None) -> None:
            if phase == "follow keys":
                with database.connect(autocommit=True) as other:
                    link(other, find_key(reference_types(other), "erp", "A"), uid("bob"), ANN)

        write_drop(path, rows, dict.fromkeys(name for one in rows for name in [*one, "details"]))
        return ingest(database, path, progress=link_first)

    def test_has_its_rows_go_to_the_linked_entity(self, crm: Connection, fresh_database: Database, path: Path) -> None:
        take(crm, path, row("", "Bob", entity_uid=str(uid("bob"))))
        report = self.ingest(fresh_database, path, row("A", "Linked", 2))
        assert report.rows_changed == 1
        assert names(crm, uid("bob")) == ["Bob", "Linked"]

    def test_stops_a_drop_that_gives_the_key_to_another(
        self, crm: Connection, fresh_database: Database, path: Path
    ) -> None:
        take(crm, path, row("", "Bob", entity_uid=str(uid("bob"))))
        with pytest.raises(psycopg.errors.SerializationFailure, match="given to another entity") as raised:
            self.ingest(fresh_database, path, row("A", "Ada", 2, entity_uid=str(ADA)))
        assert isinstance(domain_error(raised.value), Contended), "so it can be tried again"
        assert names(crm, ADA) == []
        assert rejected(crm, take(crm, path, row("A", "Ada", 2, entity_uid=str(ADA)))) == {
            2: (Reason.KEY_OF_ANOTHER_ENTITY,)
        }


@pytest.mark.integration
class TestALink:
    def test_gives_later_rows_to_another_entity_until_it_ends(self, crm: Connection, path: Path) -> None:
        key = find_key(reference_types(crm), "erp", "A")
        take(crm, path, row("A", "Ada"), row("", "Ada L.", entity_uid=str(ADA)))
        assert link(crm, key, ADA, ANN).outcome == "linked"
        take(crm, path, row("A", "Linked", 2))
        assert unlink(crm, key, ANN).outcome == "unlinked"
        take(crm, path, row("A", "Own again", 3))
        assert (names(crm, A), names(crm, ADA)) == (["Ada", "Own again"], ["Ada L.", "Linked"])
        assert (link(crm, key, A, ANN).outcome, unlink(crm, key, ANN).outcome) == ("unchanged", "unchanged")

    def test_is_filtered_by(self, crm: Connection, path: Path) -> None:
        take(
            crm,
            path,
            row("A", "Ada"),
            row("B", "Bob"),
            row("A", "Sam", source="shop"),
            row("", "Eve", entity_uid=str(ADA)),
        )
        types = reference_types(crm)
        link(crm, find_key(types, "shop", "A"), ADA, ANN)

        def found(source: str | None = None, source_key: str | None = None) -> list[str]:
            which = Filter(source=source, source_key=source_key)
            listed = reads.entities(crm, types, which).documents
            assert reads.count_entities(crm, types, which) == len(listed)
            streamed = b"".join(reads.stream_entities(crm, types, which)).decode().splitlines()
            assert streamed == list(listed)
            then = reads.entities(crm, types, which, as_of=day(5)).documents
            assert reads.count_entities(crm, types, which, as_of=day(5)) == len(then) == len(listed)
            known = reads.entities(crm, types, which, as_of=day(5), known_at=datetime.now(UTC)).documents
            assert known == then
            return [document.split('"')[7] for document in listed]

        assert found(source="erp") == ["Ada", "Bob"]
        assert found(source="SHOP") == ["Eve"]
        assert found(source="erp", source_key=" A ") == ["Ada"]
        assert found(source_key="A") == ["Ada", "Eve"]
        assert found(source_key="Z") == []


def test_the_feed_tells_of_a_key_that_a_repeated_row_gives_and_of_its_undo(crm: Connection, tmp_path: Path) -> None:
    """The feed shows an entity with its keys, so a change of the keys alone is an event too."""

    def told(after: Cursor | None) -> tuple[list[tuple[str, str, object]], Cursor | None]:
        found = feed(crm, after, limit=10, with_entities=True)
        events = map(json.loads, found.documents)
        return [(each["entity_uid"], each["op"], each["entity"]["keys"]) for each in events], found.next

    take(crm, tmp_path / "a.csv", row("", entity_uid=str(ADA)))
    _, place = told(None)
    report = take(crm, tmp_path / "b.csv", row("A", entity_uid=str(ADA)))
    assert (report.rows_changed, report.rows_unchanged) == (0, 1)
    events, place = told(place)
    assert events == [(str(ADA), "patch", {"ERP": "A"})]
    steps: list[tuple[Retracting, dict[str, str]]] = [("undo", {}), ("reinstate", {"ERP": "A"})]
    for kind, keys in steps:
        undo_drop(crm, report.sha256 or "", kind, ANN)
        events, place = told(place)
        assert events == [(str(ADA), kind, keys)]
    assert told(place)[0] == []
    assert len(feed(crm, None, limit=10).documents) == 4
