"""Blocks of bytes for streams: neither many small ones, nor a single one that fills the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK_BYTES = 256 << 10


def in_blocks(parts: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Join parts into blocks of BLOCK_BYTES or slightly more; no part is divided."""
    block: list[bytes | bytearray | memoryview] = []
    size = 0
    for part in parts:
        block.append(part)
        size += len(part)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)
