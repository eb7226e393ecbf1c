"""The past of one entity: its versions and its ledger, page by page, and when it existed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm_core.postgres.connection import Connection
from crm_core.reading.audit import documents
from crm_core.reading.known import as_known, lines, rows
from crm_core.reading.lists import Document, PageOf, Values, page_of
from crm_core.resources import statement

VERSIONS_AT_ONCE = 1_000  # versions that a stream reads at once


@dataclass(frozen=True, slots=True)
class VersionPosition:
    """Where a page of a history ended."""

    valid_from: datetime
    code: str  # of the detail type; blank: the entity's own version


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """Where a page of an audit ended."""

    batch_id: int
    row_no: int


@dataclass(frozen=True, slots=True)
class Span:
    """When an entity first began and when it last ended, in ISO 8601; None: it has not ended."""

    began_at: str
    ended_at: str | None


def span(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Span | None:
    """Read when an entity first began and last ended; None if it never existed."""
    with as_known(connection, known_at):
        ((began_at, ended_at),) = rows(connection, "span", {"entity_uid": entity_uid})
    return None if began_at is None else Span(began_at, ended_at)


def history_page(
    connection: Connection,
    entity_uid: UUID,
    *,
    known_at: datetime | None = None,
    after: VersionPosition | None = None,
    offset: int = 0,
    limit: int = 20,
) -> PageOf[VersionPosition]:
    """Read a page of what `reads.history` lists, after a version or from the `offset`-th version on."""
    values: Values = {
        "entity_uid": entity_uid,
        "after_from": None if after is None else after.valid_from,
        "after_code": None if after is None else after.code,
        "since": None,
        "offset": offset,
        "limit": limit + 1,
    }
    with as_known(connection, known_at):
        found = rows(connection, "history", values)
    return page_of([(document, VersionPosition(at, code)) for document, at, code in found], limit)


def versions_since(connection: Connection, entity_uid: UUID, since: datetime) -> dict[VersionPosition, Document]:
    """Read the versions of an entity and its details that hold at an instant or later, or end then, in their order."""
    values: Values = {"entity_uid": entity_uid, "after_from": None, "after_code": None, "since": since}
    found = rows(connection, "history", values | {"offset": 0, "limit": None})
    return {VersionPosition(at, code): document for document, at, code in found}


def count_history(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> int:
    """Count what `history_page` lists."""
    with as_known(connection, known_at):
        return _counted(connection, "count_history", {"entity_uid": entity_uid})


def audit_page(
    connection: Connection,
    entity_uid: UUID,
    *,
    known_at: datetime | None = None,
    after: ChangePosition | None = None,
    offset: int = 0,
    limit: int = 20,
) -> PageOf[ChangePosition]:
    """Read a page of the ledger of one entity in recording order, each change with its effect.

    The effect is the state at the change's own instant by what was recorded before it, and the state with it. A page
    begins after a change, or after the first `offset` changes.
    """
    values: Values = {
        "entity_uid": entity_uid,
        "after_batch": None if after is None else after.batch_id,
        "after_row": None if after is None else after.row_no,
        "offset": offset,
        "limit": limit + 1,
    }
    with as_known(connection, known_at):
        found = rows(connection, "audit", values)
    shown = documents(connection, found[:limit])
    return PageOf(tuple(shown), ChangePosition(*found[limit - 1][2:]) if len(found) > limit else None)


def count_audit(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> int:
    """Count what `audit_page` lists."""
    with as_known(connection, known_at):
        return _counted(connection, "count_audit", {"entity_uid": entity_uid})


def stream_history(connection: Connection, entity_uid: UUID, *, known_at: datetime | None = None) -> Iterator[bytes]:
    """Read everything that `history_page` lists: lines of JSON, in blocks."""

    def found() -> Iterator[Document]:
        values: Values = {"entity_uid": entity_uid, "after_from": None, "after_code": None, "since": None}
        values |= {"offset": 0, "limit": None}
        with connection.cursor("versions") as cursor:
            cursor.execute(statement("query/history"), values)
            while some := cursor.fetchmany(VERSIONS_AT_ONCE):
                yield from (document for document, *_ in some)

    return lines(connection, known_at, found())


def _counted(connection: Connection, name: str, values: Values) -> int:
    ((count,),) = rows(connection, name, values)
    return int(count)
