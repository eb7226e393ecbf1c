"""The feed of what was recorded, and many changes in one call."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth import Reader, Writer
from api.body import require_utf8
from api.fast_path import FastRoute
from api.problems import RETRY_SECONDS, Refusal, documented, refuse
from api.state import MAX_FOLLOWERS, State
from api.wire.paging import JSON, NDJSON, Params, link
from api.wire.parameters import Key, require_key
from api.wire.schemas import Entity, Instant, Uid
from crm_core.drops.many_changes import Recorded, Sender, record_lines
from crm_core.errors import CursorRefused
from crm_core.postgres.connection import Connection
from crm_core.reading.feed import Feed, feed, parse_cursor

router = APIRouter(prefix="/api/v1", tags=["changes"], route_class=FastRoute)
MAX_WAIT_SECONDS = 60  # seconds that one call may wait for news
LOOK_SECONDS = 0.5  # between two looks for news
MAX_EVENTS, DEFAULT_EVENTS = 1_000, 200  # of one answer
KINDS = (NDJSON, "application/jsonl", "application/octet-stream", "text/plain")
TEXT: dict[str, object] = {"schema": {"type": "string"}}
BODY: dict[str, object] = {"requestBody": {"required": True, "content": {NDJSON: TEXT, "text/plain": TEXT}}}


class Following(Params):
    """From where to read the feed, and how."""

    after: Annotated[
        str,
        Field(max_length=100, description="`next` of the previous answer, unchanged; blank: from the beginning"),
    ] = ""
    wait: Annotated[
        float,
        Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="Seconds to wait for news if there is none"),
    ] = 0
    include: Annotated[
        Literal["entity"] | None, Field(description="entity: with each event the entity as it is now, or null")
    ] = None
    page_size: Annotated[int, Field(ge=1, le=MAX_EVENTS, description="Events of one answer")] = DEFAULT_EVENTS


class Event(BaseModel):
    """Something was recorded of an entity."""

    entity_uid: Uid
    since: Annotated[Instant, Field(description="The earliest valid time that may differ now")]
    batch_id: int
    recorded_at: Instant
    op: Literal["upsert", "patch", "delete", "undo", "reinstate", "snapshot"]
    actor: str
    entity: Annotated[Entity | None, Field(description="With include=entity: as it is now; null if it has ended")] = (
        None
    )


class Events(BaseModel):
    """What was recorded next."""

    next: Annotated[str, Field(description="The cursor to continue with, as `after=`; it never expires")]
    results: list[Event]


class Accepted(BaseModel):
    """What the changes did: accepted = changed + unchanged."""

    batch_id: int
    rows_accepted: int
    rows_changed: int
    rows_unchanged: int
    rows_late: int
    rows_superseded: int
    entity_versions_added: int
    detail_versions_added: int
    entity_uids: Annotated[list[Uid], Field(description="The entity of each line, in order")]


@router.get("/changes", response_model=Events, responses=documented())
async def follow_changes(http: Request, call: Reader, params: Annotated[Following, Query()]) -> Response:
    """Read what was recorded, in an order in which nothing is missed and nothing comes twice.

    One event for each entity that a batch names; batches in the order in which they were committed.
    """
    try:
        after = parse_cursor(params.after)
        read = partial(feed, after=after, limit=params.page_size, with_entities=params.include is not None)
        found = await call.state.read(read)
    except CursorRefused as error:
        refuse("query.after", str(error))
    if not found.documents and params.wait:
        found = await _news(http, call.state, read, params.wait) or found
    following = str(found.next or "")
    headers = {"Link": f'<{link(http, after=following)}>; rel="next"'}
    return Response(f'{{"next":"{following}","results":[{",".join(found.documents)}]}}'.encode(), 200, headers, JSON)


async def _news(http: Request, state: State, read: partial[Feed], seconds: float) -> Feed | None:
    """Look for news until there is some, the time is over, or the client has left."""
    deadline = time.monotonic() + seconds
    with _place(state):
        while (left := deadline - time.monotonic()) > 0 and not await http.is_disconnected():
            await asyncio.sleep(min(LOOK_SECONDS, left))
            found = await state.read(read)
            if found.documents:
                return found
    return None


@contextmanager
def _place(state: State) -> Iterator[None]:
    """Take one of the places of those who wait; raises Refusal if there is none."""
    place = object()
    if state.following.available_tokens < 1:
        said = f"{MAX_FOLLOWERS} others wait for news already; ask again without wait"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)})
    state.following.acquire_on_behalf_of_nowait(place)
    try:
        yield
    finally:
        state.following.release_on_behalf_of(place)


@router.post(
    "/changes",
    status_code=HTTPStatus.CREATED,
    response_model=Accepted,
    responses=documented(422),
    openapi_extra=BODY,
)
async def send_changes(http: Request, call: Writer, idempotency_key: Key = None) -> Response:
    """Record many changes as one batch, all or none: one JSON object a line, with the columns of a drop as members.

    A bad line is named with what is wrong, and nothing goes in then.
    """
    content_type = http.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in KINDS:
        refuse("header.Content-Type", f"is {kind or 'missing'}; send one JSON object a line as {NDJSON}")
    require_utf8(content_type, "header.Content-Type")
    require_key(idempotency_key)
    body = await http.body()
    fingerprint = hashlib.sha256(repr((http.method, http.url.path, http.url.query)).encode() + body).digest()
    sender = Sender(call.who.name, http.state.request_id, idempotency_key, fingerprint)

    def record(connection: Connection) -> Recorded:
        return record_lines(connection, body, sender, now=datetime.now(UTC), time_zone=call.state.settings.time_zone)

    recorded = await call.state.merge(record)
    headers = {"Idempotency-Replayed": "true"} if recorded.was_replayed else {}
    return Response(recorded.document.encode(), HTTPStatus.CREATED, headers, JSON)
