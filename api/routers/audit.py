"""What was recorded, of one entity and of all: who changed what, when, and from where."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import Reader
from api.fast_path import FastRoute
from api.problems import documented, refuse
from api.state import State
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
from api.wire.parameters import INSTANT, LINES, Versions, instant_or_none, unknown
from api.wire.schemas import ListOf, Recorded, RecordedOf
from api.wire.streams import stream
from api.wire.tables import AUDIT, ENTITY_AUDIT, as_table, audit_rows
from crm_core.model import Effect, Op
from crm_core.postgres.connection import Connection
from crm_core.postgres.streams import in_blocks
from crm_core.reading import audit, history, reads
from crm_core.reading.audit import RecordedPosition
from crm_core.reading.history import ChangePosition
from crm_core.reading.lists import PageOf
from crm_core.settings import MAX_PAGE_SIZE

router = APIRouter(prefix="/api/v1", tags=["across time"], route_class=FastRoute)
Text = Annotated[str | None, Field(pattern=r"^[^\x00]*$", max_length=1_000)]


class Recording(PageParams):
    """What was recorded; every filter that is given must hold."""

    actor: Annotated[Text, Field(description="Who recorded it", examples=["ann"])] = None
    from_: Annotated[
        str | None, Field(alias="from", description="Recorded then or later: ISO 8601", json_schema_extra=INSTANT)
    ] = None
    to: Annotated[str | None, Field(description="Recorded before: ISO 8601", json_schema_extra=INSTANT)] = None
    drop: Annotated[
        Text,
        Field(description="The SHA-256 of a drop, or the name of the file it first came as; its undo is listed too"),
    ] = None
    detail_type: Annotated[Text, Field(description="Changes that state a detail of this type, or its end")] = None
    op: Annotated[Literal[Op, Effect] | None, Field(description="What kind of change")] = None
    entity_uid: UUID | None = None

    def which(self, state: State, connection: Connection) -> audit.Recorded:
        """Return the filter; raises Refusal."""
        return audit.Recorded(
            self.actor,
            instant_or_none(state, "from", self.from_),
            instant_or_none(state, "to", self.to),
            self.drop,
            self.op,
            None if self.detail_type is None else _code(state, connection, self.detail_type),
            self.entity_uid,
        )


@router.get(
    "/audit",
    response_model=ListOf[RecordedOf],
    responses={**documented(), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def list_recorded(http: Request, call: Reader, params: Annotated[Recording, Query()]) -> Response:
    """List what was recorded of all entities, the newest batch first, each change with the state before and after it.

    Within a batch (a drop, a request) the changes are in falling order of entity_uid. `Accept: application/x-ndjson`
    answers all at once, and `text/csv` with a row for each field that changed.
    """
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            found = audit.stream_audit_of_all(connection, params.which(call.state, connection))
            return as_table(found, AUDIT, audit_rows) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    want = wanted(http, params, call.state, RecordedPosition)

    def read(connection: Connection) -> tuple[PageOf[RecordedPosition], int | None]:
        which = params.which(call.state, connection)
        page = audit.audit_of_all(connection, which, after=want.after, offset=want.offset, limit=want.limit)
        count = partial(audit.count_audit_of_all, which=which)
        return page, counted(call.state, connection, ("audit", which), count) if want.is_counted else None

    page, count = await call.state.read_heavily(read)
    return envelope(http, want, page, count)


@router.get(
    "/entities/{uid}/audit",
    response_model=ListOf[Recorded],
    responses={**documented(404), 200: {"content": LINES, "description": "A page, or all as NDJSON or CSV"}},
)
async def read_audit(http: Request, uid: UUID, call: Reader, params: Annotated[Versions, Query()]) -> Response:
    """Read the ledger of an entity: every change in recording order, who made it, and what it did when it was recorded.

    Without page_size a page is as long as one may be. `Accept: application/x-ndjson` answers all at once, and
    `text/csv` with a row for each field that changed.
    """
    known_at = instant_or_none(call.state, "known_at", params.known_at)
    as_file = wants_csv(http)
    if as_file or wants_stream(http):
        require_no_pages(params)

        def lines(connection: Connection) -> Iterator[bytes]:
            if history.count_audit(connection, uid, known_at=known_at) == 0:
                raise unknown(uid, known_at)
            found = in_blocks(f"{entry}\n".encode() for entry in reads.audit(connection, uid, known_at=known_at))
            return as_table(found, ENTITY_AUDIT, audit_rows) if as_file else found

        return await stream(call.state, lines, media_type=CSV if as_file else NDJSON)
    if params.page_size is None:
        params = params.model_copy(update={"page_size": MAX_PAGE_SIZE})
    want = wanted(http, params, call.state, ChangePosition)

    def read(connection: Connection) -> tuple[PageOf[ChangePosition], int | None]:
        number = history.count_audit(connection, uid, known_at=known_at)
        if number == 0:
            raise unknown(uid, known_at)
        page = history.audit_page(
            connection, uid, known_at=known_at, after=want.after, offset=want.offset, limit=want.limit
        )
        return page, number if want.is_counted else None

    page, count = await call.state.read_heavily(read)
    return envelope(http, want, page, count)


def _code(state: State, connection: Connection, text: str) -> str:
    known = {kind.code.lower(): kind.code for kind in state.types(connection).detail_types}
    if (code := known.get(text.strip().lower())) is None:
        refuse(
            "query.detail_type", f"{text!r} is not a detail type; choose one of: {', '.join(sorted(known.values()))}"
        )
    return code
