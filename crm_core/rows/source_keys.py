"""The columns of a drop that hold keys of sources: `source` and `source_key`, and one for each further source."""

from __future__ import annotations

import polars as pl

from crm_core.model import ReferenceTypes
from crm_core.rows.header import further_key
from crm_core.values.columns import map_distinct
from crm_core.values.hashing import KEY_CHARACTERS, code_key, key_uids, normal_forms

_KEY = {"source_id": pl.Int16, "source_key": pl.String, "key_uid": pl.String}


def read_keys(frame: pl.DataFrame, types: ReferenceTypes) -> pl.DataFrame:
    """Read the key of each row of a drop, null where it has none.

    The columns are source_id Int16, source_key String and key_uid String; has_source and has_known_source Boolean.
    """
    codes, keys = normal_forms(frame["source"]), normal_forms(frame["source_key"])
    known = {code_key(source.code): source.source_id for source in types.sources if source.is_active}
    ids = map_distinct(codes, lambda code: known.get(code_key(code)), pl.Int16)
    uids = pl.Series([None], dtype=pl.String).new_from_index(0, len(keys))
    if keys.null_count() < len(keys):
        known_codes = map_distinct(codes, lambda code: code_key(code) if code_key(code) in known else None, pl.String)
        uids = pl.select(key_uids(pl.lit(known_codes), pl.lit(keys))).to_series()
    values = {"source_id": ids, "source_key": keys, "key_uid": uids}
    return pl.DataFrame(values | {"has_source": codes.is_not_null(), "has_known_source": ids.is_not_null()})


def further_keys(frame: pl.DataFrame, types: ReferenceTypes) -> pl.DataFrame:
    """Read the keys of further sources, in the order of the rows: row UInt32, source_id, source_key and key_uid."""
    parts = [pl.DataFrame(schema={"row": pl.UInt32, **_KEY})]
    for source in types.sources:
        if (name := further_key(source.code)) in frame.columns:
            keys = normal_forms(frame[name])
            rows = keys.is_not_null().arg_true()
            found = pl.DataFrame({"row": rows, "source_id": source.source_id, "source_key": keys.gather(rows)})
            uids = key_uids(pl.lit(source.code), pl.col("source_key"))
            parts.append(found.select("row", pl.col("source_id").cast(pl.Int16), "source_key", key_uid=uids))
    return pl.concat(parts).sort("row", maintain_order=True)


def has_long_key(rows: pl.DataFrame, further: pl.DataFrame) -> pl.Series:
    """Return for each row whether a key of it is longer than it may be; Boolean."""
    is_long = pl.col("source_key").str.len_chars() > KEY_CHARACTERS
    long = further.filter(is_long)["row"]
    return rows.select(is_long.fill_null(value=False) | pl.col("row").is_in(long.implode())).to_series()
