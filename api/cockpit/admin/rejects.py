"""The rejected rows of all drops, by file and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.admin.listing import PAGE_SIZE
from api.cockpit.page import Page, page
from api.problems import refuse
from api.wire.tables import Row, as_table
from crm_core.drops.registry import RejectPosition, rejects_of_all, stream_rejects_of_all
from crm_core.model import Reason
from crm_core.postgres.connection import Connection
from crm_core.report.page import MEANING

COLUMNS = ("first_seen_at", "file", "sha256", "line", "reasons", "raw")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for."""

    drop: str | None  # a SHA-256, or a part of the name of a file
    reason: Reason | None


async def show_rejects(opened: Page) -> Response:
    """Show a page of the rejected rows, those of the newest drop first."""
    asked, after = _asked(opened), _after(opened.request.query_params.get("after", ""))
    work = partial(rejects_of_all, drop=asked.drop, reason=asked.reason, after=after, limit=PAGE_SIZE)
    documents, position = await opened.read(work, is_long=True)
    return opened.show(
        "admin/rejects.html",
        rows=[json.loads(document) for document in documents],
        next=None if position is None else _written(position),
        asked=asked,
        reasons=list(Reason),
        meaning=MEANING,
    )


async def download(opened: Page) -> Response:
    """Send all of them as CSV."""
    asked = _asked(opened)

    def blocks(connection: Connection) -> Iterator[bytes]:
        return as_table(stream_rejects_of_all(connection, drop=asked.drop, reason=asked.reason), COLUMNS, _cells)

    return await opened.send_csv("rejects.csv", blocks)


routes = [
    Route("/admin/rejects", page("admin", show_rejects), methods=["GET"]),
    Route("/admin/rejects.csv", page("admin", download), methods=["GET"]),
]


def _cells(row: Mapping[str, Any]) -> Iterator[Row]:
    yield [" ".join(row[name]) if name == "reasons" else row[name] for name in COLUMNS]


def _asked(opened: Page) -> Asked:
    query = opened.request.query_params
    reason = query.get("reason", "")
    if reason and reason not in list(Reason):
        refuse("reason", f"{reason!r} is not a reason for which rows are rejected; choose one of the list")
    return Asked(query.get("drop", "").strip() or None, Reason(reason) if reason else None)


def _written(position: RejectPosition) -> str:
    return f"{position.first_seen_at.isoformat()}_{position.sha256}_{position.line}"


def _after(text: str) -> RejectPosition | None:
    if not text:
        return None
    try:
        at, sha256, line = text.split("_")
        return RejectPosition(datetime.fromisoformat(at), sha256, int(line))
    except ValueError:
        refuse("after", "is not a place in the list; go back to its first page")
