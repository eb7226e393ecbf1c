"""How an instant is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from crm_core.utc import utc_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2024, 1, 31, 8, tzinfo=UTC), "2024-01-31T08:00:00Z"),
        (datetime(2024, 1, 31, 8, 0, 0, 250, tzinfo=UTC), "2024-01-31T08:00:00.000250Z"),
        (datetime(2024, 1, 31, 8, tzinfo=timezone(timedelta(hours=-5, minutes=-30))), "2024-01-31T13:30:00Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
    ],
)
def test_an_instant_of_any_zone_is_written_in_utc_with_a_z(instant: datetime, text: str) -> None:
    assert utc_text(instant) == text


def test_a_part_of_a_second_can_be_left_out() -> None:
    assert utc_text(datetime(2024, 1, 31, 8, 0, 1, 250, tzinfo=UTC), timespec="seconds") == "2024-01-31T08:00:01Z"
