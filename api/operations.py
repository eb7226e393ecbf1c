"""For those who run it: liveness, readiness, figures."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api.entities import problems
from api.gate import Reader
from api.state import state_of
from crm_core.database import require_schema

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """How it is."""

    status: str


@router.get("/healthz", response_model=Health)
async def is_alive() -> Response:
    """Answer that the process serves."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: problems()[503]})
async def is_ready(http: Request) -> Response:
    """Answer that the database can be reached and is migrated to this release."""
    await state_of(http).read(require_schema)
    return Response(b'{"status":"ready"}', media_type="application/json")


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={**problems(), HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request, _: Reader) -> Response:
    """Read the figures of this process, as Prometheus does."""
    return Response(generate_latest(request.app.state.figures.registry), media_type=CONTENT_TYPE_LATEST)
