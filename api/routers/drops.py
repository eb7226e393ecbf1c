"""Drops over HTTP: send one, read what it did, and get its rejected rows as a file to correct and send again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from api.auth import Reader, Writer
from api.fast_path import FastRoute
from api.problems import Refusal, documented, refuse
from api.state import State
from api.uploads import BLOCK_BYTES, CSV, FORM, receive, room
from api.wire.paging import (
    JSON,
    NDJSON,
    PageParams,
    Params,
    envelope,
    numbered,
    require_no_pages,
    wanted,
    wants_csv,
    wants_stream,
)
from api.wire.parameters import INSTANT
from api.wire.schemas import FieldDifference, Instant, ListOf
from api.wire.streams import stream
from api.wire.tables import Row, as_table
from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection
from crm_core.profiles import store
from crm_core.profiles.profile import Profile
from crm_core.settings import MAX_PAGE_SIZE, Settings
from crm_core.values.instants import parse_instant

router = APIRouter(prefix="/api/v1", tags=["drops"], route_class=FastRoute)
SPOOL_SECONDS = 300  # that the database may take for all rejected rows of a drop
Sha256 = Annotated[str, PathParam(pattern="^[0-9a-f]{64}$", description="SHA-256 of the drop's bytes")]
LINES: dict[str, object] = {CSV: {"schema": {"type": "string"}}}
EVERY: dict[str, object] = {NDJSON: {"schema": {"type": "string"}}, **LINES}
BODY: dict[str, object] = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {"schema": {"type": "string"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            },
        },
    }
}


class Sent(Params):
    """The options for taking in a drop."""

    file_name: Annotated[
        str | None, Field(description="The name of the drop; default: the file name in the form, or upload.csv")
    ] = None
    dry_run: Annotated[bool, Field(description="Only say what would happen; change nothing")] = False
    strict: Annotated[bool, Field(description="Refuse the whole drop if one of its rows is bad")] = False
    profile: Annotated[
        str | None, Field(description="The profile by which it is read; default: the standard form", max_length=63)
    ] = None
    mode: Annotated[
        Literal["delta", "snapshot"],
        Field(description="snapshot: entities of the scope that are not in the file end"),
    ] = "delta"
    scope: Annotated[
        str | None,
        Field(
            description="Of a snapshot: what it lists completely, entities of some types, or source=CODE: all that this"
            " source names before",
            examples=["PERSON"],
        ),
    ] = None
    at: Annotated[
        str | None,
        Field(description="Of a snapshot: when it is true; default: when it was first seen", json_schema_extra=INSTANT),
    ] = None

    def snapshot(self, settings: Settings) -> SnapshotOptions | None:
        """Return what is asked of a snapshot; raise Refusal for parameters that do not go together."""
        if self.mode == "delta":
            given = [name for name in ("scope", "at") if getattr(self, name) is not None]
            if given:
                refuse(f"query.{given[0]}", "is of a snapshot; add mode=snapshot, or leave it out")
            return None
        if self.scope is None:
            refuse("query.scope", "is missing; name what the file lists completely, such as PERSON, or source=erp")
        try:
            at = None if self.at is None else parse_instant(self.at, settings.time_zone)
        except ValueError as error:
            refuse("query.at", str(error))
        return SnapshotOptions(self.scope, at)


class NamedEntity(BaseModel):
    """An entity by its name."""

    entity_uid: str
    display_name: str


class Unlisted(BaseModel):
    """Entities of the scope of a snapshot that it does not list."""

    would_end: int
    in_scope: Annotated[int, Field(description="Entities of the scope that exist just before")]
    first: Annotated[list[NamedEntity], Field(description="Of those that would end, by name")]


class Held(Unlisted):
    """Of a drop that was held: what it would end, and what was decided."""

    held_at: Instant
    sent_by: str
    decision: Literal["approved", "declined"] | None
    decided_at: Instant | None
    decided_by: str | None
    reason: str | None


class DropOutcome(BaseModel):
    """What a drop did: read = accepted + rejected, accepted = changed + unchanged."""

    file: str
    sha256: str | None
    status: Literal["seen", "merged", "replayed", "refused", "undone", "held", "declined"]
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    rows_changed: int
    rows_unchanged: int
    rows_late: int
    rows_superseded: int
    entities_ended: Annotated[
        int,
        Field(description="Entities that ended by this snapshot, or by an earlier one that a repeat brought them into"),
    ]
    entity_versions_added: int
    detail_versions_added: int
    seconds: float
    error: str | None
    rows_ending_nobody: Annotated[int, Field(description="Deletions of entities that did not exist at that time")]
    rows_fallen_together: Annotated[
        int, Field(description="Rows without entity_uid that say the same as an earlier row")
    ]
    notes: Annotated[list[str], Field(description="Notes for the sender, one sentence each")]


class Taken(DropOutcome):
    """What a drop that was sent did, or would do."""

    dry_run: bool
    differences: Annotated[
        list[FieldDifference] | None, Field(description="In a dry run: the first differences that it would make")
    ] = None
    unlisted: Unlisted | None = None


class Drop(DropOutcome):
    """A drop as it is kept."""

    bytes: int
    first_seen_at: Instant
    merged_at: Instant | None
    profile: Annotated[
        str | None, Field(description="The profile by which it was read; null: it has the standard form")
    ]
    mode: Literal["delta", "snapshot"]
    scope: Annotated[str | None, Field(description="Of a snapshot")]
    snapshot_at: Annotated[Instant | None, Field(description="Of a snapshot: its instant")]
    held: Held | None


class RejectedRow(BaseModel):
    """A row that was rejected."""

    line: int
    reasons: list[str]
    raw: str


class RejectParams(Params):
    """Which rejected rows to return, and in which form."""

    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int | None, Field(ge=1, le=MAX_PAGE_SIZE)] = None
    format: Annotated[
        Literal["json", "csv"], Field(description="csv: all rejects, as a file to correct and send again")
    ] = "json"


@router.post(
    "/drops",
    status_code=HTTPStatus.CREATED,
    response_model=Taken,
    responses={
        **documented(409),
        200: {"model": Taken, "description": "The drop was already known, or dry_run"},
        202: {"model": Taken, "description": "Held: it would end so much that it waits for …/approve or …/decline"},
    },
    openapi_extra=BODY,
)
async def send_drop(http: Request, call: Writer, params: Annotated[Sent, Query()]) -> Response:
    """Take in a drop: a file as the body, or as the part `file` of a form.

    It is CSV, which may be packed with gzip or Zstandard, lines of JSON, Parquet or Excel, whatever its media type.
    """
    profile = await _profile(call.state, params.profile)
    async with call.state.uploads.folder() as folder:
        path = await receive(http, folder, params.file_name)
        options = Options(
            call.who.name,
            call.state.settings.time_zone,
            dry_run=params.dry_run,
            strict=params.strict,
            shown_as=path.name,
            profile=profile,
            snapshot=params.snapshot(call.state.settings),
            snapshot_limit=call.state.settings.snapshot_limit,
            traceparent=http.state.traceparent,
        )
        report: MergeReport = await call.state.merge(partial(ingest_on, path=path, options=options))
    return taken(http, report)


def taken(http: Request, report: MergeReport) -> Response:
    """Return the answer to a drop that was sent, or approved; raise Refusal if it was refused or declined."""
    if report.status == "declined":
        raise Refusal(HTTPStatus.CONFLICT, f"{report.error} (POST /api/v1/drops/{report.sha256}/approve)")
    if report.status == "refused":
        faults = [
            {"where": f"line {reject.line}", "detail": reject.raw, "reason": ", ".join(reject.reasons)}
            for reject in report.rejects
        ]
        raise Refusal(HTTPStatus.BAD_REQUEST, report.error or "the drop was refused", faults)
    location = {"Location": f"{http.scope['root_path']}/api/v1/drops/{report.sha256}"} if not report.dry_run else {}
    body = json.dumps(report.as_json(), ensure_ascii=False, separators=(",", ":")).encode()
    statuses = {"merged": HTTPStatus.CREATED, "held": HTTPStatus.ACCEPTED}
    status = HTTPStatus.OK if report.dry_run else statuses.get(report.status, HTTPStatus.OK)
    return Response(body, status, location, JSON)


@router.get(
    "/drops",
    response_model=ListOf[Drop],
    responses={**documented(), 200: {"content": EVERY, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_drops(http: Request, call: Reader, params: Annotated[PageParams, Query()]) -> Response:
    """List the drops, the newest first; `Accept: application/x-ndjson` or `text/csv` answers all at once."""
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            found = registry.stream_drops(connection)
            return as_table(found, tuple(Drop.model_fields), _cells) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, registry.Position)

    def read(connection: Connection) -> tuple[registry.Page, int | None]:
        page = registry.drops(connection, limit=want.limit, offset=want.offset, after=want.after)
        return page, registry.count_drops(connection) if want.is_counted else None

    page, count = await call.state.read(read)
    return envelope(http, want, page, count)


@router.get("/drops/{sha256}", response_model=Drop, responses=documented(404))
async def read_drop(call: Reader, sha256: Sha256) -> Response:
    """Read what a drop did."""
    document = await call.state.read(lambda connection: registry.drop(connection, sha256))
    if document is None:
        raise _unknown(sha256)
    return Response(document.encode(), media_type=JSON)


@router.get(
    "/drops/{sha256}/rejects",
    response_model=ListOf[RejectedRow],
    responses={
        **documented(404),
        200: {"content": LINES, "description": "One page, or all rejects as CSV"},
    },
)
async def list_rejects(
    http: Request, call: Reader, sha256: Sha256, params: Annotated[RejectParams, Query()]
) -> Response:
    """List the rejected rows of a drop by line; `format=csv` or `Accept: text/csv` returns all as a file."""
    if params.format == "csv" or wants_csv(http):
        return await rejects_file(call.state, sha256)
    limit = params.page_size or call.state.settings.page_size
    offset = (params.page - 1) * limit

    def read(connection: Connection) -> tuple[registry.Page, int]:
        if registry.drop(connection, sha256) is None:
            raise _unknown(sha256)
        page = registry.rejects_page(connection, sha256, limit=limit, offset=offset)
        return page, registry.count_rejects(connection, sha256)

    found, count = await call.state.read(read)
    return numbered(http, found.documents, count, params.page, limit)


def _cells(drop: Mapping[str, Any]) -> Iterator[Row]:
    texts = {"notes": "\n".join(drop["notes"]), "held": drop["held"] and drop["held"]["decision"]}
    yield [texts.get(name, drop[name]) for name in Drop.model_fields]


async def rejects_file(state: State, sha256: str) -> Response:
    """Return all rejected rows as a file, written to disk first so that a slow client keeps no connection busy."""
    async with state.spooling:
        file, is_json = await anyio.to_thread.run_sync(_spooled, state, sha256)
    name = f"rejects-{sha256[:12]}.{'ndjson' if is_json else 'csv'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(file.tell())}
    return _File(file, headers, NDJSON if is_json else CSV)


class _File(StreamingResponse):
    """A file that is closed, and so deleted, once it was sent or the client has left."""

    def __init__(self, file: BinaryIO, headers: Mapping[str, str], media_type: str) -> None:
        file.seek(0)
        self._file = file
        super().__init__(iter(partial(file.read, BLOCK_BYTES), b""), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


async def _profile(state: State, name: str | None) -> Profile | None:
    """Read a profile; raises UnknownProfile, ProfileRefused."""
    return None if name is None else await anyio.to_thread.run_sync(store.load, state.settings.profile_dir, name)


def _spooled(state: State, sha256: str) -> tuple[BinaryIO, bool]:
    """Return a file of all rejected rows, and whether they are lines of JSON."""
    with state.long_read(SPOOL_SECONDS) as connection:
        if registry.drop(connection, sha256) is None:
            raise _unknown(sha256)
        is_json = not registry.header_of(connection, sha256)
        file = state.uploads.file()
        try:
            with room():
                for block in registry.rejects_file(connection, sha256):
                    file.write(block)
                file.flush()
        except BaseException:
            file.close()
            raise
    return file, is_json


def _unknown(sha256: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, f"no drop {sha256} was ever received; /api/v1/drops lists all drops")
