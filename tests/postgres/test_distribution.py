"""Several machines: what is sent to Citus, and that a cluster gives the tables and answers of one server.

With CRM_TEST_CITUS_URL, the address of a superuser at a coordinator that knows its workers, every other test runs there
too, as far as it does not need one server.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import psycopg
import pytest
from builders import a_request, an_entity, day, reference_data, uid, write_drop
from click.testing import CliRunner
from servers import CITUS, SHARDS, Server, Servers

from crm_core.cli.main import crm
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_drop
from crm_core.errors import DatabaseUnfit
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.distribution import BY_ENTITY, WHOLE, distribute
from crm_core.postgres.embedded import bundled_binaries
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import routines
from crm_core.postgres.spread import spread_routines, written_out
from crm_core.reading import reads
from crm_core.reading.feed import feed, parse_cursor
from crm_core.reference import reference_types
from crm_core.resources import SQL, statement
from crm_core.timeline.invariants import check
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who

pytestmark = pytest.mark.integration
on_citus = pytest.mark.skipif(CITUS is None, reason="CRM_TEST_CITUS_URL names no Citus coordinator")


@pytest.fixture
def one_server(servers: Servers) -> Iterator[Database]:
    """A database of one server, also where the other tests run on a cluster."""
    with servers.over(bundled_binaries()).clone() as database:
        yield database


def test_a_database_without_citus_says_what_to_do(one_server: Database) -> None:
    with pytest.raises(DatabaseUnfit, match="citus_add_node"):
        list(distribute(one_server, SHARDS))
    said = CliRunner().invoke(crm, ["distribute"], env={"CRM_DATABASE_URL": one_server.conninfo})
    assert said.exit_code == 1
    assert "no extension citus" in str(said.exception or said.stderr)


def test_a_function_that_reads_tables_is_replaced_by_its_body() -> None:
    text = written_out("select * from late_facts(%(uid)s) f where f.row_no = 1", has_values=True)
    assert "late_facts" not in text
    assert "(%(uid)s)::uuid" in text
    assert text.endswith(") as f (change_ts, batch_id, row_no) where f.row_no = 1")


@pytest.mark.parametrize("path", [*SQL.rglob("*.sql")], ids=lambda path: path.relative_to(SQL).as_posix())
def test_nothing_that_is_sent_to_citus_calls_a_function_that_reads_tables(path: Path) -> None:
    readers = "compare_with_ledger|entity_splice|detail_splice|snapshot_ends|effective_changes|folded_entities|net_changes"
    text = written_out(re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8")))
    assert not re.search(rf"(?<!function )\b({readers})\(", text)
    assert not re.search(r"\bselect\s+from\b", text), "Citus takes it for a function without columns"


def test_each_form_for_citus_is_of_a_statement_of_one_server() -> None:
    for path in (SQL / "spread").glob("*/**/*.sql"):
        assert (SQL / path.relative_to(SQL / "spread")).is_file(), path
    text = "".join(spread_routines(each.text) for each in routines())
    assert "temporary" not in text
    assert text.count("own.row_no") == 0  # rows of a drop are read by statements alone


STEPS = {  # statements of a merge that answer with counts, or write what lies on all machines
    "22_keep_keys", "23_link_keys", "24_record_snapshot", "33_count_superseded", "80_count_changed", "23_count_unlisted",
}  # fmt: skip


def live(database: Database, folder: Path) -> None:
    """Let a database go through fixtures, drops (late ones, ties, repeats, deletions), requests, a snapshot and an undo."""
    people = range(40)
    with database.transaction() as connection:
        reference_data(connection)
    with database.connect(autocommit=True) as connection:
        types = reference_types(connection)

        def drop(name: str, *changes: Change, options: Options = Options()) -> str:  # noqa: B008
            with connection.transaction():
                report = ingest_on(connection, write_drop(folder / f"{name}.csv", changes), options)
            assert report.status == "merged", report
            return report.sha256 or ""

        def ask(change: Change) -> None:
            apply_change(connection, types, a_request(change), now=day(1000), time_zone=UTC)

        first = [an_entity(f"p {n}", at=2, name=f"n {n}", email=f"{n}@x.org", phone="1") for n in people]
        drop("initial", *first)
        delta = [an_entity(f"p {n}", at=4, name=f"m {n % 7}", email=f"{n % 5}@x.org") for n in people if n % 2]
        wrong = drop("delta", *delta, an_entity("p 0", at=4, op="delete"))
        drop("replay", *first[::-1][:30], an_entity("p 39", at=2, name="n 39", phone=None))
        drop("late", *(an_entity(f"p {n}", at=1 + n % 3, name="late", email=None) for n in people if n % 3 == 0))
        several = [an_entity(f"p {n}", at=at, name=f"s {at}", email=f"{at}@y.org") for n in (1, 2, 3) for at in (6, 5, 6, 7)]
        drop("several", *several, an_entity("new", at=5, name="New"), an_entity("p 5", at=6, op="delete"))
        ask(an_entity("p 1", at=8, op="patch", name="asked", type_=None, phone="2"))
        ask(an_entity("posted", at=8, name="Posted", email="posted@x.org"))
        ask(an_entity("p 2", at=3, op="patch", name=None, type_=None, email="patched@x.org"))
        ask(an_entity("p 3", at=6, op="patch", name="tied", type_=None))
        ask(an_entity("p 7", at=9, op="delete"))
        scope = Options(snapshot=SnapshotOptions("PERSON", day(10)), snapshot_limit=1.0)
        drop("snapshot", *(an_entity(f"p {n}", at=10, name=f"m {n % 7}") for n in people if n < 30), options=scope)
        drop("late for the snapshot", an_entity("p 35", at=9, name="too late"))
        undo_drop(connection, wrong, "undo", Who("ann", "it was wrong"))


def tables(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables, but for when they were written."""
    columns = {
        "entity": "entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current",
        "entity_detail": "entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current",
        "ledger": "*",
        "repeat": "*",
        "retraction": "*",
        "snapshot": "*",
        "snapshot_effect": "*",
        "batch": "batch_id, actor, source, drop_sha256",
        "drop_file": "sha256, status, batch_id, rows_accepted, rows_changed, rows_unchanged, rows_late, rows_superseded,"
        " entities_ended, entity_versions_added, detail_versions_added",
    }
    return {
        name: sorted(connection.execute(f"select {listed} from {name}".encode()).fetchall(), key=str)
        for name, listed in columns.items()
    }


def answers(connection: Connection) -> dict[str, object]:
    """What the reads answer, without the moments of recording."""
    types = reference_types(connection)

    def without_moments(answer: object) -> str:
        text = "\n".join(answer) if isinstance(answer, list | tuple) else str(answer)
        return re.sub(r'"recorded_at":"[^"]*"', "", text)

    (middle,) = connection.execute("select recorded_at from batch where batch_id = 4").fetchone() or ()
    found: dict[str, object] = {}
    for known_at in (None, middle):
        known = {"known_at": known_at}
        found |= {
            f"as of {known_at is None}": reads.entities(connection, types, as_of=day(5), limit=200, **known).documents,
            f"diff {known_at is None}": reads.diff(connection, day(1), day(20), limit=200, **known).documents,
            f"changes {known_at is None}": reads.transitions(connection, day(0), day(20), limit=200, **known).documents,
            f"count {known_at is None}": reads.count_entities(connection, types, as_of=day(5), **known),
            f"history {known_at is None}": [*reads.history(connection, uid("p 1"), **known)],
            f"audit {known_at is None}": [*reads.audit(connection, uid("p 1"), **known)],
            f"streamed {known_at is None}": b"".join(reads.stream_diff(connection, day(1), day(20), **known)).decode(),
        }
    found["list"] = reads.entities(connection, types, limit=200).documents
    found["one"] = reads.snapshot(connection, uid("p 1"))
    found["feed"] = feed(connection, parse_cursor(""), limit=500, with_entities=True).documents
    return {name: without_moments(answer) for name, answer in found.items()}


@on_citus
@pytest.mark.citus
def test_drops_requests_a_snapshot_and_an_undo_give_the_tables_and_answers_of_one_server(
    fresh_database: Database, one_server: Database, tmp_path: Path
) -> None:
    live(fresh_database, tmp_path)
    live(one_server, tmp_path)
    with fresh_database.connect(autocommit=True) as spread, one_server.connect(autocommit=True) as one:
        expected, found = tables(one), tables(spread)
        for name, rows in expected.items():
            assert found[name] == rows, name
        assert all(len(rows) > 0 for rows in expected.values())
        asked, answered = answers(one), answers(spread)
        for name, answer in asked.items():
            assert answered[name] == answer, name
        assert [(c.name, c.examples) for c in check(spread) if not c.holds] == []
