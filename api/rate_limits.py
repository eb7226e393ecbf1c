"""Rate limits, counted in small files so that all processes of a service count together."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from limits import RateLimitItem

_LOG = logging.getLogger("crm.api")
SWEEP_SECONDS = 60.0  # seconds between two searches for files that are not needed any more
MAX_SWEPT_FILES = 1_000  # files that one search looks at


class Limiter:
    """Count calls in moving windows: one file per limit and client, with the instants of the calls that count."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """Count in a folder that processes share; None: count for this process alone."""
        self._folder, self._is_shared, self._clock = folder, folder is not None, clock
        self._swept = clock()

    def hit(self, limit: RateLimitItem, who: str) -> float:
        """Count a call unless it exceeds the limit; return the seconds until the next is allowed, 0 if this one is.

        If calls cannot be counted, they are allowed: a full disk is no reason to turn clients away.
        """
        now, window = self._clock(), limit.get_expiry()
        try:
            descriptor = os.open(self._file(f"{limit} {who}"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                calls = [at for at in _read(descriptor) if now - window < at <= now]
                if len(calls) >= limit.amount:
                    return max(calls[0] + window - now, 0.001)
                _write(descriptor, [*calls, now])
            finally:
                os.close(descriptor)
            self._sweep(now, window)
        except OSError as error:
            _LOG.warning("calls cannot be counted, so rate limits are not enforced now: %s", error)
        return 0.0

    def wait(self, limit: RateLimitItem, who: str) -> float:
        """Return the seconds until the next call may be made, 0 if one may now; nothing is counted."""
        now, window = self._clock(), limit.get_expiry()
        try:
            descriptor = os.open(self._file(f"{limit} {who}"), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return 0.0
        try:
            calls = [at for at in _read(descriptor) if now - window < at <= now]
        finally:
            os.close(descriptor)
        return max(calls[0] + window - now, 0.001) if len(calls) >= limit.amount else 0.0

    def close(self) -> None:
        """Delete the counts if no other process uses them."""
        if self._folder is not None and not self._is_shared:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _file(self, key: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="crm-limits-"))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]

    def _sweep(self, now: float, window: float) -> None:
        """Remove files that were not written to for so long that none of their calls counts any more."""
        if now - self._swept < max(SWEEP_SECONDS, window):
            return
        self._swept = now
        assert self._folder is not None
        with os.scandir(self._folder) as files:
            for file in islice(files, MAX_SWEPT_FILES):
                if now - file.stat().st_mtime > 2 * window:
                    Path(file.path).unlink(missing_ok=True)


def _read(descriptor: int) -> tuple[float, ...]:
    size = os.fstat(descriptor).st_size // 8
    return struct.unpack(f"<{size}d", os.pread(descriptor, size * 8, 0))


def _write(descriptor: int, calls: list[float]) -> None:
    os.pwrite(descriptor, struct.pack(f"<{len(calls)}d", *calls), 0)
    os.ftruncate(descriptor, len(calls) * 8)
