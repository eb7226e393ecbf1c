"""The application: this module only puts the parts together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.auth import Gate
from api.cockpit import site
from api.fast_path import add_routes, freeze
from api.log import flush, install
from api.middleware.disconnects import Disconnects
from api.middleware.edge import Edge
from api.middleware.https import HttpsOnly
from api.middleware.metrics import Metrics
from api.openapi import CrmApi
from api.rate_limits import Limiter
from api.routers import audit, changes, drops, entities, health, held, reference, sources, timeline, undo
from api.state import State
from crm_core.postgres.connection import Database
from crm_core.settings import Settings

ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "Idempotency-Key",
    "X-Request-ID",
    "traceparent",
)


def served_app(settings: Settings, database: Database, *, is_loopback: bool) -> FastAPI:
    """Return the application for a process that only serves it, and set up its log."""
    install()
    return create_app(settings, database, is_loopback=is_loopback, limits=settings.home / "limits")


def create_app(
    settings: Settings, database: Database, *, is_loopback: bool = False, limits: Path | None = None
) -> FastAPI:
    """Return the application over a migrated database.

    `is_loopback` means that no other machine can reach it. `limits` is the folder in which all processes of a service
    count the calls of their clients together; with None, this process counts alone.
    """
    state, limiter = State(settings, database), Limiter(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.open()
        freeze()
        noting = asyncio.create_task(metrics.keep_noting(state.pools)) if metrics.folder else None
        yield
        if noting:
            noting.cancel()
        state.close()
        limiter.close()
        probe.close()
        flush()

    may_be_open = settings.auth == "off" or (settings.auth == "auto" and is_loopback)
    app = CrmApi(debug=settings.debug, may_be_open=may_be_open, lifespan=lifespan)
    app.state.crm = state
    app.state.gate = Gate(state, limiter, is_loopback=is_loopback)
    app.state.probe = probe = health.Probe(database)
    app.state.metrics = metrics = Metrics()
    problems.install(app)
    add_routes(
        app,
        (part.router for part in (entities, timeline, audit, changes, drops, held, undo, reference, sources, health)),
    )

    site.install(app, state, app.state.gate)
    app.add_middleware(Disconnects)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=["ETag", "Location", "Link", "X-Request-ID", "Idempotency-Replayed", "Retry-After"],
        )
    if settings.secure:
        app.add_middleware(HttpsOnly)
    app.add_middleware(Edge, settings=settings, metrics=metrics)
    return app
