"""The feed: what was recorded, from the ledger itself, in an order in which nothing is ever missed.

Batches come in the order of their recorded moments, which is that in which they were committed, and the entities of a
batch in the order of their uids. A cursor says where a reader is in that order, so it never expires.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from uuid import UUID

from psycopg.rows import TupleRow

from crm_core.errors import CursorLost, CursorRefused
from crm_core.postgres.connection import Connection
from crm_core.reading.known import settled
from crm_core.reading.lists import FIRST_UID, Document, Values
from crm_core.resources import statement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"(?a)(\d{1,18})-(\d{1,18})-(\d{1,18})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader is: behind this event."""

    recorded_at: datetime
    batch_id: int
    part: int  # the batch whose changes the event is about: itself, or one that it undoes
    entity_uid: UUID

    def __str__(self) -> str:
        """Return the cursor as a text that `parse_cursor` reads: letters, digits and hyphens."""
        microseconds = (self.recorded_at - _EPOCH) // timedelta.resolution
        return f"{microseconds}-{self.batch_id}-{self.part}-{self.entity_uid.hex}"


@dataclass(frozen=True, slots=True)
class Feed:
    """Some events in order, each a JSON object, and where to go on."""

    documents: tuple[Document, ...]
    next: Cursor | None  # None: nothing was ever recorded


def parse_cursor(text: str) -> Cursor | None:
    """Read a cursor; blank is the beginning. Raises CursorRefused for anything else."""
    if not text:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise CursorRefused(text)
    try:
        return Cursor(_EPOCH + timedelta(microseconds=int(match[1])), int(match[2]), int(match[3]), UUID(match[4]))
    except OverflowError:
        raise CursorRefused(text) from None


def feed(connection: Connection, after: Cursor | None, *, limit: int, with_entities: bool = False) -> Feed:
    """Read at most `limit` events behind a cursor: one for each entity that a batch names.

    With entities, each event has the entity as it is now, or null. Outside of a transaction this waits for batches
    that are being committed, so that none can appear later before an event that was read. Raises CursorLost for a
    cursor of what the database does not have, because it was restored to an earlier moment.
    """
    if after is not None and not _has_seen(connection, after):
        raise CursorLost(str(after))
    values: Values = {
        "after_at": "-infinity" if after is None else after.recorded_at,
        "after_batch": 0 if after is None else after.batch_id,
        "after_part": 0 if after is None else after.part,
        "after_uid": FIRST_UID if after is None else after.entity_uid,
        "limit": limit,
    }

    def read(until: datetime | str) -> list[TupleRow]:
        with_entity = with_entities and until != "infinity"  # of the first look nothing is shown
        return connection.execute(
            statement("query/changes"), values | {"until": until, "with_entity": with_entity}
        ).fetchall()

    found = settled(connection, read, itemgetter(1))
    cursor = Cursor(*found[-1][1:]) if found else after
    return Feed(tuple(document for document, *_ in found), cursor)


def _has_seen(connection: Connection, cursor: Cursor) -> bool:
    values: Values = {"batch_id": cursor.batch_id, "recorded_at": cursor.recorded_at}
    return connection.execute(statement("query/has_batch"), values).fetchone() == (True,)
