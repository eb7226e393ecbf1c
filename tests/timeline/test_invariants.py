"""`check` finds each kind of damage that the constraints cannot, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import an_entity, reference_data, uid, write_drop
from damage import DAMAGE

from crm_core.drops.ingest import Options, ingest_over
from crm_core.postgres.connection import Connection
from crm_core.reference import reference_types
from crm_core.timeline.invariants import CHECKS, NOT_OF_ENTITIES, TableSizes, check, entities_of_drop, table_sizes
from crm_core.timeline.merge import Origin, record

pytestmark = pytest.mark.integration


def fill(connection: Connection) -> None:
    reference_data(connection)
    types = reference_types(connection)
    for at in (1, 2):
        changes = [an_entity(who, at=at, name=f"{who} {at}", email=f"{at}@x.org") for who in ("ada", "bob")]
        record(connection, types, changes, Origin("test", "request"))
    connection.execute("set constraints all immediate")  # no table with pending triggers can be altered


def test_every_invariant_holds_after_merges(connection: Connection) -> None:
    fill(connection)
    checks = list(check(connection))
    assert len(checks) == len(CHECKS)
    assert [c.name for c in checks if not c.holds] == []
    assert all(c.invariant.endswith(".") for c in checks)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_the_damage_it_is_for(connection: Connection, name: str) -> None:
    fill(connection)
    connection.execute(DAMAGE[name].encode())
    found = {c.name: c for c in check(connection)}
    broken = found[name[3:]]
    assert not broken.holds
    assert broken.examples


def test_a_database_whose_own_collation_changed_is_reported(any_connection: Connection) -> None:
    any_connection.execute("update pg_database set datcollversion = '0' where datname = current_database()")
    query = "select pg_database_collation_actual_version(oid) from pg_database where datname = current_database()"
    has_versions = any_connection.execute(query).fetchone() != (None,)  # that of C has none
    found = {c.name: c for c in check(any_connection)}["collations_are_unchanged"]
    assert found.holds is not has_versions
    assert ["refresh collation version" in line for line in found.examples] == [True] * has_versions


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NOT_OF_ENTITIES])
def test_a_check_of_some_entities_finds_their_damage_and_no_others(connection: Connection, name: str) -> None:
    fill(connection)
    connection.execute(DAMAGE[name].encode())
    damaged = {c.name: c.holds for c in check(connection, uids=[uid("ada")])}
    assert damaged[name[3:]] is False
    assert all(c.holds for c in check(connection, uids=[uid("someone else")]))


def test_the_entities_of_a_drop_are_all_of_a_small_one_and_a_spread_of_a_large_one(
    connection: Connection, tmp_path: Path
) -> None:
    reference_data(connection)
    path = write_drop(tmp_path / "drop.csv", [an_entity(f"person {number}") for number in range(100)])
    report = ingest_over(connection, path, Options())
    assert report.sha256 is not None
    assert set(entities_of_drop(connection, report.sha256)) == {uid(f"person {number}") for number in range(100)}
    few = entities_of_drop(connection, report.sha256, at_most=10)
    assert set(few) == {uid(f"person {number}") for number in range(8, 100, 10)}


def test_rows_are_counted_also_before_the_planner_has_an_estimate(connection: Connection) -> None:
    assert table_sizes(connection) == TableSizes(0, 0, 0)
    fill(connection)
    assert table_sizes(connection) == TableSizes(changes=4, entity_versions=4, detail_versions=4)
    connection.execute("analyze")
    assert table_sizes(connection) == TableSizes(changes=4, entity_versions=4, detail_versions=4)
