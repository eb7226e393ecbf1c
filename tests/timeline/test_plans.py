"""The key queries use the index that is promised to serve them, on a set large enough for an index to pay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from builders import an_entity, day, reference_data

from crm_core.bench.generator import write_drops
from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.reading.audit import Recorded, audit_of_all
from crm_core.reading.lists import Filter, Position
from crm_core.reference import reference_types
from crm_core.resources import statement
from crm_core.timeline.invariants import check
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.plans import KEY_QUERIES, explain

pytestmark = [pytest.mark.integration, pytest.mark.temporal]


@pytest.fixture(scope="module")
def large(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("drops")
    drops, keyed = write_drops(folder, 20_000), folder / "keyed.csv"
    rows = "".join(f"erp,{number},Keyed {number},PERSON,,2023-06-01\n" for number in range(5_000))
    keyed.write_text(f"source,source_key,display_name,entity_type,details,change_ts\n{rows}")
    with any_database.transaction() as connection:
        reference_data(connection)
        connection.execute("insert into source (code, name) values ('erp', 'ERP')")
    for drop in (drops.initial, drops.delta, drops.late, keyed):
        assert ingest(any_database, drop).status == "merged"
    with any_database.connect(autocommit=True) as connection:
        connection.execute("vacuum analyze entity, entity_detail, ledger, source_key")
        connection.execute("insert into batch (recorded_at, actor, source) values (now(), 'test', 'request')")
        yield connection


def test_every_key_query_uses_the_index_promised_for_it(large: Connection) -> None:
    plans = list(explain(large))
    assert len(plans) == len(KEY_QUERIES)
    broken = [f"{plan.query.purpose} must use {plan.query.must_use}\n{plan.text}" for plan in plans if not plan.ok]
    assert not broken, "\n\n".join(broken)


def test_no_query_reads_the_exclusion_constraints_or_looks_for_a_chain(large: Connection) -> None:
    """PostgreSQL can lose live entries of a GiST index that a nested loop leaves early and scans again."""
    large.execute("set enable_seqscan = off")
    try:
        for plan in explain(large):
            assert not [index for index in plan.uses if index.startswith("exclude_")], plan.text
            assert "next_from" not in plan.text, plan.text
    finally:
        large.execute("reset enable_seqscan")


@pytest.fixture
def preparing(large: Connection) -> Iterator[Connection]:
    """The connection, with every statement prepared that may be."""
    usual, large.prepare_threshold = large.prepare_threshold, 0
    yield large
    large.prepare_threshold = usual
    large.execute("reset plan_cache_mode")
    large.execute("deallocate all")


def prepared(connection: Connection, ending: str) -> list[tuple[str, int]]:
    """The prepared statements with some text in them: name, and how often a plan that is kept has served."""
    query = "select name, generic_plans from pg_prepared_statements where position(%s in statement) > 0"
    return connection.execute(query, (ending,), prepare=False).fetchall()


def test_the_first_of_all_come_by_a_plan_that_is_kept(preparing: Connection) -> None:
    types = reference_types(preparing)
    arguments = {"is_current and (": "('M', '80000000-0000-0000-0000-000000000000', 21, 0)"}
    arguments["valid_from <="] = f"('{day(20)}', '80000000-0000-0000-0000-000000000000', 'infinity', 21, 0)"
    for number in range(12):
        after = Position(UUID(int=number << 124), chr(ord("A") + number))
        for as_of in (None, day(20)):
            assert len(reads.entities(preparing, types, Filter(details={}), as_of=as_of, after=after).documents) == 20
    preparing.execute("set plan_cache_mode = force_generic_plan")
    for part, values in arguments.items():
        ((name, kept),) = prepared(preparing, part)
        assert kept > 0
        plan = "\n".join(line for (line,) in preparing.execute(f"explain execute {name} {values}", prepare=False))
        assert ("entity_by_name" if part.startswith("is") else "entity_pkey") in plan
        assert "Seq Scan on entity " not in plan


def test_a_list_with_a_filter_is_planned_for_its_values(preparing: Connection) -> None:
    types = reference_types(preparing)
    for number in range(8):
        for as_of in (None, day(20)):
            for which in (
                Filter(name_contains=f"a{number}"),
                Filter(entity_type="PERSON"),
                Filter(details={"email": "x"}),
            ):
                reads.entities(preparing, types, which, as_of=as_of)
                reads.count_entities(preparing, types, which, as_of=as_of)
    assert not prepared(preparing, "search_form")


@pytest.mark.parametrize(
    "which", [Filter(details={"email": "nobody@example.org"}), Filter(name_contains="no such name")]
)
def test_a_filter_that_nothing_passes_does_not_walk_all_names(large: Connection, which: Filter) -> None:
    values = which.values(reference_types(large))
    values |= {"after_uid": None, "after_name": None, "limit": 21, "offset": 0}
    name = "entities_current_with_details" if which.details else "entities_current"
    query = "explain " + statement(f"query/{name}")
    plan = "\n".join(line for (line,) in large.execute(query, values, prepare=False))
    assert "entity_by_name" not in plan
    assert "Seq Scan on entity " not in plan


def test_a_page_as_known_reads_no_more_of_the_ledger_than_it_shows(large: Connection) -> None:
    types, known_at = reference_types(large), day(99_999)
    (one,) = (
        large.execute("select entity_uid from entity where is_current order by entity_uid limit 1").fetchone() or ()
    )
    asked: dict[str, Callable[[], object]] = {
        "one": lambda: reads.snapshot(large, one, as_of=day(20), known_at=known_at),
        "history": lambda: reads.history(large, one, known_at=known_at),
        "list": lambda: reads.entities(large, types, as_of=day(20), known_at=known_at),
        "list of 200": lambda: reads.entities(large, types, as_of=day(20), known_at=known_at, limit=200),
        "list of a type": lambda: reads.entities(
            large, types, Filter(entity_type="PERSON"), as_of=day(20), known_at=known_at
        ),
        "diff": lambda: reads.diff(large, day(1), day(20), known_at=known_at),
    }
    query = (
        "select seq_scan, seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables"
        " where relid = 'public.ledger'::regclass"
    )
    for name, read in asked.items():
        with large.transaction():
            (_, before) = large.execute(query).fetchone() or ()
            read()
            (scans, rows) = large.execute(query).fetchone() or ()
        assert scans == 0, name
        assert rows - before < 2_000, name


def test_one_letter_or_two_are_searched_for_like_any_text(large: Connection) -> None:
    types = reference_types(large)
    names = [json.loads(d)["display_name"] for d in reads.entities(large, types, limit=30_000).documents]
    for text in ("z", "q", "qz", "ab", "é", "%", "_"):
        found = sum(text in name.lower() for name in names)
        which = Filter(name_contains=text.upper())
        assert len(reads.entities(large, types, which, limit=200).documents) == min(200, found)
        assert reads.count_entities(large, types, which) == found


def test_an_audit_of_one_operation_comes_by_its_index(large: Connection) -> None:
    asked = dict.fromkeys(("actor", "from", "to", "batches", "detail_type", "entity_uid"))
    asked |= dict.fromkeys(("after_at", "after_batch", "after_uid", "after_row"))
    values = {**asked, "op": "delete", "limit": 21, "offset": 0, "at_most": 10_000}
    for name in ("audit_of_few", "count_audit_of_few"):
        query = "explain " + statement(f"query/{name}")
        plan = "\n".join(line for (line,) in large.execute(query, values, prepare=False))
        assert "ledger_by_op" in plan, plan


def test_the_audit_of_an_entity_with_many_changes_compares_no_change_with_each_batch(large: Connection) -> None:
    """A page in the order of the batches would, if each of them was looked at with all the changes."""
    with large.transaction(force_rollback=True):
        many = [an_entity(at=number / 100, name=f"Name {number}") for number in range(2_000)]
        record(large, reference_types(large), many, Origin("test", "fixture"))
        large.execute(
            "insert into batch (recorded_at, actor, source)"
            " select now() - n * interval '1 second', 'test', 'request' from generate_series(1, 1500) n"
        )
        large.execute("analyze batch, ledger")
        asked = dict.fromkeys(("actor", "from", "to", "batches", "detail_type", "op"))
        asked |= dict.fromkeys(("after_at", "after_batch", "after_uid", "after_row"))
        values = {**asked, "entity_uid": many[0].entity_uid, "limit": 51, "offset": 0}
        query = "explain (analyze) " + statement("query/audit_of_few")
        plan = "\n".join(line for (line,) in large.execute(query, values, prepare=False))
        removed = [int(number) for number in re.findall(r"Rows Removed by Join Filter: (\d+)", plan)]
        assert max(removed, default=0) < 10_000, plan
        assert len(audit_of_all(large, Recorded(entity_uid=many[0].entity_uid), limit=51).documents) == 51


def test_an_empty_database_has_no_plans_to_show(connection: Connection) -> None:
    assert list(explain(connection)) == []


def test_the_invariants_hold_on_the_large_set(large: Connection) -> None:
    assert [c.name for c in check(large) if not c.holds] == []
