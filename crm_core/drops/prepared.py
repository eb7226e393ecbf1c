"""The next batches of a drop, read, validated and encoded in threads while the current one is staged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice

from crm_core.formats.chunk import RawChunk
from crm_core.rows.contract import ValidChunk
from crm_core.timeline.merge import encoded

PREFETCHED_BATCHES = 2  # batches that are validated while one is staged
Prepared = tuple[RawChunk, ValidChunk, list[bytes]]  # the last member: the accepted rows, encoded


def prepared_ahead(batches: Iterator[RawChunk], check: Callable[[RawChunk], ValidChunk]) -> Iterator[Prepared]:
    """Read, validate and encode the next batches in threads, while the caller stages the current one."""

    def prepare(reading: Future[RawChunk | None]) -> Prepared | None:
        if (batch := reading.result()) is None:
            return None
        valid = check(batch)
        return batch, valid, encoded(valid.changes, valid.details)

    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(PREFETCHED_BATCHES, "validate") as validators:
        begun = (validators.submit(prepare, reader.submit(next, batches, None)) for _ in count())
        ahead = deque(islice(begun, PREFETCHED_BATCHES))
        while one := ahead.popleft().result():
            ahead.append(next(begun))
            yield one
