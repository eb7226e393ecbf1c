"""The one way to read: current, as-of, history, net diff and audit, each as it is or as it was known at an instant.

A document is one JSON object as text, in the shape that REST sends (contract, section 6): PostgreSQL writes it, nobody
in between parses it. With `known_at`, the same queries run over the fold of the changes recorded up to that instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from unicodedata import normalize
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.blocks import in_blocks
from crm_core.database import Connection, statement
from crm_core.errors import UnknownType
from crm_core.hashing import detail_hashdiff, stored_form
from crm_core.model import DetailType, ReferenceTypes

Document = str


Values = dict[str, str | int | datetime | UUID | list[bytes] | list[datetime] | list[UUID] | None]  # of a statement

FIRST_UID, LAST_UID = UUID(int=0), UUID(int=(1 << 128) - 1)
FIRST = 101  # so many entities of a list without a filter come by a plan that is kept; the statements say so too


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the next begins behind it."""

    entity_uid: UUID
    display_name: str = ""  # only lists by name need it
    at: datetime | None = None  # only transitions need it


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
    offset: int = 0,
    limit: int = 20,
) -> Page:
    """Read a page of entities: the current ones by display_name, then entity_uid; with `as_of`, by entity_uid.

    A page begins behind a position, or `offset` entities from the start. Raises UnknownType when the filter names a
    type that does not exist.
    """
    name = "entities_current" if as_of is None else "entities_as_of"
    values = _filter(types, which) | {
        "as_of": as_of,
        "after_uid": None if after is None else after.entity_uid,
        "after_name": None if after is None else after.display_name,
        "offset": offset,
        "limit": limit + 1,
    }
    is_filtered = values["like"] is not None or values["entity_type_id"] is not None or bool(values["hashdiffs"])
    if not is_filtered and known_at is None and offset + limit < FIRST:
        rows = _first(connection, as_of, values)
    else:
        with _as_known(connection, known_at):
            rows = _list(connection, _with_details(name, values), values)
    return _page([(document, Position(uid, display_name)) for document, display_name, uid in rows], limit)


def count_entities(
    connection: Connection,
    types: ReferenceTypes,
    which: Filter | None = None,
    *,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `entities` lists; counting stops at `at_most`, so that this answer means so many or more."""
    name = "count_entities_current" if as_of is None else "count_entities_as_of"
    values = _filter(types, which) | {"as_of": as_of, "at_most": at_most}
    with _as_known(connection, known_at):
        return _count(connection, _with_details(name, values), values)


def ended_at(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> str | None:
    """Read when an entity that does not exist now last ended, in ISO 8601; None if it was never known."""
    with _as_known(connection, known_at):
        row = connection.execute(statement("query/ended_at"), {"entity_uid": entity_uid}).fetchone()
    return None if row is None else row[0]


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
    offset: int = 0,
    limit: int = 20,
) -> Page:
    """Read a page of net changes between two instants, one document an entity, in order of entity_uid.

    A page begins behind a position, or `offset` documents from the start.
    """
    found: list[tuple[Document, Position]] = []
    with _as_known(connection, known_at):
        for uids in _diff_candidates(connection, from_, to, after, offset + 2 * limit):
            changed = _list(connection, "diff", {"from": from_, "to": to, "entity_uids": uids})
            found += [(document, Position(uid)) for document, uid in changed]
            if len(found) > offset + limit:
                break
    return _page(found[offset:], limit)


def count_diff(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `diff` lists; counting stops at `at_most`, so that this answer means so many or more."""
    window: Values = {"from": from_, "to": to, "entity_uids": None}
    with _as_known(connection, known_at):
        if at_most is None:
            return _count(connection, "count_diff", window)
        count = 0
        for uids in _diff_candidates(connection, from_, to, None, at_most):
            count += _count(connection, "count_diff", window | {"entity_uids": uids})
            if count >= at_most:
                break
        return min(count, at_most)


def transitions(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    after: Position | None = None,
    offset: int = 0,
    limit: int = 20,
) -> Page:
    """Read a page of the transitions in `(from_, to]`, one document an entity and instant, in order of (instant, uid).

    A page begins behind a position that has an instant, or `offset` documents from the start.
    """
    is_inside = after is not None and after.at is not None and after.at > from_
    start = after if after is not None and is_inside else Position(LAST_UID, at=from_)
    window: Values = {"after_at": start.at, "after_uid": start.entity_uid, "to": to}
    with _as_known(connection, known_at):
        moments = _list(connection, "transition_candidates", window | {"offset": offset, "limit": limit + 1})
        values: Values = {"ats": [at for at, _ in moments], "entity_uids": [uid for _, uid in moments]}
        rows = _list(connection, "transitions", values)
    return _page([(document, Position(uid, at=at)) for document, at, uid in rows], limit)


def count_transitions(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `transitions` lists; counting stops at `at_most`, so that this answer means so many or more."""
    with _as_known(connection, known_at):
        return _count(connection, "count_transitions", {"from": from_, "to": to, "at_most": at_most})


def stream_entities(
    connection: Connection,
    types: ReferenceTypes,
    which: Filter | None = None,
    *,
    as_of: datetime,
    known_at: datetime | None = None,
) -> Iterator[bytes]:
    """Read all that `entities` lists at an instant, in the same order: lines of JSON, in blocks of some of them.

    The lines are of one snapshot of the database, and the connection is theirs until the last block or the iterator's
    end. Raises UnknownType at once.
    """
    values = _filter(types, which) | {"as_of": as_of}
    return _stream(connection, _with_details("stream_entities_as_of", values), values, known_at)


def stream_diff(
    connection: Connection, from_: datetime, to: datetime, *, known_at: datetime | None = None
) -> Iterator[bytes]:
    """Read all that `diff` lists, as `stream_entities` does."""
    return _stream(connection, "stream_diff", {"from": from_, "to": to}, known_at)


def stream_transitions(
    connection: Connection, from_: datetime, to: datetime, *, known_at: datetime | None = None
) -> Iterator[bytes]:
    """Read all that `transitions` lists, as `stream_entities` does."""
    return _stream(connection, "stream_transitions", {"from": from_, "to": to}, known_at)


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


def _first(connection: Connection, as_of: datetime | None, values: Values) -> Sequence[TupleRow]:
    """Read the first of a list without a filter: most reads are such, and making a plan takes as long as running it."""
    is_start = values["after_uid"] is None
    name = "entities_current_unfiltered" if as_of is None else "entities_as_of_unfiltered"
    start: Values = {"after_uid": FIRST_UID, "after_name": ""} if is_start else {}
    after_from = "-infinity" if is_start else "infinity"
    return connection.execute(statement(f"query/{name}"), values | start | {"after_from": after_from}).fetchall()


def _list(connection: Connection, name: str, values: Values) -> Sequence[TupleRow]:
    """Run a statement that is planned for the values it gets: a plan for any values would be a bad one for most."""
    return connection.execute(statement(f"query/{name}"), values, prepare=False).fetchall()


def _count(connection: Connection, name: str, values: Values) -> int:
    ((count,),) = _list(connection, name, values)
    return int(count)


def _diff_candidates(
    connection: Connection, from_: datetime, to: datetime, after: Position | None, size: int
) -> Iterator[list[UUID]]:
    """Find the entities that may differ between two instants, in order of entity_uid, so many at a time."""
    after_uid = None if after is None else after.entity_uid
    while True:
        window: Values = {"from": from_, "to": to, "after_uid": after_uid, "limit": size}
        uids = [uid for (uid,) in _list(connection, "diff_candidates", window)]
        if uids:
            yield uids
        if len(uids) < size:
            return
        after_uid = uids[-1]


def _stream(connection: Connection, name: str, values: Values, known_at: datetime | None) -> Iterator[bytes]:
    with (
        _as_known(connection, known_at),
        connection.cursor() as cursor,
        cursor.copy(statement(f"query/{name}"), values) as copy,
    ):
        yield from in_blocks(copy)


def _filter(types: ReferenceTypes, which: Filter | None) -> Values:
    """Answer a filter as the statements take it."""
    which = which or Filter()
    return {
        "like": None if which.name_contains is None else f"%{_escape(normalize('NFC', which.name_contains))}%",
        "entity_type_id": None if which.entity_type is None else _entity_type_id(types, which.entity_type),
        "hashdiffs": [_hashdiff(types, code, value) for code, value in (which.details or {}).items()],
    }


def _with_details(name: str, values: Values) -> str:
    """Choose the statement that searches the details first if there are any to search."""
    return f"{name}_with_details" if values["hashdiffs"] else name


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
