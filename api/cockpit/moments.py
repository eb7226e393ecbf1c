"""The days of change that the time bar stops at: read at times, for it takes a look at all versions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from api.problems import Refusal
from api.state import State
from crm_core.errors import DatabaseError
from crm_core.timeline.moments import DayOfChange, days_of_change

RENEW_SECONDS = 30.0  # days older than this are read again, while pages still take what there is
STOPS = 400  # of the slider


class Moments:
    """Keeps the days of change of one process."""

    def __init__(self, state: State) -> None:
        """Begin with nothing read."""
        self._state = state
        self._days: Sequence[DayOfChange] = ()
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None

    async def days(self) -> Sequence[DayOfChange]:
        """Return the days of change, in order of time; they may be some seconds old."""
        if time.monotonic() - self._read_at > RENEW_SECONDS and self._reading is None:
            self._reading = asyncio.create_task(self._read())
        if math.isinf(self._read_at) and self._reading is not None:
            await asyncio.shield(self._reading)
        return self._days

    async def stops(self) -> list[datetime]:
        """Return instants at which something changed, evenly from all there are, with the first and the last."""
        return thinned([day.last_at for day in await self.days()])

    def forget(self) -> None:
        """Read the days again when they are next wanted: something was changed."""
        self._read_at = min(self._read_at, time.monotonic() - RENEW_SECONDS)

    async def _read(self) -> None:
        try:
            with suppress(DatabaseError, Refusal):
                zone = self._state.settings.time_zone
                self._days = await self._state.read_heavily(partial(days_of_change, time_zone=zone))
                self._read_at = time.monotonic()
        finally:
            self._reading = None


def thinned(instants: Sequence[datetime], most: int = STOPS) -> list[datetime]:
    """Return at most so many of the instants, evenly, with the first and the last."""
    if len(instants) <= most:
        return list(instants)
    return [instants[round(place * (len(instants) - 1) / (most - 1))] for place in range(most)]
