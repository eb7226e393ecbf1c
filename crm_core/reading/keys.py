"""Keys of sources: the form in which they are stored, and the entities that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from crm_core.errors import ChangeRefused
from crm_core.model import Reason, ReferenceTypes, Source
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.values.hashing import KEY_CHARACTERS, code_key, is_storable, key_uid, normal_form

Document = str  # one JSON object


@dataclass(frozen=True, slots=True)
class SourceKey:
    """A key by which a source names an entity, in the form that is stored."""

    source: Source
    source_key: str

    @property
    def key_uid(self) -> UUID:
        """Return the uid of the entity that it names unless it is linked to another."""
        return key_uid(self.source.code, self.source_key)


def find_key(types: ReferenceTypes, source: str, source_key: str) -> SourceKey:
    """Return the key of an active source, whose code may be in upper or lower case.

    Raises ChangeRefused with every fault.
    """
    active = {code_key(known.code): known for known in types.sources if known.is_active}
    found, key = active.get(code_key(source)), normal_form(source_key) if is_storable(source_key) else None
    faults = list(_faults(source, found, key, [known.code for known in active.values()]))
    if found is None or key is None or faults:
        raise ChangeRefused(faults)
    return SourceKey(found, key)


def _faults(source: str, found: Source | None, key: str | None, active: list[str]) -> Iterator[tuple[Reason, str, str]]:
    if found is None:
        cure = f"choose one of: {', '.join(active)}" if active else "let an admin add it (POST /api/v1/sources)"
        yield Reason.UNKNOWN_SOURCE, "source", f"{source!r} is not an active source; {cure}"
    if key is None:
        yield Reason.MISSING_SOURCE_KEY, "source_key", "is blank, or no text; give the key of the entity"
    elif len(key) > KEY_CHARACTERS:
        said = f"has {len(key):,} characters; a key has at most {KEY_CHARACTERS}"
        yield Reason.VALUE_TOO_LONG, "source_key", said


@dataclass(frozen=True, slots=True)
class KeyOfEntity:
    """A key by which a source names an entity."""

    source: str  # the code
    source_key: str
    is_linked: bool  # False: the uid of the entity is that of the key


def keys_of(connection: Connection, entity_uid: UUID, limit: int = 100) -> list[KeyOfEntity]:
    """Read the keys that name an entity, by source and key."""
    values = {"entity_uid": entity_uid, "limit": limit}
    return [KeyOfEntity(*row) for row in connection.execute(statement("query/keys_of_entity"), values)]


def links_of(connection: Connection, key: SourceKey, limit: int = 100) -> list[Document]:
    """Read the links of a key, the last first.

    A document has recorded_at, actor, entity_uid (null: the link before ended), reason, batch_id, source, is_undone.
    """
    values = {"key_uid": key.key_uid, "limit": limit}
    return [document for (document,) in connection.execute(statement("query/links_of_key"), values)]


def entity_of(connection: Connection, key: SourceKey) -> UUID:
    """Return the uid of the entity that a key names, whether it was ever known or not."""
    ((uid,),) = connection.execute(statement("query/entity_of_key"), {"key_uid": key.key_uid})
    found: UUID = uid
    return found
