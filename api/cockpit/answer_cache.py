"""A cache of answers that read all versions: they are read again in the background when something was recorded."""

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
from crm_core.reading.moments import last_recording

LOOK_SECONDS = 1.0  # between two checks whether something was recorded
RENEW_SECONDS = (
    10.0  # an answer older than this is read again if something was recorded at about the time of its reading
)
REST_SECONDS = 60.0  # an answer older than this is read again in any case; pages take the old one meanwhile
STALE_SECONDS = 60.0  # an answer older than this is not shown if something was recorded since: the page waits
LONGEST_SECONDS = 3_600.0  # an answer older than this is not shown at all
ANSWERS_KEPT = 1_000
T = TypeVar("T")


@dataclass(slots=True)
class _Answer:
    value: Any = None
    is_there: bool = False
    read_at: float = -math.inf  # when its reading began
    reading: asyncio.Task[None] | None = None
    failure: Exception | None = None


class AnswerCache:
    """The cached answers of one process."""

    def __init__(self, state: State) -> None:
        """Begin with an empty cache."""
        self._state = state
        self._answers: dict[Hashable, _Answer] = {}
        self._recording: Hashable = None  # what was recorded last
        self._seen_at = -math.inf  # when that was first seen
        self._looked_at = -math.inf

    async def get(self, key: Hashable, work: Callable[[Connection], T]) -> T:
        """Return the result of `work`, cached under the key.

        If something was recorded since it was read, it is at most STALE_SECONDS old. Raises what the work raises.
        """
        answer = await self._renewed(key, work)
        age = time.monotonic() - answer.read_at
        shown = LONGEST_SECONDS if answer.read_at >= self._seen_at else STALE_SECONDS
        if age > shown and answer.reading is not None:
            await asyncio.shield(answer.reading)
            if answer.failure is not None:
                raise answer.failure
        return cast("T", answer.value)

    async def soon(self, key: Hashable, work: Callable[[Connection], T], patience: float) -> T | None:
        """Return what `get` returns, or None if that takes longer than `patience` seconds: the reading goes on."""
        asked = asyncio.ensure_future(self.get(key, work))
        done, _ = await asyncio.wait([asked], timeout=patience)
        if not done:
            asked.add_done_callback(_take_note)
            return None
        return asked.result()

    async def last(self, key: Hashable, work: Callable[[Connection], T], patience: float) -> T | None:
        """Return the last answer, however old, while a new one is read; without one return what `soon` returns."""
        answer = await self._renewed(key, work)
        return cast("T", answer.value) if answer.is_there else await self.soon(key, work, patience)

    def forget(self) -> None:
        """Mark every answer as outdated, because this process has changed something."""
        self._answers = {key: _Answer(old.value, old.is_there) for key, old in self._answers.items()}

    async def _renewed(self, key: Hashable, work: Callable[[Connection], object]) -> _Answer:
        """Return the cached answer for a key; if it is too old, start to read it again."""
        await self._look()
        if len(self._answers) > ANSWERS_KEPT:
            self._answers.clear()
        answer = self._answers.setdefault(key, _Answer())
        is_settled = answer.read_at >= self._seen_at + RENEW_SECONDS
        if answer.reading is None and time.monotonic() - answer.read_at > (
            REST_SECONDS if is_settled else RENEW_SECONDS
        ):
            answer.reading = asyncio.create_task(self._read(answer, work))
        return answer

    async def _look(self) -> None:
        """Find out whether something was recorded, at most once in LOOK_SECONDS."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        with suppress(DatabaseError, Refusal):  # the page itself says so, if it has to read anything
            recording = await self._state.read(
                lambda connection: (*last_recording(connection), self._state.types(connection))
            )
            if recording != self._recording:
                self._recording, self._seen_at = recording, now

    async def _read(self, answer: _Answer, work: Callable[[Connection], object]) -> None:
        answer.failure, began = None, time.monotonic()
        try:
            with suppress(asyncio.CancelledError):
                answer.value = await self._state.read_heavily(work)
                answer.is_there, answer.read_at = True, began
        except (DatabaseError, Refusal) as error:
            answer.failure = error
        finally:
            answer.reading = None


def _take_note(asked: asyncio.Future[T]) -> None:
    """Retrieve the error of a task that nobody waits for, so that asyncio does not log it; the next call raises it."""
    if not asked.cancelled():
        asked.exception()
