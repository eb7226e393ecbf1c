"""The log: a line of JSON for each record, written many at a time."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FLUSH_SECONDS = 0.2  # that a line may wait; a warning takes all with it at once
_ENCODED = json.JSONEncoder(default=str).encode  # json.dumps would make one each time
LOGGERS = ("crm.api", "uvicorn.error")


class Lines(logging.Handler):
    """Writes records to standard error; to write each by itself would cost a request a third of its time."""

    def __init__(self) -> None:
        """Begin with nothing to write."""
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self._lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        with self.lock:  # type: ignore[union-attr]
            lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()


class JsonLines(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; what a request brought is only ever a value in it."""
        told: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        told |= getattr(record, "told", None) or {"message": record.getMessage()}
        if hasattr(record, "request_id"):
            told["request_id"] = record.request_id
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return _ENCODED(told)


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def install() -> None:
    """Log what the application and the server say; nobody asks which thread did."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Lines()
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    logging.getLogger("crm.api").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


@asynccontextmanager
async def flushed() -> AsyncIterator[None]:
    """Have the log written in time, and to its end."""

    async def again_and_again() -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            _flush()

    task = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        task.cancel()
        _flush()


def _flush() -> None:
    for handler in logging.getLogger("crm.api").handlers:
        handler.flush()
