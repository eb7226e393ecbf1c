"""Two instants side by side, for people: which entities differ, in what, with names; and how many in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, repeat
from typing import Literal
from uuid import UUID

from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading.known import as_known, rows, uids
from crm_core.reading.lists import Filter, Value, Values

Action = Literal["created", "changed", "ended"]
FIRST_CHUNK, CHUNK = 60, 500  # entities that are compared at once
AHEAD = 30_000  # entities that are looked at one by one for the first chunk
MOST_CHUNKS = 40  # that one page looks through for entities that a filter lets pass
MOST_NAMED = 2_000  # entities that are looked for by their name, and not by what changed


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs; None: it has no value then."""

    field: str  # display_name, entity_type or details.<code>
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """An entity that differs between two instants."""

    entity_uid: UUID
    display_name: str  # at the later instant, or as it was called last
    entity_type: str
    action: Action
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Which:
    """Which entities a comparison shows; every part that is given must hold."""

    entities: Filter = field(default_factory=Filter)  # by name and type; details are not looked at
    action: Action | None = None
    field_name: str | None = None  # display_name, entity_type or details.<code>
    entity_uid: UUID | None = None


@dataclass(frozen=True, slots=True)
class ComparedPage:
    """Some entities in order of entity_uid; `after` is where to go on, None at the end."""

    entities: tuple[Compared, ...]
    after: UUID | None


@dataclass(frozen=True, slots=True)
class Totals:
    """How many entities differ, by what happened to them; and of how many each field differs."""

    actions: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)


def compared(
    connection: Connection,
    types: ReferenceTypes,
    from_: datetime,
    to: datetime,
    which: Which | None = None,
    *,
    known_at: datetime | None = None,
    after: UUID | None = None,
    limit: int = 50,
) -> ComparedPage:
    """Read a page of the entities that differ between two instants, behind an entity_uid.

    A page may be shorter than `limit` and still say where to go on: then its filter let few pass. Raises UnknownType
    and, with `known_at`, TooMuchToFold.
    """
    which = which or Which()
    values = _values(types, from_, to, which)
    found: list[Compared] = []
    with as_known(connection, known_at):
        for number, some in enumerate(_candidates(connection, values, which, known_at, after), 1):
            found += [
                Compared(uid, name, code, action, tuple(FieldChange(*change.values()) for change in changes))
                for uid, name, code, action, changes in rows(connection, "compared", values | {"entity_uids": [*some]})
            ]
            if len(found) > limit:
                return ComparedPage(tuple(found[:limit]), found[limit - 1].entity_uid)
            if number == MOST_CHUNKS:
                return ComparedPage(tuple(found), some[-1])
    return ComparedPage(tuple(found), None)


def totals(connection: Connection, from_: datetime, to: datetime, *, known_at: datetime | None = None) -> Totals:
    """Count the entities that differ between two instants. It reads all versions that begin or end between them."""
    counted = Totals()
    with as_known(connection, known_at):
        for action, name, entities in rows(connection, "compared_totals", {"from": from_, "to": to}):
            if name is None:
                counted.actions[action] = entities
            else:
                counted.fields[name] = entities
    return counted


def _candidates(
    connection: Connection, values: Values, which: Which, known_at: datetime | None, after: UUID | None
) -> Iterator[Sequence[UUID]]:
    if which.entity_uid is not None:
        return iter([[which.entity_uid]] if after is None else [])
    if known_at is not None:
        from_, to = values["from"], values["to"]
        assert isinstance(from_, datetime)
        assert isinstance(to, datetime)
        return uids(connection, after=after, from_=from_, to=to, like=values["like"])
    return _walked(connection, values | {"entity_uids": _named(connection, values["like"])}, after)


def _walked(connection: Connection, values: Values, after: UUID | None) -> Iterator[Sequence[UUID]]:
    """Yield the entities that may fit the filter, in order of entity_uid; few at first, because most of them fit.

    The first are looked for among the next AHEAD entities, key by key: to find all that changed in a time takes a look
    at most of the tables where late rows lie everywhere.
    """
    upto = _ahead(connection, after) if values["entity_uids"] is None else None
    for size in chain([FIRST_CHUNK], repeat(CHUNK)):
        part: Values = {"after_uid": after, "upto_uid": upto, "limit": size}
        found = [uid for (uid,) in rows(connection, "compare_candidates", values | part)]
        if found:
            yield found
        if len(found) == size:
            after = found[-1]
        elif upto is None:
            return
        else:
            after, upto = upto, None


def _ahead(connection: Connection, after: UUID | None) -> UUID | None:
    """Find the entity AHEAD entities ahead; None: there are not so many."""
    found = rows(connection, "uid_ahead", {"after_uid": after, "entities": AHEAD})
    return found[0][0] if found else None


def _named(connection: Connection, like: Value) -> list[UUID] | None:
    """Find the entities that ever had such a name; None means all, or too many for a search by name to help."""
    if like is None:
        return None
    found = [uid for (uid,) in rows(connection, "named", {"like": like, "limit": MOST_NAMED + 1})]
    return found if len(found) <= MOST_NAMED else None


def _values(types: ReferenceTypes, from_: datetime, to: datetime, which: Which) -> Values:
    entities = which.entities.values(types)
    return {
        "from": from_,
        "to": to,
        "action": which.action,
        "field": which.field_name,
        "like": entities["like"],
        "entity_type_id": entities["entity_type_id"],
    }
