"""Links of keys: a key of a source names another entity than its own from then on, until the link ends.

A link is recorded as a batch of its own, with who and why. What was recorded under the key before stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from crm_core.errors import UnknownEntity
from crm_core.postgres.connection import Connection
from crm_core.reading.keys import SourceKey
from crm_core.resources import statement
from crm_core.timeline.undo import Who

Outcome = Literal["linked", "unlinked", "unchanged"]


@dataclass(frozen=True, slots=True)
class Linked:
    """What came of a link, or of its end."""

    outcome: Outcome
    entity_uid: UUID  # that the key names now
    batch_id: int | None  # that records it; None: nothing was recorded


def link(connection: Connection, key: SourceKey, entity_uid: UUID, who: Who) -> Linked:
    """Link a key to an entity that was ever known; with the uid of the key itself, end its link.

    Raises UnknownEntity.
    """
    values = {
        "key_uid": key.key_uid,
        "source_id": key.source.source_id,
        "source_key": key.source_key,
        "entity_uid": entity_uid,
        "actor": who.actor,
        "reason": who.reason,
        "request_id": who.request_id,
    }
    row = connection.execute(statement("change/link_key"), values).fetchone()
    assert row is not None
    if row[0] == "unknown":
        raise UnknownEntity(entity_uid)
    return Linked(row[0], entity_uid, row[1])


def unlink(connection: Connection, key: SourceKey, who: Who) -> Linked:
    """End the link of a key, which names the entity of its own then; it is unchanged if it was not linked."""
    return link(connection, key, key.key_uid, who)
