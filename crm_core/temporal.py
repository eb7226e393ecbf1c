"""The one way to read: current, as-of, history, net diff and audit, each as it is or as it was known at an instant.

A document is one JSON object as text, in the shape that REST sends (contract, section 6): PostgreSQL writes it, nobody
in between parses it. With `known_at`, the same queries run over the fold of the changes recorded up to that instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm_core.database import Connection, statement
from crm_core.errors import UnknownType
from crm_core.hashing import detail_hashdiff, stored_form
from crm_core.model import DetailType, ReferenceTypes

Document = str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of entities ended: the next begins behind it."""

    entity_uid: UUID
    display_name: str = ""  # only lists by name need it


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents in order, and where to go on; `next` is None at the end."""

    documents: tuple[Document, ...]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entities a list answers; every part that is given must hold."""

    name_contains: str | None = None  # any part of display_name, whatever the case
    entity_type: str | None = None  # a code, whatever the case
    details: Mapping[str, str] | None = None  # detail type code → value, equal in the type's own comparison


def snapshot(
    connection: Connection, entity_uid: UUID, *, as_of: datetime | None = None, known_at: datetime | None = None
) -> Document | None:
    """Read one entity as it is, or as it was at `as_of`; None if it does not exist then."""
    with _as_known(connection, known_at):
        name = "query/entity_current" if as_of is None else "query/entity_as_of"
        row = connection.execute(statement(name), {"entity_uid": entity_uid, "as_of": as_of}).fetchone()
    return None if row is None else row[0]


def entities(
    connection: Connection,
    types: ReferenceTypes,
    which: Filter | None = None,
    *,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    after: Position | None = None,
    limit: int = 20,
) -> Page:
    """Read a page of entities: the current ones by display_name, then entity_uid; with `as_of`, by entity_uid.

    Raises UnknownType when the filter names a type that does not exist.
    """
    which = which or Filter()
    name = "entities_current" if as_of is None else "entities_as_of"
    hashdiffs = [_hashdiff(types, code, value) for code, value in (which.details or {}).items()]
    values = {
        "like": None if which.name_contains is None else f"%{_escape(which.name_contains)}%",
        "entity_type_id": None if which.entity_type is None else _entity_type_id(types, which.entity_type),
        "hashdiffs": hashdiffs,
        "as_of": as_of,
        "after_uid": after and after.entity_uid,
        "after_name": after and after.display_name,
        "limit": limit + 1,
    }
    with _as_known(connection, known_at):
        rows = connection.execute(
            statement(f"query/{name}_with_details" if hashdiffs else f"query/{name}"), values
        ).fetchall()
    return _page([(document, Position(uid, display_name)) for document, display_name, uid in rows], limit)


def history(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Sequence[Document]:
    """Read every version of one entity and its details, in order of valid_from; empty if it was never known."""
    return _documents(connection, "query/history", entity_uid, known_at)


def audit(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Sequence[Document]:
    """Read the ledger of one entity in recording order, each change with the state before and after it."""
    return _documents(connection, "query/audit", entity_uid, known_at)


def diff(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    after: Position | None = None,
    limit: int = 20,
) -> Page:
    """Read a page of net changes between two instants, one document an entity, in order of entity_uid."""
    found: list[tuple[Document, Position]] = []
    with _as_known(connection, known_at):
        while len(found) <= limit:
            window: dict[str, datetime | UUID | int | list[UUID] | None] = {"from": from_, "to": to, "limit": 2 * limit}
            window["after_uid"] = None if after is None else after.entity_uid
            uids = [uid for (uid,) in connection.execute(statement("query/diff_candidates"), window)]
            changed = connection.execute(statement("query/diff"), window | {"entity_uids": uids})
            found += [(document, Position(uid)) for document, uid in changed]
            if len(uids) < 2 * limit:
                break
            after = Position(uids[-1])
    return _page(found, limit)


@contextmanager
def _as_known(connection: Connection, known_at: datetime | None) -> Iterator[None]:
    """Let the queries of the block answer from the changes recorded up to `known_at`, in one transaction."""
    if known_at is None:
        yield
        return
    with connection.transaction():
        connection.execute(statement("query/as_known"), {"known_at": known_at.isoformat()})
        yield
        connection.execute(statement("query/as_known_no_more"))


def _documents(connection: Connection, name: str, entity_uid: UUID, known_at: datetime | None) -> Sequence[Document]:
    with _as_known(connection, known_at):
        return [document for (document,) in connection.execute(statement(name), {"entity_uid": entity_uid})]


def _page(rows: Sequence[tuple[Document, Position]], limit: int) -> Page:
    """Cut the row that was read beyond the page: it only says that there is a next one."""
    page = rows[:limit]
    return Page(tuple(document for document, _ in page), page[-1][1] if len(rows) > limit else None)


def _hashdiff(types: ReferenceTypes, code: str, value: str) -> bytes:
    detail_type = _detail_type(types, code)
    stored = stored_form(value, detail_type.compares)
    return detail_hashdiff(detail_type.code, stored or "", detail_type.compares)


def _detail_type(types: ReferenceTypes, code: str) -> DetailType:
    for known in types.detail_types:
        if known.code.lower() == code.strip().lower():
            return known
    kind = "detail type"
    raise UnknownType(kind, code, [known.code for known in types.detail_types])


def _entity_type_id(types: ReferenceTypes, code: str) -> int:
    for known in types.entity_types:
        if known.code.lower() == code.strip().lower():
            return known.entity_type_id
    kind = "entity type"
    raise UnknownType(kind, code, [known.code for known in types.entity_types])


def _escape(text: str) -> str:
    """Quote the characters that a LIKE pattern gives a meaning."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
