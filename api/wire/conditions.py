"""Conditional requests (RFC 9110, section 13): ETags, and the lists of them in If-Match and If-None-Match."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from api.problems import Refusal, refuse

ANY = "*"
WEAK = (
    "If-Match needs a strong ETag, but W/… is a weak one: a proxy that compresses answers has probably weakened it. "
    "Send the tag without the W/, or keep the proxy from compressing answers that have an ETag"
)
_TAG = r'(W/)?"([^"\x00-\x1f\x7f]*)"'  # it may contain a comma
_LIST = re.compile(rf"[ \t,]*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*")  # it may have empty members


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags that a condition lists; `strong` is `["*"]` if any tag matches."""

    strong: Sequence[str]
    weak: Sequence[str] = ()


def etag(document: str) -> str:
    """Return the strong ETag of an answer."""
    return f'"{_digest(document)}"'


def tags_of(request: Request, header: str) -> Tags | None:
    """Read a list of tags from one or more headers of a name; None if the header is missing. Raises Refusal."""
    fields = request.headers.getlist(header)
    if not fields:
        return None
    text = ",".join(fields)
    if text.strip(" \t") == ANY:
        return Tags([ANY])
    if not _LIST.fullmatch(text):
        refuse(f"header.{header}", 'is not a list of ETags; send the ETag exactly as you received it, as "…"')
    # The tag "*" in quotes is not *, and never one of ours.
    found = [(bool(weak), tag) for weak, tag in re.findall(_TAG, text) if tag != ANY]
    return Tags([tag for is_weak, tag in found if not is_weak], [tag for is_weak, tag in found if is_weak])


def is_unchanged(request: Request, document: str) -> bool:
    """Return whether the client already has the document; If-None-Match compares weakly."""
    tags = tags_of(request, "If-None-Match")
    return tags is not None and (tags.strong == [ANY] or _digest(document) in (*tags.strong, *tags.weak))


def require_strong(request: Request) -> None:
    """Raise Refusal if If-Match, which compares strongly, matched nothing but lists a weak tag."""
    tags = tags_of(request, "If-Match")
    if tags is not None and tags.weak:
        raise Refusal(HTTPStatus.PRECONDITION_FAILED, WEAK)


def _digest(document: str) -> str:
    return hashlib.md5(document.encode(), usedforsecurity=False).hexdigest()
