"""What drops changed, field by field, and what they superseded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from builders import an_entity, day, reference_data, uid
from reporting import NOW, drop_report, take
from timeline_model import Model

from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection
from crm_core.reference import reference_types
from crm_core.report.numbers import (
    FieldChanges,
    Superseded,
    collect,
)
from crm_core.report.page import as_html
from crm_core.timeline.merge import Origin, record

pytestmark = pytest.mark.integration


def counts(changes: Iterable[FieldChanges]) -> dict[str, tuple[int, int, int]]:
    return {found.field: (found.created, found.changed, found.ended) for found in changes}


# what a drop changed


def test_a_new_entity_creates_its_name_type_and_details(crm_connection: Connection, tmp_path: Path) -> None:
    found = drop_report(
        crm_connection, take(crm_connection, tmp_path / "d.csv", an_entity(email="a@x.org", phone=None))
    )
    assert counts(found.field_changes) == {
        "display_name": (1, 0, 0),
        "entity_type": (1, 0, 0),
        "details.email": (1, 0, 0),
    }


def test_only_what_differs_in_the_fields_own_comparison_has_changed(crm_connection: Connection, tmp_path: Path) -> None:
    take(crm_connection, tmp_path / "1.csv", an_entity(at=1, email="a@x.org", phone="1", note="a"))
    found = drop_report(
        crm_connection,
        take(
            crm_connection, tmp_path / "2.csv", an_entity(at=2, name="Ada King", email="A@X.org", phone=None, note="A")
        ),
    )
    assert counts(found.field_changes) == {
        "display_name": (0, 1, 0),
        "details.note": (0, 1, 0),
        "details.phone": (0, 0, 1),
    }


def test_a_deletion_ends_every_field_and_a_revival_creates_them(crm_connection: Connection, tmp_path: Path) -> None:
    take(crm_connection, tmp_path / "1.csv", an_entity(at=1, email="a@x.org", phone="1"))
    gone = take(crm_connection, tmp_path / "2.csv", an_entity(at=2, op="delete"))
    back = take(crm_connection, tmp_path / "3.csv", an_entity(at=4, email="a@x.org"))
    names = ("display_name", "entity_type", "details.email", "details.phone")
    assert counts(drop_report(crm_connection, gone).field_changes) == dict.fromkeys(names, (0, 0, 1))
    assert counts(drop_report(crm_connection, back).field_changes) == dict.fromkeys(names[:3], (1, 0, 0))


def test_what_a_later_drop_takes_over_at_the_same_instant_counts_as_the_later_ones(
    crm_connection: Connection, tmp_path: Path
) -> None:
    first = take(crm_connection, tmp_path / "1.csv", an_entity(at=1, name="A"))
    second = take(crm_connection, tmp_path / "2.csv", an_entity(at=1, name="B"))
    assert drop_report(crm_connection, first).field_changes == ()
    assert counts(drop_report(crm_connection, second).field_changes)["display_name"] == (1, 0, 0)


def test_after_a_late_drop_the_next_row_changes_the_value_back(crm_connection: Connection, tmp_path: Path) -> None:
    first = take(crm_connection, tmp_path / "1.csv", an_entity(at=1, name="A"), an_entity(at=3, name="A"))
    assert counts(drop_report(crm_connection, first).field_changes)["display_name"] == (1, 0, 0)
    late = take(crm_connection, tmp_path / "2.csv", an_entity(at=2, name="B"))
    assert counts(drop_report(crm_connection, late).field_changes) == {"display_name": (0, 1, 0)}
    assert counts(drop_report(crm_connection, first).field_changes)["display_name"] == (1, 1, 0)


def test_field_changes_can_be_left_out(crm_connection: Connection, tmp_path: Path) -> None:
    merged = take(crm_connection, tmp_path / "d.csv", an_entity())
    assert drop_report(crm_connection, merged, with_field_changes=False).field_changes == ()


@pytest.mark.parametrize("seed", range(6))
def test_random_drops_changed_and_superseded_what_the_model_says(
    any_connection: Connection, tmp_path: Path, seed: int
) -> None:
    """Drops and requests in any order; the model's state just before and at each instant is what must be counted."""
    reference_data(any_connection)
    draw = random.Random(seed)
    model, merged, recorded_by = Model(), list[MergeReport](), list[int | None]()  # per change of the model, its drop
    superseded = Counter[int]()
    for number in range(8):
        drawn = [_a_random_change(draw) for _ in range(draw.randint(1, 6))]
        is_drop = number % 4 != 3
        if is_drop:
            merged.append(take(any_connection, tmp_path / f"{number}.csv", *drawn))
        else:
            record(any_connection, reference_types(any_connection), drawn, Origin("test", "fixture"))
        instants = Counter(map(_instant, model.changes))
        for change in model.record(*drawn):
            if is_drop and instants[_instant(change)]:
                superseded[len(merged) - 1] += 1
            instants[_instant(change)] += 1
            recorded_by.append(len(merged) - 1 if is_drop else None)

    expected = [Counter[tuple[str, str]]() for _ in merged]
    standing = {_instant(change): by for change, by in zip(model.changes, recorded_by, strict=True)}
    for (who, at), by in standing.items():
        if by is not None:
            _, changes = model.diff(at - timedelta(microseconds=1), at).get(who, ("", {}))
            for field, (before, after) in changes.items():
                expected[by][field, "created" if before is None else "ended" if after is None else "changed"] += 1
    for number, report in enumerate(merged):
        shown = drop_report(any_connection, report)
        found = Counter({(c.field, kind): getattr(c, kind) for c in shown.field_changes for kind in KINDS})
        assert +found == expected[number], report.file
        assert report.rows_superseded == superseded[number] == len(shown.superseded), report.file


KINDS = ("created", "changed", "ended")


def _instant(change: Change) -> tuple[UUID, datetime]:
    return change.entity_uid, change.change_ts


def _a_random_change(draw: random.Random) -> Change:
    who, at = draw.choice(("ada", "bob", "eve")), draw.randint(1, 6)
    if draw.random() < 0.15:
        return an_entity(who, at=at, op="delete")
    details: dict[str, Any] = {
        code: draw.choice(("a@x.org", "A@x.org", "b", None)) for code in draw.sample(("email", "phone", "note"), 2)
    }
    return an_entity(who, at=at, name=draw.choice("AB"), type_=draw.choice(("PERSON", "INSTITUTION")), **details)


# what a drop stood over


def test_superseded_changes_are_named_with_what_superseded_them(crm_connection: Connection, tmp_path: Path) -> None:
    types = reference_types(crm_connection)
    record(crm_connection, types, [an_entity("eve", at=5)], Origin("test", "request", request_id="r-1"))
    take(crm_connection, tmp_path / "first.csv", an_entity(at=1, name="A"))
    second = take(
        crm_connection,
        tmp_path / "second.csv",
        an_entity(at=1, name="B"),
        an_entity("eve", at=5, name="Eve"),
        an_entity(at=1, name="C"),
    )
    found = drop_report(crm_connection, second)
    assert found.rows_superseded == 3
    assert found.superseded == (
        Superseded(uid("ada"), day(1), "drop", "first.csv", 2, by_line=4),
        Superseded(uid("eve"), day(5), "request", None, 1, by_line=3),
        Superseded(uid("ada"), day(1), "drop", "second.csv", 2, by_line=4),
    )
    page = as_html(collect(crm_connection, now=NOW))
    assert "3 of 3" in page
    assert "a request" in page


def test_of_many_superseded_changes_the_first_are_named_with_the_true_total(
    crm_connection: Connection, tmp_path: Path
) -> None:
    merged = take(crm_connection, tmp_path / "d.csv", *(an_entity(at=1, name=f"N{number}") for number in range(40)))
    found = drop_report(crm_connection, merged)
    assert (found.rows_superseded, [change.line for change in found.superseded]) == (39, list(range(2, 12)))
    assert {change.by_line for change in found.superseded} == {41}
