"""Files of every format with the same table in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from openpyxl import Workbook

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Cells = Mapping[str, object]
FORMATS = ("csv", "csv.gz", "csv.zst", "ndjson", "ndjson.gz", "jsonl.zst", "parquet", "xlsx")


def write_table(path: Path, rows: Sequence[Cells], separator: str = ",", encoding: str = "utf-8") -> Path:
    """Write a table as the name of the file says."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    match path.suffix:
        case ".gz":
            inner = write_table(path.with_suffix(""), rows, separator, encoding)
            path.write_bytes(gzip.compress(inner.read_bytes()))
        case ".zst":
            inner = write_table(path.with_suffix(""), rows, separator, encoding)
            path.write_bytes(zstd.compress(inner.read_bytes()))
        case ".ndjson" | ".jsonl":
            path.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in rows), encoding=encoding)
        case ".parquet":
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        case ".xlsx":
            book = Workbook()
            assert book.active is not None
            book.active.append(columns)
            for row in rows:
                book.active.append([row.get(name) for name in columns])
            book.save(path)
        case _:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, columns, delimiter=separator, restval="", lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(rows)
            path.write_bytes(text.getvalue().encode(encoding))
    return path
