"""The key queries use the index that is promised to serve them, on a set large enough for an index to pay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from builders import reference_data

from crm_core.database import Connection, Database
from crm_core.explain import KEY_QUERIES, explain
from crm_core.generator import write_drops
from crm_core.ingest import ingest
from crm_core.quality import check

pytestmark = [pytest.mark.integration, pytest.mark.temporal]


@pytest.fixture(scope="module")
def large(any_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    drops = write_drops(tmp_path_factory.mktemp("drops"), 20_000)
    with any_database.transaction() as connection:
        reference_data(connection)
    for drop in (drops.initial, drops.delta, drops.late):
        assert ingest(any_database, drop).status == "merged"
    with any_database.connect(autocommit=True) as connection:
        connection.execute("vacuum analyze entity, entity_detail, ledger")
        connection.execute("insert into batch (recorded_at, actor, source) values (now(), 'test', 'request')")
        yield connection


def test_every_key_query_uses_the_index_promised_for_it(large: Connection) -> None:
    plans = list(explain(large))
    assert len(plans) == len(KEY_QUERIES)
    broken = [f"{plan.purpose} must use {plan.must_use}\n{plan.text}" for plan in plans if not plan.ok]
    assert not broken, "\n\n".join(broken)
    assert not [plan.uses for plan in plans if any("no_overlap" in index for index in plan.uses)], "they only enforce"


def test_an_empty_database_has_no_plans_to_show(connection: Connection) -> None:
    assert list(explain(connection)) == []


def test_the_invariants_hold_on_the_large_set(large: Connection) -> None:
    assert [c.name for c in check(large) if not c.holds] == []
