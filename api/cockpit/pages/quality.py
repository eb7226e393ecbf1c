"""The data-quality report, live; and the invariants, recomputed when somebody asks for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from itertools import groupby

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.problems import Refusal
from crm_core.report.numbers import Report, collect
from crm_core.report.page import MEANING, as_html
from crm_core.timeline.invariants import Check, check

DROPS = 30  # that the page looks at
CHECK_SECONDS = 3_600  # that one check may take
_CHECKING = asyncio.Lock()  # one at a time: each reads everything


async def show_quality(opened: Page) -> Response:
    """Show the report; while it is being read the page says so, and asks again."""
    return await _quality(opened, None, None)


async def recompute(opened: Page) -> Response:
    """Recompute every invariant, and show what holds."""
    await opened.form()
    if _CHECKING.locked():
        said = "the invariants are being recomputed for somebody else; try again in a moment"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": "10"})
    async with _CHECKING:
        checks = await run_in_threadpool(_checked, opened)
    return await _quality(opened, checks, datetime.now(UTC))


async def download(opened: Page) -> Response:
    """Send the report as one file that opens anywhere."""
    report = await opened.cached("quality", partial(collect, now=datetime.now(UTC), last=DROPS))
    response = HTMLResponse(await run_in_threadpool(as_html, report))
    response.headers["Content-Disposition"] = 'attachment; filename="data-quality.html"'
    return response


routes = [
    Route("/quality", page("reader", show_quality), methods=["GET"]),
    Route("/quality", page("writer", recompute), methods=["POST"]),
    Route("/quality/report.html", page("reader", download), methods=["GET"]),
]


async def _quality(opened: Page, checks: list[Check] | None, checked_at: datetime | None) -> Response:
    report: Report | None = await opened.soon("quality", partial(collect, now=datetime.now(UTC), last=DROPS))
    drops = [drop for drop in reversed(report.drops) if drop.rows_read] if report else []
    return opened.show(
        "quality.html",
        report=report,
        checks=checks,
        checked_at=checked_at,
        meaning=MEANING,
        trend=drops,
        most_rows=max((drop.rows_read for drop in drops), default=1),
        completeness=[
            (kind, list(rows))
            for kind, rows in groupby(report.completeness if report else (), lambda row: row.entity_type)
        ],
    )


def _checked(opened: Page) -> list[Check]:
    with opened.state.long_read(CHECK_SECONDS) as connection:
        return list(check(connection))
