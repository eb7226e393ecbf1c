"""Random changes, split and ordered at random over drops, replays and single changes: product and model agree."""

from __future__ import annotations

import os
import random

import pytest
from builders import day, reference_data
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from timeline_model import SaidBy, said_by
from timeline_product import PEOPLE, Product, Step

from crm_core.model import Change
from crm_core.postgres.connection import Database
from crm_core.reading import reads
from crm_core.timeline.invariants import check

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.temporal, pytest.mark.idempotency]

VALUES = st.sampled_from(["ada@x.org", "ADA@x.org", "É b", "é b", 'c,"d"|e'])
DETAILS = st.dictionaries(st.sampled_from(["email", "phone", "address"]), st.none() | VALUES)
INSTANTS = (st.integers(0, 2) | st.integers(0, 9)).map(day)  # the few first make ties, the others room
NAMES = st.sampled_from(["Ada", "ADA", 'O\'Neil, "x"'])
TYPES = st.sampled_from(["PERSON", "INSTITUTION"])

SOURCES = st.sampled_from([None, "erp", "shop"])

upserts = st.builds(SaidBy, st.sampled_from(PEOPLE), INSTANTS, st.just("upsert"), NAMES, TYPES, DETAILS, SOURCES)
patches = st.builds(
    SaidBy, st.sampled_from(PEOPLE), INSTANTS, st.just("patch"), st.none() | NAMES, st.none() | TYPES, DETAILS
)
deletions = st.builds(SaidBy, st.sampled_from(PEOPLE), INSTANTS, st.just("delete"), source=SOURCES)

drops = st.tuples(st.just("drop"), st.lists(upserts | upserts | deletions, min_size=1, max_size=6))
requests = st.tuples(st.just("request"), st.lists(upserts | patches | deletions, min_size=1, max_size=3))
fixtures = st.tuples(st.just("fixture"), st.lists(upserts | patches | deletions, min_size=1, max_size=4))
replays = st.tuples(
    st.just("replay"), st.integers(0, 9), st.lists(upserts | deletions, max_size=3), st.just("same") | SOURCES
)
retractions = st.tuples(st.sampled_from(["undo", "undo", "reinstate"]), st.integers(0, 9))
SCOPES = st.sampled_from(["PERSON", "institution", "PERSON,INSTITUTION", "source=erp", "source=ERP", "source=shop"])
snapshots = st.tuples(
    st.just("snapshot"),
    SCOPES,
    INSTANTS,
    st.lists(upserts | upserts | deletions, max_size=4),
    st.sets(st.sampled_from(PEOPLE), max_size=1),  # of rows that are rejected
)
steps_taken = st.lists(
    drops | requests | fixtures | replays | snapshots | snapshots | retractions | retractions, min_size=1, max_size=8
)


TIMES = int(os.environ.get("CRM_TEST_TIMES", "1"))  # how many times the usual number of examples


def examples(number: int) -> settings:
    return settings(
        max_examples=TIMES * number, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
    )


@examples(16)
@given(steps=steps_taken)
def test_versions_are_a_function_of_the_set_of_changes(
    database: Database, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    _take_and_compare(database, tmp_path_factory, steps)


@pytest.mark.parametrize("any_server", ["pg15"], indirect=True)
@examples(4)
@given(steps=steps_taken)
def test_and_so_they_are_on_an_older_server(
    any_database: Database, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    _take_and_compare(any_database, tmp_path_factory, steps)


def _take_and_compare(database: Database, folders: pytest.TempPathFactory, steps: list[Step]) -> None:
    with database.connect() as connection:
        reference_data(connection)
        product = Product(connection, folders.mktemp("drops"))
        product.take(steps)
        product.agrees(product.model)
        product.agrees_with_the_feed()
        product.agree_on_effects()
        for known_at, count in random.Random(str(steps)).sample(product.known, min(2, len(product.known))):
            product.agrees(product.model.known_after(count), known_at)
        assert [(c.name, c.examples) for c in check(connection) if not c.holds] == []
        connection.rollback()


@examples(16)
@given(
    changes=st.lists(upserts | deletions, min_size=2, max_size=8),
    again=st.lists(st.tuples(st.integers(0, 7), SOURCES), max_size=3),
    said=st.lists(snapshots, max_size=3),
    data=st.data(),
)
def test_order_of_arrival_does_not_matter(
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[Change],
    again: list[tuple[int, str | None]],
    said: list[Step],
    data: st.DataObject,
) -> None:
    apart = {(change.entity_uid, change.change_ts): change for change in changes}  # no ties
    own = [change for step in said if step[0] == "snapshot" for change in step[3]]
    assume(len({(c.entity_uid, c.change_ts) for c in [*apart.values(), *own]}) == len(apart) + len(own))
    repeated = list(apart.values())  # what another source says too
    orders = [repeated, data.draw(st.permutations(list(apart.values())))]
    histories = []
    for order in orders:
        cut = data.draw(st.integers(0, len(order)))
        steps: list[Step] = [("drop", part) for part in (order[:cut], order[cut:]) if part]
        repeats: list[Change] = [said_by(source, repeated[number % len(repeated)]) for number, source in again]
        steps += [("drop", [one]) for one in repeats]
        with database.connect() as connection:
            reference_data(connection)
            product = Product(connection, tmp_path_factory.mktemp("drops"))
            product.take(data.draw(st.permutations([*steps, *said])))
            histories.append([reads.history(connection, uid) for uid in PEOPLE])
            connection.rollback()
    assert histories[0] == histories[1]
