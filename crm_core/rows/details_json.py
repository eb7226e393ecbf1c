"""The column `details`: JSON lists of typed values, read into one row for each detail.

Nearly all lists have the one shape that programs write. An exact grammar recognizes those, and they are split in bulk
at their quotes; the others are parsed one by one by Python's JSON module, which finds the faults. (Decoding JSON in
bulk without a grammar can take two malformed neighbours for well-formed rows.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import polars as pl

from crm_core.model import Reason
from crm_core.values.columns import map_where

_SPACE = r"[ \t\r\n]*"
_HEX = "[0-9a-fA-F]"
_ESCAPE = (  # not of a quote, at which lists are split; no NUL and no half of a surrogate pair
    r"\\(?:[\\/bfnrt]|u(?:"
    rf"000[1-9a-fA-F]|00[1-9a-fA-F]{_HEX}|0[1-9a-fA-F]{_HEX}{{2}}|[1-9a-cefA-CEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}"
    rf"|[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}))"
)
_NULL = rf'"detail_value"{_SPACE}:{_SPACE}null'
_DETAIL = (
    rf'\{{{_SPACE}"detail_type"{_SPACE}:{_SPACE}"[^"\\\x00-\x1f]*"{_SPACE},{_SPACE}'
    rf'(?:{_NULL}|"detail_value"{_SPACE}:{_SPACE}"(?:[^"\\\x00-\x1f]|{_ESCAPE})*"){_SPACE}\}}'
)
_USUAL = rf"^{_SPACE}(?:\[{_SPACE}(?:{_DETAIL}{_SPACE}(?:,{_SPACE}{_DETAIL}{_SPACE})*)?\]{_SPACE})?$"
_QUOTED_NULL = '"detail_value":"\x00"'
_QUOTES = 8  # around two keys and two values
_SAID = ("detail_type", "detail_value")
# Further members that are allowed.
_OF_ANSWERS = {"valid_from": str, "valid_to": str, "is_current": bool, "hashdiff": str}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Listed:
    """The details and the faults of some rows."""

    details: pl.DataFrame  # row UInt32, detail_type String (null: none was named), detail_value String
    faults: pl.DataFrame  # row UInt32, reason String


def read_details(texts: pl.Series) -> Listed:
    """Read the lists of a String column; rows count from 0, and details keep the order of rows and lists."""
    rows = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.UInt32, eager=True), "text": texts.fill_null("")})
    is_usual = rows["text"].str.contains(_USUAL)
    usual = _apart(rows.filter(is_usual))
    if is_usual.all():
        return Listed(usual, pl.DataFrame(schema={"row": pl.UInt32, "reason": pl.String}))
    details: list[tuple[int, str | None, str | None]] = []
    faults: list[tuple[int, Reason]] = []
    for row, text in rows.filter(~is_usual).iter_rows():
        for found in _read_one(text):
            if isinstance(found, Reason):
                faults.append((row, found))
            else:
                details.append((row, *found))
    return Listed(
        pl.concat([usual, pl.DataFrame(details, usual.schema, orient="row")]).sort("row", maintain_order=True),
        pl.DataFrame(faults, {"row": pl.UInt32, "reason": pl.String}, orient="row"),
    )


def _apart(rows: pl.DataFrame) -> pl.DataFrame:
    """Split lists of the usual shape: of the eight parts between a detail's quotes, two are the type and the value."""
    texts = rows["text"]
    texts = map_where(
        texts, texts.str.contains("null", literal=True), lambda some: some.str.replace_all(_NULL, _QUOTED_NULL)
    )
    parts = texts.str.split('"')
    counts = parts.list.len() // _QUOTES
    place = pl.int_range(len(texts), dtype=pl.UInt32, eager=True).repeat_by(counts).explode(empty_as_null=False)
    start = (
        pl.int_range(len(place), dtype=pl.UInt32, eager=True) * _QUOTES + place
    )  # a list has one more part after its last detail
    parts = parts.explode()
    values = parts.gather(start + 7)
    values = map_where(values, values.str.contains("\\", literal=True), _unescaped).replace({"\x00": None})
    return pl.DataFrame(
        {"row": rows["row"].gather(place), "detail_type": parts.gather(start + 3), "detail_value": values}
    )


def _read_one(text: str) -> Iterator[tuple[str | None, str | None] | Reason]:
    """Read one list: its details and its faults."""
    if not text.strip():
        return
    try:
        listed: object = json.loads(text, object_pairs_hook=_Members, parse_int=float, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # an int() of 5,000 digits would raise ValueError too, a float does not
        yield Reason.DETAILS_NOT_JSON
        return
    if not isinstance(listed, list) or isinstance(listed, _Members):
        yield Reason.DETAILS_NOT_LIST
        return
    for item in listed:
        if not isinstance(item, _Members):
            yield Reason.INVALID_DETAIL_VALUE
            continue
        members = dict(item)
        kind, value = members.get("detail_type"), members.get("detail_value", ())
        yield kind if _is_storable(kind) else None, value if _is_storable(value) else None
        if not _is_sound(item) or not (value is None or _is_storable(value)):
            yield Reason.INVALID_DETAIL_VALUE


class _Members(list[tuple[str, object]]):
    """The members of a JSON object, including repeated keys."""


def _is_sound(item: _Members) -> bool:
    """Return whether no member is repeated and all are known; members that only answers have are known too."""
    members = dict(item)
    return len(members) == len(item) and all(
        name in _SAID or isinstance(value, _OF_ANSWERS.get(name, ())) or (value is None and name in _OF_ANSWERS)
        for name, value in item
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _is_storable(value: object) -> TypeGuard[str]:
    """Return whether a value is a string without NUL or half a surrogate pair, which PostgreSQL cannot store."""
    return isinstance(value, str) and "\0" not in value and not _SURROGATE.search(value)


def _unescaped(values: pl.Series) -> pl.Series:
    return pl.Series([json.loads(f'"{value}"') for value in values], dtype=pl.String)
