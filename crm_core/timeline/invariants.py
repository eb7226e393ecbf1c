"""The invariants of the product, recomputed from the tables, for `crm check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import psycopg

from crm_core.errors import SchemaIncomplete
from crm_core.postgres.connection import Connection
from crm_core.postgres.fitness import missing_objects
from crm_core.postgres.sqlstates import domain_error
from crm_core.resources import description, statement

CHECKS = (
    "01_one_current_entity",
    "02_one_current_detail",
    "03_entity_intervals",
    "04_detail_intervals",
    "05_no_gap_without_deletion",
    "06_detail_within_entity",
    "07_entity_hashdiffs",
    "08_detail_hashdiffs",
    "09_entities_are_the_fold",
    "10_details_are_the_fold",
    "11_books_balance",
    "12_every_change_has_a_batch",
    "13_what_is_undone_does_not_act",
    "17_keys_name_what_was_linked",
    "14_schema_is_whole",
    "15_indexes_are_sound",
    "16_collations_are_unchanged",
)
OF_THE_SCHEMA = CHECKS[-3:]
NOT_OF_ENTITIES = ("11_books_balance", *OF_THE_SCHEMA)
EXACT_BELOW = 5_000_000  # rows of a table; counting more would take too long for every drop


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking one invariant."""

    name: str
    invariant: str  # one sentence
    breaches: int
    examples: tuple[str, ...]  # the first breaches, one line each

    @property
    def holds(self) -> bool:
        """Return whether nothing breaks the invariant."""
        return self.breaches == 0


@dataclass(frozen=True, slots=True)
class TableSizes:
    """How many rows the tables have, as the planner estimates it from EXACT_BELOW on."""

    changes: int  # of the ledger
    entity_versions: int
    detail_versions: int


def check(connection: Connection, *, uids: Sequence[UUID] | None = None, examples: int = 5) -> Iterator[Check]:
    """Recompute every invariant over all data, one statement each; a merge meanwhile is seen completely or not at all.

    With `uids`, only those invariants that are about entities are checked, and only for these entities.
    """
    with connection.transaction():
        for name in CHECKS:
            if uids is not None and name in NOT_OF_ENTITIES:
                continue
            breaches, first = _breaches(connection, name, uids, examples)
            yield Check(name[3:], description(f"check/{name}"), breaches, tuple(first))


def _breaches(
    connection: Connection, name: str, uids: Sequence[UUID] | None, examples: int
) -> tuple[int, Sequence[str]]:
    """Count the breaches of an invariant, and read the first of them."""
    match name:
        case "14_schema_is_whole":
            missing = missing_objects(connection)
            return len(missing), missing  # all of them, because each has its own cure
        case "15_indexes_are_sound":
            indexes = [str(index) for (index,) in connection.execute(statement(f"check/{name}"))]
            unsound = [line for index in indexes for line in _faults_of_index(connection, index)]
            return len(unsound), unsound
        case "16_collations_are_unchanged":
            changed = _changed_collations(connection)
            return len(changed), changed
    values = None if name in NOT_OF_ENTITIES else {"uids": uids if uids is None else list(uids)}
    try:
        with connection.transaction(), connection.cursor() as cursor:
            breaches = cursor.execute(statement(f"check/{name}"), values)
            first = [str(line) for (line,) in islice(breaches, examples)]
            return cursor.rowcount, first
    except psycopg.Error as error:
        if not isinstance(domain_error(error), SchemaIncomplete):
            raise
        said = error.diag.message_primary
        return 1, [f"cannot be recomputed, because a part of the schema is missing: {said}"]


def _changed_collations(connection: Connection) -> list[str]:
    found = connection.execute(statement("check/16_collations_are_unchanged")).fetchall()
    if connection.info.server_version >= 150_000:
        found += connection.execute(statement("check/collation_of_database")).fetchall()
    return [
        f"{name}: its indexes were built by version {built_by} of the collation, and the system now has {now_has}; "
        f"run `reindex database {connection.info.dbname}`, then `alter {name} refresh collation version`"
        for name, built_by, now_has in found
    ]


def _faults_of_index(connection: Connection, index: str) -> list[str]:
    try:
        with connection.transaction():
            connection.execute(statement("check/bt_index_check"), {"index": index})
    except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as error:
        return [f"index {index}: {error.diag.message_primary}; run `reindex index {index}`"]
    return []


def entities_of_drop(connection: Connection, sha256: str, *, at_most: int = 1_000) -> Sequence[UUID]:
    """Return entities that a merged drop names: all, or about `at_most`, evenly spread over its lines."""
    rows = connection.execute(statement("check/entities_of_a_drop"), {"sha256": sha256, "at_most": at_most})
    return [uid for (uid,) in rows]


def table_sizes(connection: Connection) -> TableSizes:
    """Count the changes and the versions."""
    row = connection.execute(statement("query/table_sizes"), {"exact_below": EXACT_BELOW}).fetchone()
    assert row is not None
    return TableSizes(*row)
