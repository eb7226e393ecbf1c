"""Errors as RFC 9457 problem documents: one table maps the errors of the core to HTTP statuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from crm_core import errors

MEDIA_TYPE = "application/problem+json"
STATUS: Mapping[type[errors.CrmError], HTTPStatus] = {
    errors.ChangeRefused: HTTPStatus.BAD_REQUEST,
    errors.ChangesRefused: HTTPStatus.BAD_REQUEST,
    errors.DropRefused: HTTPStatus.BAD_REQUEST,
    errors.ProfileRefused: HTTPStatus.BAD_REQUEST,
    errors.UnknownProfile: HTTPStatus.BAD_REQUEST,
    errors.SnapshotRefused: HTTPStatus.BAD_REQUEST,
    errors.UnknownType: HTTPStatus.BAD_REQUEST,
    errors.TooMuchToFold: HTTPStatus.BAD_REQUEST,
    errors.UnknownEntity: HTTPStatus.NOT_FOUND,
    errors.UnknownDrop: HTTPStatus.NOT_FOUND,
    errors.UnknownBatch: HTTPStatus.NOT_FOUND,
    errors.UndoRefused: HTTPStatus.CONFLICT,
    errors.DecisionRefused: HTTPStatus.CONFLICT,
    errors.BytesGone: HTTPStatus.CONFLICT,
    errors.EntityExists: HTTPStatus.CONFLICT,
    errors.EntityAbsent: HTTPStatus.CONFLICT,
    errors.DetailTypeInUse: HTTPStatus.CONFLICT,
    errors.NameRefused: HTTPStatus.BAD_REQUEST,
    errors.WeakPassword: HTTPStatus.BAD_REQUEST,
    errors.UnknownAccount: HTTPStatus.NOT_FOUND,
    errors.UnknownToken: HTTPStatus.NOT_FOUND,
    errors.AccountExists: HTTPStatus.CONFLICT,
    errors.TokenExists: HTTPStatus.CONFLICT,
    errors.AdminFirst: HTTPStatus.CONFLICT,
    errors.LastAdmin: HTTPStatus.CONFLICT,
    errors.EntityStale: HTTPStatus.PRECONDITION_FAILED,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DatabaseFault: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DatabaseError: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_SECONDS = 5  # seconds after which to retry if the database does not answer
MAX_FAULTS, MAX_FAULTS_IN_DETAIL = 20, 3  # faults of one request that are listed, and that its detail names
MAX_FAULT_CHARACTERS = 600  # characters of the text of a fault, which may quote what was sent
UNPARSED = "There was an error parsing the body"  # the framework's text when a JSON parser gives up
METHODS = ("GET", "POST", "PATCH", "DELETE", "PUT")


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(examples=["body.details[0].detail_type"])
    detail: str
    reason: str | None = Field(None, description="The reason code of the drop contract, where it has one")


class Problem(BaseModel):
    """RFC 9457: what was wrong, where, and what to do."""

    type: str = Field("about:blank")
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(description="What was wrong, and what to do")
    request_id: str | None = None
    valid_to: str | None = Field(None, description="When the entity ended, if it is gone")
    errors: list[Fault] | None = None


class Refusal(HTTPException):
    """An answer that is a problem document; as an HTTPException it also passes while a body is read."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        faults: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status.value, detail, headers)
        self.status, self.faults, self.members = status, faults, members


INTERNAL_ERROR = Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "an internal error; report it with the request_id, under which the log has the details",
)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI entries for the problems of a call: those of every call, and the given ones."""
    every = {400: "What was asked is malformed", 401: "A token is missing or wrong", 403: "The token's role is too low"}
    texts = every | {
        404: "Not found",
        409: "The state of the entity does not allow it",
        410: "The entity has ended; the problem says when",
        412: "The entity has changed: it has another ETag than If-Match",
        422: "The Idempotency-Key was used for another request",
        429: "Too many requests",
        503: "The database does not answer now",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": texts[status], "content": content, "model": Problem}
        for status in (*every, *statuses, 429, 503)
    }


def refuse(where: str, detail: str) -> NoReturn:
    """Refuse a request for one fault: raise Refusal."""
    refuse_all([(where, detail)])


def refuse_all(faults: Iterable[tuple[str, str]]) -> NoReturn:
    """Refuse a request for several faults, each with its place: raise Refusal."""
    listed = [{"where": where, "detail": detail} for where, detail in faults]
    raise Refusal(HTTPStatus.BAD_REQUEST, _in_short(listed), listed)


def problem(request_id: str | None, refusal: Refusal) -> Response:
    """Return the document of a refusal."""
    content: dict[str, object] = {
        "type": "about:blank",
        "title": refusal.status.phrase,
        "status": refusal.status.value,
        "detail": _shortened(refusal.detail, MAX_FAULTS_IN_DETAIL * MAX_FAULT_CHARACTERS),
        **(refusal.members or {}),
    }
    if request_id is not None:
        content["request_id"] = request_id
    if refusal.faults:
        content["errors"] = [
            {name: _shortened(said) for name, said in fault.items()} for fault in refusal.faults[:MAX_FAULTS]
        ]
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
    headers = dict(refusal.headers or {})
    return Response(body, refusal.status.value, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make the application answer every error with a problem document."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(errors.CrmError, _of_ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, of_the_framework)


def refusal_of(error: errors.CrmError, part: str = "body") -> Refusal:
    """Return the refusal for an error of the core; `part` is the part of the request that brought the change."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)
    faults: list[Mapping[str, str]] = []
    if isinstance(error, errors.ChangeRefused):
        faults = [
            {"where": f"{part}.{field}", "detail": said, "reason": str(code)} for code, field, said in error.faults
        ]
    if isinstance(error, errors.ChangesRefused):
        faults = [
            {"where": f"line {fault.line}", "detail": fault.said} | ({"reason": fault.reason} if fault.reason else {})
            for fault in error.faults
        ]
        return Refusal(status, str(error), faults)
    if isinstance(error, errors.DatabaseError) and not isinstance(error, errors.SchemaTooOld | errors.SchemaTooNew):
        ours = error.owner == "ours"
        logging.getLogger("crm.api").log(  # clients need not know where the database is
            logging.ERROR if ours else logging.WARNING, "%s", error, exc_info=error if ours else None
        )
        return Refusal(status, error.client_detail, headers={} if ours else {"Retry-After": str(RETRY_SECONDS)})
    return Refusal(status, _in_short(faults) if faults else str(error), faults)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem(_id(request), error)


def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.CrmError)
    return problem(_id(request), refusal_of(error, "query" if request.method == "DELETE" else "body"))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [{"where": _where(fault), "detail": _said(fault)} for fault in error.errors()]
    return problem(_id(request), Refusal(HTTPStatus.BAD_REQUEST, _in_short(faults), faults))


def of_the_framework(request: Request, error: Exception) -> Response:
    """Return the problem document of an error that the framework raised."""
    assert isinstance(error, HTTPException)
    path, status, headers = request.scope["path"], HTTPStatus(error.status_code), error.headers
    match status:
        case HTTPStatus.NOT_FOUND:
            detail = f"there is nothing at {path}; /docs lists all calls"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_methods(request))
            detail, headers = f"{path} does not take {request.method}; it takes {allowed}", {"Allow": allowed}
        case HTTPStatus.BAD_REQUEST if error.detail == UNPARSED:
            detail = (
                "body: cannot be read as JSON: it is not UTF-8, is nested too deeply, or has a number that is too long"
            )
        case _:
            detail = str(error.detail)
    return problem(_id(request), Refusal(status, detail, headers=headers))


def _methods(request: Request) -> list[str]:
    """Return all methods that an address accepts; the framework knows only those of one route."""
    scope = {"type": "http", "path": request.scope["path"], "root_path": request.scope["root_path"], "headers": []}
    routes = request.app.router.routes
    found = [m for m in METHODS if any(route.matches({**scope, "method": m})[0] is Match.FULL for route in routes)]
    return ["HEAD", *found] if "GET" in found else found


def _in_short(faults: Sequence[Mapping[str, str]]) -> str:
    """Return the first faults as text."""
    lines = [f"{fault['where']}: {_shortened(fault['detail'])}" for fault in faults[:MAX_FAULTS_IN_DETAIL]]
    return "; ".join(
        [*lines, f"and {len(faults) - MAX_FAULTS_IN_DETAIL} more"] if len(faults) > MAX_FAULTS_IN_DETAIL else lines
    )


def _shortened(text: str, most: int = MAX_FAULT_CHARACTERS) -> str:
    """Cut a text in the middle, because its end says what to do."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def _where(fault: Mapping[str, Any]) -> str:
    """Return the place of a fault, such as body.details[0].detail_type."""
    place = fault["loc"][:1] if fault["type"] == "json_invalid" else fault["loc"]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _said(fault: Mapping[str, Any]) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return "is unknown here; see /docs for the fields that exist"
        case "missing":
            return "is missing"
        case "json_invalid":
            return f"is not JSON: {fault['ctx']['error']} at character {fault['loc'][-1]}"
        case "model_attributes_type" | "dict_type" | "model_type":
            return "is not a JSON object; send one, with Content-Type: application/json"
        case _:
            return str(fault["msg"]).removeprefix("Value error, ")


def _id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)
