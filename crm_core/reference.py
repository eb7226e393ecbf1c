"""Reference data: the entity and detail types, read for every merge and loaded from fixtures."""

from __future__ import annotations

from crm_core.database import Connection, statement
from crm_core.model import DetailType, EntityType, ReferenceTypes


def reference_types(connection: Connection) -> ReferenceTypes:
    """Read the types that changes may name, inactive ones included, in order of their codes."""
    return ReferenceTypes(
        entity_types=tuple(EntityType(*row) for row in connection.execute(statement("query/entity_types"))),
        detail_types=tuple(DetailType(*row) for row in connection.execute(statement("query/detail_types"))),
    )
