"""What a database answers as it was known at a moment: the same for ever, also where it was restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.reading.feed import Cursor, feed
from crm_core.reference import reference_types

Answers = dict[str, list[str]]


def answers(database: Database, known_at: datetime, *, uids: int = 40) -> Answers:
    """Entities, differences, feed, and of some entities history and audit, as known at a moment."""
    with database.connect(autocommit=True) as connection:
        types = reference_types(connection)
        known = _lines(reads.stream_entities(connection, types, as_of=known_at, known_at=known_at))
        some = [UUID(json.loads(line)["entity_uid"]) for line in known[:uids]]
        beginning = datetime(1970, 1, 1, tzinfo=known_at.tzinfo)
        return {
            "entities": known,
            "differences": _lines(reads.stream_diff(connection, beginning, known_at, known_at=known_at)),
            "feed": [event for event in events(connection) if _recorded_at(event) <= known_at],
            "history": [line for uid in some for line in reads.history(connection, uid, known_at=known_at)],
            "audit": [line for uid in some for line in reads.audit(connection, uid, known_at=known_at)],
        }


def events(connection: Connection, after: Cursor | None = None) -> Iterator[str]:
    """All events of the feed behind a cursor."""
    while (page := feed(connection, after, limit=500)).documents:
        yield from page.documents
        after = page.next


def moments(database: Database) -> list[datetime]:
    """When each batch was recorded."""
    with database.connect() as connection:
        return [at for (at,) in connection.execute("select recorded_at from batch order by recorded_at")]


def _recorded_at(event: str) -> datetime:
    return datetime.fromisoformat(json.loads(event)["recorded_at"])


def _lines(blocks: Iterator[bytes]) -> list[str]:
    return b"".join(blocks).decode().splitlines()
