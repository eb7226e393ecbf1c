"""Reference data: the entity and detail types, read for every merge, loaded from fixtures, kept by admins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from crm_core.database import Connection, statement
from crm_core.errors import DetailTypeInUse
from crm_core.model import Compares, DetailType, EntityType, ReferenceTypes


def reference_types(connection: Connection) -> ReferenceTypes:
    """Read the types that changes may name, inactive ones included, in order of their codes."""
    return ReferenceTypes(
        entity_types=tuple(EntityType(*row) for row in connection.execute(statement("query/entity_types"))),
        detail_types=tuple(DetailType(*row) for row in connection.execute(statement("query/detail_types"))),
    )


def held_types(
    connection: Connection, known: ReferenceTypes | None = None, codes: Iterable[str] | None = None
) -> ReferenceTypes:
    """Read the types for a transaction that writes: how values compare stays as it is until the transaction ends.

    With `known` types, those detail types are read again that have one of the codes, and the rest is taken as known.
    """
    wanted = None if codes is None else sorted({code.lower() for code in codes})
    rows = connection.execute(statement("reference/hold_detail_types"), {"codes": wanted}).fetchall()
    held = [DetailType(*row) for row in rows]
    if known is None:
        return replace(reference_types(connection), detail_types=tuple(held))
    of_code = {kind.code: kind for kind in (*known.detail_types, *held)}
    return replace(known, detail_types=tuple(of_code[code] for code in sorted(of_code)))


def lock_types(connection: Connection) -> None:
    """Let nobody else change the types until the transaction ends."""
    connection.execute(statement("reference/lock_types"))


def put_entity_type(
    connection: Connection, *, code: str, name: str, description: str = "", is_active: bool = True
) -> None:
    """Make an entity type, or update the one of that code; its spelling stays. The types are locked."""
    values = {"code": code, "name": name, "description": description, "is_active": is_active}
    connection.execute(statement("reference/put_entity_type"), values)


def put_detail_type(
    connection: Connection,
    *,
    code: str,
    name: str,
    description: str = "",
    is_active: bool = True,
    compares: Compares = "text",
) -> None:
    """Make a detail type, or update the one of that code; its spelling stays. The types are locked.

    Raises DetailTypeInUse when its values would compare in another way.
    """
    known = {kind.code.lower(): kind for kind in reference_types(connection).detail_types}
    before = known.get(code.lower())
    if before and before.compares != compares:
        values = {"detail_type_id": before.detail_type_id}
        connection.execute(statement("reference/claim_detail_type"), values)
        if connection.execute(statement("reference/has_values"), values).fetchone() == (True,):
            raise DetailTypeInUse(before.code, before.compares, compares)
    told = {"code": code, "name": name, "description": description, "is_active": is_active, "compares": compares}
    connection.execute(statement("reference/put_detail_type"), told)
