"""Undo a drop, or take the undo back: with a preview of what would change, and a reason."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.pages.drops import sha256_of
from crm_core.drops.undo import undo_drop
from crm_core.reading.summaries import names_of
from crm_core.report.numbers import collect_drop
from crm_core.timeline.undo import Kind, Who
from crm_core.values.hashing import normal_form

LONGEST_REASON = 500  # characters


async def show_undo(opened: Page) -> Response:
    """Show what an undo, or a reinstatement, would change; nothing is changed yet."""
    return await _preview(opened, None)


async def undo(opened: Page) -> Response:
    """Undo the drop or reinstate it, for a reason that is recorded."""
    form = await opened.form()
    reason = normal_form(str(form.get("reason", ""))[:LONGEST_REASON])
    if reason is None:
        return await _preview(opened, "Say why: the reason is recorded, and shown in the audit.")
    sha256, kind = sha256_of(opened), _kind(opened)
    who = Who(opened.who.name, reason, opened.request.state.request_id)
    done = await opened.state.merge(partial(undo_drop, sha256=sha256, kind=kind, who=who))
    opened.has_written()
    what = "The drop is undone" if kind == "undo" else "The drop is reinstated"
    return opened.go(opened.url(f"/drops/{sha256}"), f"{what}: {done.entities:,} entities differ.")


routes = [
    Route("/drops/{sha256}/undo", page("writer", show_undo), methods=["GET"]),
    Route("/drops/{sha256}/undo", page("writer", undo), methods=["POST"]),
    Route("/drops/{sha256}/reinstate", page("writer", show_undo), methods=["GET"]),
    Route("/drops/{sha256}/reinstate", page("writer", undo), methods=["POST"]),
]


async def _preview(opened: Page, fault: str | None) -> Response:
    sha256, kind = sha256_of(opened), _kind(opened)
    report = await opened.read(lambda connection: collect_drop(connection, sha256, with_field_changes=False))
    who = Who(opened.who.name, "a preview", opened.request.state.request_id)
    would = await opened.state.merge(partial(undo_drop, sha256=sha256, kind=kind, who=who, dry_run=True))
    uids = sorted({difference.entity_uid for difference in would.differences})
    names = await opened.read(partial(names_of, uids=uids))
    status = HTTPStatus.BAD_REQUEST if fault else HTTPStatus.OK
    return opened.show(
        "undo.html",
        status=status,
        drop=report,
        would=would,
        names=names,
        kind=kind,
        fault=fault,
        longest=LONGEST_REASON,
    )


def _kind(opened: Page) -> Kind:
    return "undo" if opened.request.scope["path"].endswith("/undo") else "reinstate"
