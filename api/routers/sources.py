"""Entities by the keys of sources: read, set and ended by the key that another system has for them; links of keys."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Call, Reader, Writer
from api.fast_path import FastRoute
from api.problems import Refusal, documented, refuse
from api.routers.reference import CodeInPath
from api.wire.one_entity import answer_state, deletion_of, make, request_of, require_no_body
from api.wire.paging import JSON, Params
from api.wire.parameters import Deletion, IfMatch, Instants, Key, Trial
from api.wire.previews import PREVIEWED
from api.wire.schemas import Entity, Instant, KeyedEntity, Preview, Source, Uid
from crm_core.errors import ChangeRefused
from crm_core.model import Reason as ReasonCode
from crm_core.postgres.connection import Connection
from crm_core.reading.keys import SourceKey, entity_of, find_key, links_of
from crm_core.timeline.links import link
from crm_core.timeline.undo import Who
from crm_core.values.hashing import normal_form

router = APIRouter(prefix="/api/v1", tags=["sources"], route_class=FastRoute)
KeyInPath = Annotated[
    str, Path(description="The source's key for the entity; case counts, and it may contain slashes", examples=["4711"])
]

Reason = Annotated[
    str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$", description="Why; the audit shows it")
]


class LinkBody(BaseModel):
    """The entity that a key is to name."""

    model_config = ConfigDict(extra="forbid")

    entity_uid: Uid
    reason: Reason


class Why(Params):
    """Why a link ends."""

    reason: Reason


class KeyLink(BaseModel):
    """A link of a key, or its end, as it was recorded."""

    recorded_at: Instant
    actor: str
    entity_uid: Annotated[UUID | None, Field(description="Null: the link before ended")]
    reason: Annotated[str, Field(description="Blank for what a row of a drop stated")]
    batch_id: int
    source: Source
    is_undone: Annotated[bool, Field(description="The batch was undone, so it does not act")]


class KeyName(BaseModel):
    """Which entity a source names by a key."""

    source: str
    source_key: str
    entity_uid: Annotated[UUID, Field(description="Of an entity that may not be known yet")]
    is_linked: Annotated[
        bool, Field(description="It is not the entity of its own, which is derived from source and key")
    ]
    links: Annotated[list[KeyLink], Field(description="The newest first")]


@router.get("/sources/{source}/entities/{key:path}", response_model=Entity, responses=documented(404, 410))
async def read_entity_by_key(
    http: Request, source: CodeInPath, key: KeyInPath, call: Reader, params: Annotated[Instants, Query()]
) -> Response:
    """Read the entity that a source names by a key, as it is now, or as it was at `as_of`."""
    return await answer_state(
        http, call, params, lambda connection: entity_of(connection, _found(call, connection, source, key))
    )


@router.put(
    "/sources/{source}/entities/{key:path}",
    response_model=Entity | Preview,
    responses={**documented(404, 409, 412, 422), 201: {"model": Entity, "description": "The entity is new"}},
)
async def put_entity_by_key(
    http: Request,
    source: CodeInPath,
    key: KeyInPath,
    call: Writer,
    body: KeyedEntity,
    params: Annotated[Trial, Query()],
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """Set the name, the type and the listed details of the entity that a source names by a key.

    It is made if it does not exist now. A detail whose value is null ends; one that is not listed keeps its value.
    """
    named_by = await call.state.read(lambda connection: _found(call, connection, source, key))
    if body.entity_uid is not None:
        await _require_same(call, named_by, body.entity_uid)
    request = await request_of(http, call, "upsert", named_by.key_uid, body, idempotency_key, named_by)
    return await make(http, call, request, params)


@router.delete(
    "/sources/{source}/entities/{key:path}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(404, 409, 412, 422) | PREVIEWED,
)
async def delete_entity_by_key(
    http: Request,
    source: CodeInPath,
    key: KeyInPath,
    call: Writer,
    params: Annotated[Deletion, Query()],
    _if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Response:
    """End the entity that a source names by a key, and its details; the key goes on naming it."""
    await require_no_body(http)
    named_by = await call.state.read(lambda connection: _found(call, connection, source, key))
    request = await deletion_of(http, call, named_by.key_uid, params.change_ts, idempotency_key, named_by)
    return await make(http, call, request, params)


@router.get("/sources/{source}/links/{key:path}", response_model=KeyName, responses=documented(404))
async def read_links(source: CodeInPath, key: KeyInPath, call: Reader) -> Response:
    """Read which entity a key names, and the links that were recorded of it, the last first."""
    return await call.state.read(lambda connection: _named(connection, _found(call, connection, source, key)))


@router.put("/sources/{source}/links/{key:path}", response_model=KeyName, responses=documented(404))
async def link_key(http: Request, source: CodeInPath, key: KeyInPath, call: Writer, body: LinkBody) -> Response:
    """Link a key to an entity that exists already: what is recorded under the key from now on is of that entity.

    What was recorded before stays where it is. If the key names that entity already, nothing is recorded.
    """
    return await _linked(http, call, source, key, body.reason, body.entity_uid)


@router.delete("/sources/{source}/links/{key:path}", response_model=KeyName, responses=documented(404))
async def unlink_key(
    http: Request, source: CodeInPath, key: KeyInPath, call: Writer, params: Annotated[Why, Query()]
) -> Response:
    """End the link of a key: from now on it names the entity of its own again."""
    return await _linked(http, call, source, key, params.reason, None)


async def _linked(http: Request, call: Call, source: str, key: str, reason: str, uid: UUID | None) -> Response:
    why = normal_form(reason)
    if why is None:
        refuse("reason", "is blank; say why, for the audit shows it")
    who = Who(call.who.name, why, http.state.request_id)

    def work(connection: Connection) -> Response:
        named_by = _found(call, connection, source, key)
        with connection.transaction():
            link(connection, named_by, named_by.key_uid if uid is None else uid, who)
        return _named(connection, named_by)  # when it was recorded is known since the commit

    return await call.state.write(work)


def _named(connection: Connection, named_by: SourceKey) -> Response:
    uid = entity_of(connection, named_by)
    fields = {
        "source": named_by.source.code,
        "source_key": named_by.source_key,
        "entity_uid": str(uid),
        "is_linked": uid != named_by.key_uid,
        "links": [json.loads(document) for document in links_of(connection, named_by)],
    }
    return JSONResponse(fields, media_type=JSON)


def _found(call: Call, connection: Connection, source: str, key: str) -> SourceKey:
    """Return the key of an address; raise Refusal for an unknown source, and ChangeRefused."""
    types = call.state.types(connection)
    try:
        return find_key(types, source, key)
    except ChangeRefused as error:
        if error.faults[0][0] == ReasonCode.UNKNOWN_SOURCE:
            raise Refusal(HTTPStatus.NOT_FOUND, error.faults[0][2]) from None
        refuse("path.key", error.faults[0][2])


async def _require_same(call: Call, named_by: SourceKey, uid: UUID) -> None:
    its = await call.state.read(lambda connection: entity_of(connection, named_by))
    if its != uid:
        refuse("body.entity_uid", f"is not {its}, the entity that the key names; leave it out")
