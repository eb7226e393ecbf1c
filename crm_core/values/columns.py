"""Operations on whole columns that only pay for the few values that need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import polars as pl

T = TypeVar("T")


def map_where(values: pl.Series, where: pl.Series, work: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return the values, with `work` applied to those that a Boolean column selects."""
    return values.clone().scatter(where.arg_true(), work(values.filter(where))) if where.any() else values


def map_distinct(
    values: pl.Series, work: Callable[[str], T | None], dtype: pl.DataType | type[pl.DataType]
) -> pl.Series:
    """Return `work` of each value of a String column, called once for each distinct value; null for null."""
    distinct = values.drop_nulls().unique(maintain_order=True)
    if distinct.is_empty():
        return pl.Series([None], dtype=dtype).new_from_index(0, len(values))
    results = pl.Series([work(value) for value in distinct], dtype=dtype)
    return values.replace_strict(distinct, results, default=None, return_dtype=dtype)
