"""What rows state by naming their entity more than once: by a uid and a key, or by the keys of several sources.

A key that names no entity yet names that of the row from then on; a row with a key of another entity is rejected. So
these rows are taken in their order. Drops without such rows pay nothing for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from crm_core.formats.chunk import RawChunk
from crm_core.model import Reason, Reject
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.rows.contract import ValidChunk


class _Named(NamedTuple):
    """A key of a row."""

    key_uid: str
    source_id: int
    source_key: str


def stage_keys(connection: Connection, chunk: RawChunk, valid: ValidChunk) -> ValidChunk:
    """Stage the keys that valid rows state for their entities, before the rows; return the rows that may go in.

    A row with a key of another entity is among the rejects that are returned.
    """
    if valid.keys.is_empty() and not valid.changes["names_twice"].any():
        return valid
    uids = [*valid.changes["key_uid"].drop_nulls(), *valid.keys["key_uid"]]
    rows = valid.changes.filter(
        pl.col("key_uid").is_not_null()
        | pl.col("line").is_in(valid.keys["line"].implode())
        | pl.col("entity_uid").is_in(uids)
    ).sort("line")
    stated, bad = _stated(rows, valid.keys, _entities_of(connection, set(uids)))
    with connection.cursor() as cursor, cursor.copy(statement("merge/12_copy_stated_keys")) as copy:
        for line, key, uid in stated:
            copy.write_row((line, *key, uid))
    return _without(chunk, valid, bad) if bad else valid


def _stated(
    rows: pl.DataFrame, keys: pl.DataFrame, entities: dict[str, str]
) -> tuple[list[tuple[int, _Named, str]], list[int]]:
    """Take rows in their order: return what they state (line, key, entity), and the lines of those that may not.

    `entities` are those that keys name before, and afterwards.
    """
    further = defaultdict[int, list[_Named]](list)
    for line, key_uid, source_id, source_key in keys.select("line", *_Named._fields).iter_rows():
        further[line].append(_Named(key_uid, source_id, source_key))
    stated: list[tuple[int, _Named, str]] = []
    bad: list[int] = []
    for line, uid, names_twice, *key in rows.select("line", "entity_uid", "names_twice", *_Named._fields).iter_rows():
        first = [] if key[0] is None else [_Named(*key)]
        its = entities.get(uid, uid) if first and not names_twice else uid
        names = list(dict.fromkeys([*first, *further[line]]))  # a row may give one key twice
        if any(entities.get(name.key_uid, its) != its for name in names):
            bad.append(line)
            continue
        entities.setdefault(uid, its)
        entities.setdefault(its, its)  # it exists now, so the key that it is made of names it
        stated += [(line, name, its) for name in names if name.key_uid not in entities and name.key_uid != its]
        entities |= {name.key_uid: its for name in names}
    return stated, bad


def _entities_of(connection: Connection, key_uids: Collection[str]) -> dict[str, str]:
    values = {"key_uids": f"{{{','.join(key_uids)}}}"}  # as texts, both ways: UUIDs and lists cost more than the rest
    return dict(connection.execute(statement("merge/13_entities_of_keys"), values).fetchall())


def _without(chunk: RawChunk, valid: ValidChunk, bad: list[int]) -> ValidChunk:
    reason = (Reason.KEY_OF_ANOTHER_ENTITY,)
    rejects = [Reject(line, reason, raw) for line, raw in zip(bad, chunk.raw(bad), strict=True)]
    is_good = ~pl.col("line").is_in(bad)
    named = pl.concat(
        [valid.changes.select("line", "entity_uid", "key_uid"), valid.keys.select("line", "key_uid")], how="diagonal"
    )
    uids = named.filter(~is_good).select(pl.concat_list("entity_uid", "key_uid").explode().drop_nulls()).to_series()
    return replace(
        valid,
        changes=valid.changes.filter(is_good),
        details=valid.details.filter(is_good),
        keys=valid.keys.filter(is_good),
        rejects=sorted([*valid.rejects, *rejects], key=lambda reject: reject.line),
        rejected_uids=[*valid.rejected_uids, *uids],
    )
