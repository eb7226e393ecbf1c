"""What tests build with: an entity, a change, a drop as a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

from timeline_model import COMPARES

from crm_core.model import Change, Op
from crm_core.postgres.connection import Connection
from crm_core.reading.keys import SourceKey
from crm_core.timeline.single_change import NO_PRECONDITIONS, ChangeRequest, Preconditions, Provenance

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts", "op")
NOBODY = UUID(int=0)


def reference_data(connection: Connection) -> None:
    """Two entity types and five detail types, one of each way to compare."""
    for code in ("PERSON", "INSTITUTION"):
        connection.execute("insert into entity_type (code, name) values (%s, %s)", (code, code.title()))
    for code, compares in COMPARES.items():
        values = (code, code.title(), compares)
        connection.execute("insert into detail_type (code, name, compares) values (%s, %s, %s)", values)


def day(number: float) -> datetime:
    """The instant that lies so many days after the tests' first."""
    return EPOCH + timedelta(days=number)


def uid(name: str) -> UUID:
    """The same uid for the same name, always."""
    return uuid5(NOBODY, name)


def an_entity(
    who: str = "ada",
    *,
    at: float = 1,
    op: Op = "upsert",
    name: str | None = "Ada Lovelace",
    type_: str | None = "PERSON",
    **details: str | None,
) -> Change:
    """A change of the entity `who` on day `at`; complete unless said otherwise."""
    if op == "delete":
        return Change(uid(who), day(at), op)
    return Change(uid(who), day(at), op, name, type_, details)


ANN = Provenance("ann", "request-1")


def a_request(
    change: Change,
    *,
    is_dated: bool = True,
    provenance: Provenance = ANN,
    preconditions: Preconditions = NO_PRECONDITIONS,
    named_by: SourceKey | None = None,
) -> ChangeRequest:
    """The request that asks for a change; undated it is of the moment when it is recorded."""
    return ChangeRequest(
        change.op,
        change.entity_uid,
        provenance,
        change.change_ts.isoformat() if is_dated else None,
        change.display_name,
        change.entity_type,
        tuple(change.details.items()),
        preconditions,
        named_by,
    )


def as_row(change: Change) -> dict[str, str]:
    """A complete change or a deletion as the cells of a drop."""
    return {
        "entity_uid": str(change.entity_uid),
        "display_name": change.display_name or "",
        "entity_type": change.entity_type or "",
        "details": json.dumps([{"detail_type": k, "detail_value": v} for k, v in change.details.items()]),
        "change_ts": change.change_ts.isoformat(),
        "op": change.op,
    }


def write_drop(path: Path, rows: Iterable[Change | Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> Path:
    """Write a drop of changes or of cells by column."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, tuple(columns), restval="")
        writer.writeheader()
        writer.writerows(as_row(row) if isinstance(row, Change) else row for row in rows)
    return path
