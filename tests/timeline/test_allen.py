"""A fact that is learnt late, in each of Allen's relations to a fact that is known: what is said later in time stays.

Known is A, then B from day 4 to day 8, then A again. Then we learn that C held from one day to another, and that what
was known of the other day holds again from then on. So C holds until something else that was said of a later day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest
from builders import an_entity, day, reference_data, uid

from crm_core.model import Change
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.timeline.invariants import check
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.temporal]

KNOWN = ((0, "A"), (4, "B"), (8, "A"))

# The relation of C to B; the days of C; the values that follow, each with its first day.
RELATIONS = {
    "before": ((1, 3), [(0, "A"), (1, "C"), (3, "A"), (4, "B"), (8, "A")]),
    "meets": ((1, 4), [(0, "A"), (1, "C"), (4, "B"), (8, "A")]),
    "overlaps": ((2, 6), [(0, "A"), (2, "C"), (4, "B"), (8, "A")]),
    "finished by": ((2, 8), [(0, "A"), (2, "C"), (4, "B"), (8, "A")]),
    "contains": ((2, 10), [(0, "A"), (2, "C"), (4, "B"), (8, "A")]),
    "starts": ((4, 6), [(0, "A"), (4, "C"), (6, "B"), (8, "A")]),
    "equals": ((4, 8), [(0, "A"), (4, "C"), (8, "A")]),
    "started by": ((4, 10), [(0, "A"), (4, "C"), (8, "A")]),
    "during": ((5, 7), [(0, "A"), (4, "B"), (5, "C"), (7, "B"), (8, "A")]),
    "finishes": ((6, 8), [(0, "A"), (4, "B"), (6, "C"), (8, "A")]),
    "overlapped by": ((6, 10), [(0, "A"), (4, "B"), (6, "C"), (8, "A")]),
    "met by": ((8, 10), [(0, "A"), (4, "B"), (8, "C"), (10, "A")]),
    "after": ((9, 11), [(0, "A"), (4, "B"), (8, "A"), (9, "C"), (11, "A")]),
}


def _name(at: int, value: str) -> Change:
    return an_entity(at=at, name=value)


def _detail(at: int, value: str) -> Change:
    return an_entity(at=at, note=value)


def _versions(connection: Connection, field: str) -> list[tuple[float, str]]:
    """Return the first day and the value of each version, which all end where the next one begins."""
    found = [d for d in map(json.loads, reads.history(connection, uid("ada"))) if field in d]
    ends = [d["valid_to"] for d in found]
    assert ends == [*(d["valid_from"] for d in found[1:]), None]
    since = [(datetime.fromisoformat(d["valid_from"]) - day(0)).total_seconds() / 86_400 for d in found]
    return list(zip(since, (d[field] for d in found), strict=True))


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(
    ("field", "change"), [("display_name", _name), ("detail_value", _detail)], ids=["name", "detail"]
)
def test_a_late_fact_holds_until_the_next_one_in_each_relation(
    connection: Connection, relation: str, field: str, change: Callable[[int, str], Change]
) -> None:
    (since, until), expected = RELATIONS[relation]
    reference_data(connection)
    types, origin = reference_types(connection), Origin("tester", "fixture")
    record(connection, types, [change(at, value) for at, value in KNOWN], origin)
    held = max((at, value) for at, value in KNOWN if at <= until)[1]
    record(connection, types, [change(since, "C"), change(until, held)], origin)
    assert _versions(connection, field) == expected
    assert [found for found in check(connection) if not found.holds] == []
