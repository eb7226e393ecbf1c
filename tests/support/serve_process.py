"""`crm serve` as it is started, asked, and stopped: a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from running import clean_environment, until

from crm_core.postgres.connection import Database

COMMAND = [sys.executable, "-m", "crm_core", "serve"]


class Serving:
    """A running `crm serve`, and what it writes."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        until(lambda: "The API is at" in self.said() or process.poll() is not None, 30)
        assert process.poll() is None, self.log()
        (address,) = re.findall(r"^The API is at (http://\S+)/docs$", self.said(), re.MULTILINE)
        self.client = httpx.Client(base_url=address, trust_env=False, timeout=30)

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def serving(
    folder: Path, database: Database | None, *arguments: str, log_to: int | None = None, **environment: str
) -> Iterator[Serving]:
    """Start `crm serve` over a database, or over the embedded one of the CRM_HOME that is given, and yield it."""
    given = {} if database is None else {"CRM_DATABASE_URL": database.conninfo}
    with (folder / "said").open("w") as said, (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, "--port", "0", *arguments],
            cwd=folder,
            env=clean_environment(PYTHONUNBUFFERED="1", **given, **environment),
            stdout=said,
            stderr=log if log_to is None else log_to,
            text=True,
        )
    try:
        serve = Serving(process, folder)
        with serve.client:
            yield serve
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
