"""Lists: page numbers with a count for people, cursors for programs, and the envelope around both."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from api.problems import refuse
from api.state import State
from crm_core.drops import registry
from crm_core.postgres.connection import Connection
from crm_core.reading.audit import RecordedPosition
from crm_core.reading.history import ChangePosition, VersionPosition
from crm_core.reading.lists import PageOf, Position
from crm_core.settings import MAX_PAGE_SIZE

FINGERPRINT_DIGITS = 16  # digits at the beginning of a cursor
MAX_DEPTH_ROWS = 10_000  # the deepest row at which a page may begin
JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
FORMS = {JSON: JSON, "application/*": JSON, "*/*": JSON, NDJSON: NDJSON, "application/jsonl": NDJSON, CSV: CSV}
P = TypeVar("P", Position, VersionPosition, ChangePosition, RecordedPosition, registry.Position)


class Params(BaseModel):
    """The parameters of a call; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class PageParams(Params):
    """Which page of a list to return."""

    page: Annotated[
        int, Field(ge=1, description=f"The number of the page, which begins at most {MAX_DEPTH_ROWS:,} rows deep")
    ] = 1
    page_size: Annotated[
        int | None, Field(ge=1, le=MAX_PAGE_SIZE, description="Results on a page; default: CRM_PAGE_SIZE")
    ] = None
    cursor: Annotated[
        str | None,
        Field(
            max_length=1_000,
            pattern="^[A-Za-z0-9_-]*$",
            description="Where to continue, as `next` says; blank: from the start. Deep pages are as fast as the "
            "first; `count` is null",
        ),
    ] = None
    count: Annotated[Literal["exact", "none"], Field(description="none: do not count")] = "exact"


@dataclass(frozen=True, slots=True)
class Wanted(Generic[P]):
    """The page that a request asks for."""

    limit: int
    offset: int
    after: P | None
    page: int | None  # None: the page is found by its cursor
    is_counted: bool


def wanted(request: Request, params: PageParams, state: State, kind: type[P]) -> Wanted[P]:
    """Read which page is asked for; raise Refusal for one that cannot be returned."""
    limit = params.page_size or state.settings.page_size
    if params.cursor is not None:
        if "page" in params.model_fields_set:
            refuse("query.cursor", "cannot be combined with page; give one of the two")
        after = _read_cursor(params.cursor, _fingerprint(request), kind) if params.cursor else None
        return Wanted(limit, 0, after, None, is_counted=False)
    offset = (params.page - 1) * limit
    if offset > MAX_DEPTH_ROWS:
        said = f"lies more than {MAX_DEPTH_ROWS:,} rows deep; begin with cursor= (blank) and follow next instead"
        refuse("query.page", said)
    return Wanted(limit, offset, None, params.page, is_counted=params.count == "exact")


def envelope(request: Request, want: Wanted[P], found: PageOf[P] | registry.Page, count: int | None) -> Response:
    """Return a page of a list."""
    following = previous = None
    if found.next is not None:
        if want.page is not None and want.offset + want.limit <= MAX_DEPTH_ROWS:
            following = link(request, page=str(want.page + 1), cursor=None)
        else:
            following = link(request, page=None, cursor=_cursor(found.next, _fingerprint(request)))
    if want.page is not None and want.page > 1:
        previous = link(request, page=str(want.page - 1), cursor=None)
    first = None
    if following or previous or want.after is not None:
        first = link(request, page=None, cursor="") if want.page is None else link(request, page="1", cursor=None)
    return listed_response(found.documents, count, following, previous, first)


def numbered(request: Request, documents: Sequence[str], count: int, page: int, limit: int) -> Response:
    """Return a page of a list that has page numbers only, however deep."""
    following = link(request, page=str(page + 1)) if page * limit < count else None
    previous = link(request, page=str(page - 1)) if page > 1 else None
    first = link(request, page="1") if following or previous else None
    return listed_response(documents, count, following, previous, first)


def listed_response(
    documents: Sequence[str],
    count: int | None,
    following: str | None = None,
    previous: str | None = None,
    first: str | None = None,
) -> Response:
    """Return the envelope around documents that already are JSON; the header Link leads on as it does (RFC 8288)."""
    head = envelope_head(count, following, previous)
    links = ", ".join(
        f'<{address}>; rel="{relation}"'
        for address, relation in ((following, "next"), (previous, "prev"), (first, "first"))
        if address
    )
    return Response(
        f"{head}{','.join(documents)}]}}".encode(), headers={"Link": links} if links else {}, media_type=JSON
    )


def envelope_head(count: int | None, following: str | None = None, previous: str | None = None) -> str:
    """Return the beginning of a list, up to its first document; `]}` ends it."""
    head = json.dumps({"count": count, "next": following, "previous": previous}, separators=(",", ":"))
    return f'{head[:-1]},"results":['


def counted(state: State, connection: Connection, key: tuple[object, ...], count: Callable[..., int]) -> int:
    """Return the number of results of a list; `count(connection, at_most=…)` counts them."""
    return state.counts.count(key, lambda at_most: count(connection, at_most=at_most))


def link(request: Request, **changed: str | None) -> str:
    """Return the address of a request with some parameters changed; None removes one."""
    given: dict[str, str | None] = {**_query(request), **changed}
    query = {name: value for name, value in given.items() if value is not None}
    host = request.headers.get("host", "localhost")
    return f"{request.scope['scheme']}://{host}{request.scope['root_path']}{request.scope['path']}?{urlencode(query)}"


def wants_stream(request: Request) -> bool:
    """Return whether the client wants all rows, one per line."""
    return _liked_best(request) == NDJSON


def wants_csv(request: Request) -> bool:
    """Return whether the client wants all rows as a file for a spreadsheet."""
    return _liked_best(request) == CSV


def _liked_best(request: Request) -> str:
    """Return the media type that the client prefers (RFC 9110, 12.5.1); among equals the first one."""
    liked = [(0.0, False, JSON)]
    for part in ",".join(request.headers.getlist("accept")).lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        if (form := FORMS.get(name)) and (quality := _quality(parameters)) > 0:
            liked.append((quality, "*" not in name, form))
    return max(liked, key=lambda each: each[:2])[2]  # the first of several equal ones


def _quality(parameters: Sequence[str]) -> float:
    given = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
    try:
        return float(given)
    except ValueError:
        return 0.0


def require_no_pages(params: PageParams) -> None:
    """Raise Refusal if a page is asked for where everything is returned at once."""
    if given := PageParams.model_fields.keys() & params.model_fields_set:
        refuse(f"query.{min(given)}", "is for pages, but NDJSON and CSV return everything at once; leave it out")


def _query(request: Request) -> dict[str, str]:
    """Return the parameters of a request, each of which is given once."""
    return dict(parse_qsl(request.scope["query_string"].decode("ascii", "replace"), keep_blank_values=True))


def _fingerprint(request: Request) -> str:
    """Return a digest of the list and its filters; a cursor is valid only for the same one."""
    query = sorted(pair for pair in _query(request).items() if pair[0] not in PageParams.model_fields)
    return hashlib.sha256(repr((request.scope["path"], query)).encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _cursor(position: object, fingerprint: str) -> str:
    text = TypeAdapter(type(position)).dump_json(position, exclude_defaults=True)
    return base64.urlsafe_b64encode(fingerprint.encode() + text).decode().rstrip("=")


def _read_cursor(text: str, fingerprint: str, kind: type[P]) -> P:
    try:
        read = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        belongs_to, position = read[:FINGERPRINT_DIGITS], TypeAdapter(kind).validate_json(read[FINGERPRINT_DIGITS:])
    except ValueError:
        refuse("query.cursor", "is not a valid cursor; copy it unchanged from next")
    if belongs_to != fingerprint.encode() or not all(_is_sound(value) for value in asdict(position).values()):
        refuse("query.cursor", "belongs to a list with other filters; begin again at the first page")
    return position


def _is_sound(value: object) -> bool:
    """Return whether a value can be part of a position in a cursor."""
    match value:
        case str():
            return "\0" not in value
        case datetime():
            return value.tzinfo is not None
        case _:
            return True
