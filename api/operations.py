"""For those who run it: liveness, readiness, figures."""

from __future__ import annotations

from http import HTTPStatus

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api.edge import Figures
from api.gate import Reader
from api.problems import documented
from api.state import state_of
from crm_core.database import Database, require_schema

router = APIRouter(tags=["operations"])
_PROBES = CapacityLimiter(1)


class Health(BaseModel):
    """How it is."""

    status: str


@router.get("/healthz", response_model=Health)
async def is_alive() -> Response:
    """Answer that the process serves."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: documented()[503]})
async def is_ready(http: Request) -> Response:
    """Answer that the database can be reached and is migrated to this release."""
    await anyio.to_thread.run_sync(_require_ready, state_of(http).database, limiter=_PROBES)
    return Response(b'{"status":"ready"}', media_type="application/json")


def _require_ready(database: Database) -> None:
    """Ask over a connection of its own: who waits for one of the pool learns too late that the server is gone."""
    with database.connect() as connection:
        require_schema(connection)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={**documented(), HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request, _: Reader) -> Response:
    """Read the figures of this process, as Prometheus does."""
    figures: Figures = request.app.state.figures
    state = state_of(request)
    for name, pool in (("reading", state.readers), ("reading heavily", state.heavy), ("writing", state.writers)):
        for figure, value in pool.figures().items():
            figures.pool.labels(name, figure).set(value)
    return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)
