"""Rows of a drop for tests of its contract: built, validated, and what became of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import strategies as st

from crm_core.formats.chunk import RawChunk
from crm_core.model import DetailType, EntityType, Reason, ReferenceTypes, Source
from crm_core.rows.contract import ValidChunk, validate
from crm_core.rows.header import COLUMNS

UID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FIRST_SEEN = datetime(2024, 5, 31, 8, 30, 0, 5, tzinfo=UTC)
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
    (
        Source(9, "ERP", "Enterprise resources", "", is_active=True),
        Source(10, "shop", "Shop", "", is_active=True),
        Source(11, "old", "Old", "", is_active=False),
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
    source: str | None = None
    source_key: str | None = None


def validate_rows(*rows: Row, time_zone: ZoneInfo = BERLIN, types: ReferenceTypes = TYPES) -> ValidChunk:
    chunk = RawChunk(frame_of(*rows), block=b"x\n" * len(rows), first_line=2)
    return validate(chunk, types, first_seen=FIRST_SEEN, now=NOW, time_zone=time_zone)


def frame_of(*rows: Row) -> pl.DataFrame:
    frame = pl.DataFrame(rows, dict.fromkeys(COLUMNS, pl.String))
    return frame.select(pl.int_range(2, 2 + pl.len()).alias("line"), *COLUMNS)


def reasons(row: Row) -> set[str]:
    """The faults of a row that stands between good ones."""
    result = validate_rows(Row(), row, Row())
    assert set(result.changes["line"]) | {reject.line for reject in result.rejects} == {2, 3, 4}
    assert result.changes.height + len(result.rejects) == 3
    found = [reject.reasons for reject in result.rejects]
    if found:
        assert sorted(found[0], key=list(Reason).index) == list(found[0]), "in the order of the contract"
        assert set(result.details["line"]) <= {2, 4}
    return {str(reason) for reason in found[0]} if found else set()


def details_of(*pairs: tuple[str, str | None]) -> str:
    return json.dumps([{"detail_type": kind, "detail_value": value} for kind, value in pairs])


texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from(' "\\\n\u00a0\u0301eE')
    )
)
values = st.one_of(st.none(), texts)


pairs = st.lists(st.tuples(texts, values), max_size=4)
