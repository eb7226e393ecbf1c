"""Search while typing, over names, details and keys; and the list of all entities, by name, type, detail and key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.problems import refuse
from api.wire.streams import as_csv
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.lists import Filter, Position
from crm_core.reading.search import Hit, search

HITS = 50
PAGE_SIZE = 50
LONGEST = 2_000  # characters of a text to search


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for."""

    q: str
    entity_type: str
    detail_type: str
    detail_value: str
    source: str
    source_key: str
    sort: str  # best or name

    @property
    def filter(self) -> Filter:
        """Return the filter of the list."""
        has_detail = self.detail_type and self.detail_value
        details = {self.detail_type: self.detail_value} if has_detail else None
        return Filter(self.q or None, self.entity_type or None, details, self.source or None, self.source_key or None)

    @property
    def is_for_text(self) -> bool:
        """Return whether a text is looked for, and the best matches are wanted of all entities."""
        return bool(self.q) and self.sort == "best" and not (self.detail_value or self.source or self.source_key)


@dataclass(frozen=True, slots=True)
class Found:
    """Entities of the list as the API shows them, and where to go on."""

    entities: list[dict[str, object]]
    next: Position | None


async def show_search(opened: Page) -> Response:
    """Show what is found: hits in all details while nothing else is asked for, or else the list."""
    asked, types = _asked(opened), await opened.read(opened.state.types)
    is_now = not opened.bar.is_past
    hits: list[Hit] | None = None
    found = Found([], None)
    if is_now and asked.is_for_text:
        of_type = asked.entity_type or None
        hits = await opened.read(partial(search, text=asked.q, limit=HITS + 1, entity_type=of_type))
    else:
        work = partial(_list, opened=opened, asked=asked, types=types)
        found = await opened.read(work, is_long=not is_now or bool(asked.q))
    return opened.show(
        "search.html",
        asked=asked,
        types=types,
        hits=None if hits is None else hits[:HITS],
        has_more=hits is not None and len(hits) > HITS,
        found=found.entities,
        next=None if found.next is None else _written(found.next),
    )


async def download(opened: Page) -> Response:
    """Send the list as CSV, a column for each detail type: it can be corrected and dropped again."""
    asked = _asked(opened)

    def blocks(connection: Connection) -> Iterator[bytes]:
        types = opened.state.types(connection)
        as_of, known_at = _as_of(opened), opened.bar.known_at
        lines = reads.stream_entities(connection, types, asked.filter, as_of=as_of, known_at=known_at)
        return as_csv(lines, types, with_keys=as_of is None and known_at is None)

    return await opened.send_csv("entities.csv", blocks)


routes = [
    Route("/search", page("reader", show_search), methods=["GET"]),
    Route("/search.csv", page("reader", download), methods=["GET"]),
]


def _asked(opened: Page) -> Asked:
    query = opened.request.query_params
    q = query.get("q", "").strip()
    if len(q) > LONGEST or "\0" in q:
        refuse("q", f"is longer than {LONGEST:,} characters, or has a NUL; search for less")
    sort = "name" if query.get("sort") == "name" else "best"
    names = ("entity_type", "detail_type", "detail_value", "source", "source_key")
    return Asked(q=q, sort=sort, **{name: query.get(name, "").strip() for name in names})


def _list(connection: Connection, *, opened: Page, asked: Asked, types: ReferenceTypes) -> Found:
    listed = reads.entities(
        connection,
        types,
        asked.filter,
        as_of=_as_of(opened),
        known_at=opened.bar.known_at,
        after=_position(opened.request.query_params.get("after", "")),
        limit=PAGE_SIZE,
    )
    return Found([json.loads(document) for document in listed.documents], listed.next)


def _as_of(opened: Page) -> datetime | None:
    """Return the instant of the list; with `known_at` an instant is needed, so it is now unless given."""
    return opened.bar.as_of or (datetime.now(UTC) if opened.bar.known_at else None)


def _written(position: Position) -> str:
    return f"{position.entity_uid}.{position.digest}.{position.display_name}"


def _position(text: str) -> Position | None:
    if not text:
        return None
    try:
        uid, digest, name = text.split(".", 2)
        return Position(UUID(uid), name, digest=digest)
    except ValueError:
        refuse("after", "is not a place in the list; go back to its first page")
