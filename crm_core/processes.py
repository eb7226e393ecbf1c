"""Processes that belong together: started one by one, watched, stopped in reverse, and none outlives the rest.

Each leads a session of its own: Ctrl-C at the terminal does not reach it, and all that it starts ends with it. One more
process, the watchman, waits for our end. If we are killed before we could stop the others, it stops them. POSIX only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from crm_core.errors import ServiceFailed

GRACE = 6.0  # seconds that the processes have, together, to end by themselves once they are asked to
LAST_LINES = 20
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Processes:
    """The processes of a context, stopped when it is left; a second Ctrl-C leaves that to the watchman."""

    logs: Path  # a folder; each process writes to <name>.log in it
    environ: Mapping[str, str]
    lock: IO[str]  # an open lock file: what is locked stays so until the last process has ended, even if we are killed
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)  # by name, in order
    _watchman: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._watchman = subprocess.Popen(
            [sys.executable, "-P", "-m", "crm_core.processes"],
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
        with orders:  # to close them is to order
            _end(process.pid for process in reversed(self.started.values()))
            for process in self.started.values():
                process.wait()
            watchman.kill()
        watchman.wait()

    def start(self, name: str, *command: str) -> None:
        """Start a Python module, given its name and arguments; its log of the time before is kept once."""
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],  # -P: no file of the working folder stands for a module of ours
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started[name] = process
        _, orders = self._writes_to()
        orders.write(f"{process.pid}\n")
        orders.flush()

    def require_all(self) -> None:
        """Raise ServiceFailed if a process has ended."""
        for name, process in self.started.items():
            if (status := process.poll()) is not None:
                ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
                raise self.failure(name, ended)

    def failure(self, name: str, fault: str) -> ServiceFailed:
        """Answer the error for a process, with the end of its log."""
        text = _COLOR.sub("", self.log(name).read_text(encoding="utf-8", errors="replace"))
        return ServiceFailed(name, fault, self.log(name), text.splitlines()[-LAST_LINES:])

    def log(self, name: str) -> Path:
        """Answer the file that a process writes to."""
        return self.logs / f"{name}.log"

    def _writes_to(self) -> tuple[subprocess.Popen[str], IO[str]]:
        assert self._watchman is not None
        assert self._watchman.stdin is not None
        return self._watchman, self._watchman.stdin


def _end(leaders: Iterable[int]) -> None:
    """End process groups one after the other: each is asked to, and when the time is over what is left is killed."""
    deadline = time.monotonic() + GRACE
    for leader in leaders:
        alive = _signal(leader, signal.SIGTERM)
        while alive and time.monotonic() < deadline:
            time.sleep(0.05)
            with suppress(ChildProcessError):  # it is not ours: we are the watchman
                os.waitpid(leader, os.WNOHANG)
            alive = _signal(leader, 0)
        _signal(leader, signal.SIGKILL)


def _signal(leader: int, number: int) -> bool:
    """Send a signal to a group, and answer whether there is anyone in it; 0 only asks."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _end([int(line) for line in sys.stdin][::-1])
