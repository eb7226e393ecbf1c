"""One change by request is validated and written as a row of a drop is: two implementations of one contract agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import polars as pl
import pytest
from drop_rows import BERLIN, NOW, TYPES, UID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crm_core.errors import ChangeRefused
from crm_core.formats.chunk import RawChunk
from crm_core.model import Change, Op, Reason
from crm_core.rows.contract import validate
from crm_core.rows.header import COLUMNS
from crm_core.timeline.single_change import ChangeRequest, Provenance, validate_change
from crm_core.values.hashing import detail_hashdiff, entity_hashdiff

pytestmark = pytest.mark.unit

TESTER = Provenance("test", "r")
Details = list[tuple[str, str | None]]
Row = tuple[Op, str, str, Details, str | None]
Outcome = tuple[set[str], Change | None, dict[str, str | None]]  # reasons, or the change and its hashdiffs

CHARS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ODD = [
    "",
    " ",
    "\t",
    "Ada",
    " Ada \n B",
    "e\u0301",
    "É",
    "ǅ",
    "ﬃ",
    "ß",
    "İ",
    "\u2003x\u2003",
    "\x1c",
    "\u200b",
    "\ufeffAda\u200c",
    "a\u200db",
    "x" * 501,
    "H̱",
    "가",
]
TEXTS = st.text(CHARS, max_size=6) | st.sampled_from(ODD)
ENTITY_TYPES = (
    st.sampled_from(["PERSON", "person", " Institution ", "ROBOT", "pers", "", "\uff30ERSON", "\u0131nstitution"])
    | TEXTS
)
CODES = st.sampled_from(["email", "EMAIL", " website", "key", "Key", "straße", "STRASSE", "straẞe", "fax", "nope", ""])
VALUES = (
    st.none() | TEXTS | st.sampled_from(["x" * 100_000, "é" * 50_001, "\0", "a\0b", "\ud800", "x\udfff", "\U0001f600"])
)
INSTANTS = st.none() | st.sampled_from(
    [
        "", "  ", "2024-01-01", "2024-06-01T12:05:00Z", "2024-06-01T12:05:00.000001Z", "2024-06-01T14:05",
        "2024-13-45", "x", "2024-03-31T02:30", "2023-10-29T02:30", "2024-01-01T00:00:00+0130", "20240101",
        "0001-01-01", "9999-12-31", "2024-06-01 14:00:00,5", "2024-01-01T24:00", "\u0662\u0660\u0662\u0664-01-01",
    ]
)  # fmt: skip


def validated(request: ChangeRequest) -> Change:
    return validate_change(request, TYPES, now=NOW, time_zone=BERLIN)


def by_request(op: Op, name: str, entity_type: str, details: Details, change_ts: str | None) -> Outcome:
    said = () if op == "delete" else (name, entity_type, details)
    try:
        change = validated(ChangeRequest(op, UUID(UID), TESTER, change_ts, *said))
    except ChangeRefused as refused:
        return {str(code) for code, _, _ in refused.faults}, None, {}
    if change.op == "delete":
        return set(), change, {}
    assert change.display_name is not None
    assert change.entity_type is not None
    compares = {kind.code: kind.compares for kind in TYPES.detail_types}
    hashes: dict[str, str | None] = {"": entity_hashdiff(change.display_name, change.entity_type).hex()}
    for code, value in change.details.items():
        hashes[code] = None if value is None else detail_hashdiff(code, value, compares[code]).hex()
    return set(), change, hashes


def by_drop(rows: list[Row]) -> list[Outcome]:
    """Return each row as a drop of all of them validates and writes it."""
    cells = []
    for op, name, entity_type, details, change_ts in rows:
        listed = json.dumps([{"detail_type": code, "detail_value": value} for code, value in details])
        row = {"entity_uid": UID, "display_name": name, "entity_type": entity_type, "details": listed}
        cells.append([(row | {"change_ts": change_ts, "op": op}).get(column) for column in COLUMNS])
    frame = pl.DataFrame(cells, dict.fromkeys(COLUMNS, pl.String), orient="row")
    frame = frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("line"), *COLUMNS)
    chunk = RawChunk(frame, block=b"x\n" * len(rows), first_line=0)
    valid = validate(chunk, TYPES, first_seen=NOW, now=NOW, time_zone=BERLIN)
    outcomes: dict[int, Outcome] = {
        reject.line: ({str(reason) for reason in reject.reasons}, None, {}) for reject in valid.rejects
    }
    entity_types = {kind.entity_type_id: kind.code for kind in TYPES.entity_types}
    for change in valid.changes.rows(named=True):
        details_of = [detail for detail in valid.details.rows(named=True) if detail["line"] == change["line"]]
        stored = {detail["detail_type"]: detail["detail_value"] for detail in details_of}
        kind = entity_types.get(change["entity_type_id"])
        made = Change(UUID(UID), change["change_ts"], change["op"], change["display_name"], kind, stored)
        hashes = {detail["detail_type"]: detail["hashdiff"] for detail in details_of}
        outcomes[change["line"]] = (
            set(),
            made,
            hashes | ({} if made.op == "delete" else {"": change["hashdiff"]}),
        )
    return [outcomes[line] for line in range(len(rows))]


ROWS = st.tuples(
    st.sampled_from(["upsert", "upsert", "delete"]),
    TEXTS,
    ENTITY_TYPES,
    st.lists(st.tuples(CODES, VALUES), max_size=4),
    INSTANTS,
)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(rows=st.lists(ROWS, min_size=1, max_size=25))
@example([("upsert", "Ada", "PERSON", [("email", "\0"), ("email", "x")], None)])
@example([("upsert", "Ada", "PERSON", [("nope", None), ("nope", "\0")], None)])
@example([("upsert", "Ada", "PERSON", [("email", " "), ("key", " "), ("website", None)], "2024-06-01T12:05:00Z")])
def test_a_request_and_a_row_are_validated_and_written_alike(rows: list[Row]) -> None:
    rows = [
        (op, name, kind, [] if op == "delete" else details, at) for op, name, kind, details, at in rows
    ]  # the details of a delete are not read
    assert [by_request(*row) for row in rows] == by_drop(rows)


def patched(**said: object) -> Change:
    return validated(ChangeRequest("patch", UUID(UID), TESTER, **said))  # type: ignore[arg-type]


def test_a_patch_sets_what_it_names_alone() -> None:
    assert patched() == Change(UUID(UID), NOW, "patch")
    assert patched(display_name=" B ") == Change(UUID(UID), NOW, "patch", "B")
    assert patched(entity_type="person") == Change(UUID(UID), NOW, "patch", None, "PERSON")
    said = patched(details=[("EMAIL", None), ("key", "")], change_ts="2024-01-01")
    midnight = datetime(2023, 12, 31, 23, tzinfo=UTC)
    assert said == Change(UUID(UID), midnight, "patch", None, None, {"email": None, "key": None})


@pytest.mark.parametrize(
    ("said", "reason", "field"),
    [
        ({"display_name": ""}, Reason.MISSING_DISPLAY_NAME, "display_name"),
        ({"display_name": "a\0"}, Reason.INVALID_ENCODING, "display_name"),
        ({"display_name": "\udc00"}, Reason.INVALID_ENCODING, "display_name"),
        ({"entity_type": ""}, Reason.UNKNOWN_ENTITY_TYPE, "entity_type"),
        ({"entity_type": "ROBOT"}, Reason.UNKNOWN_ENTITY_TYPE, "entity_type"),
        ({"details": [("fax", "1")]}, Reason.UNKNOWN_DETAIL_TYPE, "details[0].detail_type"),
        ({"details": [("key", "1"), ("KEY", "2")]}, Reason.DUPLICATE_DETAIL_TYPE, "details[1].detail_type"),
        ({"details": [("key", "\0")]}, Reason.INVALID_DETAIL_VALUE, "details[0].detail_value"),
        ({"change_ts": "2024-06-01T12:06Z"}, Reason.FUTURE_CHANGE_TS, "change_ts"),
        ({"change_ts": "soon"}, Reason.INVALID_CHANGE_TS, "change_ts"),
        ({"display_name": "\u200b"}, Reason.MISSING_DISPLAY_NAME, "display_name"),
        ({"display_name": "x" * 501}, Reason.VALUE_TOO_LONG, "display_name"),
        ({"details": [("key", "x" * 100_001)]}, Reason.VALUE_TOO_LONG, "details[0].detail_value"),
    ],
)
def test_a_fault_has_its_reason_its_place_and_its_cure(said: dict[str, object], reason: Reason, field: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        patched(**said)
    ((code, where, text),) = refused.value.faults
    assert (code, where) == (reason, field)
    assert len(text) > 15
    assert str(refused.value) == f"{field}: {text}"


@pytest.mark.parametrize("uid", [UUID(int=0), UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")])
def test_a_uid_that_names_nobody_makes_nobody(uid: UUID) -> None:
    with pytest.raises(ChangeRefused) as refused:
        validated(ChangeRequest("upsert", uid, TESTER, display_name="Ada", entity_type="PERSON"))
    assert [(code, where) for code, where, _ in refused.value.faults] == [(Reason.INVALID_UID, "entity_uid")]
