"""Decide about a held drop: let it in, or decline it."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.pages.drops import sha256_of
from api.problems import Refusal, refuse
from crm_core.drops import held
from crm_core.timeline.undo import Who
from crm_core.values.hashing import normal_form

LONGEST_REASON = 500  # characters


async def approve(opened: Page) -> Response:
    """Let a held drop in, whatever it ends."""
    sha256, who = sha256_of(opened), await _who(opened)
    async with opened.state.uploads.folder() as folder:
        zone = opened.state.settings.time_zone
        work = partial(held.approve, sha256=sha256, who=who, time_zone=zone, folder=folder)
        report = await opened.state.merge(work)
    opened.has_written()
    if report.status != "merged":
        raise Refusal(HTTPStatus.CONFLICT, report.error or f"it is {report.status}")
    return opened.go(opened.url(f"/drops/{sha256}"), f"It is in. Entities that ended: {report.entities_ended:,}")


async def decline(opened: Page) -> Response:
    """Decline a held drop, for a reason that is kept."""
    sha256, who = sha256_of(opened), await _who(opened)
    if not who.reason:
        refuse("reason", "is missing: say why it is declined")
    await opened.state.merge(partial(held.decline, sha256=sha256, who=who))
    opened.has_written()
    return opened.go(opened.url(f"/drops/{sha256}"), "It is declined, and stays out when it is sent again.")


routes = [
    Route("/drops/{sha256}/approve", page("writer", approve), methods=["POST"]),
    Route("/drops/{sha256}/decline", page("writer", decline), methods=["POST"]),
]


async def _who(opened: Page) -> Who:
    form = await opened.form()
    reason = normal_form(str(form.get("reason", ""))[:LONGEST_REASON])
    return Who(opened.who.name, reason or "", opened.request.state.request_id, opened.request.state.traceparent)
