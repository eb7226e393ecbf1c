"""Random rows and requests by uids and keys, links and undos, in any order: product and model agree whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest
from builders import a_request, as_row, day, reference_data, write_drop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from key_model import Key, KeyedRow, KeyModel

from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.registry import rejects
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.errors import UnknownEntity
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading.keys import find_key, keys_of
from crm_core.reference import put_source, reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.links import link
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who
from crm_core.values.hashing import key_uid

pytestmark = [pytest.mark.integration, pytest.mark.scd2]

PEOPLE = [UUID(int=(n << 120) + n) for n in (0x01, 0xFE)]
KEYS: list[Key] = [("erp", "a"), ("erp", "b"), ("shop", "a")]
ENTITIES = [*PEOPLE, *(key_uid(*key) for key in KEYS)]
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts", "op", "source", "source_key")
BECAUSE = Who("test", "because")

people, keys = st.sampled_from(PEOPLE), st.sampled_from(KEYS)
changes = st.builds(
    Change,
    st.sampled_from(ENTITIES[:3]),
    st.integers(0, 5).map(day),
    st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    st.sampled_from(["Ada", "Bob", "Cid"]),
    st.just("PERSON"),
).map(lambda change: change if change.op == "upsert" else Change(change.entity_uid, change.change_ts, "delete"))
rows = st.one_of(
    st.builds(KeyedRow, changes, st.just(value=True), st.none() | keys),
    st.builds(KeyedRow, changes, st.just(value=False), keys),
    st.builds(KeyedRow, changes, st.booleans(), keys, st.tuples(keys)),
)
Step = (
    tuple[Literal["drop"], list[KeyedRow]]
    | tuple[Literal["put"], Key, Change]
    | tuple[Literal["link"], Key, UUID]
    | tuple[Literal["undo"], int]
)
drops = st.tuples(st.just("drop"), st.lists(rows, min_size=1, max_size=5))
puts = st.tuples(st.just("put"), keys, changes.filter(lambda change: change.op == "upsert"))
links = st.tuples(st.just("link"), keys, st.sampled_from(ENTITIES))
undos = st.tuples(st.just("undo"), st.integers(0, 9))
steps_taken = st.lists(drops | drops | puts | links | undos, min_size=1, max_size=8)


class Product:
    """The product over one connection, fed step by step beside the model."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.folder, self.model = connection, folder, KeyModel()
        self.types = reference_types(connection)
        self.drops: dict[int, str] = {}  # by the place of their batch: their SHA-256

    def take(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            match step:
                case ("drop", said):
                    self.drop(number, said)
                case ("put", key, change):
                    named = find_key(self.types, *key)
                    request = a_request(replace(change, entity_uid=named.key_uid), named_by=named)
                    apply_change(self.connection, self.types, request, now=datetime.now(UTC), time_zone=UTC)
                    self.model.put(key, change)
                case ("link", key, uid):
                    expected = self.model.link(key, uid)
                    with pytest.raises(UnknownEntity) if expected == "unknown" else nullcontext():
                        assert link(self.connection, find_key(self.types, *key), uid, BECAUSE).outcome == expected
                case ("undo", place):
                    self.undo(place)

    def drop(self, number: int, said: Sequence[KeyedRow]) -> None:
        expected, place = self.model.drop(said), len(self.model.times.batches) - 1
        further = dict.fromkeys(f"key.{source}" for row in said for source, _ in row.further)
        columns = ("reject_line", *COLUMNS, *further)  # the first makes the bytes of each drop others
        cells = [{"reject_line": str(number), **_cells(row)} for row in said]
        report = ingest_on(self.connection, write_drop(self.folder / f"{number}.csv", cells, columns), Options())
        assert report.status == "merged", report
        self.drops[place] = report.sha256 or ""
        assert [reject.line - 2 for reject in rejects(self.connection, self.drops[place])] == expected

    def undo(self, number: int) -> None:
        times = self.model.times
        acting = [place for place, batch in enumerate(times.batches) if place not in times.undone and not batch.undoes]
        if not acting:
            return
        place = acting[number % len(acting)]
        if place in self.drops:
            undo_drop(self.connection, self.drops[place], "undo", BECAUSE)
        else:
            found = [batch for (batch,) in self.connection.execute("select batch_id from batch order by batch_id")]
            undo_batch(self.connection, found[place], "undo", BECAUSE)
        times.undo(place)

    def agrees(self) -> None:
        for uid in ENTITIES:
            found = self.connection.execute(
                "select display_name, 'PERSON', valid_from, valid_to from entity where entity_uid = %s order by 3",
                (uid,),
            ).fetchall()
            assert found == self.model.times.entity_versions(uid)
            shown = {(key.source, key.source_key) for key in keys_of(self.connection, uid)}
            assert shown <= {key for key in KEYS if self.model.named(key) == uid}
        (count,) = (
            self.connection.execute(
                "select count(*) from entity where not entity_uid = any (%s)", (ENTITIES,)
            ).fetchone()
            or ()
        )
        assert count == 0
        assert [(c.name, c.examples) for c in check(self.connection) if not c.holds] == []


def _cells(row: KeyedRow) -> dict[str, str]:
    uid = {} if row.has_uid else {"entity_uid": ""}
    key = {"source": row.key[0], "source_key": row.key[1]} if row.key else {}
    return as_row(row.change) | uid | key | {f"key.{source}": text for source, text in row.further}


SAID = Change(PEOPLE[0], day(0), "upsert", "Ada", "PERSON")
# One key is that of an entity which was undone and has another key too: a row by that makes the entity, so the next may
# not give the first key to another.
MADE_BY_ANOTHER_KEY: list[Step] = [
    ("put", ("erp", "b"), SAID),
    ("link", ("shop", "a"), key_uid("erp", "b")),
    ("undo", 0),
    ("drop", [KeyedRow(SAID, False, ("shop", "a"), (("erp", "a"),)), KeyedRow(SAID, True, ("erp", "b"))]),
]


@example(steps=MADE_BY_ANOTHER_KEY)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(steps=steps_taken)
def test_each_key_names_one_entity_whoever_says_what_in_which_order(
    database: Database, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    with database.connect() as connection:
        reference_data(connection)
        for code in ("erp", "shop"):
            put_source(connection, code=code, name=code)
        product = Product(connection, tmp_path_factory.mktemp("drops"))
        product.take(steps)
        product.agrees()
        connection.rollback()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(changes=st.lists(st.tuples(keys, changes), min_size=2, max_size=8), data=st.data())
def test_rows_and_requests_by_key_make_the_same_timelines_in_any_order(
    database: Database, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[Key, Change]], data: st.DataObject
) -> None:
    apart = {(key, change.change_ts): (key, change) for key, change in changes if change.op == "upsert"}  # no ties
    orders = [list(apart.values()), data.draw(st.permutations(list(apart.values())))]
    found = []
    for order in orders:
        steps: list[Step] = [
            ("put", key, change) if data.draw(st.booleans()) else ("drop", [KeyedRow(change, False, key)])
            for key, change in order
        ]
        with database.connect() as connection:
            reference_data(connection)
            for code in ("erp", "shop"):
                put_source(connection, code=code, name=code)
            product = Product(connection, tmp_path_factory.mktemp("drops"))
            product.take(steps)
            product.agrees()
            query = "select entity_uid, display_name, valid_from, valid_to from entity order by 1, 3"
            found.append(connection.execute(query).fetchall())
            connection.rollback()
    assert found[0] == found[1]
