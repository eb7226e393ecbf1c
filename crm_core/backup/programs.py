"""PostgreSQL's own programs: those that ship with the embedded server, or those in PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crm_core.errors import DatabaseUnfit, EmbeddedServerFailed
from crm_core.postgres.embedded import bundled_binaries

_VERSION = re.compile(r"\) (\d+)")
_SECONDS = 30  # that a program may take to say its version


@dataclass(frozen=True, slots=True)
class Program:
    """A program of PostgreSQL, and its major version."""

    path: Path
    major: int


def program(name: str, *, at_least: int, why: str) -> Program:
    """Return the first program of that name whose major version is high enough.

    `why` says whose version it must reach. Raises DatabaseUnfit if there is none.
    """
    found = list(_found(name))
    for one in found:
        if one.major >= at_least:
            return one
    has = f"{name} here is of PostgreSQL {max(one.major for one in found)}" if found else f"there is no {name} here"
    cause = f"{why} PostgreSQL {at_least}, but {has}"
    cure = f"install the client programs of PostgreSQL {at_least} or later, so that {name} is in PATH"
    raise DatabaseUnfit(cause, cure)


def _found(name: str) -> Iterator[Program]:
    try:
        places = [bundled_binaries() / name]
    except EmbeddedServerFailed:  # this platform has none
        places = []
    in_path = shutil.which(name)
    for path in [*places, *([Path(in_path)] if in_path else [])]:
        if path.is_file():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
            if version := _VERSION.search(said.stdout):
                yield Program(path, int(version[1]))
