"""The cockpit as a part of the application: its addresses, its static files, and its page for what is not there."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from api import problems
from api.auth import Gate
from api.cockpit.admin import accounts as admin_accounts
from api.cockpit.admin import index, ledger, profiles, rejects, tokens, types
from api.cockpit.answer_cache import AnswerCache
from api.cockpit.page import not_found
from api.cockpit.pages import (
    accounts,
    audit,
    compare,
    drop_profiles,
    drops,
    entity,
    entity_change,
    entity_keys,
    held,
    overview,
    quality,
    search,
    undo,
)
from api.cockpit.templates import STATIC, VENDOR, vendor_folder
from api.cockpit.visitor import Visitors
from api.state import State

FOREVER = b"public, max-age=31536000, immutable"  # for addresses that name a version of the file
SHORT = b"public, max-age=300"
# /entities/new before /entities/{uid}: the first that fits answers
PAGES = (
    overview,
    search,
    compare,
    drop_profiles,
    drops,
    held,
    undo,
    entity_change,
    entity_keys,
    entity,
    quality,
    audit,
    accounts,
)
PANEL = (index, types, profiles, admin_accounts, tokens, rejects, ledger)
NOT_PAGES = ("/api/", "/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "/metrics", "/static/")


def install(app: FastAPI, state: State, gate: Gate) -> None:
    """Add the cockpit to the application; to be called last, because it answers at every address that is left."""
    app.state.answers = AnswerCache(state)
    app.state.visitors = Visitors(state, gate, is_secure=state.settings.secure)
    for part in (*PAGES, *PANEL):  # the first route that fits answers: /entities/new comes before /entities/{uid}
        app.router.routes.extend(part.routes)
    app.router.routes.append(Mount(f"/static/{VENDOR}".rstrip("/"), _Files(directory=vendor_folder())))
    app.router.routes.append(Mount("/static", _Files(directory=STATIC)))
    app.add_exception_handler(HTTPException, _nothing_there)


class _Files(StaticFiles):
    """Static files, which browsers may keep."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keep = FOREVER if scope["query_string"].startswith(b"v=") else SHORT

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                message["headers"] = [*message["headers"], (b"cache-control", keep)]
            await send(message)

        await super().__call__(scope, receive, answer)


async def _nothing_there(request: Request, error: Exception) -> Response:
    """Return a page to browsers, and a problem document to programs, where there is nothing at an address."""
    wants_page = "text/html" in request.headers.get("accept", "")
    is_missing = isinstance(error, HTTPException) and error.status_code == 404
    if is_missing and wants_page and not request.scope["path"].startswith(NOT_PAGES):
        return await not_found(request)
    return problems.of_the_framework(request, error)
