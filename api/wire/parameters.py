"""Parameters that calls share: instants, filters of the lists, pages of versions, and headers of changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import Header
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.problems import Refusal, refuse
from api.state import State
from api.wire.paging import CSV, NDJSON, PageParams, Params
from crm_core.model import ReferenceTypes
from crm_core.reading.lists import Filter
from crm_core.settings import MAX_PAGE_SIZE
from crm_core.values.instants import parse_instant

INSTANT: JsonDict = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
AS_OF = Field(description="What was true at this instant (ISO 8601)", json_schema_extra=INSTANT)
KNOWN_AT = Field(
    description="What was known at this instant, from the changes recorded by then (ISO 8601)",
    json_schema_extra=INSTANT,
)
MAX_KEY_CHARACTERS = 255
MAX_Q_CHARACTERS = 2_000  # characters of q: no name is longer, in any spelling
LINES: dict[str, object] = {
    kind: {"schema": {"type": "string", "description": "All rows, one per line"}} for kind in (NDJSON, CSV)
}
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag that the entity must still have")]
Key = Annotated[
    str | None, Header(description="The same request with the same key is carried out only once within a day")
]


class Search(PageParams):
    """The parameters of the list; each code of a detail type is a parameter too, such as email."""

    model_config = ConfigDict(extra="allow")

    q: Annotated[
        str | None,
        Field(
            description="Part of the name, in upper or lower case",
            examples=["john"],
            pattern=r"^[^\x00]*$",
            max_length=MAX_Q_CHARACTERS,
        ),
    ] = None
    entity_type: Annotated[str | None, Field(description="The code of an entity type", examples=["PERSON"])] = None
    source: Annotated[
        str | None, Field(description="The code of a source that has a key for the entity now", examples=["erp"])
    ] = None
    source_key: Annotated[
        str | None,
        Field(
            description="This key of a source; without `source`, of any source",
            examples=["4711"],
            pattern=r"^[^\x00]*$",
            max_length=2_000,
        ),
    ] = None

    def filter(self, types: ReferenceTypes) -> Filter:
        """Return the filter; raise Refusal for an unknown parameter."""
        codes = {kind.code.lower() for kind in types.detail_types}
        details: dict[str, str] = {}
        for name, value in (self.model_extra or {}).items():
            if name.lower() not in codes:
                known = ", ".join([*type(self).model_fields, *sorted(codes)])
                elsewhere = " (/api/v1/entities-asof takes it)" if name in ("as_of", "known_at") else ""
                refuse(f"query.{name}", f"is unknown here{elsewhere}; there are: {known}")
            details[name] = value
        return Filter(self.q or None, self.entity_type, details or None, self.source, self.source_key)


class AsOf(Search):
    """The parameters of the list; each code of a detail type is a parameter too, such as email."""

    model_config = ConfigDict(extra="allow")

    as_of: Annotated[str, AS_OF]
    known_at: Annotated[str | None, KNOWN_AT] = None


class Instants(Params):
    """The instants that a read is about."""

    as_of: Annotated[str | None, AS_OF] = None
    known_at: Annotated[str | None, KNOWN_AT] = None


class Versions(PageParams):
    """All versions, or one page of them."""

    page_size: Annotated[int | None, Field(ge=1, le=MAX_PAGE_SIZE, description="All, unless a page is asked for")] = (
        None
    )
    known_at: Annotated[str | None, KNOWN_AT] = None

    def is_whole(self) -> bool:
        """Return whether no page is asked for; raise Refusal for a page without a page size."""
        if self.page_size is None and self.page > 1:
            refuse(
                "query.page",
                "has no effect without page_size, for all come at once; give page_size too, or leave it out",
            )
        return self.page_size is None and self.cursor is None


class Trial(Params):
    """Whether a change is made or only previewed."""

    dry_run: Annotated[bool, Field(description="Say what would change, the past included; nothing is recorded")] = False


class Deletion(Trial):
    """When the entity ended."""

    change_ts: Annotated[
        str | None,  # blank is refused: a value that was left empty must not end an entity now
        Field(description="Default: now", json_schema_extra=INSTANT, pattern=r"\S"),
    ] = None


def instant(state: State, where: str, text: str) -> datetime:
    """Parse an instant from the address; raise Refusal if it is not one."""
    try:
        return parse_instant(text, state.settings.time_zone)
    except ValueError as error:
        hint = " (a + in an address is a space: write %2B)" if " " in text else ""
        refuse(f"query.{where}", f"{error}{hint}")


def instant_or_none(state: State, where: str, text: str | None) -> datetime | None:
    """Parse an instant that is optional."""
    return None if text is None else instant(state, where, text)


def require_key(key: str | None) -> None:
    """Raise Refusal for an Idempotency-Key that cannot be stored."""
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
        refuse("header.Idempotency-Key", f"must have 1 to {MAX_KEY_CHARACTERS} printable characters")


def unknown(uid: UUID, known_at: datetime | None = None) -> Refusal:
    """Return the refusal for a uid of which nothing is known, or nothing was known at that moment."""
    if known_at is not None:
        said = f"no entity {uid} was known yet at that known_at; leave known_at out to read what is known now"
        return Refusal(HTTPStatus.NOT_FOUND, said)
    return Refusal(HTTPStatus.NOT_FOUND, f"no entity {uid} is known; look for it in /api/v1/entities")


def filter_key(which: Filter) -> tuple[object, ...]:
    """Return the key under which the count of a filter is remembered."""
    details: Mapping[str, str] = which.details or {}
    return which.name_contains, which.entity_type, tuple(sorted(details.items())), which.source, which.source_key
