"""The body of a request as it arrives: it has a limit and a time-out."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from starlette.types import Message, Receive

from api.problems import Refusal

MIN_BYTES_PER_SECOND = 1_000  # of a body, once the time-out of a client has passed


class LimitedBody:
    """The body of a request, with a size limit and a time-out."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        """Take the largest size in bytes, and how many seconds the client may send nothing."""
        self._receive, self._most, self._patience = receive, most, patience
        self._received, self._begun = 0, time.monotonic()
        self.is_wanted = True  # False: the body is complete, and waiting for more means waiting for the client to leave
        self.is_answered = self.is_cut = False

    def require_length(self, length: str) -> None:
        """Raise Refusal for a Content-Length that is too large or not a number."""
        if not length.isdecimal() or int(length) > self._most:
            raise _too_large(self._most)

    async def receive(self) -> Message:
        """Receive a part; raise Refusal if the body is too large or too slow."""
        if self.is_answered or not self.is_wanted:
            message = await self._receive()
            self.is_cut |= not self.is_answered and message["type"] == "http.disconnect"
            return message
        due = self._begun + self._patience + self._received / MIN_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(min(self._patience, due - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow(self._patience) from None
        self.is_cut = message["type"] == "http.disconnect"
        self.is_wanted = bool(message.get("more_body", False))
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> Refusal:
    said = (
        f"the body has more than {most:,} bytes; send less at a time, or many entities as a drop (POST /api/v1/drops)"
    )
    return Refusal(HTTPStatus.BAD_REQUEST, said)


def _too_slow(patience: float) -> Refusal:
    said = (
        f"the body arrives too slowly: nothing at all, or less than {MIN_BYTES_PER_SECOND:,} bytes per second, within "
        f"{patience:g} s; "
    )
    said += "nothing was changed, so send it again"
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, said, headers={"Connection": "close"})
