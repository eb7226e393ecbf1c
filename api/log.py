"""The log: one line of JSON for each record, written in batches by a thread in the background."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import threading
import time

FLUSH_SECONDS = 0.2  # that a line may wait; a warning writes all lines at once
STDERR = 2
END_SECONDS = 2.0  # that the last lines have to be written
MAX_WAITING_LINES = 10_000  # lines that wait to be written, where they cannot be; those that come then are counted
_ENCODED = json.JSONEncoder(default=str).encode  # json.dumps would make one each time
LOGGERS = ("crm", "crm.api", "psycopg", "uvicorn.error")


class Lines(logging.Handler):
    """Write records to standard error in batches: one by one they would cost a request a third of its time.

    If the disk is full or the reader stops reading, lines are kept for a while, then dropped and counted.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        """Start to write to a file descriptor."""
        super().__init__()
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._lost = 0
        self._unwritten = b""  # the rest of a line that was partly written
        self._is_due = threading.Event()
        threading.Thread(target=self._write_in_time, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._lost += 1
        else:
            self._lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self._is_due.set()

    def flush(self) -> None:
        """Wait until everything is written, or cannot be written."""
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
            except OSError:  # the error cannot be logged; the next attempt may work
                time.sleep(FLUSH_SECONDS)

    def _write(self) -> None:
        if not self._unwritten:
            with self.lock:  # type: ignore[union-attr]
                lines, self._lines = self._lines, []
                lost, self._lost = self._lost, 0
                self._unwritten = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            if lost:
                fields = {"level": "warning", "logger": "crm.api", "message": f"{lost} lines could not be written"}
                self._unwritten += f"{_ENCODED(fields)}\n".encode()
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(self._descriptor, self._unwritten) :]


class JsonLines(logging.Formatter):
    """Format each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; text from a request is only ever a value in it."""
        fields: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if hasattr(record, "request_id"):
            fields["request_id"] = record.request_id
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _ENCODED(fields)


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def install() -> None:
    """Set up the log for the application and the server."""
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
    """Write out the whole log."""
    for handler in logging.getLogger("crm.api").handlers:
        handler.flush()
