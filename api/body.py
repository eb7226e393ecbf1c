"""What a body is: in the encoding that its sender declares, and JSON in which no member comes twice."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any

from fastapi import Request

from api.problems import refuse, refuse_all

READ = ("utf-8", "ascii")  # names of codecs; ASCII is UTF-8 too
UNPACK = "is {given!r}, which is not decoded here; decode the body first, and send the plain bytes"


class StrictRequest(Request):
    """A request whose JSON is read as strictly as the details of a drop are."""

    async def json(self) -> Any:
        """Return the body's value; raises Refusal for another charset than UTF-8, and for a member that comes twice."""
        require_utf8(self.headers.get("content-type", ""), "header.Content-Type")
        return read_json(await self.body())


def read_json(body: bytes) -> object:
    """Read a JSON text. Raises ValueError for what is none, and Refusal for a member that comes twice."""
    text = body.decode("utf-8-sig")
    try:
        value: object = json.loads(text, object_pairs_hook=_members)
    except _Repeated:
        places = _repeated(json.loads(text, object_pairs_hook=_Members), "")
        refuse_all((f"body{place}", "is given twice; give it once") for place in places)
    return value


def require_utf8(content_type: str, where: str) -> None:
    """Raise Refusal if the sender declares another encoding than UTF-8: the text would be read for what it is not."""
    message = Message()
    message["content-type"] = content_type
    for name, given in message.get_params(failobj=[]):
        # RFC 2231 (charset*=…) makes it a tuple, of which the last is the value
        charset = str(given[-1] if isinstance(given, tuple) else given).strip("'\" ")
        if name.lower() == "charset" and charset and _codec(charset) not in READ:
            refuse(where, f"says charset={charset}, but only UTF-8 is accepted; convert the text to UTF-8")


def require_unpacked(headers: Mapping[str, str], prefix: str) -> None:
    """Raise Refusal for a body, or a part of a form, that is packed: nobody here would unpack it."""
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
    """A member comes twice, somewhere."""


class _Members(list[tuple[str, object]]):
    """The members of an object, repeated ones and all."""


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Repeated
    return members


def _repeated(value: object, place: str) -> Iterator[str]:
    """Yield the places of members that come again, each once."""
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
