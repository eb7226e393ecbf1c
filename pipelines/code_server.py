"""The process that holds the definitions and runs the runs; the web server and the daemon ask it over a socket."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import runpy
import sys

import dagster as dg

from pipelines import pools
from pipelines.plain_logs import write_plain_logs

RUNS_IMPORT = ["dagster", "dagster._grpc.impl", "dagster_postgres", "psycopg"]  # not polars: its threads do not fork
LIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_orphans(instance: dg.DagsterInstance) -> None:
    """Mark as failed what ran in a code server that is gone, for its runs went with it, and nobody could tell.

    They would hold their place in the queue for ever; as failed ones they are tried again.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=LIVE)):
        instance.report_run_failed(run, "The process that ran it was killed.")


def fork_runs() -> None:
    """Have runs forked from a process that has imported Dagster, which takes each of them seconds otherwise.

    Dagster asks for processes that start from nothing, and has no setting for it.
    """
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(RUNS_IMPORT)
    multiprocessing.get_context = lambda method=None: forked  # type: ignore[assignment]  # noqa: ARG005
    multiprocessing.forkserver.ensure_running()  # so that the first run finds it ready


def main(where: str) -> None:
    """Serve the definitions on the Unix socket `where`, or on the TCP port that it is, until SIGTERM."""
    write_plain_logs()
    with dg.DagsterInstance.get() as instance:
        fail_orphans(instance)
        pools.make_known(instance)
    fork_runs()
    listens = ["--host", "0.0.0.0", "--port", where] if where.isdecimal() else ["--socket", where]
    sys.argv = [
        "dagster",
        "api",
        "grpc",
        "--module-name",
        "pipelines.definitions",
        "--empty-working-directory",
        *listens,
    ]
    runpy.run_module("dagster", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
