"""The log: a line of JSON for each record, written many at a time, in a thread that nobody waits for."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import threading
import time

FLUSH_SECONDS = 0.2  # that a line may wait; a warning takes all with it at once
STDERR = 2
END_SECONDS = 2.0  # that the last lines have to be written
KEPT = 10_000  # lines that wait to be written, where they cannot be; those that come then are counted
_ENCODED = json.JSONEncoder(default=str).encode  # json.dumps would make one each time
LOGGERS = ("crm", "crm.api", "psycopg", "uvicorn.error")


class Lines(logging.Handler):
    """Writes records to standard error: each by itself would cost a request a third of its time.

    A disk that is full, or a reader that does not read, costs lines and nothing else: they wait, then are counted.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        """Begin to write to a descriptor."""
        super().__init__()
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._lost = 0
        self._unwritten = b""  # the rest of what was begun
        self._is_due = threading.Event()
        threading.Thread(target=self._write_in_time, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if len(self._lines) >= KEPT:
            self._lost += 1
        else:
            self._lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self._is_due.set()

    def flush(self) -> None:
        """Wait until all is written, or cannot be."""
        deadline = time.monotonic() + END_SECONDS
        while (self._lines or self._unwritten) and time.monotonic() < deadline:
            self._is_due.set()
            time.sleep(0.01)

    def _write_in_time(self) -> None:
        while True:
            self._is_due.wait(FLUSH_SECONDS)
            self._is_due.clear()
            try:
                self._write()
            except OSError:  # nobody can be told; the next time may be better
                time.sleep(FLUSH_SECONDS)

    def _write(self) -> None:
        if not self._unwritten:
            with self.lock:  # type: ignore[union-attr]
                lines, self._lines = self._lines, []
                lost, self._lost = self._lost, 0
                self._unwritten = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            if lost:
                told = {"level": "warning", "logger": "crm.api", "message": f"{lost} lines could not be written"}
                self._unwritten += f"{_ENCODED(told)}\n".encode()
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(self._descriptor, self._unwritten) :]


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
    atexit.register(handler.flush)


def flush() -> None:
    """Have the log written to its end."""
    for handler in logging.getLogger("crm.api").handlers:
        handler.flush()
