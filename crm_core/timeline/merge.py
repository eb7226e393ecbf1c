"""The one way to write: staged changes become ledger rows and versions, set by set, in the caller's transaction.

The statements are the files of sql/merge; their listing reads as the algorithm. Versions depend only on the set of
changes: a single change of an entity is spliced into its versions (sql/routines/50_splice.sql), anything else is folded
from the ledger (sql/routines/20_fold.sql). Steps that only make it faster are in sql/merge/fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl
import psycopg
from psycopg.rows import TupleRow

from crm_core.model import Change, Named, ReferenceTypes, Unlisted
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.values.hashing import detail_hashdiff, entity_hashdiff

BULK_LOAD_AT_LEAST = 5_000  # changes; with fewer it does not pay to build the indexes afterwards

Value = str | int | bool | datetime | list[int] | None  # of a statement
OnStep = Callable[[str], None]
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
    "source_id": pl.Int16,  # of a change that names its entity by the key of a source, as the next two
    "source_key": pl.String,
    "key_uid": pl.String,  # derived from both; the entity_uid too, if the key alone names the entity
}
DETAIL_SCHEMA: Schema = {
    "line": pl.Int64,  # line of the change that lists it
    "detail_type": pl.String,  # canonical code
    "detail_value": pl.String,  # null ends the detail
    "hashdiff": pl.String,  # null with the value
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes the changes, and from where; this is written to the ledger's batch."""

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
    rows_late: int  # changes about an earlier time than the newest one known of their entity
    rows_superseded: int  # changes that a later recorded one at the same instant supersedes
    entity_versions_added: int
    detail_versions_added: int
    entities_ended: int = 0  # entities that a snapshot ends, this one or an earlier one, before anything new of them
    repeats_outdated: int = 0  # repeats of a change that another at the same instant supersedes: they change nothing


@dataclass(frozen=True, slots=True)
class Scope:
    """The entities of which a snapshot lists all: those of some types, or those that a source names."""

    written: str  # PERSON,INSTITUTION or source=erp
    entity_type_ids: tuple[int, ...] = ()  # that they are of just before
    source_id: int | None = None  # of which a row names them with an earlier change_ts

    def as_values(self) -> dict[str, Value]:
        """Return it as the values of a statement."""
        return {"entity_type_ids": list(self.entity_type_ids) or None, "source_id": self.source_id}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot says besides its rows: of its scope there is nothing else at its instant."""

    at: datetime
    scope: Scope


@contextmanager
def staging(connection: Connection) -> Iterator[None]:
    """Create the work tables of one merge, for the block or until the transaction ends."""
    connection.execute(statement("merge/10_create_stage"))
    yield
    connection.execute(statement("merge/90_drop_stage"))


def encoded(changes: pl.DataFrame, details: pl.DataFrame) -> list[bytes]:
    """Return valid changes and their details in the form that `stage` takes: PostgreSQL's binary COPY.

    The frames have the columns of CHANGE_SCHEMA and DETAIL_SCHEMA. They are sorted here: in order of entity_uid every
    later look-up in an index takes half the time.
    """
    from pgpq import ArrowToPostgresBinaryEncoder  # with Arrow, takes a third of a second to import

    digest = pl.col("hashdiff").str.decode("hex")
    listed = details.group_by("line", maintain_order=True).agg("detail_type", "detail_value", detail_hashdiff=digest)
    rows = changes.join(listed, on="line", how="left", maintain_order="left").sort("entity_uid")
    columns = (
        pl.col("line").cast(pl.Int32),
        _uid_bytes("entity_uid"),
        *("change_ts", "op", "display_name", "entity_type_id"),
        digest,
        *("detail_type", "detail_value", "detail_hashdiff", "source_id", "source_key"),
        _uid_bytes("key_uid"),
    )
    table = rows.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    return [encoder.write_header(), *map(encoder.write_batch, table.to_batches()), encoder.finish()]


def _uid_bytes(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all("-", "", literal=True).str.decode("hex")


def stage(connection: Connection, rows: Iterable[bytes]) -> None:
    """Copy encoded changes into the staging table; can be called for one part after the other."""
    with connection.cursor() as cursor, cursor.copy(statement("merge/11_copy_changes")) as copy:
        for part in rows:
            copy.write(part)


@contextmanager
def staging_snapshot(connection: Connection) -> Iterator[None]:
    """Create the work tables of a snapshot, in addition to those of `staging` and for as long."""
    connection.execute(statement("merge/12_create_snapshot_stage"))
    yield
    connection.execute(statement("merge/91_drop_snapshot_stage"))


def stage_rejects(connection: Connection, uids: Iterable[str]) -> None:
    """Take the entities of rejected rows of a snapshot: they are listed too. It can be called part by part."""
    with connection.cursor() as cursor, cursor.copy(statement("merge/13_copy_rejects")) as copy:
        for uid in uids:
            copy.write_row((uid,))


def find_unlisted(connection: Connection, snapshot: Snapshot, *, named: int) -> Unlisted:
    """Lock all entities, and find those that a staged snapshot would end; the first `named` of them with their names.

    That has to come before `merge`, which ends them.
    """
    run = _Steps(connection, lambda _step: None)
    run("20_lock_all")
    run("15_follow_keys")  # what is listed by a linked key is the entity of the link
    run("21_follow_keys_of_rejects")
    (in_scope,) = run.row("22_find_unlisted", at=snapshot.at, **snapshot.scope.as_values())
    would_end, uids, names = run.row("23_count_unlisted", limit=named)
    return Unlisted(would_end, in_scope, tuple(Named(str(uid), name) for uid, name in zip(uids, names, strict=True)))


def merge(
    connection: Connection,
    origin: Origin,
    on_step: OnStep = lambda _step: None,
    *,
    snapshot: Snapshot | None = None,
) -> Merged:
    """Merge what is staged: lock, record the batch, append to the ledger, update the versions, count.

    `on_step` is called with the name of each step before it runs. Of a snapshot the entities that it does not list were
    found by `find_unlisted`.
    """
    run = _Steps(connection, on_step)
    has_keys, has_stated = run.row("15_follow_keys")
    run("20_lock_entities")
    batch_id, recorded_at = run.row("21_record_batch", **_as_values(origin))
    _keep_keys(run, batch_id, has_keys=has_keys, has_stated=has_stated)
    if snapshot is not None:
        run("24_record_snapshot", batch_id=batch_id, at=snapshot.at, **snapshot.scope.as_values())
    repeats = {"drops_repeats": origin.source != "request"}
    routes = _Routes(*run.row("30_classify", batch_id=batch_id, **repeats))
    if routes.repeats:
        run("31_keep_repeats", batch_id=batch_id)
    unlisted = run("34_name_unlisted", batch_id=batch_id) if snapshot is not None else 0
    if routes.repeated == routes.entities and not unlisted:
        return Merged(batch_id, recorded_at, 0, 0, 0, 0, 0, repeats_outdated=routes.outdated)
    if routes.repeats or routes.with_several:
        run("32_discard_repeats", **repeats)
    superseded = run.row("33_count_superseded")[0] if routes.with_ties or routes.with_several else 0
    remake_indexes = _set_indexes_aside(run)
    run("40_append_ledger", batch_id=batch_id)

    now = {"recorded_at": recorded_at}
    entities = run("fast/insert_new_entities", **now) if routes.new else 0
    details = run("fast/insert_new_details", **now) if routes.new else 0
    if routes.spliced:
        run("50_splice_entities")
        run("51_splice_details")
    if routes.folded or unlisted:
        run("60_reopen_changes")
        run("61_end_by_snapshots")
        run("62_fold_entities")
        run("63_fold_details")
    if routes.spliced or routes.folded or unlisted:
        run("70_delete_entities")
        run("71_end_entities", **now)
        entities += run("72_insert_entities", **now)
        run("73_delete_details")
        run("74_end_details", **now)
        details += run("75_insert_details", **now)
    for definition in remake_indexes:
        on_step("build indexes")
        connection.execute(definition.encode())
    if run.row("fast/is_beyond_statistics", added=entities + details)[0]:
        run("fast/analyze_versions")
    changed = run.row("80_count_changed")[0]
    ended = run("81_keep_effects", batch_id=batch_id) if unlisted or routes.brought else 0
    return Merged(batch_id, recorded_at, changed, routes.late, superseded, entities, details, ended, routes.outdated)


@dataclass(frozen=True, slots=True)
class _Routes:
    """How many entities take each route, and how many changes are late: the row of 30_classify."""

    entities: int
    repeats: int  # changes
    outdated: int  # of them, those that repeat what is superseded since
    repeated: int
    new: int
    spliced: int
    folded: int
    with_several: int
    with_ties: int
    brought: int  # into the scope of a snapshot, by a repeat
    late: int


@dataclass(frozen=True, slots=True)
class _Steps:
    """Run statements of sql/merge by name."""

    connection: Connection
    on_step: OnStep

    def __call__(self, step: str, **values: Value) -> int:
        """Run a step and return the number of rows that it affected."""
        return self._run(step, values).rowcount

    def row(self, step: str, **values: Value) -> TupleRow:
        """Run a step that returns one row, and return it."""
        row = self._run(step, values).fetchone()
        assert row is not None, step
        return row

    def column(self, step: str, **values: Value) -> Sequence[str]:
        """Run a step that returns one text column, and return its values."""
        return [text for (text,) in self._run(step, values).fetchall()]

    def _run(self, step: str, values: Mapping[str, Value]) -> psycopg.Cursor[TupleRow]:
        self.on_step(step)
        return self.connection.execute(statement(f"merge/{step}"), values or None)


def _keep_keys(run: _Steps, batch_id: int, *, has_keys: bool, has_stated: bool) -> None:
    if has_keys:
        run("22_keep_keys", batch_id=batch_id)
    if has_stated:
        run("23_link_keys", batch_id=batch_id)


def _as_values(origin: Origin) -> dict[str, Value]:
    return {
        "actor": origin.actor,
        "source": origin.source,
        "drop_sha256": origin.drop_sha256,
        "request_id": origin.request_id,
    }


def _set_indexes_aside(run: _Steps) -> Sequence[str]:
    """Return the statements that rebuild the indexes; none unless a bulk load has the tables to itself."""
    if run.row("fast/is_bulk_load", at_least=BULK_LOAD_AT_LEAST)[0]:
        with suppress(psycopg.errors.LockNotAvailable), run.connection.transaction():
            run("fast/lock_tables")
            return run.column("fast/set_indexes_aside")
    return ()


def record(connection: Connection, types: ReferenceTypes, changes: Sequence[Change], origin: Origin) -> Merged:
    """Merge changes that do not come from a drop, in the given order, as one batch.

    They come from fixtures or a request, are valid and in normal form, and name existing types by their canonical
    codes.
    """
    entity_types = {known.code: known.entity_type_id for known in types.entity_types}
    detail_types = {known.code: known for known in types.detail_types}
    change_rows: list[tuple[object, ...]] = []
    detail_rows: list[tuple[object, ...]] = []
    for line, change in enumerate(changes, start=1):
        uid, at, name, code = str(change.entity_uid), change.change_ts, change.display_name, change.entity_type
        hashed = entity_hashdiff(name, code).hex() if name and code else None
        change_rows.append((line, uid, at, change.op, name, code and entity_types[code], hashed, None, None, None))
        for detail_type, value in change.details.items():
            known = detail_types[detail_type]
            hashed = None if value is None else detail_hashdiff(known.code, value, known.compares).hex()
            detail_rows.append((line, known.code, value, hashed))
    with staging(connection):
        changed = pl.DataFrame(change_rows, schema=CHANGE_SCHEMA, orient="row")
        listed = pl.DataFrame(detail_rows, schema=DETAIL_SCHEMA, orient="row")
        stage(connection, encoded(changed, listed))
        return merge(connection, origin)
