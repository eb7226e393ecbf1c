"""All entities across time: as they were at an instant, and what changed between two instants."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import Reader
from api.fast_path import FastRoute
from api.problems import documented, refuse
from api.wire.paging import (
    CSV,
    NDJSON,
    PageParams,
    counted,
    envelope,
    require_no_pages,
    wanted,
    wants_csv,
    wants_stream,
)
from api.wire.parameters import INSTANT, KNOWN_AT, LINES, AsOf, filter_key, instant, instant_or_none
from api.wire.schemas import Difference, Entity, ListOf, Transition
from api.wire.streams import as_csv, stream
from api.wire.tables import DIFF, TRANSITIONS, as_table, diff_rows, transition_rows
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reading.lists import Page, Position

router = APIRouter(prefix="/api/v1", tags=["across time"], route_class=FastRoute)


class Between(PageParams):
    """The two instants to compare."""

    from_: Annotated[str, Field(alias="from", description="ISO 8601; before `to`", json_schema_extra=INSTANT)]
    to: Annotated[str, Field(description="ISO 8601", json_schema_extra=INSTANT)]
    mode: Annotated[
        Literal["net", "changes"],
        Field(
            description="net: how each entity differs between the two instants; changes: every transition between them"
        ),
    ] = "net"
    known_at: Annotated[str | None, KNOWN_AT] = None


@router.get(
    "/entities-asof",
    response_model=ListOf[Entity],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_entities_as_of(http: Request, call: Reader, params: Annotated[AsOf, Query()]) -> Response:
    """List the entities as they were, by entity_uid.

    `Accept: application/x-ndjson` or `text/csv` returns all at once.
    """
    as_of = instant(call.state, "as_of", params.as_of)
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            types = call.state.types(connection)
            which = params.filter(types)
            found = reads.stream_entities(connection, types, which, as_of=as_of, known_at=known_at)
            return as_csv(found, types) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        types = call.state.types(connection)
        which = params.filter(types)
        page = reads.entities(
            connection,
            types,
            which,
            as_of=as_of,
            known_at=known_at,
            after=want.after,
            offset=want.offset,
            limit=want.limit,
        )
        count = partial(reads.count_entities, types=types, which=which, as_of=as_of, known_at=known_at)
        key = ("as of", as_of, known_at, filter_key(which))
        return page, counted(call.state, connection, key, count) if want.is_counted else None

    takes_long = known_at is not None or params.q is not None
    page, count = await (call.state.read_heavily if takes_long else call.state.read)(read)
    return envelope(http, want, page, count)


@router.get(
    "/diff",
    response_model=ListOf[Difference] | ListOf[Transition],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_differences(http: Request, call: Reader, params: Annotated[Between, Query()]) -> Response:
    """List what changed between two instants.

    `mode=net` has one result per entity, by entity_uid; `mode=changes` has every transition in `(from, to]`, by time.
    `Accept: application/x-ndjson` returns all at once, and `text/csv` with a row for each field that changed.
    """
    from_, to = instant(call.state, "from", params.from_), instant(call.state, "to", params.to)
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if from_ >= to:
        refuse("query.from", f"{params.from_} is not before to={params.to}; swap them")
    is_net = params.mode == "net"
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            every = reads.stream_diff if is_net else reads.stream_transitions
            found = every(connection, from_, to, known_at=known_at)
            if not as_file:
                return found
            return as_table(found, DIFF, diff_rows) if is_net else as_table(found, TRANSITIONS, transition_rows)

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        find = reads.diff if is_net else reads.transitions
        page = find(connection, from_, to, known_at=known_at, after=want.after, offset=want.offset, limit=want.limit)
        if not want.is_counted:
            return page, None
        number = reads.count_diff if is_net else reads.count_transitions
        count = partial(number, from_=from_, to=to, known_at=known_at)
        return page, counted(call.state, connection, ("diff", params.mode, from_, to, known_at), count)

    page, count = await call.state.read_heavily(read)
    return envelope(http, want, page, count)
