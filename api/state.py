"""What the requests of a process share: connections, threads that wait for them, and short-lived caches."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import TypeVar

from anyio import CapacityLimiter
from fastapi import Request

from api.middleware.disconnects import until_left
from api.problems import RETRY_SECONDS, Refusal
from api.uploads import Uploads
from crm_core.errors import DatabaseReadOnly, ServerUnreachable
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.pool import Pool
from crm_core.postgres.sqlstates import domain_error
from crm_core.reference import reference_types
from crm_core.settings import Settings
from crm_core.timeline.preview import ChangePreview, preview_change
from crm_core.timeline.single_change import ChangeRequest, ChangeResult, apply_change

TYPES_SECONDS = 1.0  # after which a type that another process added is known
LARGE_COUNT = 10_000  # counts above it may be slightly out of date
COUNT_SECONDS = 10.0  # seconds by which they may be out of date
RENEW_SECONDS = 5.0  # from this age on one request counts again, while the others still use the old count
MAX_COUNTS_KEPT = 1_000
MAX_STREAMS = 4  # answers of everything at once, at one time
MAX_HEAVY_READS = 2  # reads that take long, at one time: they have connections and threads of their own
MAX_HEAVY_QUEUE = 8  # of them that may wait for their turn
MAX_FOLLOWERS = 64  # readers of the feed that wait for news, at one time
MAX_SPOOLS = 2  # answers that are written to our disk first, at one time; the others wait
TRUST_SECONDS = 0.5  # to look whether a connection still stands costs a read more than to be wrong at times
READ_RETRIES = 2  # times that a read whose connection is lost is made again
CONNECTION_SECONDS = 10.0  # seconds that a read waits for a connection
MAX_STATEMENTS = 3  # time-outs after which a database that has not answered counts as silent
LOCK_SECONDS = 20  # that a write waits for locks, and as long again for its turn
MERGE_SECONDS = 300  # the same for a drop, which mostly waits for other drops
OUTCOME_UNKNOWN = ". It is not known whether it was recorded: look, or send it again with the same Idempotency-Key"
TEN_YEARS = 315_360_000.0

T = TypeVar("T")
CountKey = tuple[object, ...]


@dataclass(slots=True)
class Counts:
    """Counts of lists: small ones are counted each time, large ones are cached for some seconds."""

    clock: Callable[[], float] = time.monotonic
    # The count, when it was made, when counting last began.
    _large: dict[CountKey, tuple[int, float, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def count(self, key: CountKey, counted: Callable[[int | None], int]) -> int:
        """Return the number of results; `counted(at_most)` counts up to a number, or all with None."""
        now = self.clock()
        with self._lock:
            number, at, begun = self._large.get(key, (0, -math.inf, -math.inf))
            if now - at < COUNT_SECONDS and now - begun < RENEW_SECONDS:
                return number
            if number:  # the next request need not count
                self._large[key] = (number, at, now)
        if number == 0 and (few := counted(LARGE_COUNT + 1)) <= LARGE_COUNT:
            return few
        number = counted(None)
        with self._lock:
            if len(self._large) >= MAX_COUNTS_KEPT:
                self._large.clear()
            self._large[key] = (number, now, now)
        return number


class State:
    """The objects that all requests of a serving process share."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """Take the settings and the database; nothing is connected before `open`."""
        self.settings, self.database = settings, database
        self.counts = Counts()
        self._silent_after = CONNECTION_SECONDS + MAX_STATEMENTS * settings.statement_timeout
        self._types: tuple[ReferenceTypes, float] | None = None
        idle = TEN_YEARS if settings.db_conn_max_age is None else float(max(settings.db_conn_max_age, 1))
        limit = f"-c statement_timeout={settings.statement_timeout}s"
        self.readers, self.heavy_readers = (
            Pool(
                database,
                size,
                patience=CONNECTION_SECONDS,
                max_idle=idle,
                options=f"{limit} -c default_transaction_read_only=on",
                trust=TRUST_SECONDS,
            )
            for size in (settings.pool_size, MAX_HEAVY_READS)
        )
        limits = f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={LOCK_SECONDS + settings.statement_timeout}s"
        self.writers = Pool(database, settings.pool_size, patience=CONNECTION_SECONDS, max_idle=idle, options=limits)
        merges = max(1, settings.pool_size // 2)
        self.mergers = Pool(
            database, merges, patience=CONNECTION_SECONDS, max_idle=idle, options=f"-c lock_timeout={MERGE_SECONDS}s"
        )
        # As many threads as connections: requests wait in the event loop, and waiting writes do not block reads.
        self._reading = ThreadPoolExecutor(settings.pool_size, "reading")
        self._reading_heavily = ThreadPoolExecutor(MAX_HEAVY_READS, "reading-heavily")
        self._heavy_reads = 0  # long reads that run or wait
        self._writing = ThreadPoolExecutor(settings.pool_size, "writing")
        # Drops have their own thread, so that other writes need not wait for one.
        self._merging = ThreadPoolExecutor(merges, "merging")
        self.uploads = Uploads(settings.home / "uploads")
        self.streaming = CapacityLimiter(MAX_STREAMS)
        self.spooling = CapacityLimiter(MAX_SPOOLS)
        self.following = CapacityLimiter(MAX_FOLLOWERS)

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Return the pools of connections, by what they are used for."""
        return {
            "reading": self.readers,
            "reading heavily": self.heavy_readers,
            "writing": self.writers,
            "merging": self.mergers,
        }

    def open(self) -> None:
        """Start to connect, and remove what a killed process has left behind."""
        for pool in self.pools.values():
            pool.open()
        self.uploads.sweep()

    def close(self) -> None:
        """Close the threads, the connections and the files."""
        every = (self._reading, self._reading_heavily, self._writing, self._merging)
        for threads in every:
            threads.shutdown(wait=False, cancel_futures=True)
        for pool in self.pools.values():
            pool.close()
        for threads in every:
            threads.shutdown()
        self.uploads.close()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a thread over a connection that can only read, and return its result.

        Raises Refusal when the database neither answers nor fails in time.
        """
        answer = asyncio.get_running_loop().run_in_executor(self._reading, self._read, self.readers, work)
        return await _heard(answer, self._silent_after)

    async def read_heavily(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which may take long, in a separate lane so that no other read waits for it.

        Raises Refusal when as many such reads as allowed are waiting already.
        """
        if self._heavy_reads >= MAX_HEAVY_READS + MAX_HEAVY_QUEUE:
            said = f"too many long reads are under way; try again in {RETRY_SECONDS} seconds, or ask for less"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)})
        self._heavy_reads += 1
        try:
            loop = asyncio.get_running_loop()
            answer = loop.run_in_executor(self._reading_heavily, self._read, self.heavy_readers, work)
            return await _heard(answer, self._silent_after * (1 + MAX_HEAVY_QUEUE / MAX_HEAVY_READS))
        finally:
            self._heavy_reads -= 1

    @contextmanager
    def long_read(self, seconds: int) -> Iterator[Connection]:
        """Open a connection for a read that may take a long time; raise DatabaseError."""
        options = f"-c statement_timeout={seconds}s -c default_transaction_read_only=on"
        with self.database.connect(autocommit=True, options=options) as connection:
            try:
                yield connection
            except Exception as error:
                if (ours := domain_error(error)) is None:
                    raise
                raise ours from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` over a connection that can write, as soon as the locks allow it; raise Refusal."""
        return await self._in_turn(self._writing, LOCK_SECONDS, self.writers, work, LOCK_SECONDS + self._silent_after)

    async def change(self, request: ChangeRequest) -> ChangeResult:
        """Make one change, dated now unless it says otherwise; raises Refusal and what `apply_change` raises."""

        def apply(connection: Connection) -> ChangeResult:
            types, time_zone = self.types(connection), self.settings.time_zone
            return apply_change(connection, types, request, now=datetime.now(UTC), time_zone=time_zone)

        return await self.write(apply)

    async def preview(self, request: ChangeRequest) -> ChangePreview:
        """Return what one change would do, and record nothing; raises Refusal and what `apply_change` raises."""

        def look(connection: Connection) -> ChangePreview:
            types, time_zone = self.types(connection), self.settings.time_zone
            return preview_change(connection, types, request, now=datetime.now(UTC), time_zone=time_zone)

        return await self.write(look)

    async def merge(self, work: Callable[[Connection], T]) -> T:
        """Run the work on a drop, which may wait and take far longer."""
        return await self._in_turn(self._merging, MERGE_SECONDS, self.mergers, work)

    async def _in_turn(
        self,
        threads: ThreadPoolExecutor,
        seconds: float,
        pool: Pool,
        work: Callable[[Connection], T],
        silent_after: float | None = None,
    ) -> T:
        """Run the work in one of the threads; if its turn does not come in time, it is not run at all."""
        future = threads.submit(self._write, pool, until_left(work))
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait([waiting], timeout=seconds)
        if not done and future.cancel():
            said = f"other writes have kept this one waiting for {seconds:g} s, and nothing was changed; try again"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)})
        return await _heard(waiting, silent_after, OUTCOME_UNKNOWN)

    def types(self, connection: Connection) -> ReferenceTypes:
        """Return the entity and detail types, at most one second old."""
        now = time.monotonic()
        if self._types is None or now - self._types[1] > TYPES_SECONDS:
            self._types = (reference_types(connection), now)
        return self._types[0]

    def forget_types(self) -> None:
        """Read the types again the next time, because one was changed."""
        self._types = None

    def _read(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        """Run a read, and once more if the connection is lost."""
        for _ in range(READ_RETRIES):
            try:
                return self._with(pool, work)
            except ServerUnreachable as error:
                if error.__cause__ is None:  # no connection could be opened
                    raise
        return self._with(pool, work)

    def _write(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        """Run a write, and once more over a new connection if this one is read-only, because that may have passed."""
        try:
            return self._with(pool, work)
        except DatabaseReadOnly:
            return self._with(pool, work)

    @staticmethod
    def _with(pool: Pool, work: Callable[[Connection], T]) -> T:
        with pool.connection() as connection:
            return work(connection)


async def _heard(answer: asyncio.Future[T], seconds: float | None, more: str = "") -> T:
    """Wait for a thread; raise Refusal if the database does not answer in time.

    The limits that a server enforces itself end nothing while its machine is frozen. The thread goes on waiting.
    """
    try:
        async with asyncio.timeout(seconds) as patience:
            return await answer
    except TimeoutError:
        if not patience.expired():
            raise
        said = f"the database has not answered within {seconds:g} s; try again in a moment{more}"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)}) from None


def state_of(request: Request) -> State:
    """Return the state of the application that serves a request."""
    state: State = request.app.state.crm
    return state
