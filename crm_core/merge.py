"""The one way to write: staged changes become ledger rows and versions, set by set, in the caller's transaction.

The statements are the files of sql/merge; their listing reads as the algorithm. Versions are a function of the set of
changes (contract, section 2): changes in order of time extend a timeline, anything else folds it anew from the ledger.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    "line": pl.Int64,  # its order among changes at one instant; no two have the same
    "entity_uid": pl.String,  # canonical
    "change_ts": INSTANT,
    "op": pl.String,
    "display_name": pl.String,
    "entity_type_id": pl.Int16,
    "hashdiff": pl.String,  # of the entity, 64 hexadecimal digits; null unless complete
}
DETAIL_SCHEMA: Schema = {
    "line": pl.Int64,  # of the change that lists it
    "detail_type": pl.String,  # canonical code
    "detail_value": pl.String,  # null ends the detail
    "hashdiff": pl.String,  # null with the value
}


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


def encoded(changes: pl.DataFrame, details: pl.DataFrame) -> list[bytes]:
    """Answer valid changes with the details that they list as `stage` takes them: PostgreSQL's binary COPY.

    The frames have the columns of CHANGE_SCHEMA and DETAIL_SCHEMA. They are sorted here: in order of entity_uid every
    later look-up in an index takes half the time.
    """
    from pgpq import ArrowToPostgresBinaryEncoder  # with Arrow, takes a third of a second to import

    digest = pl.col("hashdiff").str.decode("hex")
    listed = details.group_by("line", maintain_order=True).agg("detail_type", "detail_value", detail_hashdiff=digest)
    rows = changes.join(listed, on="line", how="left", maintain_order="left").sort("entity_uid")
    columns = (
        pl.col("line").cast(pl.Int32),
        pl.col("entity_uid").str.replace_all("-", "", literal=True).str.decode("hex"),
        *("change_ts", "op", "display_name", "entity_type_id"),
        digest,
        *("detail_type", "detail_value", "detail_hashdiff"),
    )
    table = rows.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    return [encoder.write_header(), *map(encoder.write_batch, table.to_batches()), encoder.finish()]


def stage(connection: Connection, rows: Iterable[bytes]) -> None:
    """Copy encoded changes into the staging table; also part by part."""
    with connection.cursor() as cursor, cursor.copy(statement("merge/11_copy_changes")) as copy:
        for part in rows:
            copy.write(part)


def merge(connection: Connection, origin: Origin) -> Merged:
    """Merge what is staged: take the locks, append to the ledger, bring the versions up to it, count."""
    _run(connection, "12_analyze_changes")
    _run(connection, "20_lock")
    remake_indexes = _set_indexes_aside(connection)
    batch_id, recorded_at = _row(
        connection,
        "merge/21_record_batch",
        actor=origin.actor,
        source=origin.source,
        drop_sha256=origin.drop_sha256,
        request_id=origin.request_id,
    )
    touched = _touch(connection)
    if touched.replayed < touched.entities and _forget(connection, touched):
        _run(connection, "35_untouch")
        touched = _touch(connection)
    if touched.replayed == touched.entities:
        return Merged(batch_id, recorded_at, 0, 0, 0, 0, 0)
    _run(connection, "36_analyze_touched")
    late = _count(connection, "37_count_late") if touched.known else 0
    superseded = _count(connection, "38_count_superseded") if touched.known or touched.repeated else 0
    connection.execute(statement("merge/40_append_ledger"), {"batch_id": batch_id})

    for step, entities in (
        ("41_reopen", touched.refolded),
        ("42_analyze_events", touched.refolded),
        ("50_extend_entities", touched.extended),
        ("51_extend_entities_at_length", touched.extended_at_length),
        ("52_refold_entities", touched.refolded),
        ("53_analyze_entity_diff", 1),
        ("54_drop_entities", touched.refolded),
        ("55_alter_entities", 1),
        ("56_open_entities", 1),
        ("60_extend_details", touched.extended),
        ("61_extend_details_at_length", touched.extended_at_length),
        ("62_refold_details", touched.refolded),
        ("63_analyze_detail_diff", 1),
        ("64_drop_details", touched.refolded),
        ("65_alter_details", 1),
        ("66_open_details", 1),
    ):
        if entities:
            _run(connection, step)
    for definition in remake_indexes:
        connection.execute(definition.encode())
    if remake_indexes:
        _run(connection, "69_analyze_versions")
    changed = _count(connection, "70_count_changed")
    entity_versions, detail_versions = _row(connection, "merge/71_count_versions")
    return Merged(batch_id, recorded_at, changed, late, superseded, entity_versions, detail_versions)


@dataclass(frozen=True, slots=True)
class _Touched:
    """How many entities a merge touches, and how."""

    entities: int
    known: int  # the ledger has changes at or after the first of theirs, and not just that one
    replayed: int  # that one is the last
    repeated: int  # several changes
    extended: int  # by one complete change in order of time that is news
    extended_at_length: int  # by several
    refolded: int


def _touch(connection: Connection) -> _Touched:
    _run(connection, "30_touch")
    return _Touched(*_row(connection, "merge/31_summarize"))


def _forget(connection: Connection, touched: _Touched) -> int:
    """Take out the changes that are known already, and answer how many those were."""
    steps = (
        ("32_forget_replayed", touched.replayed),
        ("33_forget_known", touched.known),
        ("34_forget_repeated", touched.repeated),
    )
    return sum(_run(connection, step) for step, entities in steps if entities)


def _set_indexes_aside(connection: Connection) -> Sequence[str]:
    """Answer the statements that make the indexes again, none unless this is a first load with the tables to itself."""
    (is_first_load,) = _row(connection, "merge/22_is_first_load", at_least=FIRST_LOAD_AT_LEAST)
    if is_first_load:
        with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
            connection.execute(statement("merge/23_lock_tables"))
            return [definition for (definition,) in connection.execute(statement("merge/24_set_indexes_aside"))]
    return ()


def _run(connection: Connection, step: str) -> int:
    return connection.execute(statement(f"merge/{step}")).rowcount


def _count(connection: Connection, step: str) -> int:
    return int(_row(connection, f"merge/{step}")[0])


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
        hashed = entity_hashdiff(name, code).hex() if name and code else None
        change_rows.append((line, uid, at, change.op, name, code and entity_types[code], hashed))
        for detail_type, value in change.details.items():
            known = detail_types[detail_type]
            hashed = None if value is None else detail_hashdiff(known.code, value, known.compares).hex()
            detail_rows.append((line, known.code, value, hashed))
    with staging(connection):
        changed = pl.DataFrame(change_rows, schema=CHANGE_SCHEMA, orient="row")
        listed = pl.DataFrame(detail_rows, schema=DETAIL_SCHEMA, orient="row")
        stage(connection, encoded(changed, listed))
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
