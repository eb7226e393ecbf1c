"""Each row is judged by every rule of the drop contract, and what passes is written in one form and hashed."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.drops.contract import ValidBatch, validate
from crm_core.drops.csv_header import COLUMNS
from crm_core.drops.details_json import read_details
from crm_core.drops.reader import RawBatch, read_drop
from crm_core.model import DetailType, EntityType, Reason, ReferenceTypes, Reject
from crm_core.values.hashing import derived_uid, detail_hashdiff, entity_hashdiff, stored_form
from crm_core.values.instants import instants, parse_instant

pytestmark = pytest.mark.unit

UID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FIRST_SEEN = datetime(2024, 5, 31, 8, 30, 0, 5, tzinfo=UTC)
ISTANBUL = ZoneInfo("Europe/Istanbul")
BERLIN = ZoneInfo("Europe/Berlin")
TYPES = ReferenceTypes(
    (
        EntityType(1, "PERSON", "Person", "", is_active=True),
        EntityType(2, "INSTITUTION", "Institution", "", is_active=True),
        EntityType(3, "ROBOT", "Robot", "", is_active=False),
    ),
    (
        DetailType(4, "website", "Website", "", is_active=True, compares="text"),
        DetailType(5, "email", "Email", "", is_active=True, compares="casefold"),
        DetailType(6, "key", "Key", "", is_active=True, compares="exact"),
        DetailType(7, "Straße", "Street", "", is_active=True, compares="text"),
        DetailType(8, "fax", "Fax", "", is_active=False, compares="text"),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a drop as text; a good one unless said otherwise."""

    entity_uid: str | None = UID
    display_name: str | None = "Ada"
    entity_type: str | None = "PERSON"
    details: str | None = "[]"
    change_ts: str | None = "2024-01-01"
    op: str | None = None


def judge(*rows: Row, time_zone: ZoneInfo = BERLIN, types: ReferenceTypes = TYPES) -> ValidBatch:
    batch = RawBatch(frame_of(*rows), block=b"x\n" * len(rows), first_line=2)
    return validate(batch, types, first_seen=FIRST_SEEN, now=NOW, time_zone=time_zone)


def frame_of(*rows: Row) -> pl.DataFrame:
    frame = pl.DataFrame(rows, dict.fromkeys(COLUMNS, pl.String))
    return frame.select(pl.int_range(2, 2 + pl.len()).alias("line"), *COLUMNS)


def reasons(row: Row) -> set[str]:
    """The faults of a row that stands between good ones."""
    result = judge(Row(), row, Row())
    assert set(result.changes["line"]) | {reject.line for reject in result.rejects} == {2, 3, 4}
    assert result.changes.height + len(result.rejects) == 3
    found = [reject.reasons for reject in result.rejects]
    if found:
        assert sorted(found[0], key=list(Reason).index) == list(found[0]), "in the order of the contract"
        assert set(result.details["line"]) <= {2, 4}
    return {str(reason) for reason in found[0]} if found else set()


def accepted(row: Row, **options: Any) -> dict[str, object]:
    result = judge(row, **options)
    assert result.rejects == []
    return result.changes.row(0, named=True)


def details_of(*pairs: tuple[str, str | None]) -> str:
    return json.dumps([{"detail_type": kind, "detail_value": value} for kind, value in pairs])


@pytest.mark.parametrize(
    "text",
    [
        UID,
        UID.upper(),
        f"  {UID}\t",
        f"{{{UID}}}",
        f"urn:uuid:{UID}",
        f"URN:UUID:{UID.upper()}",
        UID.replace("-", ""),
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        f"\ufeff{UID}\u200b",
    ],
)
def test_every_spelling_of_a_uid_becomes_the_canonical_one(text: str) -> None:
    assert accepted(Row(text))["entity_uid"] == UID


# fmt: off
NO_UIDS = [
    "x", "0", UID[:-1], UID + "0", f"{{{UID}", f"{UID}}}", UID.replace("a0", "g0"), UID + "-", "-" + UID,
    "a0e-ebc99" + UID[9:], f"{UID}\n{UID}", "\uff41" + UID[1:],
    "00000000-0000-0000-0000-000000000000", "{" + "0" * 32 + "}", "F" * 32, "ffffffff-ffff-ffff-ffff-ffffffffffff",
]
NO_INSTANTS = [
    "x", "2024", "2024-01", "2024-1-5", "15.01.2024", "01/15/2024", "2024-13-01", "2023-02-29", "2023-02-29T00:00:00Z",
    "2024-01-15T24:00:00Z", "2024-01-15T10:60:00Z", "2024-01-15T23:59:60Z", "2024-01-15T10:30:15.Z", "2024-01-15T10Z",
    "2024-01-15T10:30:15.1234567890Z", "2024-01-15T10:30:15+24:00", "2024-01-15T10:30:15+01:60",
    "2024-01-15T10:30:15 Z", "2024-01-15T10:30:15Z\n2024-01-15T10:30:15Z", "\u0662\u0660\u0662\u0664-01-15",
    "0000-01-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "12024-01-15", "-2024-01-15",
    "infinity", "now", "1705312215",
    "2023-03-26T02:30:00", "2023-10-29T02:30:00",  # left out and repeated by the clocks of Berlin
]
NO_JSON = [
    "x", "[", "[}", "[1,]", "['a']", "[NaN]", "[Infinity]", "[] []", "[]x", '[{"detail_type":"email"', "\ufeff[]",
    '[{"detail_type":"email","detail_value":"a\tb"}]', '[{"detail_type":"email" "detail_value":"a"}]', "[" * 100_000,
    r'[{"detail_type":"email","detail_value":"\x41"}]', r'[{"detail_type":"email","detail_value":"\u12"}]',
]
NO_LISTS = ["{}", "null", "1", '"x"', "true", '{"detail_type":"email","detail_value":"a"}', "1" * 5000]
NO_TYPES = [
    "{}", '{"detail_value":"a"}', '{"detail_type":null,"detail_value":"a"}', '{"detail_type":1,"detail_value":"a"}',
    '{"detail_type":"fax","detail_value":"a"}', '{"detail_type":"","detail_value":"a"}',
    r'{"detail_type":"\ud800","detail_value":"a"}', r'{"detail_type":"email\u0000","detail_value":"a"}',
    '{"detail_type":"STRASSE","detail_value":"a"}',
]
NO_VALUES = [
    "1", "1.5", "true", "[]", "{}", '["a"]', r'"\u0000"', r'"a\ud800b"', r'"\ude00\ud83d"', "1e999", "1" * 5000,
]
NO_DETAILS = [
    "1", "null", "[]", '"email"', '{"detail_type":"email"}', '{"detail_type":"email","value":"a"}',
    '{"detail_type":"email","detail_value":"a","detail_value":"a"}', "[" * 500 + "]" * 500,
    '{"detail_type":"email","detail_value":"a","x":1,"x":2}', '{"detail_type":"email","detail_value":"a","x":null}',
    '{"detail_type":"email","detail_value":"a","detail_Value":"b"}', '{"detail_type":"email","detail_value":"a","":""}',
    '{"detail_type":"email","detail_value":"a","hashdiff":1}',
    '{"detail_type":"email","detail_value":"a","is_current":1}',
    r'{"detail_type":"email","detail_value":"a","detail_valu\u0065":"b"}',
    '{"detail_type":"email","detail_value":"a","valid_to":"x","valid_to":null}',
]
# fmt: on


@pytest.mark.parametrize("text", NO_UIDS)
def test_what_is_no_uid_is_refused(text: str) -> None:
    assert reasons(Row(text)) == {"invalid_uid"}


@pytest.mark.parametrize("text", [None, "  ", "\u00a0\t\n", "\u200b", "\u2060 \ufeff", "\u3164"])
def test_a_name_is_needed(text: str | None) -> None:
    assert reasons(Row(display_name=text)) == {"missing_display_name"}


def test_a_name_is_stored_in_normal_form() -> None:
    assert accepted(Row(display_name="\u2003Jose\u0301 \n\t Nu\u0301n\u0303ez "))["display_name"] == "José Núñez"


@pytest.mark.parametrize("text", ["PERSON", "person", " Person\u00a0", "\ufeffPERSON"])
def test_an_entity_type_is_known_whatever_its_case(text: str) -> None:
    assert reasons(Row(entity_type=text)) == set()


@pytest.mark.parametrize("text", [None, "", "ROBOT", "PERSONS", "per son", "\uff50erson"])
def test_an_entity_type_that_is_unknown_or_inactive_is_refused(text: str | None) -> None:
    assert reasons(Row(entity_type=text)) == {"unknown_entity_type"}


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
    assert [reject.reasons for reject in judge(Row(change_ts=text), time_zone=ZoneInfo(zone)).rejects] == [
        (Reason.INVALID_CHANGE_TS,)
    ]


@pytest.mark.parametrize("text", NO_INSTANTS)
def test_an_instant_that_is_none_or_does_not_exist_once_is_refused(text: str) -> None:
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
    batch = RawBatch(frame_of(Row(change_ts=text)))
    result = validate(batch, TYPES, first_seen=first_seen, now=now, time_zone=BERLIN)
    assert result.changes["change_ts"].to_list() == [FIRST_SEEN]


def test_a_clock_may_be_five_minutes_ahead() -> None:
    ahead = timedelta(minutes=5)
    assert reasons(Row(change_ts=(NOW + ahead).isoformat())) == set()
    assert reasons(Row(change_ts=(NOW + ahead + timedelta(microseconds=1)).isoformat())) == {"future_change_ts"}


@pytest.mark.parametrize(
    ("text", "op"), [(None, "upsert"), (" ", "upsert"), ("Upsert", "upsert"), (" DELETE ", "delete")]
)
def test_an_op_is_known_whatever_its_case(text: str | None, op: str) -> None:
    assert accepted(Row(op=text))["op"] == op


@pytest.mark.parametrize("text", ["patch", "insert", "del", "-"])
def test_another_op_is_refused(text: str) -> None:
    assert reasons(Row(op=text)) == {"unknown_op"}


@pytest.mark.parametrize("text", [None, "", "  ", "[]", " [ ]\n"])
def test_no_details_are_fine(text: str | None) -> None:
    result = judge(Row(details=text))
    assert result.changes.height == 1
    assert result.details.is_empty()


@pytest.mark.parametrize("text", NO_JSON, ids=range(len(NO_JSON)))
def test_details_that_are_no_json_are_refused(text: str) -> None:
    assert reasons(Row(details=text)) == {"details_not_json"}


@pytest.mark.parametrize("text", NO_LISTS, ids=range(len(NO_LISTS)))
def test_details_that_are_no_list_are_refused(text: str) -> None:
    assert reasons(Row(details=text)) == {"details_not_list"}


@pytest.mark.parametrize("item", NO_TYPES)
def test_a_detail_of_an_unknown_or_inactive_type_is_refused(item: str) -> None:
    found = reasons(Row(details=f"[{item}]"))
    assert found - {"invalid_detail_value"} == {"unknown_detail_type"}
    assert ("invalid_detail_value" in found) == (item == "{}")


@pytest.mark.parametrize("value", NO_VALUES, ids=range(len(NO_VALUES)))
def test_a_detail_whose_value_is_no_text_is_refused(value: str) -> None:
    assert reasons(Row(details=f'[{{"detail_type":"email","detail_value":{value}}}]')) == {"invalid_detail_value"}


@pytest.mark.parametrize("item", NO_DETAILS, ids=range(len(NO_DETAILS)))
def test_an_item_that_is_no_detail_is_refused(item: str) -> None:
    assert reasons(Row(details=f"[{item}]")) == {"invalid_detail_value"}


@pytest.mark.parametrize(
    ("row", "is_too_long"),
    [
        (Row(display_name="e\u0301" * 500), False),  # é is one character
        (Row(display_name="\u200b" * 500 + "😀" * 500), False),
        (Row(display_name="😀" * 501), True),
        (Row(details=details_of(("website", "é" * 50_000))), False),
        (Row(details=details_of(("website", "é" * 50_000 + "  "))), False),
        (Row(details=details_of(("website", "é" * 50_000 + "x"))), True),
        (Row(details=details_of(("key", "x" * 99_999 + "  "))), True),
        (Row(details=details_of(("website", "\u0958" * 20_000))), True),  # twice as long in normal form
        (Row(op="delete", display_name="x" * 501, details=details_of(("key", "x" * 200_000))), False),  # not looked at
    ],
    ids=range(9),
)
def test_what_is_too_long_is_refused(row: Row, *, is_too_long: bool) -> None:
    assert reasons(row) == ({"value_too_long"} if is_too_long else set())


def test_a_member_that_is_spelt_otherwise_is_unknown_and_its_type_missing() -> None:
    found = reasons(Row(details='[{"Detail_Type":"email","detail_value":"a"}]'))
    assert found == {"unknown_detail_type", "invalid_detail_value"}


def test_a_type_twice_is_refused_whatever_its_case() -> None:
    assert reasons(Row(details=details_of(("email", "a"), ("key", "b"), (" EMAIL", None)))) == {"duplicate_detail_type"}
    assert reasons(Row(details=details_of(("Fox", "a"), ("fox", "a")))) == {
        "unknown_detail_type",
        "duplicate_detail_type",
    }
    assert judge(*[Row(details=details_of(("email", "a")))] * 3).rejects == []


def test_every_fault_of_a_row_is_named_once() -> None:
    items = (
        '[{"detail_type":"fax","detail_value":1},{"detail_type":"fax","detail_value":"a"},{"detail_type":"telex"},7]'
    )
    assert reasons(Row("x", " ", "ALIEN", items, "soon", "drop")) == {
        "invalid_uid",
        "missing_display_name",
        "unknown_entity_type",
        "unknown_detail_type",
        "duplicate_detail_type",
        "invalid_detail_value",
        "invalid_change_ts",
        "unknown_op",
    }


def test_malformed_neighbours_are_not_taken_for_one_row() -> None:
    result = judge(Row(details='[],[{"detail_type":"email"'), Row(details='"detail_value":"zzz"}]'))
    assert [reject.reasons for reject in result.rejects] == [(Reason.DETAILS_NOT_JSON,)] * 2


def test_details_are_in_the_order_of_codes_and_in_stored_form() -> None:
    result = judge(
        Row(
            details=details_of(
                ("WEBSITE", " https://x \u00a0y"), ("Email", "A@X"), ("key", ' a\n"b"\\ '), ("STRAßE", "\u200a")
            )
        ),
        Row(details=details_of(("key", "\x01\x7f\u2028😀"), ("email", None))),
    )
    assert result.details.select("line", "detail_type", "detail_value").rows() == [
        (2, "Straße", None),
        (2, "email", "A@X"),
        (2, "key", ' a\n"b"\\ '),
        (2, "website", "https://x y"),
        (3, "email", None),
        (3, "key", "\x01\x7f\u2028😀"),
    ]


def test_details_as_the_api_returns_them_are_accepted() -> None:
    text = '[{"detail_type":"email","detail_value":"a","valid_from":"2024-01-01","valid_to":null,"is_current":true}]'
    assert judge(Row(details=text)).details.select("detail_type", "detail_value").rows() == [("email", "a")]


def test_a_delete_of_a_uid_needs_nothing_else() -> None:
    change = accepted(Row(display_name=None, entity_type="ALIEN", details="nonsense", op="delete"))
    assert change == {
        "line": 2,
        "entity_uid": UID,
        "change_ts": datetime(2023, 12, 31, 23, tzinfo=UTC),
        "op": "delete",
        "is_derived": False,
        "display_name": None,
        "entity_type_id": None,
        "hashdiff": None,
    }
    assert reasons(Row("x", None, None, None, "soon", "delete")) == {"invalid_uid", "invalid_change_ts"}


def test_a_delete_without_a_uid_is_of_the_entity_with_that_content() -> None:
    details = details_of(("email", "Ada@X"), ("key", None))
    result = judge(Row(None, details=details), Row(" ", details=details_of(("EMAIL", " ada@x")), op="delete"))
    assert result.rejects == []
    assert result.changes["entity_uid"].n_unique() == 1
    assert result.changes.row(1)[5:] == (None, None, None)
    assert result.details["line"].to_list() == [2, 2]
    assert reasons(Row(None, None, "ALIEN", "x", op="delete")) == {
        "missing_display_name",
        "unknown_entity_type",
        "details_not_json",
    }


def test_a_derived_uid_depends_on_the_content_alone() -> None:
    base = Row(None, details=details_of(("email", "a"), ("key", "b")))
    same = [
        Row(None, " Ada ", "person", details_of(("key", "b"), ("EMAIL", "A"), ("website", None)), "2023-01-01"),
        Row(None, "Ada", "PERSON", details_of(("email", "a"), ("key", "b"), ("website", " ")), None),
    ]
    others = [
        Row(None, "ada", details=base.details),
        Row(None, "Ada", "INSTITUTION", base.details),
        Row(None, details=details_of(("email", "a"))),
        Row(None, details=details_of(("email", "a"), ("key", "B"))),
        Row(None, details=details_of(("email", "ab"))),
        Row(None),
    ]
    uids = judge(base, *same, *others).changes["entity_uid"].to_list()
    assert len(set(uids[:3])) == 1
    assert len(set(uids)) == 7
    for uid in uids:
        assert (UUID(uid).version, UUID(uid).variant) == (8, "specified in RFC 4122")


def test_what_reading_and_judging_reject_comes_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "drop.csv"
    path.write_text("display_name,entity_type,details\nAda\n,PERSON,\nBob,PERSON,\n,,\nshort\n")
    (batch,) = read_drop(path)
    result = validate(batch, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=BERLIN)
    assert result.changes["line"].to_list() == [4]
    assert result.rejects == [
        Reject(2, (Reason.WRONG_FIELD_COUNT,), "Ada"),
        Reject(3, (Reason.MISSING_DISPLAY_NAME,), ",PERSON,"),
        Reject(5, (Reason.MISSING_DISPLAY_NAME, Reason.UNKNOWN_ENTITY_TYPE), ",,"),
        Reject(6, (Reason.WRONG_FIELD_COUNT,), "short"),
    ]


def test_a_batch_without_rows_is_fine() -> None:
    result = judge()
    assert (result.changes.height, result.details.height, result.rejects) == (0, 0, [])
    assert result.changes.schema == judge(Row()).changes.schema
    assert result.details.schema == judge(Row(details=details_of(("email", "a")))).details.schema


def test_without_any_type_everything_is_unknown() -> None:
    result = judge(Row(details=details_of(("email", "a"))), types=ReferenceTypes((), ()))
    assert [reject.reasons for reject in result.rejects] == [(Reason.UNKNOWN_ENTITY_TYPE, Reason.UNKNOWN_DETAIL_TYPE)]


@pytest.mark.parametrize(
    "row",
    [
        Row("x", None, "ALIEN", '[{"detail_type":"fax"},1,{"detail_type":"fax"}]', "soon", "drop"),
        Row(None, details='[{"detail_value":"a\\"","detail_type":"email"}]', change_ts="2024-01-01 10:00"),
    ],
    ids=["bad", "unusual"],
)
def test_the_time_is_linear_in_the_rows_even_if_every_one_is_bad_or_unusual(row: Row) -> None:
    rows = [replace(row, display_name=row.display_name and f"Ada {number}") for number in range(40_000)]
    started = time.process_time()
    result = judge(*rows)
    assert result.changes.height + len(result.rejects) == 40_000
    assert time.process_time() - started < 6, "row by row in Polars would be a minute"


texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from(' "\\\n\u00a0\u0301eE')
    )
)
values = st.one_of(st.none(), texts)
listed = st.dictionaries(st.sampled_from(["email", "KEY", "website", "stra\u00dfe"]), values)
COMPARES = {kind.code: kind.compares for kind in TYPES.detail_types}
CODES = {"email": "email", "KEY": "key", "website": "website", "stra\u00dfe": "Stra\u00dfe"}


@settings(deadline=None)
@given(st.lists(st.tuples(texts, listed, st.booleans()), max_size=8))
def test_a_whole_column_is_hashed_and_named_as_one_row_is(rows: list[tuple[str, dict[str, str | None], bool]]) -> None:
    result = judge(
        *(
            Row(None, name, "person", json.dumps(json_details(details), ensure_ascii=is_ascii))
            for name, details, is_ascii in rows
        )
    )
    named = [(name, details) for name, details, _ in rows if stored_form(name, "text")]
    assert len(result.rejects) == len(rows) - len(named)
    hashes = result.details.partition_by("line", as_dict=True)
    for change, (name, details) in zip(result.changes.iter_rows(named=True), named, strict=True):
        stored = stored_form(name, "text")
        assert stored is not None
        entity = entity_hashdiff(stored, "PERSON")
        kept = {CODES[kind]: stored_form(value or "", COMPARES[CODES[kind]]) for kind, value in details.items()}
        in_order = sorted(kept.items())
        digests = [value and detail_hashdiff(code, value, COMPARES[code]) for code, value in in_order]
        assert (change["display_name"], change["hashdiff"]) == (stored, entity.hex())
        assert change["entity_uid"] == str(derived_uid(entity, [digest for digest in digests if digest]))
        written = hashes.get((change["line"],))
        assert (written["detail_value"].to_list() if written is not None else []) == [value for _, value in in_order]
        assert (written["hashdiff"].to_list() if written is not None else []) == [
            digest and digest.hex() for digest in digests
        ]


def json_details(details: dict[str, str | None]) -> list[dict[str, str | None]]:
    return [{"detail_type": kind, "detail_value": value} for kind, value in details.items()]


pairs = st.lists(st.tuples(texts, values), max_size=4)
styles = st.tuples(st.booleans(), st.sampled_from([None, 0, 2]), st.booleans(), st.booleans())


@settings(deadline=None)
@given(st.lists(st.tuples(pairs, styles), max_size=6))
def test_details_in_any_style_of_json_are_read_as_they_were_meant(
    rows: list[tuple[list[tuple[str, str | None]], tuple[bool, int | None, bool, bool]]],
) -> None:
    texts = []
    for details, (is_ascii, indent, is_reversed, is_sorted) in rows:
        items: list[dict[str, object]] = [{"detail_type": kind, "detail_value": value} for kind, value in details]
        if is_reversed:
            items = [{"valid_to": None, **dict(reversed(item.items()))} for item in items]
        texts.append(json.dumps(items, ensure_ascii=is_ascii, indent=indent, sort_keys=is_sorted))
    found = read_details(pl.Series(texts, dtype=pl.String))
    assert found.faults.is_empty()
    assert found.details.rows() == [(row, *pair) for row, (details, _) in enumerate(rows) for pair in details]


damage = st.tuples(
    st.integers(0, 10_000), st.sampled_from(["", *'"\\[]{},: nul0', "\\u", '"detail_value"', "\\ud83d"]), st.booleans()
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(pairs, st.lists(damage, max_size=3)), min_size=1, max_size=5))
def test_damaged_json_is_never_taken_for_something_else(
    rows: list[tuple[list[tuple[str, str | None]], list[tuple[int, str, bool]]]],
) -> None:
    texts: list[str] = []
    for details, damages in rows:
        text = json.dumps([{"detail_type": kind, "detail_value": value} for kind, value in details])
        for place, piece, is_put_in in damages:
            at = place % (len(text) + 1)
            text = text[:at] + piece + text[at + (not is_put_in) :]
        texts.append(text)
    together = read_details(pl.Series(texts))
    for row, text in enumerate(texts):
        found = together.faults.filter(pl.col("row") == row)["reason"].to_list()
        pairs = together.details.filter(pl.col("row") == row).select("detail_type", "detail_value").rows()
        try:
            meant = json.loads(text) if text.strip() else []
        except ValueError:
            assert (found, pairs) == ([Reason.DETAILS_NOT_JSON], [])
            continue
        if not isinstance(meant, list):
            assert (found, pairs) == ([Reason.DETAILS_NOT_LIST], [])
        elif not found:
            assert len(pairs) == len(meant)
            for (kind, value), item in zip(pairs, meant, strict=True):
                assert value == item["detail_value"]
                assert kind in (item.get("detail_type"), None)


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


def test_a_judged_batch_leaves_no_column_to_the_garbage_collector() -> None:
    judge(Row())
    gc.collect()
    gc.disable()
    try:
        judge(Row())
        assert gc.collect() == 0, "a cycle holds whole columns until the collector comes by"
    finally:
        gc.enable()
