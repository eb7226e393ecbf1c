"""Counts of lists: exact up to ten thousand, at most ten seconds old above."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from api.state import COUNT_SECONDS, LARGE, Counts

pytestmark = [pytest.mark.api, pytest.mark.unit]


@dataclass
class Table:
    """So many rows, at a time that the test sets, and how often they were counted."""

    rows: int
    now: float = 1.0
    counted: list[int | None] = field(default_factory=list)

    def count(self, at_most: int | None) -> int:
        self.counted.append(at_most)
        return self.rows if at_most is None else min(self.rows, at_most)


def test_a_small_list_is_counted_each_time_and_never_to_the_end_of_a_large_one() -> None:
    table = Table(LARGE)
    counts = Counts(lambda: table.now)
    assert [counts.count(("a",), table.count) for _ in range(2)] == [LARGE, LARGE]
    table.rows = 3
    assert counts.count(("a",), table.count) == 3
    assert table.counted == [LARGE + 1] * 3


def test_a_large_count_is_remembered_for_its_list_alone() -> None:
    table = Table(LARGE + 1)
    counts = Counts(lambda: table.now)
    assert [counts.count(("a",), table.count) for _ in range(9)] == [LARGE + 1] * 9
    assert table.counted == [LARGE + 1, None]
    table.rows = 5
    assert counts.count(("b",), table.count) == 5


def test_no_count_is_older_than_ten_seconds_even_if_counting_again_fails() -> None:
    table = Table(LARGE + 1)
    counts = Counts(lambda: table.now)
    counts.count(("a",), table.count)

    def fail(_: int | None) -> int:
        raise TimeoutError

    table.rows, table.now = LARGE + 2, table.now + COUNT_SECONDS - 0.1
    with pytest.raises(TimeoutError):
        counts.count(("a",), fail)
    assert counts.count(("a",), table.count) == LARGE + 1, "somebody counts just now, and it is not yet too old"
    table.now += 0.2
    assert counts.count(("a",), table.count) == LARGE + 2
