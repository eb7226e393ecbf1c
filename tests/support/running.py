"""A real `crm up` for tests: a process over a home of its own, asked as its users ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from crm_core.postgres.connection import Database, open_database
from crm_core.server.api import HOST
from crm_core.settings import Settings

COMMAND = [sys.executable, "-c", "from crm_core.cli.main import main; main()", "up"]
SECONDS = 150  # that a start may take on a machine that is busy
ASKING = 1.0  # seconds between questions to Dagster, each of which costs it as much as a page of its UI
SHORT_POLLS = {"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1", "FRESHNESS_DAEMON_INTERVAL_SECONDS": "5"}


@dataclass(frozen=True, slots=True)
class Run:
    """A run of Dagster's."""

    run_id: str
    status: str
    tags: dict[str, str]

    @property
    def drop(self) -> str | None:
        return self.tags.get("dagster/partition")


@dataclass(frozen=True, slots=True)
class Up:
    """A running `crm up`."""

    process: subprocess.Popen[bytes]
    home: Path
    address: str
    given: Database | None  # None: the embedded server's

    @property
    def drops(self) -> Path:
        return self.home / "drops"

    def drop(self, file: Path, name: str | None = None) -> None:
        """Put a copy of a file into the drop folder, whole at once."""
        unseen, seen = self.drops / f".{file.name}", self.drops / (name or file.name)
        unseen.write_bytes(file.read_bytes())
        unseen.rename(seen)

    def said(self) -> str:
        return (self.home / "said").read_text()

    def ask(self, question: str, **variables: object) -> Any:
        """Ask Dagster's GraphQL."""
        body = json.dumps({"query": question, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            said = json.load(answer)
        assert "errors" not in said, said
        return said["data"]

    def runs(self, drop: str | None = None) -> list[Run]:
        """The runs, newest first; those of one drop if it is named."""
        said = self.ask("{ runsOrError(limit: 100) { ... on Runs { results { runId status tags { key value } } } } }")
        runs = [
            Run(run["runId"], run["status"], {tag["key"]: tag["value"] for tag in run["tags"]})
            for run in said["runsOrError"]["results"]
        ]
        return [run for run in runs if drop in (None, run.drop)]

    def launch(self, drop: str) -> None:
        """Run the job over a drop that is known already."""
        params = {
            "selector": {
                "repositoryLocationName": "pipelines", "repositoryName": "__repository__", "jobName": "ingest_drop",
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": drop}]},
        }  # fmt: skip
        said = self.ask(
            "mutation($params: ExecutionParams!) { launchRun(executionParams: $params)"
            " { __typename ... on PythonError { message } } }",
            params=params,
        )
        assert said["launchRun"]["__typename"] == "LaunchRunSuccess", said

    def all_processes(self) -> list[psutil.Process]:
        """Itself and all that it started, the embedded server too."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True), *servers_of(self.home)]

    @contextmanager
    def database(self) -> Iterator[Database]:
        if self.given is not None:
            yield self.given
            return
        with open_database(Settings.from_environment({"CRM_HOME": str(self.home)}, None)) as database:
            yield database


@contextmanager
def new_home() -> Iterator[Path]:
    """Yield a folder for a home, out of reach of pytest, which shuts its own folders to the server's user."""
    with tempfile.TemporaryDirectory(prefix="crm-up-") as folder:
        yield Path(folder)


@contextmanager
def running_up(home: Path, given: Database | None = None) -> Iterator[Up]:
    """Start `crm up` over a home and yield it when it says that it is ready; stop it with Ctrl-C, if it still runs."""
    chosen = {} if given is None else {"CRM_DATABASE_URL": given.conninfo}
    with (home / "said").open("wb") as said:
        process = subprocess.Popen(
            [*COMMAND, *free_ports()],
            cwd=home,
            env=clean_environment(CRM_HOME=str(home), **chosen, **SHORT_POLLS),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: "with Ctrl-C" in (home / "said").read_text() or process.poll() is not None, SECONDS)
        words = (home / "said").read_text()
        assert process.poll() is None, words
        address = next(line.split()[1] for line in words.splitlines() if line.startswith("Open "))
        yield Up(process, home, address, given)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def free_ports() -> list[str]:
    """Options of `crm up` for ports of its own; the first free ones would be those of another that starts meanwhile."""
    with socket.create_server((HOST, 0)) as web, socket.create_server((HOST, 0)) as api:
        return ["--port", str(web.getsockname()[1]), "--api-port", str(api.getsockname()[1])]


def servers_of(home: Path) -> list[psutil.Process]:
    """The embedded server over a home."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(home / "postgres") in (process.info["cmdline"] or ())
    ]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that have not ended."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def until(holds: Callable[[], object], seconds: float, pause: float = 0.25) -> None:
    """Wait until it holds, looking again after each pause; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(pause)  # who is asked needs the processor too


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what chooses a database, a home or a Dagster."""
    ours = ("CRM_", "DJANGO_", "DRF_", "POSTGRES_", "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more
