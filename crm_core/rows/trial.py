"""What the rows of a file would become, without a change of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from crm_core.model import Reason, ReferenceTypes, Reject
from crm_core.rows.contract import validate
from crm_core.rows.reader import Form, read_drop


@dataclass(frozen=True, slots=True)
class TriedRow:
    """A valid row as it would be recorded."""

    line: int
    entity_uid: str
    op: str
    change_ts: datetime  # UTC
    display_name: str | None
    entity_type: str | None
    details: Sequence[tuple[str, str | None]]  # None ends the detail


@dataclass(frozen=True, slots=True)
class Trial:
    """What would become of a file."""

    rows_accepted: int
    rows_rejected: int
    rows: Sequence[TriedRow]  # the first valid ones
    rejects: Sequence[Reject]  # the first ones
    reasons: dict[Reason, int]  # how many rows have each

    @property
    def rows_read(self) -> int:
        """Return the number of all rows."""
        return self.rows_accepted + self.rows_rejected


def try_file(
    path: Path, form: Form, types: ReferenceTypes, now: datetime, *, shown: int = 10, all_rows: bool = True
) -> Trial:
    """Read and validate a file, all of it or its first rows; `shown` valid rows and rejects are returned.

    Raises DropRefused if it is not a drop of that form.
    """
    accepted, rejected = 0, 0
    rows: list[TriedRow] = []
    rejects: list[Reject] = []
    reasons = Counter[Reason]()
    codes = {kind.entity_type_id: kind.code for kind in types.entity_types}
    for chunk in read_drop(path, form):
        valid = validate(chunk, types, first_seen=now, now=now, time_zone=form.zone)
        accepted += valid.changes.height
        rejected += len(valid.rejects)
        rows += _rows(valid.changes.head(shown - len(rows)), valid.details, codes)
        rejects += valid.rejects[: shown - len(rejects)]
        reasons.update(reason for reject in valid.rejects for reason in reject.reasons)
        if not all_rows and len(rows) >= shown:
            break
    return Trial(accepted, rejected, rows, rejects, dict(reasons))


def _rows(changes: pl.DataFrame, details: pl.DataFrame, codes: dict[int, str]) -> list[TriedRow]:
    columns = ("line", "entity_uid", "op", "change_ts", "display_name", "entity_type_id")
    listed = details.filter(pl.col("line").is_in(changes["line"].to_list())).select(
        "line", "detail_type", "detail_value"
    )
    of_line: dict[int, list[tuple[str, str | None]]] = {}
    for line, kind, value in listed.rows():
        of_line.setdefault(line, []).append((kind, value))
    return [
        TriedRow(line, uid, op, at, name, codes.get(kind), of_line.get(line, []))
        for line, uid, op, at, name, kind in changes.select(columns).rows()
    ]
