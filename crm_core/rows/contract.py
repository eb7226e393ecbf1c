"""The contract of a drop's rows: what is valid, the reason code of each rule, and the stored form of valid rows.

A row is read into typed columns (null where that fails), a Pandera schema decides, and rows that pass are hashed. A
delete that names its entity, by a uid or by the key of a source, needs nothing else: in such a *bare* row the name, the
type and the details are ignored. A row of a partial chunk is a patch: it needs to name its entity, and says nothing of
what is blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

import polars as pl

from crm_core.formats.chunk import ENDS, RawChunk
from crm_core.model import FURTHER_KEY, DetailType, Reason, ReferenceTypes, Reject
from crm_core.rows.details_json import read_details
from crm_core.rows.header import COLUMNS
from crm_core.rows.source_keys import further_keys, has_long_key, read_keys
from crm_core.values.columns import map_distinct, map_where
from crm_core.values.hashing import (
    NAME_CHARACTERS,
    NOBODY,
    VALUE_BYTES,
    code_key,
    derived_uids,
    folded_forms,
    hashdiff,
    is_value_too_long,
    normal_forms,
    stored_form,
)
from crm_core.values.instants import CLOCK_SKEW, instants

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema


_UID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_ANY_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BESIDE_CONTENT = (Reason.INVALID_CHANGE_TS, Reason.FUTURE_CHANGE_TS, Reason.UNKNOWN_OP)
_NO_UIDS = [str(uid) for uid in NOBODY]
_OTHER_UID = r"^(?:urn:uuid:)?(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}$|^\{(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}\}$"
_OPS = {"": "upsert", "upsert": "upsert", "delete": "delete"}
_PARTIAL_OPS = {"": "patch", "upsert": "patch", "delete": "delete"}
_REASONS = tuple(Reason)
_DETAILS_FAULTS = (
    Reason.DETAILS_NOT_JSON,
    Reason.DETAILS_NOT_LIST,
    Reason.UNKNOWN_DETAIL_TYPE,
    Reason.DUPLICATE_DETAIL_TYPE,
    Reason.INVALID_DETAIL_VALUE,
    Reason.VALUE_TOO_LONG,
)


@dataclass(frozen=True, slots=True)
class ValidChunk:
    """Some rows of a drop after validation: the valid ones, and the rejects.

    `changes`: line Int64, entity_uid String (canonical), change_ts Datetime(us, UTC), op String (upsert, patch or
    delete), is_derived Boolean (of the content), names_twice Boolean (the row has a uid and a key); null without
    the key of a source: source_id Int16, source_key String, key_uid String (the entity_uid too, without a uid); null in
    a delete, or where a patch says nothing of it: display_name String, entity_type_id Int16, hashdiff String (64
    hexadecimal digits; null unless both are given). `details`, in the order of lines and codes, without deletes: line
    as above, detail_type String (canonical code), detail_value String (null ends the detail), hashdiff String (null if
    the value is). `keys`, in the order of lines, are those of further sources: line, source_id, source_key and key_uid
    as above.
    """

    changes: pl.DataFrame
    details: pl.DataFrame
    keys: pl.DataFrame
    rejects: list[Reject]  # in order of their lines
    rejected_uids: list[str]  # of their entities, as far as these can be told


def validate(
    chunk: RawChunk, types: ReferenceTypes, *, first_seen: datetime, now: datetime, time_zone: tzinfo
) -> ValidChunk:
    """Check each row of a chunk against the drop contract; every fault of a row is named, in the order of Reason.

    A blank change_ts means `first_seen`; one without an offset is read in `time_zone`; none may be much later than
    `now`.
    """
    detail_types = sorted((kind for kind in types.detail_types if kind.is_active), key=lambda kind: kind.code)
    rows = _read_rows(chunk, types, first_seen.astimezone(UTC), time_zone)
    listed = read_details(rows["details"])
    details = _ranked(pl.concat([listed.details, *_details_of_columns(chunk.frame, rows["is_bare"])]), detail_types)
    rows = _with_details_faults(rows, listed.faults, details, detail_types)
    keys = further_keys(chunk.frame, types)
    rows = rows.with_columns(has_long_key=has_long_key(rows, keys))
    reasons = _faults_of_rows(rows, drop_schema(latest=(now + CLOCK_SKEW).astimezone(UTC)))
    uids = [*_uids_of_rejects(rows, reasons, details, detail_types), *_uids_of_unreadable(chunk.rejects)]
    if not reasons.is_empty():
        rows = rows.join(reasons, on="row", how="anti", maintain_order="left")
    rows = rows.with_columns(hashdiff=hashdiff(pl.col("display_name"), pl.col("entity_type")))
    details = _valued(details.join(rows.select("row"), on="row", how="semi", maintain_order="left"), detail_types)
    rows = _with_uids(rows.with_columns(is_derived=pl.col("entity_uid").is_null()), details)
    named = keys.join(rows.select("row", "line"), on="row", maintain_order="left").drop("row")
    return ValidChunk(_changes(rows), _details(rows, details), named, _rejects(chunk, reasons), uids)


def drop_schema(latest: datetime) -> DataFrameSchema:
    """Return the contract of rows that have been read: one check for each reason code, named by the code."""
    from pandera.polars import Check, Column, DataFrameSchema, PolarsData  # takes a second to import

    def rule(reason: Reason, holds: pl.Expr) -> Check:
        def check(rows: PolarsData) -> pl.LazyFrame:
            return rows.lazyframe.select(holds)

        return Check(check, error=reason)

    uid, op, change_ts = pl.col("entity_uid"), pl.col("op"), pl.col("change_ts")
    name, kind = pl.col("display_name"), pl.col("entity_type_id")
    faults, key = pl.col("details_faults"), pl.col("source_key")
    return DataFrameSchema(
        {
            "entity_uid": Column(
                pl.String,
                rule(
                    Reason.INVALID_UID,
                    pl.when(uid.is_null())
                    .then(pl.col("may_lack_uid"))
                    .otherwise(uid.str.contains(_UID) & ~uid.is_in(_NO_UIDS)),
                ),
                nullable=True,
            ),
            "display_name": Column(
                pl.String,
                [
                    rule(Reason.MISSING_DISPLAY_NAME, name.is_not_null() | pl.col("may_lack_name")),
                    rule(Reason.VALUE_TOO_LONG, name.is_null() | (name.str.len_chars() <= NAME_CHARACTERS)),
                ],
                nullable=True,
            ),
            "entity_type_id": Column(
                pl.Int16, rule(Reason.UNKNOWN_ENTITY_TYPE, kind.is_not_null() | pl.col("may_lack_type")), nullable=True
            ),
            "details_faults": Column(
                pl.List(pl.String), [rule(reason, ~faults.list.contains(reason)) for reason in _DETAILS_FAULTS]
            ),
            "change_ts": Column(
                pl.Datetime("us", "UTC"),
                [
                    rule(Reason.INVALID_CHANGE_TS, change_ts.is_not_null()),
                    rule(Reason.FUTURE_CHANGE_TS, change_ts.is_null() | (change_ts <= latest)),
                ],
                nullable=True,
            ),
            "op": Column(pl.String, rule(Reason.UNKNOWN_OP, op.is_not_null()), nullable=True),
            "source_key": Column(
                pl.String,
                [
                    rule(Reason.UNKNOWN_SOURCE, pl.col("has_known_source") | key.is_null() & ~pl.col("has_source")),
                    rule(Reason.MISSING_SOURCE_KEY, key.is_not_null() | ~pl.col("has_source")),
                    rule(Reason.VALUE_TOO_LONG, ~pl.col("has_long_key")),
                ],
                nullable=True,
            ),
        }
    )


def _faults_of_rows(rows: pl.DataFrame, schema: DataFrameSchema) -> pl.DataFrame:
    """Return the rows that break the contract: row UInt32, line Int64, reasons List(String) in no order."""
    from pandera.errors import SchemaErrors

    try:
        schema.validate(rows, lazy=True)
    except SchemaErrors as errors:
        failures = errors.failure_cases.select(pl.col("index").cast(pl.UInt32), reason="check")
        if failures["index"].null_count():
            raise  # a column or a check that does not work is our mistake, not a fault of a row
        found = failures.group_by("index").agg("reason")
        return rows.select("line", "row").join(found, left_on="row", right_on="index", maintain_order="left")
    return pl.DataFrame(schema={"row": pl.UInt32, "line": pl.Int64, "reason": pl.List(pl.String)})


def _read_rows(chunk: RawChunk, types: ReferenceTypes, first_seen: datetime, time_zone: tzinfo) -> pl.DataFrame:
    """Read the columns of a drop: null means that a value cannot be read; for entity_uid it means blank."""
    frame, known_ops = chunk.frame, _PARTIAL_OPS if chunk.is_partial else _OPS
    ops = map_distinct(frame["op"].fill_null(""), lambda text: known_ops.get(code_key(text)), pl.String)
    uids = _uids(frame["entity_uid"])
    keys = read_keys(frame, types)
    is_bare = ((uids.is_not_null() | keys["key_uid"].is_not_null()) & (ops == "delete")).fill_null(value=False)
    if is_bare.any():
        frame = frame.with_columns(pl.when(~is_bare).then(pl.col("display_name", "entity_type", "details")))
    known = {code_key(kind.code): kind for kind in types.entity_types if kind.is_active}
    codes = map_distinct(
        frame["entity_type"], lambda text: kind.code if (kind := known.get(code_key(text))) else None, pl.String
    )
    ids = {kind.code: kind.entity_type_id for kind in known.values()}
    texts = normal_forms(frame["change_ts"])
    is_patch = (ops == "patch").fill_null(value=False)
    return pl.DataFrame(
        {
            "row": pl.int_range(frame.height, dtype=pl.UInt32, eager=True),
            "line": frame["line"],
            "entity_uid": uids.fill_null(keys["key_uid"]) if keys["key_uid"].null_count() < frame.height else uids,
            "op": ops,
            "is_bare": is_bare,
            "may_lack_uid": ~is_patch,
            "may_lack_name": is_bare | is_patch,
            "may_lack_type": is_bare | is_patch & normal_forms(frame["entity_type"]).is_null(),
            "names_twice": uids.is_not_null() & keys["key_uid"].is_not_null(),
            "display_name": normal_forms(frame["display_name"]),
            "entity_type": codes,
            "entity_type_id": codes.replace_strict(ids, default=None, return_dtype=pl.Int16),
            "details": frame["details"],
            "change_ts": instants(texts, time_zone).set(texts.is_null(), first_seen),
        }
    ).hstack(keys)


def _uids(texts: pl.Series) -> pl.Series:
    """Return each UUID, in any spelling that PostgreSQL knows, in canonical spelling; blank is null, others stay."""
    tidy = normal_forms(texts).str.to_lowercase()
    return map_where(tidy, ~tidy.str.contains(_UID) & tidy.str.contains(_OTHER_UID), _respelled)


def _respelled(uids: pl.Series) -> pl.Series:
    digits = uids.str.replace("urn:uuid:", "", literal=True).str.replace_all("[^0-9a-f]", "")
    return digits.str.replace("^(.{8})(.{4})(.{4})(.{4})(.{12})$", "$1-$2-$3-$4-$5")


def _details_of_columns(frame: pl.DataFrame, is_bare: pl.Series) -> Iterator[pl.DataFrame]:
    """Yield row, detail_type and detail_value of each column of a detail type; blank cells are left out."""
    for column in frame.select(pl.exclude("line", *COLUMNS, f"^{re.escape(FURTHER_KEY)}.*$")):
        rows = (normal_forms(column).is_not_null() & ~is_bare).arg_true()
        values = column.gather(rows).replace({ENDS: None})
        yield pl.DataFrame({"row": rows, "detail_type": column.name, "detail_value": values})


def _ranked(details: pl.DataFrame, types: list[DetailType]) -> pl.DataFrame:
    """Add the rank of each detail, its place in the order of the codes, and sort by it; unknown types come last."""
    ranks = {code_key(kind.code): rank for rank, kind in enumerate(types)}
    rank = map_distinct(details["detail_type"], lambda text: ranks.setdefault(code_key(text), len(ranks)), pl.UInt32)
    return details.select("row", "detail_value", rank=rank).sort("row", "rank", nulls_last=True, maintain_order=True)


def _with_details_faults(
    rows: pl.DataFrame, faults: pl.DataFrame, details: pl.DataFrame, types: list[DetailType]
) -> pl.DataFrame:
    """Add details_faults List(String): the reason codes of each row's details."""
    is_known = (pl.col("rank") < len(types)).fill_null(value=False)
    is_again = (pl.col("row") == pl.col("row").shift()) & (pl.col("rank") == pl.col("rank").shift())
    found = pl.concat(
        [
            faults,
            details.filter(~is_known).select("row", reason=pl.lit(Reason.UNKNOWN_DETAIL_TYPE.value)),
            details.filter(is_again).select("row", reason=pl.lit(Reason.DUPLICATE_DETAIL_TYPE.value)),
            _too_long(details.filter(is_known), types).select("row", reason=pl.lit(Reason.VALUE_TOO_LONG.value)),
        ]
    )
    by_row = found.group_by("row").agg(details_faults=pl.col("reason").unique())
    none = pl.lit([], pl.List(pl.String))
    return rows.join(by_row, on="row", how="left", maintain_order="left").with_columns(
        pl.col("details_faults").fill_null(none)
    )


def _too_long(details: pl.DataFrame, types: list[DetailType]) -> pl.DataFrame:
    """Return the details whose stored value is too long; it has at most three times as many bytes as the given one."""
    long = details.filter(pl.col("detail_value").str.len_bytes() > VALUE_BYTES // 3)
    stored = (stored_form(value, types[rank].compares) for value, rank in long.select("detail_value", "rank").rows())
    return long.filter(pl.Series([is_value_too_long(value or "") for value in stored], dtype=pl.Boolean))


def _valued(details: pl.DataFrame, types: list[DetailType]) -> pl.DataFrame:
    """Add the stored and hashed form to valid details: detail_type, detail_value and hashdiff."""
    columns = {"detail_type": pl.String, "compares": pl.String}
    known = pl.DataFrame([(kind.code, kind.compares) for kind in types], columns, orient="row")
    details = details.hstack(known.select(pl.all().gather(details["rank"])))
    given = details["detail_value"].replace({"": None})
    stored = map_where(given, details["compares"] != "exact", normal_forms)
    compared = map_where(stored, details["compares"] == "casefold", folded_forms)
    digest = pl.when(compared.is_not_null()).then(hashdiff(pl.col("detail_type"), pl.lit(compared)))
    return details.select("row", "detail_type", detail_value=stored, hashdiff=digest)


def _with_uids(rows: pl.DataFrame, details: pl.DataFrame) -> pl.DataFrame:
    """Derive the uids of rows that have none."""
    if not rows["entity_uid"].null_count():
        return rows
    by_row = details.group_by("row", maintain_order=True).agg(of_details=pl.col("hashdiff").drop_nulls().str.join(""))
    derived = derived_uids(pl.col("hashdiff") + pl.col("of_details").fill_null(""))
    return (
        rows.join(by_row, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("entity_uid").fill_null(derived))
        .drop("of_details")
    )


def _uids_of_rejects(
    rows: pl.DataFrame, reasons: pl.DataFrame, details: pl.DataFrame, types: list[DetailType]
) -> list[str]:
    """Return the uids of rejected rows: the given ones, and the derived ones if all that they come from is valid."""
    if reasons.is_empty():
        return []
    rejected = rows.join(reasons.select("row", "reason"), on="row", maintain_order="left")
    given = pl.col("entity_uid").str.contains(_UID) & ~pl.col("entity_uid").is_in(_NO_UIDS)
    others = pl.col("reason").list.set_difference(pl.lit([*_BESIDE_CONTENT], pl.List(pl.String))).list.len()
    whole = rejected.filter(pl.col("entity_uid").is_null() & (others == 0)).with_columns(
        hashdiff=hashdiff(pl.col("display_name"), pl.col("entity_type"))
    )
    content = _valued(details.join(whole.select("row"), on="row", how="semi", maintain_order="left"), types)
    return [*rejected.filter(given)["entity_uid"].to_list(), *_with_uids(whole, content)["entity_uid"].to_list()]


def _uids_of_unreadable(rejects: list[Reject]) -> list[str]:
    """Return every uid in rows that could not be read: one of them is that of the entity, whatever the row lacks."""
    return [uid for reject in rejects for uid in _ANY_UID.findall(reject.raw.lower())]


def _changes(rows: pl.DataFrame) -> pl.DataFrame:
    given = pl.when(pl.col("op") != "delete").then(pl.col("display_name", "entity_type_id"))
    is_complete = (
        (pl.col("op") != "delete") & pl.col("display_name").is_not_null() & pl.col("entity_type_id").is_not_null()
    )
    key = pl.col("source_id", "source_key", "key_uid", "names_twice")
    hashed = pl.when(is_complete).then(pl.col("hashdiff"))
    return rows.select("line", "entity_uid", "change_ts", "op", "is_derived", key, given, hashed)


def _details(rows: pl.DataFrame, details: pl.DataFrame) -> pl.DataFrame:
    standing = rows.filter(pl.col("op") != "delete").select("row", "line")
    return details.join(standing, on="row", maintain_order="left").select(
        "line", "detail_type", "detail_value", "hashdiff"
    )


def _rejects(chunk: RawChunk, reasons: pl.DataFrame) -> list[Reject]:
    lines = reasons["line"].to_list()
    codes = [tuple(reason for reason in _REASONS if reason in found) for found in reasons["reason"].to_list()]
    rejects = [Reject(*reject) for reject in zip(lines, codes, chunk.raw(lines), strict=True)] if lines else []
    return sorted([*chunk.rejects, *rejects], key=lambda reject: reject.line)
