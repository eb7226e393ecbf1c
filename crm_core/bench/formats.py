"""How long it takes to read and validate the same rows in each format, and by a profile."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from crm_core.bench.generator import START
from crm_core.model import ReferenceTypes
from crm_core.profiles.toml import read_profile
from crm_core.rows.contract import validate
from crm_core.rows.reader import Form, read_drop

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = 50_000
_PROFILE = """
separator = ";"
zone = "Europe/Berlin"
[columns]
entity_uid = "{Id}"
display_name = "{Given} {Family}"
entity_type = { from = "{Kind}", values = { P = "PERSON", "*" = "INSTITUTION" } }
change_ts = { from = "{Changed}", format = "%d.%m.%Y %H:%M:%S" }
details = "{Details}"
"""


@dataclass(frozen=True, slots=True)
class Read:
    """One format that was read."""

    what: str
    rows: int
    seconds: float


def read_formats(drop: Path, folder: Path, types: ReferenceTypes) -> Iterator[Read]:
    """Write the first rows of a drop in each format into a folder, and measure reading each; CSV comes first."""
    folder.mkdir()
    table = pl.read_csv(drop, n_rows=ROWS, infer_schema=False)
    for what, path, form in _files(table, folder):
        now, rows, started = datetime.now(UTC), 0, time.perf_counter()
        for chunk in read_drop(path, form):
            valid = validate(chunk, types, first_seen=START, now=now, time_zone=form.zone)
            rows += valid.changes.height + len(valid.rejects)
        yield Read(what, rows, time.perf_counter() - started)
        path.unlink()


def _files(table: pl.DataFrame, folder: Path) -> Iterator[tuple[str, Path, Form]]:
    plain = Form()
    path = folder / "drop"
    table.write_csv(path)
    content = path.read_bytes()
    yield "CSV", path, plain
    names = pl.col("display_name").str.split_exact(" ", 1)
    of_a_source = table.select(
        pl.col("entity_uid").alias("Id"),
        names.struct[0].alias("Given"),
        names.struct[1].alias("Family"),
        pl.col("entity_type").str.head(1).alias("Kind"),
        pl.col("change_ts").str.to_datetime(time_zone="UTC").dt.to_string("%d.%m.%Y %H:%M:%S").alias("Changed"),
        pl.col("details").alias("Details"),
    )
    of_a_source.write_csv(path, separator=";")
    yield "CSV by a profile", path, Form(profile=read_profile("bench", _PROFILE, "bench.toml"))
    path.write_bytes(gzip.compress(content, 6))
    yield "CSV in gzip", path, plain
    path.write_bytes(zstd.compress(content))
    yield "CSV in Zstandard", path, plain
    table.write_ndjson(path)
    yield "JSON lines", path, plain
    table.write_parquet(path)
    yield "Parquet", path, plain
    _write_workbook(table, path)
    yield "Excel", path, plain


def _write_workbook(table: pl.DataFrame, path: Path) -> None:
    from openpyxl import Workbook  # takes a third of a second to import

    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(table.columns)
    for row in table.iter_rows():
        sheet.append(row)
    book.save(path)
