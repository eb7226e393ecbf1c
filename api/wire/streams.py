"""Streams of everything at once: blocks of bytes as the database writes them, each over its own connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import anyio
import anyio.to_thread
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from api.problems import RETRY_SECONDS, Refusal
from api.state import State
from api.wire.paging import NDJSON
from api.wire.tables import Row, as_table
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.rows.header import further_key

STREAM_SECONDS = 1_800  # that the database may take for a stream
SEND_SECONDS = 30.0  # that a client may take to read one block; then its place is freed
# Columns of a file of entities, before one for each detail type, and each source.
COLUMNS = ("entity_uid", "display_name", "entity_type")
Blocks = Callable[[Connection], Iterator[bytes]]


async def stream(
    state: State, blocks_of: Blocks, *, media_type: str = NDJSON, before: bytes = b"", after: bytes = b""
) -> Response:
    """Send all blocks between a prefix and a suffix; an error before the first block is a problem document.

    Raises Refusal when too many streams are running.
    """
    if state.streaming.available_tokens < 1:
        said = "too many streams are running; try again in a moment, or ask for pages"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, said, headers={"Retry-After": str(RETRY_SECONDS)})
    blocks = _blocks(state, blocks_of)
    await state.streaming.acquire_on_behalf_of(blocks)
    try:
        first = await anyio.to_thread.run_sync(next, blocks, b"")
    except BaseException:
        state.streaming.release_on_behalf_of(blocks)
        raise
    return _Stream(state, before + first, blocks, after, media_type)


def as_csv(blocks: Iterable[bytes], types: ReferenceTypes, *, with_keys: bool = False) -> Iterator[bytes]:
    """Turn lines of entities into a CSV file that can be corrected and sent as a drop, one column per detail type.

    With keys, which only entities of now have, there is a column for each source too; of several keys of a source it
    has the first.
    """
    detail_types = [kind.code for kind in types.detail_types]
    sources = [source.code for source in types.sources if source.is_active] if with_keys else []

    def cells(entity: Mapping[str, Any]) -> Iterator[Row]:
        values = {detail["detail_type"]: detail["detail_value"] for detail in entity["details"]}
        keys = {code: key if isinstance(key, str) else key[0] for code, key in entity.get("keys", {}).items()}
        yield [*(entity[name] for name in COLUMNS), *map(values.get, detail_types), *map(keys.get, sources)]

    return as_table(blocks, (*COLUMNS, *detail_types, *map(further_key, sources)), cells)


def as_array(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn lines of documents into the members of a JSON list, without its brackets."""
    comma = b""
    for block in blocks:
        yield comma + block.rstrip(b"\n").replace(b"\n", b",")
        comma = b","


class _Stream(StreamingResponse):
    """A stream of blocks that frees its place whenever the client leaves or stops reading."""

    def __init__(
        self, state: State, first: bytes, blocks: Generator[bytes, None, None], last: bytes, media_type: str
    ) -> None:
        super().__init__(self._body(first, last), media_type=media_type)
        self._state, self._blocks = state, blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stalled = False

        async def send_in_time(message: Message) -> None:
            nonlocal is_stalled
            with anyio.move_on_after(SEND_SECONDS) as patience:
                await send(message)
            if is_stalled := patience.cancelled_caught:
                raise TimeoutError

        try:
            await super().__call__(scope, receive, send_in_time)
        except Exception:
            if not is_stalled:
                raise
            # The answer ends unfinished, which the server shows by closing the connection.
            logging.getLogger("crm.api").warning(
                "a client read nothing for %g seconds, so its answer was cut off", SEND_SECONDS
            )
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._blocks.close)
            self._state.streaming.release_on_behalf_of(self._blocks)

    async def _body(self, first: bytes, last: bytes) -> AsyncIterator[bytes]:
        yield first
        async for block in iterate_in_threadpool(self._blocks):
            yield block
        if last:
            yield last


def _blocks(state: State, blocks_of: Blocks) -> Generator[bytes, None, None]:
    with state.long_read(STREAM_SECONDS) as connection:
        yield from blocks_of(connection)
