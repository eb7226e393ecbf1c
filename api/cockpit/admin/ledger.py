"""The ledger as it stands: every row that was recorded, newest first, to read only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, get_args

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.admin.listing import PAGE_SIZE
from api.cockpit.page import Page, page
from api.cockpit.pages.audit import FILTERS, place_after, place_of, recorded_of
from api.wire.tables import Row, as_table
from crm_core.model import Op
from crm_core.postgres.connection import Connection
from crm_core.reading.audit import ledger, stream_ledger

COLUMNS = ("batch_id", "row_no", "recorded_at", "actor", "entity_uid", "change_ts", "op")
STATED = ("display_name", "entity_type", "details")
MOMENT = timedelta(microseconds=1)  # no two batches are recorded at one


async def show_ledger(opened: Page) -> Response:
    """Show a page of the ledger."""
    query = opened.request.query_params
    which, after = recorded_of(opened), place_after(query.get("after", ""))
    found = await opened.read(partial(ledger, which=which, after=after, limit=PAGE_SIZE), is_long=True)
    rows = [json.loads(document) for document in found.documents]
    for row in rows:
        row["behind"] = datetime.fromisoformat(row["recorded_at"]) + MOMENT
    return opened.show(
        "admin/ledger.html",
        rows=rows,
        next=None if found.next is None else place_of(found.next),
        types=await opened.read(opened.state.types),
        query={name: query.get(name, "") for name in FILTERS},
        is_filtered=any(query.get(name) for name in FILTERS),
        ops=get_args(Op),
    )


async def download(opened: Page) -> Response:
    """Send all rows that fit the filter as CSV."""
    which = recorded_of(opened)

    def blocks(connection: Connection) -> Iterator[bytes]:
        columns = (*COLUMNS, "source", "drop_sha256", "line", "request_id", *STATED)
        return as_table(stream_ledger(connection, which), columns, _cells)

    return await opened.send_csv("ledger.csv", blocks)


routes = [
    Route("/admin/ledger", page("admin", show_ledger), methods=["GET"]),
    Route("/admin/ledger.csv", page("admin", download), methods=["GET"]),
]


def _cells(row: Mapping[str, Any]) -> Iterator[Row]:
    source, stated = row["source"], row["asserted"]
    details = None if stated["details"] is None else json.dumps(stated["details"], ensure_ascii=False)
    yield [
        *(row[name] for name in COLUMNS),
        *(source.get(name) for name in ("kind", "sha256", "line", "request_id")),
        stated["display_name"],
        stated["entity_type"],
        details,
    ]
