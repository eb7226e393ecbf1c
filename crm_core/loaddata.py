"""Fixtures into the database: types made or updated by their codes, then versions by the same merge as a drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crm_core.database import Connection, Database
from crm_core.errors import UnknownType
from crm_core.fixtures import TYPES, Fixtures, read_fixtures
from crm_core.merge import Origin, record
from crm_core.migrations import migrate
from crm_core.model import Change, ReferenceTypes
from crm_core.reference import lock_types, put_detail_types, put_entity_types, reference_types

__all__ = ["load_fixtures", "with_types"]


def with_types(database: Database) -> Database:
    """Migrate a database, give it the types that ship, and answer it."""
    migrate(database)
    with database.transaction() as connection:
        load_fixtures(connection, read_fixtures(TYPES))
    return database


def load_fixtures(connection: Connection, fixtures: Fixtures, actor: str = "crm") -> None:
    """Load a set of fixtures in the caller's transaction; loading it again changes nothing.

    A fixture is history, so its changes may name inactive types. Raises UnknownType, or DetailTypeInUse.
    """
    lock_types(connection)
    put_entity_types(connection, fixtures.entity_types)
    put_detail_types(connection, fixtures.detail_types)
    if fixtures.changes:
        types = reference_types(connection)
        record(connection, types, _canonical(fixtures.changes, types), Origin(actor, "fixture"))


def _canonical(changes: Iterable[Change], types: ReferenceTypes) -> list[Change]:
    """Name the types as the database spells them: a fixture's spelling may be another."""
    entity_types = {known.code.lower(): known.code for known in types.entity_types}
    detail_types = {known.code.lower(): known.code for known in types.detail_types}
    return [
        replace(
            change,
            entity_type=change.entity_type and _code(change.entity_type, entity_types, "entity type"),
            details={_code(code, detail_types, "detail type"): value for code, value in change.details.items()},
        )
        for change in changes
    ]


def _code(code: str, known: Mapping[str, str], kind: str) -> str:
    try:
        return known[code.lower()]
    except KeyError:
        raise UnknownType(kind, code, sorted(known.values())) from None
