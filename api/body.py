"""The body of a request: it must be UTF-8, and JSON in which no member is given twice."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any

from fastapi import Request

from api.problems import refuse, refuse_all

READ = ("utf-8", "ascii")  # names of Python's codecs; ASCII is a part of UTF-8
UNPACK = "is {given!r}, which is not decoded here; decode the body first, and send the plain bytes"


class StrictRequest(Request):
    """A request whose JSON is read as strictly as the details of a drop are."""

    async def json(self) -> Any:
        """Return the value of the body; raise Refusal for a charset other than UTF-8 or a repeated member."""
        require_utf8(self.headers.get("content-type", ""), "header.Content-Type")
        return read_json(await self.body())


def read_json(body: bytes) -> object:
    """Read a JSON text. Raises ValueError if it is not JSON, and Refusal for a member that is given twice."""
    text = body.decode("utf-8-sig")
    try:
        value: object = json.loads(text, object_pairs_hook=_members)
    except _Repeated:
        places = _repeated(json.loads(text, object_pairs_hook=_Members), "")
        refuse_all((f"body{place}", "is given twice; give it once") for place in places)
    return value


def require_utf8(content_type: str, where: str) -> None:
    """Raise Refusal if the sender declares an encoding other than UTF-8, because the text would be misread."""
    message = Message()
    message["content-type"] = content_type
    for name, given in message.get_params(failobj=[]):
        # RFC 2231 (charset*=…) makes it a tuple whose last member is the value
        charset = str(given[-1] if isinstance(given, tuple) else given).strip("'\" ")
        if name.lower() == "charset" and charset and _codec(charset) not in READ:
            refuse(where, f"says charset={charset}, but only UTF-8 is accepted; convert the text to UTF-8")


def require_unpacked(headers: Mapping[str, str], prefix: str) -> None:
    """Raise Refusal if a body, or a part of a form, is compressed: it would be stored as it is."""
    for name, plain in (("content-encoding", ("identity",)), ("content-transfer-encoding", ("7bit", "8bit", "binary"))):
        given = headers.get(name, "").strip()
        if given and given.lower() not in plain:
            refuse(f"{prefix}{name.title()}", UNPACK.format(given=given))


def _codec(charset: str) -> str | None:
    try:
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None


class _Repeated(Exception):
    """Some member is given twice."""


class _Members(list[tuple[str, object]]):
    """The members of an object, including repeated ones."""


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Repeated
    return members


def _repeated(value: object, place: str) -> Iterator[str]:
    """Yield the place of each member that is given more than once."""
    if isinstance(value, _Members):
        seen: dict[str, int] = {}
        for name, inner in value:
            seen[name] = seen.get(name, 0) + 1
            if seen[name] == 2:
                yield f"{place}.{name}"
            yield from _repeated(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _repeated(inner, f"{place}[{number}]")
