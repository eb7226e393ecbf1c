"""Each row is checked by every rule of the drop contract, and what passes is written in one form and hashed."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from drop_rows import (
    BERLIN,
    FIRST_SEEN,
    NOW,
    TYPES,
    UID,
    Row,
    details_of,
    reasons,
    texts,
    validate_rows,
    values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.model import Reason, ReferenceTypes, Reject
from crm_core.rows.contract import validate
from crm_core.rows.reader import read_drop
from crm_core.values.hashing import derived_uid, detail_hashdiff, entity_hashdiff, stored_form

pytestmark = pytest.mark.unit


def accepted(row: Row, **options: Any) -> dict[str, object]:
    result = validate_rows(row, **options)
    assert result.rejects == []
    return result.changes.row(0, named=True)


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
# fmt: on


@pytest.mark.parametrize("text", NO_UIDS)
def test_a_malformed_uid_is_refused(text: str) -> None:
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
    ("text", "op"), [(None, "upsert"), (" ", "upsert"), ("Upsert", "upsert"), (" DELETE ", "delete")]
)
def test_an_op_is_known_whatever_its_case(text: str | None, op: str) -> None:
    assert accepted(Row(op=text))["op"] == op


@pytest.mark.parametrize("text", ["patch", "insert", "del", "-"])
def test_another_op_is_refused(text: str) -> None:
    assert reasons(Row(op=text)) == {"unknown_op"}


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


def test_a_delete_of_a_uid_needs_nothing_else() -> None:
    change = accepted(Row(display_name=None, entity_type="ALIEN", details="nonsense", op="delete"))
    assert change == {
        "line": 2,
        "entity_uid": UID,
        "change_ts": datetime(2023, 12, 31, 23, tzinfo=UTC),
        "op": "delete",
        "is_derived": False,
        "names_twice": False,
        "source_id": None,
        "source_key": None,
        "key_uid": None,
        "display_name": None,
        "entity_type_id": None,
        "hashdiff": None,
    }
    assert reasons(Row("x", None, None, None, "soon", "delete")) == {"invalid_uid", "invalid_change_ts"}


def test_a_delete_without_a_uid_is_of_the_entity_with_that_content() -> None:
    details = details_of(("email", "Ada@X"), ("key", None))
    result = validate_rows(Row(None, details=details), Row(" ", details=details_of(("EMAIL", " ada@x")), op="delete"))
    assert result.rejects == []
    assert result.changes["entity_uid"].n_unique() == 1
    assert result.changes.row(1)[-3:] == (None, None, None)
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
    uids = validate_rows(base, *same, *others).changes["entity_uid"].to_list()
    assert len(set(uids[:3])) == 1
    assert len(set(uids)) == 7
    for uid in uids:
        assert (UUID(uid).version, UUID(uid).variant) == (8, "specified in RFC 4122")


def test_what_reading_and_validation_reject_comes_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "drop.csv"
    path.write_text("display_name,entity_type,details\nAda\n,PERSON,\nBob,PERSON,\n,,\nshort\n")
    (chunk,) = read_drop(path)
    result = validate(chunk, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=BERLIN)
    assert result.changes["line"].to_list() == [4]
    assert result.rejects == [
        Reject(2, (Reason.WRONG_FIELD_COUNT,), "Ada"),
        Reject(3, (Reason.MISSING_DISPLAY_NAME,), ",PERSON,"),
        Reject(5, (Reason.MISSING_DISPLAY_NAME, Reason.UNKNOWN_ENTITY_TYPE), ",,"),
        Reject(6, (Reason.WRONG_FIELD_COUNT,), "short"),
    ]


def test_a_batch_without_rows_is_fine() -> None:
    result = validate_rows()
    assert (result.changes.height, result.details.height, result.rejects) == (0, 0, [])
    assert result.changes.schema == validate_rows(Row()).changes.schema
    assert result.details.schema == validate_rows(Row(details=details_of(("email", "a")))).details.schema


def test_without_any_type_everything_is_unknown() -> None:
    result = validate_rows(Row(details=details_of(("email", "a"))), types=ReferenceTypes((), ()))
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
    result = validate_rows(*rows)
    assert result.changes.height + len(result.rejects) == 40_000
    assert time.process_time() - started < 6, "row by row in Polars would be a minute"


listed = st.dictionaries(st.sampled_from(["email", "KEY", "website", "stra\u00dfe"]), values)
COMPARES = {kind.code: kind.compares for kind in TYPES.detail_types}
CODES = {"email": "email", "KEY": "key", "website": "website", "stra\u00dfe": "Stra\u00dfe"}


@settings(deadline=None)
@given(st.lists(st.tuples(texts, listed, st.booleans()), max_size=8))
def test_a_whole_column_is_hashed_and_named_as_one_row_is(rows: list[tuple[str, dict[str, str | None], bool]]) -> None:
    result = validate_rows(
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


def test_a_validated_batch_leaves_no_column_to_the_garbage_collector() -> None:
    validate_rows(Row())
    gc.collect()
    gc.disable()
    try:
        validate_rows(Row())
        assert gc.collect() == 0, "a cycle holds whole columns until the collector comes by"
    finally:
        gc.enable()
