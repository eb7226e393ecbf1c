"""The one way to read: current, as-of, history, net diff and audit, each now or as known at an instant.

A document is one JSON object as text, in the shape that REST sends: PostgreSQL writes it, and nothing parses it in
between. With `known_at`, the same queries run over the fold of the changes recorded up to that instant
(reading/known.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.postgres.streams import in_blocks
from crm_core.reading.audit import documents
from crm_core.reading.known import as_known, lines, matches, moments, rows, uids
from crm_core.reading.lists import FIRST_UID, LAST_UID, Document, Filter, Page, PageOf, Position, Values, page_of
from crm_core.resources import statement

FIRST = 101  # entities of a list without a filter that a cached plan returns; the statements contain this number too
PARTS = 4**15  # parts of a window: the first one is searched for moments, each following one is four times as long
PART = 1_000  # moments that a stream looks up at once

T = TypeVar("T")


def snapshot(
    connection: Connection, entity_uid: UUID, *, as_of: datetime | None = None, known_at: datetime | None = None
) -> Document | None:
    """Read one entity as it is, or as it was at `as_of`; None if it does not exist at that time."""
    with as_known(connection, known_at):
        name = "query/entity_current" if as_of is None else "query/entity_as_of"
        values = {"entity_uid": entity_uid, "as_of": as_of}
        row = connection.execute(statement(name), values, prepare=None if known_at is None else False).fetchone()
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

    A page begins after a position, or after the first `offset` entities; `known_at` needs `as_of`. Raises UnknownType
    if the filter names a type that does not exist, and TooMuchToFold.
    """
    values = (which or Filter()).values(types) | {"as_of": as_of, "offset": offset, "limit": limit + 1}
    if known_at is not None:
        return _entities_as_known(connection, values, known_at, after, offset, limit)
    start = _whole(connection, after)
    values |= {
        "after_uid": None if start is None else start.entity_uid,
        "after_name": None if start is None else start.display_name,
    }
    if not _is_filtered(values) and offset + limit < FIRST:
        found = _first(connection, values)
    else:
        name = "entities_current" if as_of is None else "entities_as_of"
        if as_of is None and values["source_id"] is not None and not values["hashdiffs"]:
            name = "entities_current_of_source"
        found = rows(connection, _with_details(name, values), values)
    page = page_of([(document, Position(uid, name if as_of is None else "")) for document, name, uid in found], limit)
    return page if page.next is None else PageOf(page.documents, page.next.shortened())


def count_entities(
    connection: Connection,
    types: ReferenceTypes,
    which: Filter | None = None,
    *,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `entities` lists; counting stops at `at_most`, which then means that many or more."""
    values = (which or Filter()).values(types) | {"as_of": as_of, "at_most": at_most}
    if known_at is None:
        name = "count_entities_current" if as_of is None else "count_entities_as_of"
        return _count(connection, _with_details(name, values), values)
    with as_known(connection, known_at):
        if not _is_filtered(values):
            return _count(connection, "count_known", values | {"as_of": _instant(values)})
        return sum(1 for _ in islice(matches(connection, values), at_most))


def history(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Sequence[Document]:
    """Read every version of one entity and its details, in order of valid_from; empty if it was never known."""
    values: Values = {"entity_uid": entity_uid, "after_from": None, "after_code": None, "since": None}
    values |= {"offset": 0, "limit": None}
    with as_known(connection, known_at):
        return [document for document, *_ in rows(connection, "history", values)]


def audit(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Sequence[Document]:
    """Read the ledger of one entity in recording order, each change with what it did when it was recorded."""
    values: Values = {"entity_uid": entity_uid, "after_batch": None, "after_row": None, "offset": 0, "limit": None}
    with as_known(connection, known_at):
        found = rows(connection, "audit", values)
    return documents(connection, found)


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
    """Read a page of net changes between two instants, one document per entity, in order of entity_uid.

    A page begins after a position, or after the first `offset` documents. Raises TooMuchToFold.
    """
    window: Values = {"from": from_, "to": to}
    after_uid = None if after is None else after.entity_uid

    def changed(some: list[UUID]) -> list[tuple[Document, Position]]:
        found = rows(connection, "diff", window | {"entity_uids": some})
        return [(document, Position(uid)) for document, uid in found]

    with as_known(connection, known_at):
        if known_at is None:
            candidates = diff_candidates(connection, window, after_uid, offset + 2 * limit)
        else:
            candidates = uids(connection, after=after_uid, from_=from_, to=to)
        found = _more_than(offset + limit, map(changed, candidates))
    return page_of(found[offset:], limit)


def count_diff(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `diff` lists; counting stops at `at_most`, which then means that many or more."""
    window: Values = {"from": from_, "to": to, "entity_uids": None, "at_most": None}
    with as_known(connection, known_at):
        if known_at is not None:
            return _count_by_uids(connection, "count_diff", window, uids(connection, from_=from_, to=to), at_most)
        if at_most is None:
            return _count(connection, "count_diff", window)
        return _count_by_uids(
            connection, "count_diff", window, diff_candidates(connection, window, None, at_most), at_most
        )


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
    """Read a page of the transitions in `(from_, to]`, one document per entity and instant, in order of both.

    A page begins after a position with an instant, or after the first `offset` documents. Raises TooMuchToFold.
    """
    start = (from_, LAST_UID)
    if after is not None and after.at is not None and after.at > from_:
        start = (after.at, after.entity_uid)
    with as_known(connection, known_at):
        candidates: Iterator[Sequence[TupleRow]]
        if known_at is None:
            first = _moments(connection, start, to, offset + limit + 1)
            candidates, offset = iter([first[offset:]]), 0
        else:  # at some of its instants nothing has changed
            candidates = moments(connection, to, after=start)
        parts = (_transitions_at(connection, from_, to, some) for some in candidates)
        found = _more_than(offset + limit, parts)
    return page_of(found[offset:], limit)


def transitions_at(connection: Connection, some: Sequence[tuple[datetime, UUID]]) -> Sequence[Document]:
    """Read what changed at given moments, each an instant and an entity; a moment without change has none."""
    if not some:
        return ()
    from_, to = min(at for at, _ in some) - timedelta.resolution, max(at for at, _ in some)
    return [document for document, _ in _transitions_at(connection, from_, to, some)]


def count_transitions(
    connection: Connection,
    from_: datetime,
    to: datetime,
    *,
    known_at: datetime | None = None,
    at_most: int | None = None,
) -> int:
    """Count what `transitions` lists; counting stops at `at_most`, which then means that many or more."""
    window: Values = {"from": from_, "to": to, "entity_uids": None, "at_most": at_most}
    with as_known(connection, known_at):
        if known_at is None:
            return _count(connection, "count_transitions", window)
        return _count_by_uids(connection, "count_transitions", window, uids(connection, from_=from_, to=to), at_most)


def stream_entities(
    connection: Connection,
    types: ReferenceTypes,
    which: Filter | None = None,
    *,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
) -> Iterator[bytes]:
    """Read everything that `entities` lists, in the same order: lines of JSON, in blocks.

    All lines are of one snapshot of the database, and the connection is in use until the last block or the iterator's
    end. Raises UnknownType at once.
    """
    values = (which or Filter()).values(types) | {"as_of": as_of}
    if known_at is not None:
        return _entities_streamed(connection, values, known_at)
    name = "stream_entities_current" if as_of is None else "stream_entities_as_of"
    return _copied(connection, _with_details(name, values), values)


def stream_diff(
    connection: Connection, from_: datetime, to: datetime, *, known_at: datetime | None = None
) -> Iterator[bytes]:
    """Read everything that `diff` lists, as `stream_entities` does."""
    window: Values = {"from": from_, "to": to}
    if known_at is None:
        return _copied(connection, "stream_diff", window)

    def found() -> Iterator[Document]:
        for some in uids(connection, from_=from_, to=to, at_most=None):
            yield from (document for document, _ in rows(connection, "diff", window | {"entity_uids": some}))

    return lines(connection, known_at, found())


def stream_transitions(
    connection: Connection, from_: datetime, to: datetime, *, known_at: datetime | None = None
) -> Iterator[bytes]:
    """Read everything that `transitions` lists, as `stream_entities` does."""
    if known_at is None:
        return _copied(connection, "stream_transitions", {"from": from_, "to": to})

    def found() -> Iterator[Document]:
        window: Values = {"after_at": from_, "after_uid": LAST_UID, "to": to, "limit": None}
        with connection.cursor("moments") as cursor:
            cursor.execute(statement("query/known_moments"), window)
            while some := cursor.fetchmany(PART):
                yield from (document for document, _ in _transitions_at(connection, from_, to, some))

    return lines(connection, known_at, found())


def _entities_as_known(
    connection: Connection, values: Values, known_at: datetime, after: Position | None, offset: int, limit: int
) -> Page:
    """Find the uids of a page in the ledger first, then fold only those."""
    after_uid = None if after is None else after.entity_uid
    with as_known(connection, known_at):
        if _is_filtered(values) or offset:
            matching = matches(connection, values, after=after_uid)
            parts = iter([[*islice(matching, offset, offset + limit + 1)]])
        else:
            parts = uids(connection, after=after_uid, to=_instant(values), first=limit + 1)
        found = _more_than(
            limit, (rows(connection, "known_entities", values | {"entity_uids": some}) for some in parts)
        )
    return page_of([(document, Position(uid)) for document, uid in found], limit)


def _entities_streamed(connection: Connection, values: Values, known_at: datetime) -> Iterator[bytes]:
    as_of = _instant(values)

    def found() -> Iterator[Document]:
        for some in uids(connection, to=as_of, at_most=None):
            matching = [uid for (uid,) in rows(connection, "known_matches", values | {"entity_uids": some})]
            documents = rows(connection, "known_entities", values | {"entity_uids": matching})
            yield from (document for document, _ in documents)

    return lines(connection, known_at, found())


def _more_than(number: int, parts: Iterable[Sequence[T]]) -> list[T]:
    """Join parts until there are more than `number` items, or until there are no more parts."""
    found: list[T] = []
    for some in parts:
        found += some
        if len(found) > number:
            break
    return found


def _transitions_at(
    connection: Connection, from_: datetime, to: datetime, some: Sequence[TupleRow | tuple[datetime, UUID]]
) -> list[tuple[Document, Position]]:
    """Read what changed at given moments of a window, each an instant and an entity."""
    values: Values = {"ats": [at for at, _ in some], "entity_uids": [uid for _, uid in some], "from": from_, "to": to}
    return [(document, Position(uid, at=at)) for document, at, uid in rows(connection, "transitions", values)]


def _first(connection: Connection, values: Values) -> Sequence[TupleRow]:
    """Read a page of a list without a filter with a cached plan, because planning takes as long as running it."""
    is_start = values["after_uid"] is None
    name = "entities_current_unfiltered" if values["as_of"] is None else "entities_as_of_unfiltered"
    start: Values = {"after_uid": FIRST_UID, "after_name": ""} if is_start else {}
    after_from = "-infinity" if is_start else "infinity"
    return connection.execute(statement(f"query/{name}"), values | start | {"after_from": after_from}).fetchall()


def _whole(connection: Connection, after: Position | None) -> Position | None:
    """Return a shortened position with its whole name; if no entity has it any more, with its beginning."""
    if after is None or not after.digest:
        return after
    values: Values = {"entity_uid": after.entity_uid, "beginning": after.display_name, "digest": after.digest}
    row = connection.execute(statement("query/name_of_position"), values).fetchone()
    return Position(FIRST_UID, after.display_name) if row is None else Position(after.entity_uid, row[0])


def _moments(
    connection: Connection, after: tuple[datetime, UUID], to: datetime, most: int
) -> list[tuple[datetime, UUID]]:
    """Return the first moments after a given one at which a version begins or ends, in windows that grow.

    Sorting all moments of a long window for the few that a page shows would take as long as reading all of them.
    """
    found: list[tuple[datetime, UUID]] = []
    width = (to - after[0]) / PARTS + timedelta.resolution
    while after < (to, LAST_UID) and len(found) < most:
        end = after[0] + width if to - after[0] > width else to
        values: Values = {"after_at": after[0], "after_uid": after[1], "to": end, "limit": most - len(found)}
        found += [(at, uid) for at, uid in rows(connection, "transition_candidates", values)]
        after, width = (end, LAST_UID), 4 * width
    return found


def diff_candidates(connection: Connection, window: Values, after_uid: UUID | None, size: int) -> Iterator[list[UUID]]:
    """Find the entities that may differ between two instants, in order of entity_uid, at most `limit` at a time."""
    while True:
        values = window | {"after_uid": after_uid, "limit": size}
        found = [uid for (uid,) in rows(connection, "diff_candidates", values)]
        if found:
            yield found
        if len(found) < size:
            return
        after_uid = found[-1]


def _count_by_uids(
    connection: Connection, name: str, window: Values, parts: Iterator[list[UUID]], at_most: int | None
) -> int:
    count = 0
    for some in parts:
        count += _count(connection, name, window | {"entity_uids": some})
        if at_most is not None and count >= at_most:
            return at_most
    return count


def _count(connection: Connection, name: str, values: Values) -> int:
    ((count,),) = rows(connection, name, values)
    return int(count)


def _copied(connection: Connection, name: str, values: Values) -> Iterator[bytes]:
    """Stream the output of a COPY."""
    with connection.cursor() as cursor, cursor.copy(statement(f"query/{name}"), values) as copy:
        yield from in_blocks(copy)


def _instant(values: Values) -> datetime:
    as_of = values["as_of"]
    assert isinstance(as_of, datetime), "known_at needs as_of"
    return as_of


def _is_filtered(values: Values) -> bool:
    names = ("like", "entity_type_id", "source_id", "key_uids")
    return bool(values["hashdiffs"]) or any(values[name] is not None for name in names)


def _with_details(name: str, values: Values) -> str:
    """Return the name of the statement that searches details first, if the filter has details."""
    return f"{name}_with_details" if values["hashdiffs"] else name
