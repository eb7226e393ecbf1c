"""The application: wiring, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import document, drops, entities, operations, problems, reference, timeline
from api.edge import PROBES, Edge, Figures
from api.gate import Gate
from api.log import flushed, install
from api.state import State
from crm_core.database import Database
from crm_core.settings import Settings

ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")
DESCRIPTION = """\
A CRM core whose every entity and detail is versioned in time.

Every read can be asked `as_of` one instant and as `known_at` another. Instants are ISO 8601; answers are UTC. What is
wrong with a request is answered as a problem document (RFC 9457) that says what to do.
"""


class HttpsAlone(HTTPSRedirectMiddleware):
    """Leads to HTTPS, but not the probes, which ask this machine itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] in PROBES:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def served_app(settings: Settings, database: Database, *, is_loopback: bool) -> FastAPI:
    """Answer the application of a process that does nothing but serve it, and logs what it does."""
    install()
    return create_app(settings, database, is_loopback=is_loopback)


def create_app(settings: Settings, database: Database, *, is_loopback: bool = False) -> FastAPI:
    """Answer the application over a migrated database; `is_loopback`: nobody else's machine can reach it."""
    state = State(settings, database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.open()
        gc.collect()
        gc.freeze()  # what was made at the start stays: no collection need look at it again
        async with flushed():
            yield
        state.close()

    app = FastAPIOffline(
        title="CRM core",
        version=version("crm-core"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # we log and count ourselves
        debug=settings.debug,
        swagger_ui_parameters={"tryItOutEnabled": True},
    )
    app.state.crm = state
    app.state.gate = Gate(state, is_loopback=is_loopback)
    app.state.figures = figures = Figures()
    problems.install(app)
    for part in (entities, timeline, drops, reference, operations):
        app.router.routes.extend(part.router.routes)  # included routers would be searched one by one, each time

    @app.get("/", include_in_schema=False)
    async def begin(request: Request) -> Response:
        """Lead to the documentation."""
        return RedirectResponse(f"{request.scope['root_path']}/docs")

    document.install(app, state, may_be_open=settings.auth == "off" or (settings.auth == "auto" and is_loopback))
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
