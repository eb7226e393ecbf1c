"""Everything that is fast at the price of clarity, each with what it gains.

- `FastRoute` reads the arguments of a GET from its signature: 700 instead of 790 us of CPU for one entity, 925 instead
  of 1,050 us for a page of 20. FastAPI's own way can do far more. The OpenAPI document is made from the same signature.
- `add_routes` puts all routes into one list: 75 instead of 105 us to find the last of them.
- `freeze` takes what was made at the start out of the garbage collector: a full collection took 80 ms, in which no
  request was answered.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.auth import Call, admission
from api.body import StrictRequest
from api.problems import refuse

Read = Callable[[Request], object]
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class FastRoute(APIRoute):
    """A route whose GETs take only the request, the call, one model of the query, and parts of the path.

    All other methods are handled by FastAPI, except that their JSON is read strictly. A call that takes no parameters
    refuses all: what is misspelt, or asks for a dry run where there is none, must not pass for something else.
    """

    def get_route_handler(self) -> Handle:
        """Return the function that answers a request."""
        handle = self._handle_get() if self.methods == {"GET"} else self._handle_strictly()
        return handle if self.dependant.query_params else _without_query(handle)

    def _handle_strictly(self) -> Handle:
        answer = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await answer(StrictRequest(request.scope, request.receive))

        return strictly

    def _handle_get(self) -> Handle:
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint
        reads: dict[str, Read] = {}
        admits: dict[str, Callable[[Request], Awaitable[Call]]] = {}
        for name, annotation in inspect.get_annotations(self.endpoint, eval_str=True).items():
            origin: object = get_origin(annotation)
            kind: object = get_args(annotation)[0] if origin is Annotated else annotation
            if name == "return":
                continue
            if kind is Call:
                admits[name] = admission(annotation)
            elif kind is Request:
                reads[name] = _itself
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                reads[name] = _of_query(kind)
            else:
                reads[name] = _of_path(name, TypeAdapter(annotation))

        async def handle(request: Request) -> Response:
            values: dict[str, object] = {name: await admit(request) for name, admit in admits.items()}
            for name, read in reads.items():
                values[name] = read(request)
            return await endpoint(**values)

        return handle


def add_routes(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add the routes of routers to an application; included routers would be searched one by one for each request."""
    for router in routers:
        app.router.routes.extend(router.routes)


def freeze() -> None:
    """Exclude all objects that exist now from future garbage collections."""
    gc.collect()
    gc.freeze()


def _without_query(handle: Handle) -> Handle:
    async def handle_without_query(request: Request) -> Response:
        for name in request.query_params:
            refuse(f"query.{name}", "is unknown here: this call takes no parameters; leave it out")
        return await handle(request)

    return handle_without_query


def _itself(request: Request) -> Request:
    return request


def _of_query(model: type[BaseModel]) -> Read:
    def read(request: Request) -> BaseModel:
        try:
            return model.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise _invalid(error, "query") from None

    return read


def _of_path(name: str, adapter: TypeAdapter[object]) -> Read:
    def read(request: Request) -> object:
        given: Mapping[str, str] = request.path_params
        try:
            return adapter.validate_python(given[name])
        except ValidationError as error:
            raise _invalid(error, "path", name) from None

    return read


def _invalid(error: ValidationError, *within: str) -> RequestValidationError:
    return RequestValidationError([{**fault, "loc": (*within, *fault["loc"])} for fault in error.errors()])
