"""The OpenAPI document of the application, with its problems, its authentication and the detail types."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.routing import Route
from starlette.types import Lifespan

from api.problems import MEDIA_TYPE, Refusal
from api.state import state_of
from crm_core.errors import CrmError
from crm_core.model import DetailType

ADDRESS = "/openapi.json"
FILTERED = ("/api/v1/entities", "/api/v1/entities-asof")
TYPES_SECONDS = 1.0  # for which the document waits for the detail types
LINK = "Where a part of the list leads on (RFC 8288): rel next, prev and first, as `next` and `previous` in the body"
TITLE = "CRM core"
PAGES = ("/docs", "/redoc")
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
POLICY = (
    "default-src 'none'; script-src 'self' {}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DESCRIPTION = """\
A CRM core that keeps the full history of every entity and detail.

Reads can be asked what was true at an instant (`as_of`) and what was known at an instant (`known_at`). Instants are
ISO 8601; answers are in UTC. An error is a problem document (RFC 9457) that says what was wrong and what to do.
"""


class CrmApi(FastAPI):
    """A FastAPI that documents only the answers that it gives, and whose pages need no other host."""

    def __init__(self, *, debug: bool, may_be_open: bool, lifespan: Lifespan[Any]) -> None:
        """Create the application; `may_be_open` means that it may answer without a token."""
        super().__init__(
            title=TITLE,
            version=version("crm-core"),
            description=DESCRIPTION,
            lifespan=lifespan,
            redirect_slashes=False,
            telemetry={"tracing": False, "metrics": False, "logs": False},  # this application logs and counts by itself
            debug=debug,
            openapi_url=None,  # defined below
        )
        self._may_be_open = may_be_open
        pages = FastAPIOffline(title=TITLE, openapi_url=ADDRESS, swagger_ui_parameters={"tryItOutEnabled": True})
        for route in pages.routes:
            if isinstance(route, Route) and route.path in PAGES:
                self.add_route(route.path, _guarded(route.endpoint), include_in_schema=False)
            elif getattr(route, "path", ADDRESS) != ADDRESS:
                self.router.routes.append(route)
        self.add_api_route(ADDRESS, self._read_document, include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        """Return the document without the detail types; it is made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _with_links(_with_problems_alone(super().openapi()))
            for call in _calls(self.openapi_schema):
                if self._may_be_open and "security" in call:
                    call["security"].append({})
        return self.openapi_schema

    async def _read_document(self, request: Request) -> JSONResponse:
        """Return the document; a client that may read entities gets the detail types in it too."""
        document = self.openapi()
        if filters := _filters(await _detail_types(request)):
            paths = dict(document["paths"])
            for path in FILTERED:
                get = paths[path]["get"]
                paths[path] = paths[path] | {"get": get | {"parameters": get["parameters"] + filters}}
            document = document | {"paths": paths}
        if root := request.scope["root_path"]:
            document = document | {"servers": [{"url": root}]}
        return JSONResponse(document)


def _guarded(page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return a page that shows the document, with a policy that lets only its own scripts run.

    The scripts inside the page are allowed by their SHA-256. The libraries set styles on elements, so styles are open.
    """

    async def show(request: Request) -> Response:
        response = await page(request)
        scripts = (b64encode(sha256(script).digest()) for script in SCRIPT.findall(response.body))
        allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in scripts)
        response.headers["Content-Security-Policy"] = POLICY.format(allowed)
        return response

    return show


async def _detail_types(request: Request) -> Sequence[DetailType]:
    """Return the detail types; none if the client may not read, or the database does not answer at once."""
    state = state_of(request)
    try:
        async with asyncio.timeout(TYPES_SECONDS):
            await request.app.state.gate.admit(request, "reader")
            types = await state.read(state.types)
    except (Refusal, CrmError, TimeoutError):
        return ()
    return types.detail_types


def _filters(types: Sequence[DetailType]) -> list[dict[str, object]]:
    return [
        {
            "name": kind.code,
            "in": "query",
            "required": False,
            "schema": {"type": "string", "pattern": "^[^\\u0000]*$"},
            "description": f"{kind.name}; values compare as `{kind.compares}`",
        }
        for kind in types
    ]


def _calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for calls in document["paths"].values() for call in calls.values()]


def _with_links(document: dict[str, Any]) -> dict[str, Any]:
    """Document the Link header, which leads to the next page, for each list."""
    for call in _calls(document):
        answer = call["responses"].get("200", {})
        if '"#/components/schemas/ListOf_' in json.dumps(answer):
            answer["headers"] = {"Link": {"description": LINK, "schema": {"type": "string"}}}
    return document


def _with_problems_alone(document: dict[str, Any]) -> dict[str, Any]:
    """Remove what the framework adds by itself: its own form of errors, and its 422."""
    for call in _calls(document):
        for status, answer in [*call["responses"].items()]:
            if status >= "400":
                if MEDIA_TYPE not in answer["content"]:
                    del call["responses"][status]
                answer["content"] = {MEDIA_TYPE: answer["content"].get(MEDIA_TYPE)}
    for schema in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(schema, None)
    return document
