"""Values of typed columns and cells as the text that a person would write."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

_WHOLE = 1e15  # the numbers below are exact in a binary fraction, and people write them in full


def texts(column: pl.Series) -> pl.Series:
    """Return a column of any type as String: whole numbers without .0, dates in ISO 8601, true and false.

    Lists and structs are JSON. Bytes are read as UTF-8; where they are not, the text has a NUL, so that the row is
    rejected. Raises ComputeError for such bytes in a list or struct.
    """
    kind = column.dtype
    match kind:
        case pl.String:
            return column
        case pl.Float64 | pl.Float32:
            return _numbers(column)
        case pl.Date:
            return column.dt.to_string("%Y-%m-%d")
        case pl.Time:
            return column.dt.to_string("%H:%M:%S%.f")
        case pl.Duration:
            return _each(column, _clock)
        case pl.Binary:
            return _each(column, _decoded)
        case pl.List | pl.Array | pl.Struct:
            return _json(column.cast(_without_bytes(kind)))
        case pl.Object | pl.Unknown:
            return column.cast(pl.String, strict=False)
        case _:
            return _instants(column, kind) if isinstance(kind, pl.Datetime) else column.cast(pl.String, strict=False)


def text(value: object) -> str | None:
    """Return the value of one cell as a text; None for an empty one."""
    match value:
        case None | "":
            return None
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else repr(value)
        case datetime():
            return value.date().isoformat() if value.time() == time() else value.isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _clock(value)
        case _:
            return str(value)


def _clock(span: timedelta) -> str:
    hours, rest = divmod(math.floor(span.total_seconds()), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _each(column: pl.Series, written: Callable[[Any], str]) -> pl.Series:
    return pl.Series([None if value is None else written(value) for value in column], dtype=pl.String)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode(errors="replace") + "\0"


def _without_bytes(kind: PolarsDataType) -> PolarsDataType:
    """Return a type with text for bytes, which Polars does not write as JSON."""
    match kind:
        case pl.Binary():
            return pl.String()
        case pl.List():
            return pl.List(_without_bytes(kind.inner))
        case pl.Array():
            return pl.Array(_without_bytes(kind.inner), kind.size)
        case pl.Struct():
            return pl.Struct({field.name: _without_bytes(field.dtype) for field in kind.fields})
        case _:
            return kind


def _numbers(column: pl.Series) -> pl.Series:
    is_whole = (column == column.floor()) & (column.abs() < _WHOLE)
    whole = column.set(~is_whole.fill_null(value=False), None).cast(pl.Int64).cast(pl.String)
    return whole.zip_with(whole.is_not_null(), column.cast(pl.String)).set(column.is_nan().fill_null(value=False), None)


def _instants(column: pl.Series, kind: pl.Datetime) -> pl.Series:
    written = column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if kind.time_zone else ""))
    midnight = column.dt.to_string("%H:%M:%S%.f") == "00:00:00"
    return written if kind.time_zone else column.dt.to_string("%Y-%m-%d").zip_with(midnight, written)


def _json(column: pl.Series) -> pl.Series:
    """Write JSON; Polars writes that of structs alone, so the column is put into one and taken out of its text."""
    wrapped = column.alias("x").to_frame().select(pl.struct("x").struct.json_encode()).to_series()
    inner = wrapped.str.strip_prefix('{"x":').str.strip_suffix("}")
    return inner.zip_with(column.is_not_null(), pl.Series([None], dtype=pl.String).new_from_index(0, len(column)))
