"""A small model of keys and links that is obviously right, over the model of the rules of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from timeline_model import Batch, Model

from crm_core.model import Change
from crm_core.values.hashing import key_uid

Key = tuple[str, str]  # the source and its key


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row of a drop: what it says, and how it names its entity."""

    change: Change  # of the entity that its uid names, if it gives one
    has_uid: bool
    key: Key | None
    further: tuple[Key, ...] = ()


@dataclass
class KeyModel:
    """Batches of changes, and the links that they made."""

    times: Model = field(default_factory=Model)
    links: list[tuple[int, Key, UUID | None]] = field(default_factory=list)  # of the batch at a place; None: it ends

    def named(self, key: Key) -> UUID:
        """The entity that a key names."""
        acting = [uid for place, of, uid in self.links if of == key and place not in self.times.undone]
        return (acting[-1] if acting else None) or key_uid(*key)

    def is_known(self, uid: UUID) -> bool:
        """Whether anything that acts was said of an entity."""
        return any(change.entity_uid == uid and change.op != "patch" for change in self.times.changes)

    def taken(self, key: Key, said: Sequence[Change]) -> UUID | None:
        """The entity that a key names already, before or by what was said so far; None: it names none yet."""
        own, named = key_uid(*key), self.named(key)
        is_used = named != own or self.is_known(own) or any(change.entity_uid == own for change in said)
        return named if is_used else None

    def drop(self, rows: Sequence[KeyedRow]) -> list[int]:
        """Record a drop, and return the places of the rows that are rejected."""
        place, rejected, said = len(self.times.batches), list[int](), list[Change]()
        given: dict[Key, UUID] = {}  # by this drop
        for number, row in enumerate(rows):
            entity = row.change.entity_uid
            if not row.has_uid and row.key is not None:
                entity = given.get(row.key) or self.named(row.key)
            names = [row.key, *row.further] if row.key else list(row.further)
            if any((given.get(key) or self.taken(key, said) or entity) != entity for key in names):
                rejected.append(number)
                continue
            given |= {key: entity for key in names if not self.taken(key, said)}
            said.append(replace(row.change, entity_uid=entity))
        self.times.record(*said)
        self.links += [(place, key, uid) for key, uid in given.items() if uid != key_uid(*key)]
        return rejected

    def put(self, key: Key, change: Change) -> None:
        """Record a complete change by request."""
        self.times.request(replace(change, entity_uid=self.named(key)))

    def link(self, key: Key, uid: UUID) -> str:
        """Record a link, or with the uid of the key itself the end of one; say what came of it."""
        own = key_uid(*key)
        if uid != own and not self.is_known(uid):
            return "unknown"
        if self.named(key) == uid:
            return "unchanged"
        self.links.append((len(self.times.batches), key, None if uid == own else uid))
        self.times.batches.append(Batch())
        return "unlinked" if uid == own else "linked"
