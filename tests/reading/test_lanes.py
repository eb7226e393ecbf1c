"""An entity's past field by field: runs, where they come from, late facts, and what was believed of a field when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from builders import a_request, an_entity, day, reference_data, uid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timeline_model import COMPARES, Model

from crm_core.drops.undo import undo_batch
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.reading.lanes import Belief, Run, Shape, Stretch, beliefs, past
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration, pytest.mark.temporal]

ADA = uid("ada")
ALWAYS, NOW = (day(-100), day(100)), day(100)
FIELDS = ("display_name", "entity_type", *(f"details.{code}" for code in COMPARES))


def take(connection: Connection, *changes: Change) -> datetime:
    """Record a batch and return when that was."""
    record(connection, reference_types(connection), changes, Origin("tester", "fixture"))
    row = connection.execute("select max(recorded_at) from batch").fetchone()
    assert row is not None
    recorded_at: datetime = row[0]
    return recorded_at


def runs_of(connection: Connection, field: str, who: UUID = ADA, known_at: datetime | None = None) -> list[Run]:
    found = past(connection, who, NOW, known_at=known_at, window=ALWAYS, shape=Shape(parts=10**9))
    return [run for run in found.lanes if run.field == field]


def told(runs: list[Run]) -> list[tuple[str | None, datetime, datetime | None]]:
    return [(run.value, run.valid_from, run.valid_to) for run in runs]


@pytest.fixture
def ada(any_connection: Connection) -> Connection:
    reference_data(any_connection)
    return any_connection


def test_a_name_goes_on_while_the_type_changes_and_a_gap_parts_equal_names(ada: Connection) -> None:
    take(ada, an_entity(at=1), an_entity(at=2, type_="INSTITUTION"), an_entity(at=4, op="delete"), an_entity(at=6))
    name = "Ada Lovelace"
    assert told(runs_of(ada, "display_name")) == [(name, day(1), day(4)), (name, day(6), None)]
    assert told(runs_of(ada, "entity_type")) == [
        ("PERSON", day(1), day(2)),
        ("INSTITUTION", day(2), day(4)),
        ("PERSON", day(6), None),
    ]
    assert told(runs_of(ada, "")) == [("", day(1), day(4)), ("", day(6), None)]


def test_a_value_comes_from_what_said_it_first_after_anything_else_was_said_of_its_instant(ada: Connection) -> None:
    first = take(ada, an_entity(at=1, email="a@x.org"))
    take(ada, an_entity(at=1, email="a@x.org", phone="1"))  # the same of the e-mail once more
    corrected = take(ada, an_entity(at=1, name="Ada King"))
    (email,), (phone,), (name,) = (runs_of(ada, f) for f in ("details.email", "details.phone", "display_name"))
    assert email.source is not None
    assert (email.source.recorded_at, email.source.actor, email.source.kind) == (first, "tester", "fixture")
    assert phone.source is not None
    assert first < phone.source.recorded_at < corrected
    assert name.source is not None
    assert name.source.recorded_at == corrected


def test_a_request_is_named_by_its_id(ada: Connection) -> None:
    request = a_request(an_entity(at=1))
    apply_change(ada, reference_types(ada), request, now=datetime.now(UTC), time_zone=UTC)
    (name,) = runs_of(ada, "display_name")
    assert name.source is not None
    assert (name.source.kind, name.source.request_id, name.source.actor) == ("request", "request-1", "ann")
    assert name.source.line is None


def test_late_is_what_was_recorded_when_something_later_was_known(ada: Connection) -> None:
    take(ada, an_entity(at=1, name="A"), an_entity(at=5, name="C"))
    take(ada, an_entity(at=3, name="B"))
    take(ada, an_entity(at=7, name="D"))
    assert [(run.value, run.is_late) for run in runs_of(ada, "display_name")] == [
        ("A", False),
        ("B", True),
        ("C", False),
        ("D", False),
    ]


def test_what_is_recorded_within_a_day_is_not_late(ada: Connection) -> None:
    now = (datetime.now(UTC) - day(0)) / timedelta(days=1)
    take(ada, an_entity(at=now - 0.2, name="A"), an_entity(at=now - 0.01, name="C"))
    take(ada, an_entity(at=now - 0.1, name="B"))
    found = [run for run in past(ada, ADA, NOW).values if run.field == "display_name"]
    assert [(run.value, run.is_late) for run in found] == [("C", False), ("B", False), ("A", False)]


def test_short_runs_are_gathered_but_for_the_one_that_is_asked_for(ada: Connection) -> None:
    take(ada, *(an_entity(at=1 + number / 100, name=f"name {number}") for number in range(100)), an_entity(at=50))
    found = past(ada, ADA, NOW, at=day(1.505), window=(day(0), day(100))).lanes
    names = [run for run in found if run.field == "display_name"]
    assert [(run.count, run.value, run.holds) for run in names] == [
        (98, None, False),
        (1, "name 50", True),
        (1, "name 99", False),
        (1, "Ada Lovelace", False),
    ]
    assert (names[0].valid_from, names[0].valid_to) == (day(1), day(1.99))
    assert names[0].source is None
    assert names[1].source is not None


def test_a_run_outside_the_window_is_there_only_if_it_holds_at_the_instant(ada: Connection) -> None:
    take(ada, an_entity(at=1, name="A"), an_entity(at=2, name="B"), an_entity(at=3, name="C"))

    def names(at: datetime | None) -> list[str | None]:
        found = past(ada, ADA, NOW, at=at, window=(day(2.2), day(2.8))).lanes
        return [run.value for run in found if run.field == "display_name"]

    assert names(day(2.5)) == ["B"]
    assert names(day(1.5)) == ["A", "B"]
    assert names(None) == ["B", "C"]


def test_the_extent_says_where_the_entity_existed_next_to_an_instant(ada: Connection) -> None:
    take(ada, an_entity(at=1, email="a@x.org"), an_entity(at=3, op="delete"), an_entity(at=6))
    gap = past(ada, ADA, NOW, at=day(4)).extent
    assert (gap.began_at, gap.last_at, gap.ended_before, gap.begins_after) == (day(1), day(6), day(3), day(6))
    assert gap.fields == ("display_name", "entity_type", "details.email")
    assert (gap.count, gap.is_open) == (5, True)
    before = past(ada, ADA, NOW, at=day(0.5)).extent
    assert (before.ended_before, before.begins_after) == (None, day(1))
    nothing = past(ada, uid("nobody"), NOW).extent
    assert (nothing.began_at, nothing.fields, nothing.count, nothing.is_open) == (None, (), 0, False)


def test_moments_are_thinned_evenly_with_the_first_and_the_last(ada: Connection) -> None:
    take(ada, *(an_entity(at=number, name=f"name {number}") for number in range(1, 10)), an_entity(at=10, op="delete"))
    assert past(ada, ADA, NOW).moments == tuple(day(number) for number in range(1, 11))
    assert past(ada, ADA, NOW, shape=Shape(moments=10)).moments == past(ada, ADA, NOW).moments
    thinned = past(ada, ADA, NOW, shape=Shape(moments=4)).moments
    assert len(thinned) == 4
    assert (thinned[0], thinned[-1]) == (day(1), day(10))


def test_values_come_by_pages_the_newest_first(ada: Connection) -> None:
    take(ada, an_entity(at=1, name="A"), an_entity(at=2, name="B"), an_entity(at=3, name="C", note="x" * 3_000))
    whole = past(ada, ADA, NOW, at=day(2)).values
    assert [(run.field, run.valid_from, run.holds) for run in whole] == [
        ("details.note", day(3), False),
        ("display_name", day(3), False),
        ("display_name", day(2), True),
        ("display_name", day(1), False),
        ("entity_type", day(1), True),
    ]
    assert (whole[0].value, whole[0].is_whole) == ("x" * 2_000, False)
    assert past(ada, ADA, NOW, at=day(2), offset=1, limit=2).values == whole[1:3]


def test_beliefs_are_the_rows_of_what_was_known_the_newest_first(ada: Connection) -> None:
    first = take(ada, an_entity(at=1, name="A"), an_entity(at=3, name="C"))
    take(ada, an_entity(at=4, name="C"))  # still so: no other belief
    late = take(ada, an_entity(at=2, name="B"))
    found = beliefs(ada, ADA, "display_name")
    assert found.is_all
    assert [(belief.source.recorded_at, belief.runs) for belief in found.beliefs] == [
        (late, (Stretch("A", day(1), day(2)), Stretch("B", day(2), day(3)), Stretch("C", day(3), None))),
        (first, (Stretch("A", day(1), day(3)), Stretch("C", day(3), None))),
    ]


def test_short_beliefs_of_a_window_are_gathered_and_a_difference_among_them_is_still_another_belief(
    ada: Connection,
) -> None:
    many = [an_entity(at=1 + number / 100, name=f"name {number}") for number in range(100)]
    first = take(ada, *many, an_entity(at=50))
    second = take(ada, an_entity(at=1.5, name="name 50, corrected"))
    found = beliefs(ada, ADA, "display_name", window=(day(0), day(100))).beliefs
    last = (Stretch("name 99", day(1.99), day(50)), Stretch("Ada Lovelace", day(50), None))
    runs = (Stretch(None, day(1), day(1.99), 99), *last)
    assert [(belief.source.recorded_at, belief.runs) for belief in found] == [(second, runs), (first, runs)]
    later = beliefs(ada, ADA, "display_name", window=(day(60), day(70))).beliefs
    assert [belief.runs for belief in later] == [(last[1],)] * 2


def test_what_is_undone_is_believed_no_more_and_nothing_comes_from_it(ada: Connection) -> None:
    first = take(ada, an_entity(at=1, name="A"), an_entity(at=3, name="C"))
    wrong = take(ada, an_entity(at=2, name="B"), an_entity(at=3, name="C", email="a@x.org"))
    (batch_id,) = ada.execute("select batch_id from batch where recorded_at = %s", [wrong]).fetchone() or ()
    undo_batch(ada, batch_id, "undo", Who("ann", "it was wrong"))
    assert told(runs_of(ada, "display_name")) == [("A", day(1), day(3)), ("C", day(3), None)]
    assert [run.source.recorded_at for run in runs_of(ada, "display_name") if run.source] == [first, first]
    assert not any(run.is_late for run in runs_of(ada, "display_name"))
    rows = beliefs(ada, ADA, "display_name").beliefs
    assert [(row.source.kind, row.source.actor, [run[0] for run in row.runs]) for row in rows] == [
        ("undo", "ann", ["A", "C"]),
        ("fixture", "tester", ["A", "B", "C"]),
        ("fixture", "tester", ["A", "C"]),
    ]


def test_of_many_recordings_the_last_are_looked_at(ada: Connection) -> None:
    for number in range(1, 70):
        take(ada, an_entity(at=number, name=f"name {number}"))
    found = beliefs(ada, ADA, "display_name")
    assert (len(found.beliefs), found.is_all, found.looked_at) == (60, False, 60)
    assert len(found.beliefs[0].runs) == 69


def test_reads_go_on_as_before_after_beliefs_were_read(ada: Connection) -> None:
    take(ada, an_entity(at=1, name="A"))
    settings_of = "select current_setting('search_path'), current_setting('enable_nestloop')"
    before = ada.execute(settings_of).fetchall()
    beliefs(ada, ADA, "display_name")
    assert ada.execute(settings_of).fetchall() == before
    assert told(runs_of(ada, "display_name")) == [("A", day(1), None)]


INSTANTS = st.integers(0, 4).map(day)
VALUES = st.sampled_from(["ada@x.org", "ADA@x.org", "b"])
DETAILS = st.dictionaries(st.sampled_from(["email", "phone"]), st.none() | VALUES)
NAMES, TYPES = st.sampled_from(["Ada", "ADA"]), st.sampled_from(["PERSON", "INSTITUTION"])
upserts = st.builds(Change, st.just(ADA), INSTANTS, st.just("upsert"), NAMES, TYPES, DETAILS)
patches = st.builds(Change, st.just(ADA), INSTANTS, st.just("patch"), st.none() | NAMES, st.none() | TYPES, DETAILS)
deletions = st.builds(Change, st.just(ADA), INSTANTS, st.just("delete"))
batches = st.lists(st.lists(upserts | upserts | patches | deletions, min_size=1, max_size=3), min_size=1, max_size=6)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=batches)
def test_lanes_and_beliefs_are_those_of_the_model(database: Database, batches: list[list[Change]]) -> None:
    with database.connect() as connection:
        reference_data(connection)
        model, known = Model(), list[tuple[datetime, list[Change]]]()
        for batch in batches:
            known.append((take(connection, *batch), model.record(*batch)))
        for field in FIELDS:
            now = runs_of(connection, field)
            assert told(now) == runs_of_model(model, field)
            for run in now:
                source, is_late = origin_in(known, field, run)
                assert run.source is not None
                assert (run.source.recorded_at, run.is_late) == (source, is_late)
            assert beliefs(connection, ADA, field).beliefs == believed_in(known, field, connection)
        connection.rollback()


def runs_of_model(model: Model, field: str) -> list[tuple[str, datetime, datetime | None]]:
    if field.startswith("details."):
        return model.detail_versions(ADA, field.removeprefix("details."))
    runs: list[tuple[str, datetime, datetime | None]] = []
    for name, code, start, end in model.entity_versions(ADA):
        value = name if field == "display_name" else code
        if runs and runs[-1][0] == value and runs[-1][2] == start:
            runs[-1] = (value, runs[-1][1], end)
        else:
            runs.append((value, start, end))
    return runs


def said(change: Change, field: str) -> str | None:
    """What a change says of a field; blank: nothing."""
    if field.startswith("details."):
        return change.details.get(field.removeprefix("details."), "")
    return getattr(change, field) or ""


def origin_in(known: list[tuple[datetime, list[Change]]], field: str, run: Run) -> tuple[datetime, bool]:
    """When the value was first said, after the last time that something else was said of its instant; is that late?"""
    found: datetime | None = None
    for recorded_at, changes in known:
        for change in changes:
            if change.change_ts == run.valid_from:
                if change.op == "delete" or said(change, field) not in ("", run.value):
                    found = None
                elif said(change, field) == run.value:
                    found = found or recorded_at
    assert found is not None
    earlier = [change for at, changes in known if at < found for change in changes]
    return found, any(change.change_ts > run.valid_from for change in earlier)


def believed_in(known: list[tuple[datetime, list[Change]]], field: str, connection: Connection) -> tuple[Belief, ...]:
    model, rows = Model(), list[Belief]()
    sources = {b.source.recorded_at: b.source for b in beliefs(connection, ADA, field).beliefs}
    for recorded_at, changes in known:
        model.record(*changes)
        runs = tuple(Stretch(*run) for run in runs_of_model(model, field))
        if runs != (rows[-1].runs if rows else ()):
            rows.append(Belief(sources[recorded_at], runs))
    return tuple(reversed(rows))
