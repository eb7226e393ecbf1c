"""The types hold still while somebody writes by them, and many of them load at once."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import an_entity, reference_data, write_drop
from running import until
from serving import ENTITIES, V1, a_problem, create, served, waiters

from crm_core.drops.ingest import Options, ingest_on
from crm_core.errors import DetailTypeInUse
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.model import Compares
from crm_core.postgres.connection import Database
from crm_core.reference import held_types, lock_types, put_detail_type, reference_types
from crm_core.timeline.invariants import check

pytestmark = pytest.mark.integration


@pytest.fixture
def crm(any_fresh_database: Database) -> Database:
    with any_fresh_database.transaction() as connection:
        reference_data(connection)
    return any_fresh_database


def breaches(database: Database) -> list[str]:
    with database.connect(autocommit=True) as connection:
        return [example for found in check(connection) for example in found.examples]


def change(database: Database, compares: Compares) -> None:
    with database.transaction() as connection:
        lock_types(connection)
        put_detail_type(connection, code="note", name="Note", compares=compares)


def compares_of_note(database: Database) -> str:
    with database.connect() as connection:
        return {kind.code: kind.compares for kind in reference_types(connection).detail_types}["note"]


def test_how_values_compare_waits_for_a_drop_that_brings_the_first(crm: Database, tmp_path: Path) -> None:
    assert compares_of_note(crm) == "exact"
    drop = write_drop(tmp_path / "drop.csv", [an_entity(note=" A  b ")])
    with ThreadPoolExecutor(1) as threads, crm.connect() as connection:
        ingest_on(connection, drop, Options())
        changing: Future[None] = threads.submit(change, crm, "text")
        until(lambda: waiters(crm), 30, 0.05)
        connection.commit()
        with pytest.raises(DetailTypeInUse):
            changing.result(30)
    assert compares_of_note(crm) == "exact"
    assert breaches(crm) == []


def test_a_drop_waits_for_a_change_of_how_values_compare_and_goes_by_the_new_way(crm: Database, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "drop.csv", [an_entity(note=" A  b ")])

    def ingest() -> None:
        with crm.connect(autocommit=True) as connection:
            ingest_on(connection, drop, Options())

    with ThreadPoolExecutor(1) as threads, crm.connect() as connection:
        lock_types(connection)
        put_detail_type(connection, code="note", name="Note", compares="text")
        ingesting: Future[None] = threads.submit(ingest)
        until(lambda: waiters(crm), 30, 0.05)
        connection.commit()
        ingesting.result(30)
    with crm.connect() as connection:
        assert connection.execute("select detail_value from entity_detail").fetchall() == [("A b",)]
    assert breaches(crm) == []


def test_others_write_on_while_a_change_of_how_values_compare_waits(crm: Database, tmp_path: Path) -> None:
    drop = write_drop(tmp_path / "drop.csv", [an_entity(note="a")])
    with ThreadPoolExecutor(1) as threads, crm.connect() as writing:
        held_types(writing)
        changing: Future[None] = threads.submit(change, crm, "text")
        until(lambda: waiters(crm), 30, 0.05)
        with crm.connect(autocommit=True) as connection:
            assert ingest_on(connection, drop, Options()).status == "merged"
        writing.commit()
        with pytest.raises(DetailTypeInUse):
            changing.result(30)
    assert breaches(crm) == []


def test_a_request_goes_by_how_values_compare_now_whatever_its_process_remembers(crm: Database) -> None:
    with served(crm) as one, served(crm) as other:
        create(one, "Ada", email="ada@example.org")  # it remembers the types from here on
        answer = other.patch(f"{V1}/detail-types/note", json={"compares": "text"})
        assert answer.status_code == 200, answer.text
        made = create(one, "Bo", note=" A  b ")
        assert [detail["detail_value"] for detail in made["details"]] == ["A b"]
        assert one.get(ENTITIES, params={"note": "A b"}).json()["count"] == 1
        a_problem(other.patch(f"{V1}/detail-types/note", json={"compares": "exact"}), 409, "note")
    assert breaches(crm) == []


def test_ten_thousand_detail_types_load_within_seconds(fresh_database: Database, tmp_path: Path) -> None:
    file = tmp_path / "types.json"
    types = [{"model": "entity.detailtype", "pk": f"t{n}", "fields": {"name": f"Type {n}"}} for n in range(10_000)]
    file.write_text(json.dumps(types))
    fixtures = read_fixtures([file])
    started = time.monotonic()
    for _ in range(2):
        with fresh_database.transaction() as connection:
            load_fixtures(connection, fixtures)
            assert len(reference_types(connection).detail_types) == 10_000
    assert time.monotonic() - started < 30, "one by one, each after reading all, takes minutes"
