"""One entity and the list of all: as they are now, their history and audit, and the changes to them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.conditions import ANY, etag, is_unchanged, require_strong, tags_of
from api.direct import Direct
from api.gate import Call, Reader, Writer
from api.messages import DetailVersion, Entity, EntityPatch, EntityVersion, ListOf, NewEntity, Recorded
from api.paging import (
    CSV,
    JSON,
    NDJSON,
    PageParams,
    Params,
    counted,
    envelope,
    envelope_head,
    listed_response,
    require_no_pages,
    wanted,
    wants_csv,
    wants_stream,
)
from api.problems import Refusal, documented, refuse
from api.state import State
from api.streams import as_array, as_csv, stream
from crm_core.errors import EntityStale
from crm_core.model import Op, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.settings import MAX_PAGE_SIZE
from crm_core.timeline import history, reads
from crm_core.timeline.history import ChangePosition, VersionPosition
from crm_core.timeline.lists import Filter, Page, PageOf, Position
from crm_core.timeline.single_change import ChangeRequest, ChangeResult, Preconditions, Provenance
from crm_core.values.instants import parse_instant

router = APIRouter(prefix="/api/v1", tags=["entities"], route_class=Direct)
INSTANT: JsonDict = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
KNOWN_AT = Field(
    description="What was known at this instant, from the changes recorded by then (ISO 8601)",
    json_schema_extra=INSTANT,
)
LINES: dict[str, object] = {
    kind: {"schema": {"type": "string", "description": "All rows, one per line"}} for kind in (NDJSON, CSV)
}
AS_OF = Field(description="What was true at this instant (ISO 8601)", json_schema_extra=INSTANT)
KEY_LENGTH = 255
LONGEST_Q = 2_000  # characters of q: no name is longer, however it is written
SHORTEST = 3  # characters of q that an index finds
EVERYTHING = 1_000  # versions that come from memory, as one answer; more are streamed
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag that the entity must still have")]
Key = Annotated[
    str | None, Header(description="The same request with the same key is carried out only once within a day")
]


class Search(PageParams):
    """The list; each code of a detail type is a parameter too, such as email."""

    model_config = ConfigDict(extra="allow")

    q: Annotated[
        str | None,
        Field(
            description="Part of the name, in upper or lower case",
            examples=["john"],
            pattern=r"^[^\x00]*$",
            max_length=LONGEST_Q,
        ),
    ] = None
    entity_type: Annotated[str | None, Field(description="The code of an entity type", examples=["PERSON"])] = None

    def filter(self, types: ReferenceTypes) -> Filter:
        """Return the filter; raises Refusal for a parameter that there is not."""
        codes = {kind.code.lower() for kind in types.detail_types}
        details: dict[str, str] = {}
        for name, value in (self.model_extra or {}).items():
            if name.lower() not in codes:
                known = ", ".join([*type(self).model_fields, *sorted(codes)])
                elsewhere = " (/api/v1/entities-asof takes it)" if name in ("as_of", "known_at") else ""
                refuse(f"query.{name}", f"is unknown here{elsewhere}; there are: {known}")
            details[name] = value
        return Filter(self.q or None, self.entity_type, details or None)


class Then(Params):
    """As of when, as known when."""

    as_of: Annotated[str | None, AS_OF] = None
    known_at: Annotated[str | None, KNOWN_AT] = None


class Versions(PageParams):
    """All versions, or a part of them."""

    page_size: Annotated[int | None, Field(ge=1, le=MAX_PAGE_SIZE, description="All, unless a page is asked for")] = (
        None
    )
    known_at: Annotated[str | None, KNOWN_AT] = None

    def is_whole(self) -> bool:
        """Return whether no part is asked for; raises Refusal for a page without a size."""
        if self.page_size is None and self.page > 1:
            refuse(
                "query.page",
                "has no effect without page_size, for all come at once; give page_size too, or leave it out",
            )
        return self.page_size is None and self.cursor is None


class Deletion(Params):
    """When the entity ended."""

    change_ts: Annotated[
        str | None,  # blank is none: a name that was left empty must not end an entity now
        Field(description="Default: now", json_schema_extra=INSTANT, pattern=r"\S"),
    ] = None


def instant(state: State, where: str, text: str) -> datetime:
    """Read an instant of the address; raises Refusal."""
    try:
        return parse_instant(text, state.settings.time_zone)
    except ValueError as error:
        hint = " (a + in an address is a space: write %2B)" if " " in text else ""
        refuse(f"query.{where}", f"{error}{hint}")


def instant_or_none(state: State, where: str, text: str | None) -> datetime | None:
    """Read an instant that need not be given."""
    return None if text is None else instant(state, where, text)


@router.get(
    "/entities",
    response_model=ListOf[Entity],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_entities(http: Request, call: Reader, params: Annotated[Search, Query()]) -> Response:
    """List the current entities, by display_name, then entity_uid.

    `Accept: application/x-ndjson` or `text/csv` answers all at once; the file can be corrected and dropped again.
    """
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            types = call.state.types(connection)
            found = reads.stream_entities(connection, types, params.filter(types))
            return as_csv(found, [kind.code for kind in types.detail_types]) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, Position)

    def read(connection: Connection) -> tuple[Page, int | None]:
        types = call.state.types(connection)
        which = params.filter(types)
        page = reads.entities(connection, types, which, after=want.after, offset=want.offset, limit=want.limit)
        count = partial(reads.count_entities, types=types, which=which)
        return page, counted(call.state, connection, ("current", filter_key(which)), count) if want.is_counted else None

    takes_long = params.q is not None and len(params.q.strip()) < SHORTEST  # no index finds it
    page, count = await (call.state.read_heavily if takes_long else call.state.read)(read)
    return envelope(http, want, page, count)


@router.post(
    "/entities",
    status_code=HTTPStatus.CREATED,
    response_model=Entity,
    responses=documented(409, 422),
)
async def create_entity(
    http: Request,
    call: Writer,
    body: NewEntity,
    idempotency_key: Key = None,
) -> Response:
    """Create an entity; one that has ended starts again."""
    uid = body.entity_uid or uuid.uuid4()
    request = await _request_of(http, call, "upsert", uid, body, idempotency_key)
    return _written(http, HTTPStatus.CREATED, await _apply(http, call, request))


@router.get("/entities/{uid}", response_model=Entity, responses=documented(404, 410))
async def read_entity(http: Request, uid: UUID, call: Reader, params: Annotated[Then, Query()]) -> Response:
    """Read an entity as it is, or as it was at `as_of`."""
    as_of = instant_or_none(call.state, "as_of", params.as_of)
    known_at = instant_or_none(call.state, "known_at", params.known_at)

    def read(connection: Connection) -> str:
        found = reads.snapshot(connection, uid, as_of=as_of, known_at=known_at)
        return found if found is not None else _missing(connection, uid, as_of, known_at)

    document = await call.state.read(read)
    headers = {"ETag": etag(document)}
    if is_unchanged(http, document):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(document.encode(), media_type=JSON, headers=headers)


@router.patch("/entities/{uid}", response_model=Entity, responses=documented(404, 409, 412, 422))
async def patch_entity(
    http: Request,
    uid: UUID,
    call: Writer,
    body: EntityPatch,
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """Change what is named, and nothing else; a detail whose value is null ends."""
    if body.entity_uid not in (None, uid):
        refuse("body.entity_uid", f"is not {uid}, the uid in the address; leave it out")
    request = await _request_of(http, call, "patch", uid, body, idempotency_key)
    return _written(http, HTTPStatus.OK, await _apply(http, call, request))


@router.delete("/entities/{uid}", status_code=HTTPStatus.NO_CONTENT, responses=documented(404, 409, 412, 422))
async def delete_entity(
    http: Request,
    uid: UUID,
    call: Writer,
    params: Annotated[Deletion, Query()],
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """End an entity and its details; history, as-of and audit still answer."""
    if await http.body():
        refuse("body", "is ignored in a DELETE; write the instant into the address: ?change_ts=2024-01-31")
    conditions = await _preconditions(http, idempotency_key)
    request = ChangeRequest("delete", uid, _provenance(http, call), params.change_ts, preconditions=conditions)
    return _written(http, HTTPStatus.NO_CONTENT, await _apply(http, call, request))


@router.get("/entities/{uid}/history", response_model=ListOf[EntityVersion | DetailVersion], responses=documented(404))
async def read_history(http: Request, uid: UUID, call: Reader, params: Annotated[Versions, Query()]) -> Response:
    """Read every version of an entity and of its details, in order of valid_from."""
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if not (is_whole := params.is_whole()):
        want = wanted(http, params, call.state, VersionPosition)

    def read(connection: Connection) -> tuple[PageOf[VersionPosition], int | None]:
        number = history.count_history(connection, uid, known_at=known_at)
        if number == 0:
            raise _unknown(uid)
        if is_whole:
            return history.history_page(connection, uid, known_at=known_at, limit=EVERYTHING), number
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


@router.get("/entities/{uid}/audit", response_model=ListOf[Recorded], responses=documented(404))
async def read_audit(http: Request, uid: UUID, call: Reader, params: Annotated[Versions, Query()]) -> Response:
    """Read the ledger of an entity: every change in recording order, who made it, and what it did when it was recorded.

    Without page_size a page is as long as one may be.
    """
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    if params.page_size is None:
        params = params.model_copy(update={"page_size": MAX_PAGE_SIZE})
    want = wanted(http, params, call.state, ChangePosition)

    def read(connection: Connection) -> tuple[PageOf[ChangePosition], int | None]:
        number = history.count_audit(connection, uid, known_at=known_at)
        if number == 0:
            raise _unknown(uid)
        page = history.audit_page(
            connection, uid, known_at=known_at, after=want.after, offset=want.offset, limit=want.limit
        )
        return page, number if want.is_counted else None

    page, count = await call.state.read_heavily(read)
    return envelope(http, want, page, count)


async def _apply(http: Request, call: Call, request: ChangeRequest) -> ChangeResult:
    try:
        return await call.state.change(request)
    except EntityStale:
        require_strong(http)
        raise


def _provenance(http: Request, call: Call) -> Provenance:
    return Provenance(call.who.name, http.state.request_id)


async def _request_of(
    http: Request, call: Call, op: Op, uid: UUID, body: NewEntity | EntityPatch, key: str | None
) -> ChangeRequest:
    """Return the change that a body asks for: it sets what it names, and a name or type that is null is blank."""
    named = body.model_fields_set
    return ChangeRequest(
        op,
        uid,
        _provenance(http, call),
        body.change_ts,
        display_name=body.display_name or "" if "display_name" in named else None,
        entity_type=body.entity_type or "" if "entity_type" in named else None,
        details=[(detail.detail_type, detail.detail_value) for detail in body.details],
        preconditions=await _preconditions(http, key),
    )


async def _preconditions(http: Request, key: str | None) -> Preconditions:
    """Read the conditions of a change; raises Refusal for malformed ones."""
    tags, unless = tags_of(http, "If-Match"), tags_of(http, "If-None-Match")
    if unless is not None and not (http.method == "POST" and unless.strong == [ANY]):  # a POST creates, or is refused
        refuse("header.If-None-Match", "is for reads; to change an entity only if it is still the same, send If-Match")
    require_key(key)
    fingerprint = None
    if key is not None:
        said = (http.method, http.url.path, http.url.query, http.headers.getlist("if-match"))
        fingerprint = hashlib.sha256(repr(said).encode() + await http.body()).digest()
    return Preconditions(None if tags is None else tags.strong, key, fingerprint)


def require_key(key: str | None) -> None:
    """Raise Refusal for an Idempotency-Key that cannot be kept."""
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isprintable()):
        refuse("header.Idempotency-Key", f"must have 1 to {KEY_LENGTH} printable characters")


def _written(http: Request, status: HTTPStatus, result: ChangeResult) -> Response:
    headers = {"Idempotency-Replayed": "true"} if result.was_replayed else {}
    if result.document is None:
        return Response(status_code=status, headers=headers)
    headers["ETag"] = etag(result.document)
    if status is HTTPStatus.CREATED:
        uid = json.loads(result.document)["entity_uid"]
        headers["Location"] = f"{http.scope['root_path']}/api/v1/entities/{uid}"
    return Response(result.document.encode(), status, headers, JSON)


def _missing(connection: Connection, uid: UUID, as_of: datetime | None, known_at: datetime | None) -> str:
    """Say why there is no snapshot: raises Refusal."""
    span = history.span(connection, uid, known_at=known_at)
    if span is None:
        raise _unknown(uid)
    if as_of is not None:
        if as_of < datetime.fromisoformat(span.began_at):
            said = f"the entity {uid} did not exist at that time; it begins at {span.began_at}"
        else:
            said = f"the entity {uid} did not exist at that time; see its history for when it did"
        raise Refusal(HTTPStatus.NOT_FOUND, said)
    said = f"the entity {uid} ended at {span.ended_at}; its history, audit and as_of can still be read"
    raise Refusal(HTTPStatus.GONE, said, members={"valid_to": span.ended_at or ""})


def _unknown(uid: UUID) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, f"no entity {uid} is known; look for it in /api/v1/entities")


def filter_key(which: Filter) -> tuple[object, ...]:
    """Return what a count of the filter is remembered by."""
    details: Mapping[str, str] = which.details or {}
    return which.name_contains, which.entity_type, tuple(sorted(details.items()))
