"""Search while typing: current entities by a part of their name or of a detail, or by a key; the best first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from crm_core.postgres.connection import Connection
from crm_core.reading.known import rows
from crm_core.reading.lists import Values, like_pattern
from crm_core.values.hashing import normal_form

DETAILS = 5  # times as many details as hits that are wanted: an entity may be found by several
SHORTEST = 3  # letters or digits in a row that an index of parts finds
_WORD = re.compile(r"[^\W_]+")
Match = Literal["exact", "prefix", "part"]
_MATCHES: tuple[Match, ...] = ("exact", "prefix", "part")


@dataclass(frozen=True, slots=True)
class Hit:
    """An entity that was found, and by what."""

    entity_uid: UUID
    display_name: str
    entity_type: str  # the code
    field: str  # display_name, details.<code>, or keys.<code of the source>
    value: str  # of that field
    match: Match


def search(connection: Connection, text: str, limit: int = 20, *, entity_type: str | None = None) -> list[Hit]:
    """Find current entities by a text in any case: equal to a name or detail, then at its beginning, then inside it.

    Whom a source names by this very text comes first. Of details the first 200 characters are searched. A text without
    three letters or digits in a row is looked for at the beginning of names alone, as it is written and in small,
    capital and initial capital letters. Each entity comes once, by its best match. Where very many match equally well,
    some of them are found. A blank text finds nothing. With the code of an entity type only entities of it are found.
    """
    part = normal_form(text)
    if part is None:
        return []
    wanted: Values = {"entity_type": entity_type, "limit": limit}
    by_key = _by_key(connection, part, wanted)
    others = [
        hit
        for hit in _by_text(connection, part, limit, wanted)
        if hit.entity_uid not in {one.entity_uid for one in by_key}
    ]
    return [*by_key, *others][:limit]


def _by_key(connection: Connection, key: str, wanted: Values) -> list[Hit]:
    found = rows(connection, "search_by_key", wanted | {"source_key": key})
    hits = {uid: Hit(uid, name, code, f"keys.{source}", key, "exact") for uid, name, code, source in found}
    return list(hits.values())


def _by_text(connection: Connection, part: str, limit: int, wanted: Values) -> list[Hit]:
    beginnings = sorted({part, part.lower(), part.upper(), part.title()})
    if max((len(word) for word in _WORD.findall(part)), default=0) < SHORTEST:
        return _by_beginning(connection, beginnings, wanted)
    values: Values = {"text": part, "beginnings": beginnings, "part": like_pattern(part)}
    found = rows(connection, "search", values | wanted | {"details_limit": DETAILS * limit})
    return [Hit(uid, name, code, field, value, _MATCHES[match]) for uid, name, code, field, value, match in found]


def _by_beginning(connection: Connection, beginnings: list[str], wanted: Values) -> list[Hit]:
    found = rows(connection, "search_by_beginning", wanted | {"beginnings": beginnings})
    hits = [
        Hit(uid, name, code, "display_name", name, "exact" if name in beginnings else "prefix")
        for uid, name, code in found
    ]
    return sorted(hits, key=lambda hit: hit.match != "exact")
