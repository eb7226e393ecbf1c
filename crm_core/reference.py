"""Reference data: the types and the sources, read for every merge, loaded from fixtures, edited by admins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from crm_core.errors import DetailTypeInUse, UnknownType
from crm_core.model import (
    Compares,
    DetailType,
    DetailTypeFixture,
    EntityType,
    EntityTypeFixture,
    ReferenceTypes,
    Source,
    SourceFixture,
)
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.values.hashing import code_key

K = TypeVar("K", EntityType, DetailType, Source)


def reference_types(connection: Connection) -> ReferenceTypes:
    """Read the types and sources that changes may name, including inactive ones, in order of their codes."""
    return ReferenceTypes(
        entity_types=tuple(EntityType(*row) for row in connection.execute(statement("query/entity_types"))),
        detail_types=tuple(DetailType(*row) for row in connection.execute(statement("query/detail_types"))),
        sources=tuple(Source(*row) for row in connection.execute(statement("query/sources"))),
    )


def find_known(what: str, code: str, known: Sequence[K]) -> K:
    """Return the type or source with a code, in upper or lower case, also an inactive one; raise UnknownType."""
    for one in known:
        if one.code.lower() == code.strip().lower():
            return one
    raise UnknownType(what, code, [one.code for one in known])


def held_types(
    connection: Connection, known: ReferenceTypes | None = None, codes: Iterable[str] | None = None
) -> ReferenceTypes:
    """Read the types for a transaction that writes; how values compare cannot change until it ends.

    With `known` types, only the detail types with one of the codes are read again.
    """
    if known is None:
        return replace(reference_types(connection), detail_types=_held(connection, None))
    wanted = {code_key(kind.code) for kind in known.detail_types} & set(map(code_key, codes or ()))
    held = {kind.code: kind for kind in _held(connection, sorted(wanted))}
    return replace(known, detail_types=tuple(held.get(kind.code, kind) for kind in known.detail_types))


def _held(connection: Connection, codes: Sequence[str] | None) -> tuple[DetailType, ...]:
    rows = connection.execute(statement("reference/hold_detail_types"), {"codes": codes})
    return tuple(DetailType(*row) for row in rows)


def lock_types(connection: Connection) -> None:
    """Lock the types and sources, so that nobody else changes them until the transaction ends."""
    connection.execute(statement("reference/lock_types"))


def put_entity_type(
    connection: Connection, *, code: str, name: str, description: str = "", is_active: bool = True
) -> None:
    """Create an entity type, or update the one with that code, as `put_entity_types` does."""
    put_entity_types(connection, [EntityTypeFixture(code, name, description, is_active)])


def put_detail_type(
    connection: Connection,
    *,
    code: str,
    name: str,
    description: str = "",
    is_active: bool = True,
    compares: Compares = "text",
) -> None:
    """Create a detail type, or update the one with that code, as `put_detail_types` does."""
    put_detail_types(connection, [DetailTypeFixture(code, name, description, is_active, compares)])


def put_source(connection: Connection, *, code: str, name: str, description: str = "", is_active: bool = True) -> None:
    """Create a source, or update the one with that code, as `put_sources` does."""
    put_sources(connection, [SourceFixture(code, name, description, is_active)])


def put_sources(connection: Connection, sources: Iterable[SourceFixture]) -> None:
    """Create or update sources by their codes, whose spelling stays. The caller holds the lock on types."""
    with connection.cursor() as cursor:
        cursor.executemany(statement("reference/put_source"), [asdict(source) for source in sources])


def put_entity_types(connection: Connection, types: Iterable[EntityTypeFixture]) -> None:
    """Create or update entity types by their codes, whose spelling stays. The caller holds the lock on types."""
    with connection.cursor() as cursor:
        cursor.executemany(statement("reference/put_entity_type"), [asdict(kind) for kind in types])


def put_detail_types(connection: Connection, types: Iterable[DetailTypeFixture]) -> None:
    """Create or update detail types by their codes, whose spelling stays. The caller holds the lock on types.

    Raises DetailTypeInUse if values of a type would compare in another way.
    """
    types = tuple(types)
    known = {kind.code.lower(): kind for kind in reference_types(connection).detail_types}
    for kind in types:
        before = known.get(kind.code.lower())
        if before is not None and before.compares != kind.compares:
            _claim(connection, before, kind.compares)
    with connection.cursor() as cursor:
        cursor.executemany(statement("reference/put_detail_type"), [asdict(kind) for kind in types])


def _claim(connection: Connection, kind: DetailType, compares: Compares) -> None:
    """Make sure that a detail type has no values, and keep others from writing one until the transaction ends."""
    values = {"detail_type_id": kind.detail_type_id}
    for _ in range(2):  # before and after waiting for those who are writing now
        if connection.execute(statement("reference/has_values"), values).fetchone() == (True,):
            raise DetailTypeInUse(kind.code, kind.compares, compares)
        connection.execute(statement("reference/claim_detail_type"), values)
