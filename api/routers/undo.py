"""Undo drops and requests over HTTP, or reinstate them; with a preview."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth import Call, Writer
from api.fast_path import FastRoute
from api.problems import documented, refuse
from api.routers.drops import Sha256
from api.wire.paging import JSON, Params
from api.wire.schemas import FieldDifference
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.postgres.connection import Connection
from crm_core.timeline.undo import Kind, Retraction, Who
from crm_core.values.hashing import normal_form

router = APIRouter(prefix="/api/v1", tags=["undo"], route_class=FastRoute)
BatchId = Annotated[int, Path(ge=1, le=(1 << 63) - 1, description="As in the feed")]


class Undo(Params):
    """Why, and whether to preview or to reinstate."""

    reason: Annotated[
        str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$", description="Why; the audit shows it")
    ]
    reinstate: Annotated[bool, Field(description="Take an undo back")] = False
    dry_run: Annotated[bool, Field(description="Say what would change; nothing is changed")] = False


class Undone(BaseModel):
    """What an undo or a reinstatement did, or would do."""

    kind: Literal["undo", "reinstate"]
    batch_id: Annotated[int, Field(description="The batch that records it")]
    batches: Annotated[list[int], Field(description="The batches that were undone, or count again")]
    changes: Annotated[int, Field(description="Changes that were undone, or count again")]
    repeats: Annotated[int, Field(description="Changes of other drops that said the same and now count instead")]
    entities: Annotated[int, Field(description="Of which a version differs")]
    entity_versions_added: int
    entity_versions_removed: int
    detail_versions_added: int
    detail_versions_removed: int
    differences: Annotated[list[FieldDifference], Field(description="The first")]
    dry_run: bool


@router.post("/drops/{sha256}/undo", response_model=Undone, responses=documented(404, 409))
async def undo_a_drop(http: Request, call: Writer, sha256: Sha256, params: Annotated[Undo, Query()]) -> Response:
    """Undo all that a drop said, or reinstate it: everything is as if the drop had not come, whatever came since."""
    kind, who = _asked(http, call, params)
    return await _done(call, params, partial(undo_drop, sha256=sha256, kind=kind, who=who, dry_run=params.dry_run))


@router.post("/batches/{batch_id}/undo", response_model=Undone, responses=documented(404, 409))
async def undo_a_batch(http: Request, call: Writer, batch_id: BatchId, params: Annotated[Undo, Query()]) -> Response:
    """Undo or reinstate what a request recorded; a batch of a drop can only be undone with its drop."""
    kind, who = _asked(http, call, params)
    return await _done(call, params, partial(undo_batch, batch_id=batch_id, kind=kind, who=who, dry_run=params.dry_run))


def _asked(http: Request, call: Call, params: Undo) -> tuple[Kind, Who]:
    reason = normal_form(params.reason)
    if reason is None:
        refuse("query.reason", "is blank; say why")
    return "reinstate" if params.reinstate else "undo", Who(call.who.name, reason, http.state.request_id)


async def _done(call: Call, params: Undo, work: Callable[[Connection], Retraction]) -> Response:
    done = await call.state.merge(work)
    fields = done.as_json() | {"dry_run": params.dry_run}
    return Response(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(), media_type=JSON)
