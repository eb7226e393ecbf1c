"""Instants and dates in the formats that systems write, as ISO 8601."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

import polars as pl

EPOCHS = {"epoch": 1_000_000, "epoch_ms": 1_000}  # since 1970: how many microseconds one of them has
_OF_A_TIME = re.compile(r"%[HIklMSTRXcrs]")
_OF_A_ZONE = re.compile(r"%:?z")
_ISO = r"^\d{4}-\d\d-\d\d"
_DIGITS = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "m": r"\d\d",
    "d": r"\d\d",
    "H": r"\d\d",
    "M": r"\d\d",
    "S": r"\d\d",
    "j": r"\d{3}",
}
_DATE, _TIME, _UTC = "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.6f", "%Y-%m-%dT%H:%M:%S%.6fZ"


def parsed(texts: pl.Series, format: str) -> pl.Series:  # noqa: A002  its usual name
    """Return each text as Date, or Datetime: of a wall clock, or of UTC if the format has an offset; else null.

    The format is that of `strptime`, or one of EPOCHS.
    """
    if format in EPOCHS:
        number = texts.cast(pl.Float64, strict=False) * EPOCHS[format]
        return number.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if _OF_A_ZONE.search(format):
        return texts.str.to_datetime(format, time_unit="us", time_zone="UTC", strict=False)
    if _OF_A_TIME.search(format):
        return texts.str.to_datetime(format, time_unit="us", strict=False)
    return texts.str.to_date(format, strict=False)


def iso_instants(texts: pl.Series, formats: tuple[str, ...], zone: tzinfo) -> pl.Series:
    """Return each text as an instant in ISO 8601; texts in none of the formats stay as they are.

    What is of a wall clock is read in the zone. If that time does not exist there, or exists twice, it stays without an
    offset, and the caller decides.
    """
    result = texts
    left = texts
    for each in formats:
        found = parsed(left, each)
        if found.null_count() == len(found):
            continue
        written = _written(found, str(zone))
        result = written.zip_with(written.is_not_null(), result)
        left = left.set(written.is_not_null(), None)
    return result


def iso_dates(texts: pl.Series, formats: tuple[str, ...]) -> pl.Series:
    """Return each text as a date, or a date and time, in ISO 8601; null where it is neither in a format nor that."""
    result = texts.set(~texts.str.contains(_ISO).fill_null(value=False), None)
    for each in reversed(formats):
        found = parsed(texts, each)
        written = found.dt.to_string(_DATE if found.dtype == pl.Date else "%Y-%m-%dT%H:%M:%S%.f")
        result = written.zip_with(written.is_not_null(), result)
    return result


def instant_in(name: str, format: str) -> str | None:  # noqa: A002
    """Return the first instant of a format that the name of a file has, in ISO 8601 without an offset; None without."""
    pattern = "".join(
        _DIGITS.get(piece[1], ".") if piece[0] == "%" else re.escape(piece)
        for piece in re.findall(r"%.|[^%]+|%", format)
    )
    for match in re.finditer(f"(?<![0-9])(?={pattern}(?![0-9]))", name):
        length = len(re.match(pattern, name[match.start() :]).group())  # type: ignore[union-attr]
        try:
            found = datetime.strptime(name[match.start() : match.start() + length], format)  # noqa: DTZ007
        except ValueError:
            continue
        return found.isoformat() if _OF_A_TIME.search(format) else found.date().isoformat()
    return None


def _written(found: pl.Series, zone: str) -> pl.Series:
    if found.dtype == pl.Date:
        clock, plain = found.cast(pl.Datetime("us")), found.dt.to_string(_DATE)
    elif found.dtype == pl.Datetime("us", "UTC"):
        return found.dt.to_string(_UTC)
    else:
        clock, plain = found, found.dt.to_string(_TIME)
    there = clock.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    written = there.dt.to_string(_UTC)
    return written.zip_with(written.is_not_null(), plain)
