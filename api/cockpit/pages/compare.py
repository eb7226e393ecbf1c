"""Two instants side by side: which entities differ, in what, and how many in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.time_bar import instant_of
from api.problems import refuse
from api.wire.tables import written
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading.compare import Action, Compared, ComparedPage, Which, compared, totals
from crm_core.reading.lists import Filter

PAGE_SIZE = 50
ACTIONS: Mapping[str, Action] = {"created": "created", "changed": "changed", "ended": "ended"}
COLUMNS = ("entity_uid", "display_name", "entity_type", "action", "field", "from", "to")
ROWS_A_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Window:
    """What an address asks to compare."""

    from_: datetime
    to: datetime
    known_at: datetime | None
    which: Which


async def show_compare(opened: Page) -> Response:
    """Show what differs between two instants."""
    window = await _window(opened)
    after = opened.uid_asked("after")
    types = await opened.read(opened.state.types)
    found = await opened.read(partial(_page, window=window, types=types, after=after), is_long=True)
    key = ("compared", window.from_, opened.bar.as_of if "to" not in opened.request.query_params else window.to)
    counted = await opened.soon(
        (*key, window.known_at), partial(totals, from_=window.from_, to=window.to, known_at=window.known_at)
    )
    query = opened.request.query_params
    return opened.show(
        "compare.html",
        window=window,
        found=found,
        totals=counted,
        types=types,
        fields=["display_name", "entity_type", *(f"details.{kind.code}" for kind in types.detail_types)],
        query={name: query.get(name, "") for name in ("q", "entity_type", "action", "field", "entity", "to")},
    )


async def download(opened: Page) -> Response:
    """Send what differs as CSV, a row for each field of an entity that differs."""
    window = await _window(opened)

    def blocks(connection: Connection) -> Iterator[bytes]:
        types = opened.state.types(connection)
        yield written([COLUMNS])
        after: UUID | None = None
        while True:
            found = _page(connection, window=window, types=types, after=after, limit=ROWS_A_BLOCK)
            if found.entities:
                yield written(row for one in found.entities for row in _rows(one))
            if (after := found.after) is None:
                return

    return await opened.send_csv("compared.csv", blocks)


routes = [
    Route("/compare", page("reader", show_compare), methods=["GET"]),
    Route("/compare.csv", page("reader", download), methods=["GET"]),
]


async def _window(opened: Page) -> Window:
    query, zone = opened.request.query_params, opened.state.settings.time_zone
    to = instant_of(query, "to", zone) or opened.bar.as_of or datetime.now(UTC)
    from_ = instant_of(query, "from", zone) or await opened.year_earlier(to)
    if from_ >= to:
        refuse("from", f"{from_.isoformat()} is not before {to.isoformat()}; choose an earlier day")
    action = query.get("action", "")
    if action and action not in ACTIONS:
        refuse("action", f"{action!r} is not an action; choose created, changed or ended")
    which = Which(
        Filter(query.get("q", "").strip() or None, query.get("entity_type") or None),
        ACTIONS.get(action),
        query.get("field") or None,
        opened.uid_asked("entity"),
    )
    return Window(from_, to, opened.bar.known_at, which)


def _page(
    connection: Connection, *, window: Window, types: ReferenceTypes, after: UUID | None, limit: int = PAGE_SIZE
) -> ComparedPage:
    return compared(
        connection,
        types,
        window.from_,
        window.to,
        window.which,
        known_at=window.known_at,
        after=after,
        limit=limit,
    )


def _rows(one: Compared) -> Iterator[tuple[str | None, ...]]:
    for change in one.changes:
        yield (
            str(one.entity_uid),
            one.display_name,
            one.entity_type,
            one.action,
            change.field,
            change.before,
            change.after,
        )
