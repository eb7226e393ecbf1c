"""What goes wrong, as RFC 9457 problem documents: one table from the core's errors to the status of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NoReturn

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from crm_core import errors

MEDIA_TYPE = "application/problem+json"
STATUS: Mapping[type[errors.CrmError], HTTPStatus] = {
    errors.ChangeRefused: HTTPStatus.BAD_REQUEST,
    errors.DropRefused: HTTPStatus.BAD_REQUEST,
    errors.UnknownType: HTTPStatus.BAD_REQUEST,
    errors.UnknownEntity: HTTPStatus.NOT_FOUND,
    errors.UnknownDrop: HTTPStatus.NOT_FOUND,
    errors.EntityExists: HTTPStatus.CONFLICT,
    errors.EntityAbsent: HTTPStatus.CONFLICT,
    errors.DetailTypeInUse: HTTPStatus.CONFLICT,
    errors.EntityStale: HTTPStatus.PRECONDITION_FAILED,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DatabaseError: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_SECONDS = 5  # when to come again, if the database does not answer
SHOWN = 20  # faults of one request that are listed


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
    valid_to: str | None = Field(None, description="When it ended, of what is gone")
    errors: list[Fault] | None = None


class Refusal(Exception):
    """An answer that is a problem."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        faults: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.detail, self.faults, self.headers, self.members = status, detail, faults, headers, members
        super().__init__(detail)


def refuse(where: str, detail: str) -> NoReturn:
    """Refuse a request in which one thing is wrong: raises Refusal."""
    raise Refusal(HTTPStatus.BAD_REQUEST, f"{where}: {detail}", [{"where": where, "detail": detail}])


def problem(request_id: str | None, refusal: Refusal) -> Response:
    """Answer the document of a refusal."""
    content: dict[str, object] = {
        "type": "about:blank",
        "title": refusal.status.phrase,
        "status": refusal.status.value,
        "detail": refusal.detail,
        **(refusal.members or {}),
    }
    if request_id is not None:
        content["request_id"] = request_id
    if refusal.faults:
        content["errors"] = list(refusal.faults[:SHOWN])
    body = json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace")
    headers = dict(refusal.headers or {})
    return Response(body, refusal.status.value, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(errors.CrmError, _of_ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_the_framework)


def refusal_of(error: errors.CrmError) -> Refusal:
    """Answer the refusal that an error of the core becomes."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)
    faults: list[Mapping[str, str]] = []
    if isinstance(error, errors.ChangeRefused):
        faults = [{"where": f"body.{field}", "detail": said, "reason": str(code)} for code, field, said in error.faults]
    if status is HTTPStatus.SERVICE_UNAVAILABLE and isinstance(error, errors.DatabaseError):
        detail = f"the database cannot answer now: {error.cause}; try again in a moment"
        return Refusal(status, detail, headers={"Retry-After": str(RETRY_SECONDS)})
    return Refusal(status, str(error), faults)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem(_id(request), error)


def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.CrmError)
    return problem(_id(request), refusal_of(error))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [{"where": _where(fault["loc"]), "detail": _said(fault)} for fault in error.errors()]
    detail = "; ".join(f"{fault['where']}: {fault['detail']}" for fault in faults[:3])
    return problem(_id(request), Refusal(HTTPStatus.BAD_REQUEST, detail, faults))


def _of_the_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path}; /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not what {request.url.path} takes; see /docs",
    }.get(status, str(error.detail))
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE):
        status = HTTPStatus.BAD_REQUEST
    return problem(_id(request), Refusal(status, detail, headers=error.headers))


def _where(location: Sequence[str | int]) -> str:
    """Write a place as body.details[0].detail_type."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _said(fault: Mapping[str, object]) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return "is unknown here; see /docs for what there is"
        case "missing":
            return "is missing"
        case "json_invalid":
            return f"is no JSON ({fault.get('ctx', {}).get('error', '')})"  # type: ignore[attr-defined]
        case "model_attributes_type" | "dict_type" | "model_type":
            return "is no JSON object; send one, with Content-Type: application/json"
        case _:
            return str(fault["msg"]).removeprefix("Value error, ")


def _id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)
