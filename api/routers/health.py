"""For operators: liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from api.auth import Reader
from api.middleware.metrics import Metrics
from api.problems import RETRY_SECONDS, Refusal, documented
from api.state import state_of
from crm_core.drops.totals import DropTotals, drop_totals
from crm_core.errors import DatabaseError
from crm_core.postgres.connection import Database, domain_error
from crm_core.postgres.readiness import Readiness, readiness

router = APIRouter(tags=["operations"])
READY_SECONDS = 3.0  # within which the database has to answer a probe
STUCK_SECONDS = 10.0  # from which on a waiting write is reported


class Health(BaseModel):
    """How well the service works."""

    status: Annotated[str, Field(examples=["ready", "degraded"])]
    detail: Annotated[str | None, Field(description="What does not work, if something does not")] = None


class Probe:
    """Ask the database whether it is ready: once for all callers at the same time, in a thread of its own."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database
        self._thread = ThreadPoolExecutor(1, "probing")
        self._asked: Future[Readiness] | None = None
        self._counted: Future[Sequence[DropTotals]] | None = None

    async def readiness(self) -> Readiness:
        """Return how ready the database is; raise DatabaseError, or TimeoutError if it does not answer."""
        if self._asked is None or self._asked.done():
            self._asked = self._thread.submit(readiness, self._database)
        async with asyncio.timeout(READY_SECONDS):
            return await asyncio.shield(asyncio.wrap_future(self._asked))

    async def drop_totals(self) -> Sequence[DropTotals]:
        """Return the totals of the drops; nothing if the database does not answer."""
        if self._counted is None or self._counted.done():
            self._counted = self._thread.submit(self._drop_totals)
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(self._counted))
        except (TimeoutError, DatabaseError):
            return []

    def _drop_totals(self) -> Sequence[DropTotals]:
        try:
            with self._database.connect(autocommit=True, options="-c statement_timeout=3s") as connection:
                return drop_totals(connection)
        except Exception as error:
            raise domain_error(error) or error from error

    def close(self) -> None:
        """Stop asking."""
        self._thread.shutdown(wait=False, cancel_futures=True)


@router.get("/healthz", response_model=Health)
async def is_alive() -> Response:
    """Say that the process is running."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: documented()[503]})
async def is_ready(http: Request) -> Response:
    """Say whether the database can be reached and is migrated to this release; degraded: no writes now."""
    probe: Probe = http.app.state.probe
    try:
        found = await probe.readiness()
    except TimeoutError:
        said = f"the database has not answered within {READY_SECONDS:g} s"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)}) from None
    if found.is_read_only:
        return _degraded("the database is read-only now: reads are answered, and writes are refused")
    if found.waiting_seconds > STUCK_SECONDS:
        said = (
            f"a write has waited for others for {found.waiting_seconds:.0f} s: a large drop is being merged, "
            "or one is stuck"
        )
        return _degraded(said)
    return Response(b'{"status":"ready"}', media_type="application/json")


def _degraded(detail: str) -> Response:
    return JSONResponse({"status": "degraded", "detail": detail})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={**documented(), HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request, _: Reader) -> Response:
    """Return the metrics of all processes of this service, and of the drops, in the format of Prometheus."""
    metrics: Metrics = request.app.state.metrics
    state = state_of(request)
    metrics.note(state.pools)
    probe: Probe = request.app.state.probe
    return Response(metrics.text(await probe.drop_totals()), media_type=CONTENT_TYPE_LATEST)
