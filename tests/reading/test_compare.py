"""Two instants beside each other, and the whole at a glance: filters, totals and counts agree with the lists."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from builders import an_entity, day, reference_data

from crm_core.drops.undo import undo_batch
from crm_core.model import Change, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading import compare, reads
from crm_core.reading.compare import Action, Compared, Which, compared, totals
from crm_core.reading.lists import Filter
from crm_core.reading.moments import days_of_change
from crm_core.reading.summaries import count_by_type
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.temporal]

WINDOWS = [(day(0), day(10)), (day(2), day(3)), (day(4), day(9)), (day(-1), day(0.5)), (day(5), day(6))]
ACTIONS: tuple[Action, ...] = ("created", "changed", "ended")
FIELDS = ("display_name", "entity_type", "details.email", "details.phone", "details.website")
ENTITIES = 30


class Story:
    """Batches of changes of thirty entities over ten days, one undone; `known_ats` are before and after that."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.types: ReferenceTypes = reference_types(connection)
        drawn = random.Random(1)
        batches = [[self._change(drawn) for _ in range(60)] for _ in range(4)]
        recorded = [record(connection, self.types, some, Origin("tester", "fixture")).batch_id for some in batches]
        undo_batch(connection, recorded[1], "undo", Who("steward", "a wrong file"))
        values = {"batch_id": recorded[2]}
        asked = "select recorded_at, (select max(recorded_at) from batch) from batch where batch_id = %(batch_id)s"
        row = connection.execute(asked, values).fetchone()
        assert row is not None
        self.known_ats: tuple[datetime | None, ...] = (None, *row)

    @staticmethod
    def _change(drawn: random.Random) -> Change:
        who, at = f"e{drawn.randrange(ENTITIES)}", drawn.randrange(20) / 2
        name = f"{drawn.choice(['Ann', 'Bob', 'Çem'])} {who} {drawn.choice(['x', 'y'])}"
        details: dict[str, Any] = {
            code: drawn.choice(["1", "2", None]) for code in ("email", "phone") if drawn.random() < 0.6
        }
        match drawn.randrange(6):
            case 0:
                return an_entity(who, at=at, op="delete")
            case 1:
                return an_entity(who, at=at, op="patch", name=None, type_="INSTITUTION", **details)
            case 2:
                return an_entity(who, at=at, op="patch", name=name, type_=None, **details)
            case _:
                return an_entity(who, at=at, name=name, type_=drawn.choice(["PERSON", "INSTITUTION"]), **details)

    def differ(
        self, window: tuple[datetime, datetime], which: Which | None = None, known_at: datetime | None = None
    ) -> list[Compared]:
        found = compared(self.connection, self.types, *window, which, known_at=known_at, limit=1_000)
        assert found.after is None
        return [*found.entities]


@pytest.fixture
def story(any_connection: Connection) -> Story:
    reference_data(any_connection)
    return Story(any_connection)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_filter_of_a_comparison_leaves_out_what_it_does_not_let_pass(
    story: Story, window: tuple[datetime, datetime]
) -> None:
    every = story.differ(window)
    for action in (None, *ACTIONS):
        for field in (None, *FIELDS):
            wanted = [
                one
                for one in every
                if action in (None, one.action) and field in (None, *(change.field for change in one.changes))
            ]
            assert story.differ(window, Which(action=action, field_name=field)) == wanted, (action, field)
        for name, code in (("ann e1", None), ("ÇEM", "PERSON"), ("nobody", None), (None, "institution"), ("e2", None)):
            wanted = [
                one
                for one in every
                if action in (None, one.action)
                and (name or "").casefold() in one.display_name.casefold()
                and (code or one.entity_type).upper() == one.entity_type
            ]
            assert story.differ(window, Which(Filter(name, code), action=action)) == wanted, (action, name, code)


@pytest.mark.parametrize("ahead", [0, 7, 30_000])
def test_a_comparison_finds_all_that_differ_however_far_it_looks_ahead(
    story: Story, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "AHEAD", ahead)
    monkeypatch.setattr(compare, "FIRST_CHUNK", 2)
    monkeypatch.setattr(compare, "CHUNK", 3)
    for window in WINDOWS:
        differ = [json.loads(document) for document in reads.diff(story.connection, *window, limit=100).documents]
        for action in (None, *ACTIONS):
            wanted = [one["entity_uid"] for one in differ if action in (None, one["action"])]
            assert [str(one.entity_uid) for one in story.differ(window, Which(action=action))] == wanted, action


@pytest.mark.parametrize("window", WINDOWS)
def test_the_totals_of_a_comparison_count_what_it_lists(story: Story, window: tuple[datetime, datetime]) -> None:
    for known_at in story.known_ats:
        every = story.differ(window, known_at=known_at)
        counted = totals(story.connection, *window, known_at=known_at)
        assert counted.actions == Counter(one.action for one in every)
        assert counted.fields == Counter(change.field for one in every for change in one.changes)


def test_entities_are_counted_by_type_as_the_list_has_them(story: Story) -> None:
    for at in (day(0), day(2.5), day(5), day(9)):
        for known_at in story.known_ats:
            listed = {
                kind.code: len(
                    reads.entities(
                        story.connection,
                        story.types,
                        Filter(entity_type=kind.code),
                        as_of=at,
                        known_at=known_at,
                        limit=200,
                    ).documents
                )
                for kind in story.types.entity_types
            }
            counted = count_by_type(story.connection, at, known_at=known_at)
            assert {count.code: count.entities for count in counted} == listed
            assert sum(listed.values()) == reads.count_entities(
                story.connection, story.types, as_of=at, known_at=known_at
            )
    assert sum(listed.values()) > 5


def test_a_name_of_the_past_is_found_as_of_then_and_as_known_then(story: Story) -> None:
    for at in (day(2.5), day(9)):
        for known_at in story.known_ats:
            every = reads.entities(story.connection, story.types, as_of=at, known_at=known_at, limit=200).documents
            for part in ("ann", "çem", "e1", "nobody"):
                which = Filter(part)
                found = reads.entities(story.connection, story.types, which, as_of=at, known_at=known_at, limit=200)
                wanted = [text for text in every if part in text.split('"display_name":"')[1].split('"')[0].casefold()]
                assert [*found.documents] == wanted
                count = reads.count_entities(story.connection, story.types, which, as_of=at, known_at=known_at)
                assert count == len(wanted)


def test_days_of_change_are_those_of_a_time_zone(any_connection: Connection) -> None:
    reference_data(any_connection)
    changes = [an_entity(at=1, email="a"), an_entity("bob", at=1.9), an_entity(at=2.2, email="b", name="Ada King")]
    record(any_connection, reference_types(any_connection), changes, Origin("tester", "fixture"))
    utc = [(one.last_at, one.begun, one.ended) for one in days_of_change(any_connection, ZoneInfo("UTC"))]
    assert utc == [(day(1.9), 3, 0), (day(2.2), 2, 2)]
    tokyo = [(one.last_at, one.begun, one.ended) for one in days_of_change(any_connection, ZoneInfo("Asia/Tokyo"))]
    assert tokyo == [(day(1), 2, 0), (day(2.2), 3, 2)]
