"""Processes that belong together: started one by one, watched, and stopped together.

Each leads a session of its own, so that Ctrl-C in the terminal does not reach it, and everything it starts ends with
it. One more process, the watchman, waits for the end of this one. If this process is killed before it could stop the
others, the watchman stops them. POSIX only.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

from crm_core.errors import ServiceFailed, SettingsError

GRACE_SECONDS = 6.0  # seconds that the processes have, together, to end by themselves once they are asked to
LAST_LINES, LAST_BYTES = 20, 100_000  # lines of the log that are shown when a process failed
# Bytes of one log, and the number of older ones: <name>.log.1 is the newest of them.
LOG_BYTES, LOGS_KEPT = 5_000_000, 3
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Processes:
    """The processes of a context, stopped when it ends; a second Ctrl-C leaves that to the watchman."""

    logs: Path  # a folder; each process writes to <name>.log in it, of at most LOG_BYTES and what comes meanwhile
    environ: Mapping[str, str]
    lock: IO[str]  # an open lock file: the lock is held until the last process has ended, even if this one is killed
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)  # by name, in order
    began_at: dict[str, int] = field(default_factory=dict)  # by name: the byte of its log where this start begins
    _watchman: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._watchman = subprocess.Popen(
            [sys.executable, "-P", "-m", "crm_core.server.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            pass_fds=[self.lock.fileno()],
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        watchman, orders = self._writes_to()
        with orders:  # they are closed to tell the watchman that all is in order
            _end(process.pid for process in reversed(self.started.values()))
            for process in self.started.values():
                process.wait()
            watchman.kill()
        watchman.wait()

    def start(self, name: str, *command: str, sockets: Collection[socket.socket] = ()) -> None:
        """Start a Python module with arguments; it inherits the sockets under their numbers.

        Its output is appended to its log, whose older part is set aside when it is full.
        """
        self.turn_over(name)
        with self._log_to_append(name) as output:
            self.began_at[name] = output.tell()
            process = subprocess.Popen(
                # -P: a file in the working folder must not replace one of our modules.
                [sys.executable, "-P", "-m", *command],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[one.fileno() for one in sockets],
                start_new_session=True,
            )
        self.started[name] = process
        _, orders = self._writes_to()
        orders.write(f"{process.pid}\n")
        orders.flush()

    def turn_over(self, name: str) -> None:
        """Set a full log aside and begin a new one; its process continues writing at the end of the file."""
        log = self.log(name)
        if not log.exists() or log.stat().st_size <= LOG_BYTES:
            return
        for number in range(LOGS_KEPT - 1, 0, -1):
            with suppress(FileNotFoundError):
                _older(log, number).replace(_older(log, number + 1))
        shutil.copyfile(log, _older(log, 1))
        os.truncate(log, 0)
        self.began_at[name] = 0

    def turn_over_all(self) -> None:
        """Set all full logs aside."""
        for name in self.started:
            self.turn_over(name)

    def require_all(self) -> None:
        """Raise ServiceFailed if a process has ended."""
        for name, process in self.started.items():
            if (status := process.poll()) is not None:
                ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
                raise self.failure(name, ended)

    def failure(self, name: str, fault: str) -> ServiceFailed:
        """Return the error for a process, with the end of its log."""
        with self.log(name).open("rb") as log:
            log.seek(max(self.began_at.get(name, 0), log.seek(0, os.SEEK_END) - LAST_BYTES))
            text = _COLOR.sub("", log.read().decode(errors="replace"))
        return ServiceFailed(name, fault, self.log(name), text.splitlines()[-LAST_LINES:])

    def log(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"

    def _log_to_append(self, name: str) -> BinaryIO:
        """Open a log at its end, for its owner only and never through a link; raise SettingsError."""
        log = self.log(name)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            output = os.fdopen(os.open(log, flags, 0o600), "ab")
        except OSError as error:
            cure = f"{log} cannot be written ({error.strerror}); remove it, or choose another folder"
            raise SettingsError(name="CRM_HOME", value=str(self.logs.parent), cure=cure) from None
        output.seek(0, os.SEEK_END)
        return output

    def _writes_to(self) -> tuple[subprocess.Popen[str], IO[str]]:
        assert self._watchman is not None
        assert self._watchman.stdin is not None
        return self._watchman, self._watchman.stdin


def _older(log: Path, number: int) -> Path:
    return log.with_suffix(f".log.{number}")


def _end(leaders: Iterable[int]) -> None:
    """Stop process groups: all are asked to end, the last started first; those that remain in time are killed."""
    deadline = time.monotonic() + GRACE_SECONDS
    alive = [leader for leader in leaders if _signal(leader, signal.SIGTERM)]
    left = alive
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        for leader in left:
            with suppress(ChildProcessError):  # it is not a child of this process, which is the watchman
                os.waitpid(leader, os.WNOHANG)
        left = [leader for leader in left if _signal(leader, 0)]
    for leader in alive:
        _signal(leader, signal.SIGKILL)


def _signal(leader: int, number: int) -> bool:
    """Send a signal to a group, and return whether it has any process; signal 0 only asks."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _end([int(line) for line in sys.stdin][::-1])
