"""Entities: the list, one entity, its history and audit, and the changes to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api.auth import Reader, Writer
from api.fast_path import FastRoute
from api.problems import documented, refuse
from api.wire.one_entity import answer_state, deletion_of, make, request_of, require_no_body
from api.wire.paging import (
    CSV,
    JSON,
    NDJSON,
    counted,
    envelope,
    envelope_head,
    listed_response,
    require_no_pages,
    wanted,
    wants_csv,
    wants_stream,
)
from api.wire.parameters import (
    LINES,
    Deletion,
    IfMatch,
    Instants,
    Key,
    Search,
    Trial,
    Versions,
    filter_key,
    instant_or_none,
    unknown,
)
from api.wire.previews import PREVIEWED
from api.wire.schemas import DetailVersion, Entity, EntityPatch, EntityVersion, ListOf, NewEntity, Preview
from api.wire.streams import as_array, as_csv, stream
from crm_core.postgres.connection import Connection
from crm_core.reading import history, reads
from crm_core.reading.history import VersionPosition
from crm_core.reading.lists import Page, PageOf, Position

router = APIRouter(prefix="/api/v1", tags=["entities"], route_class=FastRoute)
MIN_INDEXED_CHARACTERS = 3  # the fewest characters of q that an index can find
MAX_BUFFERED_VERSIONS = 1_000  # versions that are returned as one answer from memory; more are streamed


@router.get(
    "/entities",
    response_model=ListOf[Entity],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_entities(http: Request, call: Reader, params: Annotated[Search, Query()]) -> Response:
    """List the current entities, by display_name, then entity_uid.

    `Accept: application/x-ndjson` or `text/csv` returns all of them at once; the CSV file, with a column for each
    detail type and each source, can be corrected and sent again as a drop.
    """
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            types = call.state.types(connection)
            found = reads.stream_entities(connection, types, params.filter(types))
            return as_csv(found, types, with_keys=True) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        types = call.state.types(connection)
        which = params.filter(types)
        page = reads.entities(connection, types, which, after=want.after, offset=want.offset, limit=want.limit)
        count = partial(reads.count_entities, types=types, which=which)
        return page, counted(call.state, connection, ("current", filter_key(which)), count) if want.is_counted else None

    takes_long = params.q is not None and len(params.q.strip()) < MIN_INDEXED_CHARACTERS  # no index can find it
    page, count = await (call.state.read_heavily if takes_long else call.state.read)(read)
    return envelope(http, want, page, count)


@router.post(
    "/entities",
    status_code=HTTPStatus.CREATED,
    response_model=Entity,
    responses=documented(409, 422) | PREVIEWED,
)
async def create_entity(
    http: Request,
    call: Writer,
    body: NewEntity,
    params: Annotated[Trial, Query()],
    idempotency_key: Key = None,
) -> Response:
    """Create an entity; one that has ended starts again."""
    if body.keys:
        cure = "PUT /api/v1/sources/{source}/entities/{key} makes the entity that a key names"
        refuse("body.keys", f"is ignored here, and not empty; leave it out: {cure}")
    uid = body.entity_uid or uuid.uuid4()
    request = await request_of(http, call, "upsert", uid, body, idempotency_key)
    return await make(http, call, request, params)


@router.get("/entities/{uid}", response_model=Entity, responses=documented(404, 410))
async def read_entity(http: Request, uid: UUID, call: Reader, params: Annotated[Instants, Query()]) -> Response:
    """Read an entity as it is now, or as it was at `as_of`."""
    return await answer_state(http, call, params, lambda _: uid)


@router.patch("/entities/{uid}", response_model=Entity | Preview, responses=documented(404, 409, 412, 422))
async def patch_entity(
    http: Request,
    uid: UUID,
    call: Writer,
    body: EntityPatch,
    params: Annotated[Trial, Query()],
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """Change only the fields that are given; a detail whose value is null ends."""
    if body.entity_uid not in (None, uid):
        refuse("body.entity_uid", f"is not {uid}, the uid in the address; leave it out")
    request = await request_of(http, call, "patch", uid, body, idempotency_key)
    return await make(http, call, request, params)


@router.delete(
    "/entities/{uid}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(404, 409, 412, 422) | PREVIEWED,
)
async def delete_entity(
    http: Request,
    uid: UUID,
    call: Writer,
    params: Annotated[Deletion, Query()],
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """End an entity and its details; its history, audit and as-of can still be read."""
    await require_no_body(http)
    request = await deletion_of(http, call, uid, params.change_ts, idempotency_key)
    return await make(http, call, request, params)


@router.get("/entities/{uid}/history", response_model=ListOf[EntityVersion | DetailVersion], responses=documented(404))
async def read_history(http: Request, uid: UUID, call: Reader, params: Annotated[Versions, Query()]) -> Response:
    """Read every version of an entity and of its details, in order of valid_from."""
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if not (is_whole := params.is_whole()):
        want = wanted(http, params, call.state, VersionPosition)

    def read(connection: Connection) -> tuple[PageOf[VersionPosition], int | None]:
        number = history.count_history(connection, uid, known_at=known_at)
        if number == 0:
            raise unknown(uid, known_at)
        if is_whole:
            return history.history_page(connection, uid, known_at=known_at, limit=MAX_BUFFERED_VERSIONS), number
        page = history.history_page(
            connection, uid, known_at=known_at, after=want.after, offset=want.offset, limit=want.limit
        )
        return page, number if want.is_counted else None

    page, count = await call.state.read(read)
    if not is_whole:
        return envelope(http, want, page, count)
    if page.next is None:
        return listed_response(page.documents, count, None, None)

    def versions(connection: Connection) -> Iterator[bytes]:
        return as_array(history.stream_history(connection, uid, known_at=known_at))

    return await stream(call.state, versions, media_type=JSON, before=envelope_head(count).encode(), after=b"]}")
