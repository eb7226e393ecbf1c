"""The application: wiring, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.types import Receive, Scope, Send

from api import changes, drops, entities, operations, problems, reference, timeline, undo
from api.cockpit import site
from api.departures import Departures
from api.document import CrmApi
from api.edge import PROBES, Edge, Figures
from api.gate import Gate
from api.limits import Limiter
from api.log import flush, install
from api.problems import Refusal
from api.state import State
from crm_core.postgres.connection import Database
from crm_core.settings import Settings

ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")


class HttpsAlone(HTTPSRedirectMiddleware):
    """Leads to HTTPS, but not the probes, which ask this machine itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; raises Refusal where a proxy that is not trusted would be led in a circle."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        if scope["scheme"] == "http" and (b"x-forwarded-proto", b"https") in scope["headers"]:
            said = (
                "the proxy that sends X-Forwarded-Proto: https is not trusted; add its address to CRM_TRUSTED_PROXIES"
            )
            raise Refusal(HTTPStatus.BAD_REQUEST, said)
        await super().__call__(scope, receive, send)


def served_app(settings: Settings, database: Database, *, is_loopback: bool) -> FastAPI:
    """Return the application of a process that does nothing but serve it, and logs what it does."""
    install()
    return create_app(settings, database, is_loopback=is_loopback, limits=settings.home / "limits")


def create_app(
    settings: Settings, database: Database, *, is_loopback: bool = False, limits: Path | None = None
) -> FastAPI:
    """Return the application over a migrated database; `is_loopback`: nobody else's machine can reach it.

    In the folder `limits` the processes of a service count the calls of clients together; None: this one counts alone.
    """
    state, limiter = State(settings, database), Limiter(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.open()
        gc.collect()
        gc.freeze()  # what was made at the start stays: no collection need look at it again
        yield
        state.close()
        limiter.close()
        probe.close()
        flush()

    may_be_open = settings.auth == "off" or (settings.auth == "auto" and is_loopback)
    app = CrmApi(debug=settings.debug, may_be_open=may_be_open, lifespan=lifespan)
    app.state.crm = state
    app.state.gate = Gate(state, limiter, is_loopback=is_loopback)
    app.state.probe = probe = operations.Probe(database)
    app.state.figures = figures = Figures()
    problems.install(app)
    for part in (entities, timeline, changes, drops, undo, reference, operations):
        app.router.routes.extend(part.router.routes)  # included routers would be searched one by one, each time

    site.install(app, state, app.state.gate)
    app.add_middleware(Departures)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=["ETag", "Location", "Link", "X-Request-ID", "Idempotency-Replayed", "Retry-After"],
        )
    if settings.secure:
        app.add_middleware(HttpsAlone)
    app.add_middleware(Edge, settings=settings, figures=figures)
    return app
