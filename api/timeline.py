"""All entities at once, across time: as they were at an instant, and what changed between two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from starlette.concurrency import iterate_in_threadpool
from starlette.types import Receive, Scope, Send

from api.direct import Direct
from api.entities import AS_OF, INSTANT, KNOWN_AT, Search, filter_key, instant, instant_or_none
from api.gate import Reader
from api.messages import Difference, Entity, ListOf, Transition
from api.paging import NDJSON, PageParams, counted, envelope, wanted, wants_stream
from api.problems import Refusal, documented, refusal_of, refuse
from api.state import State
from crm_core import temporal
from crm_core.database import Connection, domain_error
from crm_core.errors import CrmError
from crm_core.temporal import Page, Position

router = APIRouter(prefix="/api/v1", tags=["across time"], route_class=Direct)
LINES: dict[str, object] = {NDJSON: {"schema": {"type": "string", "description": "All rows, a JSON object a line"}}}
STREAM_SECONDS = 1_800  # that the database may take over an answer of everything


class AsOf(Search):
    """The list as it was; each code of a detail type is a parameter too, such as email."""

    model_config = ConfigDict(extra="allow")

    as_of: Annotated[str, AS_OF]
    known_at: Annotated[str | None, KNOWN_AT] = None


class Between(PageParams):
    """From when to when."""

    from_: Annotated[str, Field(alias="from", description="ISO 8601; before `to`", json_schema_extra=INSTANT)]
    to: Annotated[str, Field(description="ISO 8601", json_schema_extra=INSTANT)]
    mode: Annotated[
        Literal["net", "changes"],
        Field(description="net: how each entity differs at the end from the beginning; changes: every transition"),
    ] = "net"
    known_at: Annotated[str | None, KNOWN_AT] = None


@router.get(
    "/entities-asof",
    response_model=ListOf[Entity],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON"}},
)
async def list_entities_as_of(http: Request, call: Reader, params: Annotated[AsOf, Query()]) -> Response:
    """List the entities as they were, by entity_uid; `Accept: application/x-ndjson` answers all at once."""
    as_of = instant(call.state, "as_of", params.as_of)
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if wants_stream(http):
        _no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            types = call.state.types(connection)
            which = params.filter(types)
            return temporal.stream_entities(connection, types, which, as_of=as_of, known_at=known_at)

        return await _stream(call.state, lines)
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        types = call.state.types(connection)
        which = params.filter(types)
        page = temporal.entities(
            connection,
            types,
            which,
            as_of=as_of,
            known_at=known_at,
            after=want.after,
            offset=want.offset,
            limit=want.limit,
        )
        count = partial(temporal.count_entities, types=types, which=which, as_of=as_of, known_at=known_at)
        key = ("as of", as_of, known_at, filter_key(which))
        return page, counted(call.state, connection, key, count) if want.is_counted else None

    page, count = await call.state.read(read)
    return envelope(http, want, page, count)


@router.get(
    "/diff",
    response_model=ListOf[Difference] | ListOf[Transition],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON"}},
)
async def list_differences(http: Request, call: Reader, params: Annotated[Between, Query()]) -> Response:
    """List what changed between two instants; `Accept: application/x-ndjson` answers all at once.

    `mode=net` has one result an entity, by entity_uid; `mode=changes` every transition in `(from, to]`, by time.
    """
    from_, to = instant(call.state, "from", params.from_), instant(call.state, "to", params.to)
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if from_ >= to:
        refuse("query.from", f"{params.from_} is not before to={params.to}; exchange them")
    is_net = params.mode == "net"
    if wants_stream(http):
        _no_pages(params)
        stream = temporal.stream_diff if is_net else temporal.stream_transitions
        return await _stream(call.state, lambda connection: stream(connection, from_, to, known_at=known_at))
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        find = temporal.diff if is_net else temporal.transitions
        page = find(connection, from_, to, known_at=known_at, after=want.after, offset=want.offset, limit=want.limit)
        if not want.is_counted:
            return page, None
        number = temporal.count_diff if is_net else temporal.count_transitions
        count = partial(number, from_=from_, to=to, known_at=known_at)
        return page, counted(call.state, connection, ("diff", params.mode, from_, to, known_at), count)

    page, count = await call.state.read(read)
    return envelope(http, want, page, count)


async def _stream(state: State, lines: Callable[[Connection], Iterator[bytes]]) -> Response:
    """Answer all rows over a connection of their own; what goes wrong before the first of them is a problem."""
    if state.streaming.available_tokens < 1:
        said = "as many answers of everything as may be are under way; come again in a moment, or ask for pages"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": "5"})
    blocks = _blocks(state, lines)
    await state.streaming.acquire_on_behalf_of(blocks)
    try:
        first = await anyio.to_thread.run_sync(next, blocks, b"")
    except BaseException:
        state.streaming.release_on_behalf_of(blocks)
        raise
    return _Stream(state, first, blocks)


class _Stream(StreamingResponse):
    """Blocks of lines as they come; whenever the client leaves, even before the first, their place is free again."""

    def __init__(self, state: State, first: bytes, blocks: Generator[bytes]) -> None:
        super().__init__(self._body(first), media_type=NDJSON)
        self._state, self._blocks = state, blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._blocks.close)
            self._state.streaming.release_on_behalf_of(self._blocks)

    async def _body(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        async for block in iterate_in_threadpool(self._blocks):
            yield block


def _blocks(state: State, lines: Callable[[Connection], Iterator[bytes]]) -> Generator[bytes]:
    options = f"-c statement_timeout={STREAM_SECONDS}s -c default_transaction_read_only=on"
    with state.database.connect(autocommit=True, options=options) as connection:
        try:
            yield from lines(connection)
        except CrmError:
            raise
        except Exception as error:
            if (ours := domain_error(error)) is None:
                raise
            raise refusal_of(ours) from error


def _no_pages(params: PageParams) -> None:
    if given := PageParams.model_fields.keys() & params.model_fields_set:
        refuse(f"query.{min(given)}", "is for pages, and NDJSON answers all at once; leave it out")
