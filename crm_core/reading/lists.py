"""The filter of a list and the position where it continues, for callers and for the statements."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from crm_core.model import ReferenceTypes
from crm_core.reference import find_known
from crm_core.values.hashing import detail_hashdiff, key_uid, normal_form, stored_form

Document = str  # one JSON object, as PostgreSQL writes it
# What a statement takes.
Value = (
    str
    | int
    | datetime
    | UUID
    | list[bytes]
    | list[datetime]
    | list[datetime | None]
    | list[UUID]
    | list[int]
    | list[str]
    | None
)
Values = dict[str, Value]

P = TypeVar("P")

FIRST_UID, LAST_UID = UUID(int=0), UUID(int=(1 << 128) - 1)
NAME_BYTES = 200  # of a name, as JSON, that a short position holds


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entities a list has; all parts that are given must match."""

    name_contains: str | None = None  # any part of display_name, in upper or lower case
    entity_type: str | None = None  # a code, in upper or lower case
    details: Mapping[str, str] | None = None  # detail type code → value; it must be equal as the type compares
    source: str | None = None  # a code, in upper or lower case: of a source that has a key for the entity, as of now
    source_key: str | None = None  # that key; without a source, of any

    def values(self, types: ReferenceTypes) -> Values:
        """Return the filter as parameters of the statements; raise UnknownType."""
        part = None if self.name_contains is None else normal_form(self.name_contains)
        code = self.entity_type
        kind = None if code is None else find_known("entity type", code, types.entity_types)
        return {
            "like": None if part is None else like_pattern(part),
            "entity_type_id": None if kind is None else kind.entity_type_id,
            "hashdiffs": [_hashdiff(types, code, value) for code, value in (self.details or {}).items()],
            **self._keys(types),
        }

    def _keys(self, types: ReferenceTypes) -> Values:
        sources = types.sources if self.source is None else [find_known("source", self.source, types.sources)]
        if self.source_key is not None:
            key = normal_form(self.source_key) or ""
            return {"source_id": None, "key_uids": [key_uid(source.code, key) for source in sources]}
        return {"source_id": None if self.source is None else sources[0].source_id, "key_uids": None}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of a list ended; the next page begins after it."""

    entity_uid: UUID
    display_name: str = ""  # only lists by name need it
    at: datetime | None = None  # only transitions need it
    digest: str = ""  # MD5 of the whole name, if display_name is only its beginning

    def shortened(self) -> Position:
        """Return the position with a name that is short enough for an address."""
        if _size(self.display_name) <= NAME_BYTES:
            return self
        beginning = self.display_name.encode()[:NAME_BYTES].decode(errors="ignore")
        while _size(beginning) > NAME_BYTES:  # each turn removes one of at most NAME_BYTES characters
            beginning = beginning[:-1]
        return replace(self, display_name=beginning, digest=name_digest(self.display_name))


@dataclass(frozen=True, slots=True)
class PageOf(Generic[P]):
    """Some documents in order; `next` is where the list continues, or None at its end."""

    documents: tuple[Document, ...]
    next: P | None


Page = PageOf[Position]


def page_of(found: Sequence[tuple[Document, P]], limit: int | None) -> PageOf[P]:
    """Return the page without the extra row that was read to see whether there is a next page."""
    page = found if limit is None else found[:limit]
    documents = tuple(document for document, _ in page)
    return PageOf(documents, page[-1][1] if len(found) > len(page) else None)


def like_pattern(part: str) -> str:
    """Return the LIKE pattern for texts that contain a part; special characters are escaped."""
    return "%" + part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def name_digest(name: str) -> str:
    """Return a digest that distinguishes names with the same beginning; PostgreSQL's md5 returns the same."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _size(name: str) -> int:
    return len(json.dumps(name, ensure_ascii=False).encode()) - 2  # without the quotes


def _hashdiff(types: ReferenceTypes, code: str, value: str) -> bytes:
    detail_type = find_known("detail type", code, types.detail_types)
    stored = stored_form(value, detail_type.compares)
    return detail_hashdiff(detail_type.code, stored or "", detail_type.compares)
