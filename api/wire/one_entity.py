"""One entity over HTTP: its state, and a change of it, under the conditions of the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from uuid import UUID

from fastapi import Request, Response

from api.auth import Call
from api.problems import Refusal, refuse
from api.wire.conditions import ANY, etag, is_unchanged, require_strong, tags_of
from api.wire.paging import JSON
from api.wire.parameters import Instants, Trial, instant_or_none, require_key, unknown
from api.wire.previews import shown
from api.wire.schemas import EntityPatch, KeyedEntity, NewEntity
from crm_core.errors import EntityStale
from crm_core.model import Op
from crm_core.postgres.connection import Connection
from crm_core.reading import history, reads
from crm_core.reading.keys import SourceKey
from crm_core.timeline.single_change import ChangeRequest, ChangeResult, Outcome, Preconditions, Provenance

_STATUS: Mapping[Outcome, HTTPStatus] = {
    "created": HTTPStatus.CREATED,
    "changed": HTTPStatus.OK,
    "deleted": HTTPStatus.NO_CONTENT,
}


async def answer_state(http: Request, call: Call, params: Instants, find: Callable[[Connection], UUID]) -> Response:
    """Return the response with an entity as it is now, or was at `as_of`; `find` returns its uid."""
    as_of = instant_or_none(call.state, "as_of", params.as_of)
    known_at = instant_or_none(call.state, "known_at", params.known_at)

    def read(connection: Connection) -> str:
        uid = find(connection)
        found = reads.snapshot(connection, uid, as_of=as_of, known_at=known_at)
        return found if found is not None else _missing(connection, uid, as_of, known_at)

    document = await call.state.read(read)
    headers = {"ETag": etag(document)}
    if is_unchanged(http, document):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(document.encode(), media_type=JSON, headers=headers)


async def make(http: Request, call: Call, request: ChangeRequest, params: Trial) -> Response:
    """Make a change, or say what it would do, and answer with what came of it."""
    try:
        if params.dry_run:
            return shown(await call.state.preview(request))
        return _written(http, await call.state.change(request))
    except EntityStale:
        require_strong(http)
        raise


def _provenance(http: Request, call: Call) -> Provenance:
    """Return who makes a change, and by which request."""
    return Provenance(call.who.name, http.state.request_id)


async def request_of(
    http: Request,
    call: Call,
    op: Op,
    uid: UUID,
    body: NewEntity | EntityPatch | KeyedEntity,
    key: str | None,
    named_by: SourceKey | None = None,
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
        named_by=named_by,
    )


async def require_no_body(http: Request) -> None:
    """Raise Refusal for a DELETE with a body."""
    if await http.body():
        refuse("body", "is ignored in a DELETE; write the instant into the address: ?change_ts=2024-01-31")


async def deletion_of(
    http: Request, call: Call, uid: UUID, change_ts: str | None, key: str | None, named_by: SourceKey | None = None
) -> ChangeRequest:
    """Return the deletion that a request asks for."""
    return ChangeRequest(
        "delete",
        uid,
        _provenance(http, call),
        change_ts,
        preconditions=await _preconditions(http, key),
        named_by=named_by,
    )


async def _preconditions(http: Request, key: str | None) -> Preconditions:
    """Read the conditions of a change; raises Refusal for malformed ones."""
    tags, unless = tags_of(http, "If-Match"), tags_of(http, "If-None-Match")
    # A POST creates an entity or is refused.
    if unless is not None and not (http.method == "POST" and unless.strong == [ANY]):
        refuse("header.If-None-Match", "is for reads; to change an entity only if it is still the same, send If-Match")
    require_key(key)
    fingerprint = None
    if key is not None:
        said = (http.method, http.url.path, http.url.query, http.headers.getlist("if-match"))
        fingerprint = hashlib.sha256(repr(said).encode() + await http.body()).digest()
    return Preconditions(None if tags is None else tags.strong, key, fingerprint)


def _written(http: Request, result: ChangeResult) -> Response:
    status = _STATUS[result.outcome]
    headers = {"Idempotency-Replayed": "true"} if result.was_replayed else {}
    if result.document is None:
        return Response(status_code=status, headers=headers)
    headers["ETag"] = etag(result.document)
    if status is HTTPStatus.CREATED:
        uid = json.loads(result.document)["entity_uid"]
        headers["Location"] = f"{http.scope['root_path']}/api/v1/entities/{uid}"
    return Response(result.document.encode(), status, headers, JSON)


def _missing(connection: Connection, uid: UUID, as_of: datetime | None, known_at: datetime | None) -> str:
    """Raise the Refusal that says why the entity has no state to return."""
    span = history.span(connection, uid, known_at=known_at)
    if span is None:
        raise unknown(uid, known_at)
    if as_of is not None:
        if as_of < datetime.fromisoformat(span.began_at):
            said = f"the entity {uid} did not exist at that time; it begins at {span.began_at}"
        else:
            said = f"the entity {uid} did not exist at that time; see its history for when it did"
        raise Refusal(HTTPStatus.NOT_FOUND, said)
    said = f"the entity {uid} ended at {span.ended_at}; its history, audit and as_of can still be read"
    raise Refusal(HTTPStatus.GONE, said, members={"valid_to": span.ended_at or ""})
