"""The details of a row: which lists are read, in whatever style, and which are refused."""

from __future__ import annotations

import json

import polars as pl
import pytest
from drop_rows import (
    Row,
    details_of,
    pairs,
    reasons,
    validate_rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.model import Reason
from crm_core.rows.details_json import read_details

pytestmark = pytest.mark.unit
NO_JSON = [
    "x",
    "[",
    "[}",
    "[1,]",
    "['a']",
    "[NaN]",
    "[Infinity]",
    "[] []",
    "[]x",
    '[{"detail_type":"email"',
    "\ufeff[]",
    '[{"detail_type":"email","detail_value":"a\tb"}]',
    '[{"detail_type":"email" "detail_value":"a"}]',
    "[" * 100_000,
    r'[{"detail_type":"email","detail_value":"\x41"}]',
    r'[{"detail_type":"email","detail_value":"\u12"}]',
]
NO_LISTS = ["{}", "null", "1", '"x"', "true", '{"detail_type":"email","detail_value":"a"}', "1" * 5000]
NO_TYPES = [
    "{}",
    '{"detail_value":"a"}',
    '{"detail_type":null,"detail_value":"a"}',
    '{"detail_type":1,"detail_value":"a"}',
    '{"detail_type":"fax","detail_value":"a"}',
    '{"detail_type":"","detail_value":"a"}',
    r'{"detail_type":"\ud800","detail_value":"a"}',
    r'{"detail_type":"email\u0000","detail_value":"a"}',
    '{"detail_type":"STRASSE","detail_value":"a"}',
]
NO_VALUES = [
    "1",
    "1.5",
    "true",
    "[]",
    "{}",
    '["a"]',
    r'"\u0000"',
    r'"a\ud800b"',
    r'"\ude00\ud83d"',
    "1e999",
    "1" * 5000,
]
NO_DETAILS = [
    "1",
    "null",
    "[]",
    '"email"',
    '{"detail_type":"email"}',
    '{"detail_type":"email","value":"a"}',
    '{"detail_type":"email","detail_value":"a","detail_value":"a"}',
    "[" * 500 + "]" * 500,
    '{"detail_type":"email","detail_value":"a","x":1,"x":2}',
    '{"detail_type":"email","detail_value":"a","x":null}',
    '{"detail_type":"email","detail_value":"a","detail_Value":"b"}',
    '{"detail_type":"email","detail_value":"a","":""}',
    '{"detail_type":"email","detail_value":"a","hashdiff":1}',
    '{"detail_type":"email","detail_value":"a","is_current":1}',
    r'{"detail_type":"email","detail_value":"a","detail_valu\u0065":"b"}',
    '{"detail_type":"email","detail_value":"a","valid_to":"x","valid_to":null}',
]


@pytest.mark.parametrize("text", [None, "", "  ", "[]", " [ ]\n"])
def test_no_details_are_fine(text: str | None) -> None:
    result = validate_rows(Row(details=text))
    assert result.changes.height == 1
    assert result.details.is_empty()


@pytest.mark.parametrize("text", NO_JSON, ids=range(len(NO_JSON)))
def test_details_that_are_not_json_are_refused(text: str) -> None:
    assert reasons(Row(details=text)) == {"details_not_json"}


@pytest.mark.parametrize("text", NO_LISTS, ids=range(len(NO_LISTS)))
def test_details_that_are_not_a_list_are_refused(text: str) -> None:
    assert reasons(Row(details=text)) == {"details_not_list"}


@pytest.mark.parametrize("item", NO_TYPES)
def test_a_detail_of_an_unknown_or_inactive_type_is_refused(item: str) -> None:
    found = reasons(Row(details=f"[{item}]"))
    assert found - {"invalid_detail_value"} == {"unknown_detail_type"}
    assert ("invalid_detail_value" in found) == (item == "{}")


@pytest.mark.parametrize("value", NO_VALUES, ids=range(len(NO_VALUES)))
def test_a_detail_whose_value_is_not_text_is_refused(value: str) -> None:
    assert reasons(Row(details=f'[{{"detail_type":"email","detail_value":{value}}}]')) == {"invalid_detail_value"}


@pytest.mark.parametrize("item", NO_DETAILS, ids=range(len(NO_DETAILS)))
def test_an_item_that_is_not_a_detail_is_refused(item: str) -> None:
    assert reasons(Row(details=f"[{item}]")) == {"invalid_detail_value"}


def test_a_member_that_is_spelt_otherwise_is_unknown_and_its_type_missing() -> None:
    found = reasons(Row(details='[{"Detail_Type":"email","detail_value":"a"}]'))
    assert found == {"unknown_detail_type", "invalid_detail_value"}


def test_a_type_twice_is_refused_whatever_its_case() -> None:
    assert reasons(Row(details=details_of(("email", "a"), ("key", "b"), (" EMAIL", None)))) == {"duplicate_detail_type"}
    assert reasons(Row(details=details_of(("Fox", "a"), ("fox", "a")))) == {
        "unknown_detail_type",
        "duplicate_detail_type",
    }
    assert validate_rows(*[Row(details=details_of(("email", "a")))] * 3).rejects == []


def test_malformed_neighbours_are_not_taken_for_one_row() -> None:
    result = validate_rows(Row(details='[],[{"detail_type":"email"'), Row(details='"detail_value":"zzz"}]'))
    assert [reject.reasons for reject in result.rejects] == [(Reason.DETAILS_NOT_JSON,)] * 2


def test_details_are_in_the_order_of_codes_and_in_stored_form() -> None:
    result = validate_rows(
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
    assert validate_rows(Row(details=text)).details.select("detail_type", "detail_value").rows() == [("email", "a")]


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
