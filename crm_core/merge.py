"""The one way to write: staged changes become ledger rows and versions, set by set, in the caller's transaction.

The statements are the files of sql/merge; their listing reads as the algorithm. Versions are a function of the set of
changes (contract, section 2): changes in order of time extend a timeline, anything else folds it anew from the ledger.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl
import psycopg
from psycopg.rows import TupleRow

from crm_core.database import Connection, statement
from crm_core.hashing import detail_hashdiff, entity_hashdiff
from crm_core.model import Change, ReferenceTypes

FIRST_LOAD_AT_LEAST = 5_000  # changes; below it building the indexes afterwards gains nothing

Schema = dict[str, pl.DataType | type[pl.DataType]]
INSTANT = pl.Datetime("us", "UTC")
CHANGE_SCHEMA: Schema = {
    "line": pl.Int64,  # its order among changes at one instant
    "entity_uid": pl.String,
    "change_ts": INSTANT,
    "op": pl.String,
    "display_name": pl.String,
    "entity_type_id": pl.Int16,
    "details": pl.String,  # a JSON object, detail type code → value or null; null: none listed
    "hashdiff": pl.String,  # of the entity, hexadecimal after \\x; null unless complete
}
DETAIL_SCHEMA: Schema = {
    "line": pl.Int64,
    "entity_uid": pl.String,
    "change_ts": INSTANT,
    "detail_type_id": pl.Int16,
    "detail_value": pl.String,  # null ends the detail
    "hashdiff": pl.String,  # null with the value
}
ENTITY_STEPS = (
    "50_open_entities_in_order",
    "51_refold_entities",
    "52_analyze_entity_diff",
    "53_drop_entities",
    "54_close_entities",
    "55_open_entities",
)
DETAIL_STEPS = (
    "60_open_details_in_order",
    "61_refold_details",
    "62_analyze_detail_diff",
    "63_drop_details",
    "64_close_details",
    "65_open_details",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes the changes, and from where: it is written to the ledger's batch."""

    actor: str
    source: Literal["drop", "request", "fixture"]
    drop_sha256: str | None = None  # of a drop
    request_id: str | None = None  # of a request


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did."""

    batch_id: int  # its place in recording order
    recorded_at: datetime
    rows_changed: int  # changes after which a timeline differs
    rows_late: int  # changes older than what was known of their entity
    rows_superseded: int  # changes that a later one at the same instant stands over
    entity_versions_added: int
    detail_versions_added: int


@contextmanager
def staging(connection: Connection) -> Iterator[None]:
    """Keep a schema of staging and work tables first in the search path, for the block or the transaction."""
    stage = {"stage": f"stage_{uuid.uuid4().hex}"}
    connection.execute(statement("merge/10_make_stage"), stage)
    yield
    connection.execute(statement("merge/80_drop_stage"), stage)


def stage(connection: Connection, changes: pl.DataFrame, details: pl.DataFrame) -> None:
    """Copy valid changes and the details they list into the staging tables; also part by part.

    The frames have the columns of CHANGE_SCHEMA and DETAIL_SCHEMA. They are sorted here: in order of entity_uid every
    later look-up in an index takes half the time.
    """
    _copy(connection, "merge/11_copy_changes", changes.select(list(CHANGE_SCHEMA)).sort("entity_uid"))
    _copy(connection, "merge/12_copy_details", details.select(list(DETAIL_SCHEMA)).sort("entity_uid"))


def merge(connection: Connection, origin: Origin) -> Merged:
    """Merge what is staged: take the locks, append to the ledger, bring the versions up to it, count."""

    def run(name: str) -> int:
        return connection.execute(statement(f"merge/{name}")).rowcount

    def count(name: str) -> int:
        return int(_row(connection, f"merge/{name}")[0])

    run("13_analyze_changes")
    run("14_analyze_details")
    run("20_lock")
    remake_indexes = _set_indexes_aside(connection)
    batch_id, recorded_at = _row(
        connection,
        "merge/21_record_batch",
        actor=origin.actor,
        source=origin.source,
        drop_sha256=origin.drop_sha256,
        request_id=origin.request_id,
    )

    run("30_touch")
    in_order, known, refolded, repeated = _row(connection, "merge/31_summarize")
    forgotten = (run("32_forget_replayed") if known else 0) + (run("33_forget_repeated") if repeated else 0)
    if forgotten:
        run("34_untouch")
        run("30_touch")
        run("35_forget_details")
        in_order, known, refolded, repeated = _row(connection, "merge/31_summarize")
    run("36_analyze_touched")
    late = count("37_count_late") if known else 0
    superseded = count("38_count_superseded") if known or repeated else 0
    connection.execute(statement("merge/40_append_ledger"), {"batch_id": batch_id})

    for find_in_order, find_refolded, analyze, remove, close, open_ in (ENTITY_STEPS, DETAIL_STEPS):
        if in_order:
            run(find_in_order)
        if refolded:
            run(find_refolded)
        run(analyze)
        if refolded:
            run(remove)
        run(close)
        run(open_)

    for definition in remake_indexes:
        connection.execute(definition.encode())
    if remake_indexes:
        run("66_analyze_versions")
    changed = count("70_count_changed")
    entity_versions, detail_versions = _row(connection, "merge/71_count_versions")
    return Merged(batch_id, recorded_at, changed, late, superseded, entity_versions, detail_versions)


def _set_indexes_aside(connection: Connection) -> Sequence[str]:
    """Answer the statements that make the indexes again, none unless this is a first load with the tables to itself."""
    (is_first_load,) = _row(connection, "merge/22_is_first_load", at_least=FIRST_LOAD_AT_LEAST)
    if is_first_load:
        with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
            connection.execute(statement("merge/23_lock_tables"))
            return [definition for (definition,) in connection.execute(statement("merge/24_set_indexes_aside"))]
    return ()


def _copy(connection: Connection, name: str, frame: pl.DataFrame) -> None:
    rows = io.BytesIO()
    frame.write_csv(rows, include_header=False)
    with connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
        copy.write(rows.getbuffer())


def _row(connection: Connection, name: str, **values: str | int | datetime | uuid.UUID | None) -> TupleRow:
    row = connection.execute(statement(name), values).fetchone()
    assert row is not None, name
    return row


def record(connection: Connection, types: ReferenceTypes, changes: Sequence[Change], origin: Origin) -> Merged:
    """Merge changes that are no drop, in the order given: those of a request, or of fixtures.

    The changes are valid and in normal form, and name existing types by their canonical codes. One change takes one
    statement; several are staged as a drop is, and become one batch.
    """
    entity_types = {known.code: known.entity_type_id for known in types.entity_types}
    if len(changes) == 1 and origin.source != "drop":
        return _record_one(connection, changes[0], entity_types, origin)
    detail_types = {known.code: known for known in types.detail_types}
    change_rows: list[tuple[object, ...]] = []
    detail_rows: list[tuple[object, ...]] = []
    for line, change in enumerate(changes, start=1):
        uid, at, name, code = str(change.entity_uid), change.change_ts, change.display_name, change.entity_type
        hashed = f"\\x{entity_hashdiff(name, code).hex()}" if name and code else None
        change_rows.append((line, uid, at, change.op, name, code and entity_types[code], _details_of(change), hashed))
        for detail_type, value in change.details.items():
            known = detail_types[detail_type]
            hashed = None if value is None else f"\\x{detail_hashdiff(known.code, value, known.compares).hex()}"
            detail_rows.append((line, uid, at, known.detail_type_id, value, hashed))
    with staging(connection):
        stage(
            connection,
            pl.DataFrame(change_rows, schema=CHANGE_SCHEMA, orient="row"),
            pl.DataFrame(detail_rows, schema=DETAIL_SCHEMA, orient="row"),
        )
        return merge(connection, origin)


def _record_one(connection: Connection, change: Change, entity_types: Mapping[str, int], origin: Origin) -> Merged:
    row = _row(
        connection,
        "merge/90_record_change",
        entity_uid=change.entity_uid,
        change_ts=change.change_ts,
        op=change.op,
        display_name=change.display_name,
        entity_type_id=change.entity_type and entity_types[change.entity_type],
        details=_details_of(change),
        actor=origin.actor,
        source=origin.source,
        request_id=origin.request_id,
    )
    return Merged(*row)


def _details_of(change: Change) -> str | None:
    return json.dumps(dict(change.details), ensure_ascii=False) if change.details else None
