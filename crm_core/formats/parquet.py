"""Parquet files, read in parts of some rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.cells import texts
from crm_core.formats.tables import ROWS, Part, Table, broken, require_few

ROW_GROUP_BYTES = 1 << 30  # unpacked: as much of the file may be in memory at once
_KIND = "a Parquet file"


def open_parquet(path: Path) -> Table:
    """Open a Parquet file; its rows count from 1. Raises DropRefused for one that cannot be read."""
    import pyarrow as pa  # takes a fifth of a second to import
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        meta, names = file.metadata, tuple(file.schema_arrow.names)
        largest = max((meta.row_group(number).total_byte_size for number in range(meta.num_row_groups)), default=0)
    except (pa.ArrowException, OSError) as error:
        raise broken(path, _KIND, error) from error
    require_few(path, len(names))
    if largest > ROW_GROUP_BYTES:
        raise DropRefused(path, f"has a row group of more than {ROW_GROUP_BYTES >> 30} GiB; write it with smaller ones")

    def parts() -> Iterator[Part]:
        line = 1
        try:
            for batch in file.iter_batches(ROWS):
                cells = [texts(pl.Series(values)).alias(str(place)) for place, values in enumerate(batch.columns)]
                lines = pl.int_range(line, line + batch.num_rows, dtype=pl.Int64, eager=True).alias("line")
                yield Part(pl.DataFrame([lines, *cells]))
                line += batch.num_rows
        except (pa.ArrowException, pl.exceptions.ComputeError, OSError) as error:
            raise broken(path, _KIND, error) from error

    return Table(names, parts(), meta.num_rows)
