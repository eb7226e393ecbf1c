"""Answers that take a look at all versions: kept for a while, and read again behind the back of who asks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from api.problems import Refusal
from api.state import State
from crm_core.errors import DatabaseError
from crm_core.postgres.connection import Connection

RENEW_SECONDS = 10.0  # an answer older than this is read again, while pages still take what there is
STALE_SECONDS = 60.0  # an answer older than this is not shown: the page waits for the new one
ANSWERS_KEPT = 1_000
T = TypeVar("T")


@dataclass(slots=True)
class _Answer:
    value: Any = None
    read_at: float = -math.inf
    reading: asyncio.Task[None] | None = None
    failure: Exception | None = None


class Kept:
    """Keeps the answers of one process."""

    def __init__(self, state: State) -> None:
        """Begin with nothing read."""
        self._state = state
        self._answers: dict[Hashable, _Answer] = {}

    async def get(self, key: Hashable, work: Callable[[Connection], T]) -> T:
        """Return what the work reads, at most STALE_SECONDS old; the key says what it is.

        Raises what the work raises.
        """
        if len(self._answers) > ANSWERS_KEPT:
            self._answers.clear()
        answer = self._answers.setdefault(key, _Answer())
        age = time.monotonic() - answer.read_at
        if age > RENEW_SECONDS and answer.reading is None:
            answer.reading = asyncio.create_task(self._read(answer, work))
        if age > STALE_SECONDS and answer.reading is not None:
            await asyncio.shield(answer.reading)
            if answer.failure is not None:
                raise answer.failure
        return cast("T", answer.value)

    async def soon(self, key: Hashable, work: Callable[[Connection], T], patience: float) -> T | None:
        """Return likewise, or None if it is not there within some seconds: it is read on, for who asks again."""
        asked = asyncio.ensure_future(self.get(key, work))
        done, _ = await asyncio.wait([asked], timeout=patience)
        if not done:
            asked.add_done_callback(_take_note)
            return None
        return asked.result()

    def forget(self) -> None:
        """Read everything again when it is next wanted: something was changed here."""
        self._answers.clear()

    async def _read(self, answer: _Answer, work: Callable[[Connection], object]) -> None:
        answer.failure = None
        try:
            with suppress(asyncio.CancelledError):
                answer.value = await self._state.read_heavily(work)
                answer.read_at = time.monotonic()
        except (DatabaseError, Refusal) as error:
            answer.failure = error
        finally:
            answer.reading = None


def _take_note(asked: asyncio.Future[T]) -> None:
    """Look at what came of a question that nobody waits for any more; who asks again gets the error."""
    if not asked.cancelled():
        asked.exception()
