"""Held drops over HTTP: let a snapshot in that would end a lot, or decline it."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import Writer
from api.fast_path import FastRoute
from api.problems import documented, refuse
from api.routers.drops import Drop, Sha256, Taken, taken
from api.wire.paging import JSON, Params
from crm_core.drops import held, registry
from crm_core.postgres.connection import Connection
from crm_core.timeline.undo import Who
from crm_core.values.hashing import normal_form

router = APIRouter(prefix="/api/v1", tags=["drops"], route_class=FastRoute)
Reason = Annotated[str | None, Field(max_length=1_000, pattern=r"^[^\x00]*$", description="Why; it is kept")]


class Decision(Params):
    """Why."""

    reason: Reason = None


@router.post("/drops/{sha256}/approve", response_model=Taken, status_code=201, responses=documented(404, 409))
async def approve_drop(http: Request, call: Writer, sha256: Sha256, params: Annotated[Decision, Query()]) -> Response:
    """Let a held snapshot in as it was sent, whatever it ends; also one that was declined."""
    why = normal_form(params.reason or "") or ""
    who = Who(call.who.name, why, http.state.request_id, http.state.traceparent)
    async with call.state.uploads.folder() as folder:
        zone = call.state.settings.time_zone
        work = partial(held.approve, sha256=sha256, who=who, time_zone=zone, folder=folder)
        return taken(http, await call.state.merge(work))


@router.post("/drops/{sha256}/decline", response_model=Drop, responses=documented(404, 409))
async def decline_drop(http: Request, call: Writer, sha256: Sha256, params: Annotated[Decision, Query()]) -> Response:
    """Decline a held snapshot: it stays out, also when it is sent again; it can still be approved."""
    reason = normal_form(params.reason or "")
    if reason is None:
        refuse("query.reason", "is missing or blank; say why")
    who = Who(call.who.name, reason, http.state.request_id)

    def work(connection: Connection) -> str:
        held.decline(connection, sha256, who)
        return registry.drop(connection, sha256) or ""

    return Response((await call.state.merge(work)).encode(), media_type=JSON)
