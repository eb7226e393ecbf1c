"""The instant of a row: how it is read, in which zone, and when it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from drop_rows import (
    BERLIN,
    FIRST_SEEN,
    NOW,
    TYPES,
    Row,
    frame_of,
    reasons,
    validate_rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.formats.chunk import RawChunk
from crm_core.model import Reason
from crm_core.rows.contract import validate
from crm_core.values.instants import instants, parse_instant

pytestmark = pytest.mark.unit
ISTANBUL = ZoneInfo("Europe/Istanbul")


def accepted(row: Row, **options: Any) -> dict[str, object]:
    result = validate_rows(row, **options)
    assert result.rejects == []
    return result.changes.row(0, named=True)


NO_INSTANTS = [
    "x",
    "2024",
    "2024-01",
    "2024-1-5",
    "15.01.2024",
    "01/15/2024",
    "2024-13-01",
    "2023-02-29",
    "2023-02-29T00:00:00Z",
    "2024-01-15T24:00:00Z",
    "2024-01-15T10:60:00Z",
    "2024-01-15T23:59:60Z",
    "2024-01-15T10:30:15.Z",
    "2024-01-15T10Z",
    "2024-01-15T10:30:15.1234567890Z",
    "2024-01-15T10:30:15+24:00",
    "2024-01-15T10:30:15+01:60",
    "2024-01-15T10:30:15 Z",
    "2024-01-15T10:30:15Z\n2024-01-15T10:30:15Z",
    "\u0662\u0660\u0662\u0664-01-15",
    "0000-01-01",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "12024-01-15",
    "-2024-01-15",
    "infinity",
    "now",
    "1705312215",
    "2023-03-26T02:30:00",
    "2023-10-29T02:30:00",  # left out and repeated by the clocks of Berlin
]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-01-15", "2024-01-14T23:00:00"),
        ("2024-07-15", None),  # ahead of now
        ("2024-01-15T10:30", "2024-01-15T09:30:00"),
        ("2024-01-15 10:30:15", "2024-01-15T09:30:15"),
        ("2024-05-15 10:30:15", "2024-05-15T08:30:15"),
        ("2024-01-15T10:30:15Z", "2024-01-15T10:30:15"),
        ("2024-01-15t10:30:15z", "2024-01-15T10:30:15"),
        (" 2024-01-15T10:30:15Z\n", "2024-01-15T10:30:15"),
        ("2024-01-15T10:30:15.1Z", "2024-01-15T10:30:15.100000"),
        ("2024-01-15T10:30:15,123456Z", "2024-01-15T10:30:15.123456"),
        ("2024-01-15T10:30:15.123456999Z", "2024-01-15T10:30:15.123456"),
        ("1960-01-15T10:30:15.123456999+00:00", "1960-01-15T10:30:15.123456"),
        ("1960-01-15T10:30:15.123456999Z", "1960-01-15T10:30:15.123456"),
        ("2024-01-15T10:30:15+02:00", "2024-01-15T08:30:15"),
        ("2024-01-15T10:30:15-0530", "2024-01-15T16:00:15"),
        ("2024-01-15T10:30-08", "2024-01-15T18:30:00"),
        ("20240115T103015.5Z", "2024-01-15T10:30:15.500000"),
        ("20240115", "2024-01-14T23:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("2024-02-29", "2024-02-28T23:00:00"),
        ("2024-10-27T02:30:00+01:00", None),  # ahead of now, yet unambiguous
        ("2023-10-27T02:30:00", "2023-10-27T00:30:00"),
    ],
)
def test_a_change_ts_is_read_as_iso_8601(text: str, utc: str | None) -> None:
    if utc is None:
        assert reasons(Row(change_ts=text)) == {"future_change_ts"}
    else:
        assert accepted(Row(change_ts=text))["change_ts"] == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "text", "utc"),
    [
        ("America/Sao_Paulo", "2018-11-03", "2018-11-03T03:00:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00"),  # begins at 01:00
        ("America/Sao_Paulo", "20181104", "2018-11-04T03:00:00"),
        ("America/Sao_Paulo", "2019-02-17", "2019-02-17T03:00:00"),  # 23:00 to 24:00 came twice the day before
        ("America/Havana", "2023-11-05", "2023-11-05T04:00:00"),  # midnight came twice
        ("America/Havana", "2024-03-10", "2024-03-10T05:00:00"),
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00"),
        ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00"),
        ("America/Santiago", "2023-09-03", "2023-09-03T04:00:00"),
        ("Asia/Tehran", "2022-03-22", "2022-03-21T20:30:00"),
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30:00"),  # begins, goes back at 00:01, and begins again
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00"),  # 23:30 was followed by 00:30
    ],
)
def test_a_date_is_the_first_instant_of_its_day(zone: str, text: str, utc: str) -> None:
    expected = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert parse_instant(text, ZoneInfo(zone)) == expected
    assert accepted(Row(change_ts=text), time_zone=ZoneInfo(zone))["change_ts"] == expected


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("America/Sao_Paulo", "2018-11-04T00:30"),
        ("America/Sao_Paulo", "2018-11-04T00:00"),
        ("America/Havana", "2023-11-05T00:00"),
        ("Pacific/Apia", "2011-12-30"),
        ("Pacific/Apia", "2011-12-30T12:00"),
    ],
)
def test_a_time_that_does_not_exist_once_is_refused_and_so_is_a_day_that_was_left_out(zone: str, text: str) -> None:
    with pytest.raises(ValueError, match="does not exist in"):
        parse_instant(text, ZoneInfo(zone))
    assert [reject.reasons for reject in validate_rows(Row(change_ts=text), time_zone=ZoneInfo(zone)).rejects] == [
        (Reason.INVALID_CHANGE_TS,)
    ]


@pytest.mark.parametrize("text", NO_INSTANTS)
def test_an_instant_that_is_invalid_or_does_not_exist_exactly_once_is_refused(text: str) -> None:
    assert reasons(Row(change_ts=text)) == {"invalid_change_ts"}


def test_a_naive_instant_is_read_in_the_time_zone_asked_for() -> None:
    assert accepted(Row(change_ts="2024-01-15T10:00"), time_zone=ISTANBUL)["change_ts"] == datetime(
        2024, 1, 15, 7, tzinfo=UTC
    )
    assert accepted(Row(change_ts="2023-03-26T02:30"), time_zone=ISTANBUL)["change_ts"] == datetime(
        2023, 3, 25, 23, 30, tzinfo=UTC
    )


@pytest.mark.parametrize("text", [None, "  "])
@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Etc/UTC"), ISTANBUL])
def test_a_missing_change_ts_is_when_the_drop_was_first_seen(text: str | None, zone: tzinfo) -> None:
    first_seen, now = FIRST_SEEN.astimezone(zone), NOW.astimezone(zone)
    chunk = RawChunk(frame_of(Row(change_ts=text)))
    result = validate(chunk, TYPES, first_seen=first_seen, now=now, time_zone=BERLIN)
    assert result.changes["change_ts"].to_list() == [FIRST_SEEN]


def test_a_clock_may_be_five_minutes_ahead() -> None:
    ahead = timedelta(minutes=5)
    assert reasons(Row(change_ts=(NOW + ahead).isoformat())) == set()
    assert reasons(Row(change_ts=(NOW + ahead + timedelta(microseconds=1)).isoformat())) == {"future_change_ts"}


@settings(deadline=None)
@given(
    st.datetimes(),
    st.sampled_from(["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S.%f", "%Y-%m-%d"]),
    st.sampled_from(["", "Z", "+02:00", "-1130", "+14"]),
    st.sampled_from([BERLIN, ZoneInfo("UTC")]),
)
def test_whole_columns_of_instants_are_read_as_one_is(
    clock: datetime, form: str, zone: str, time_zone: ZoneInfo
) -> None:
    text = clock.strftime(form).zfill(len(clock.strftime(form)) + 4 - len(str(clock.year))) + (
        zone if "H" in form else ""
    )
    try:
        one: datetime | None = parse_instant(text, time_zone)
    except ValueError:
        one = None
    assert instants(pl.Series([text, None, "x", text]), time_zone).to_list() == [one, None, None, one]
    if zone and "H" in form and one is not None:
        assert one == datetime.fromisoformat(text)
