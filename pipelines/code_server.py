"""The process that holds the definitions and runs the runs; web server and daemon call it over a socket."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import runpy
import sys

import dagster as dg

from pipelines import pools
from pipelines.plain_logs import write_plain_logs

# Not polars: its threads do not survive a fork.
RUNS_IMPORT = ["dagster", "dagster._grpc.impl", "dagster_postgres", "psycopg"]
LIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_orphans(instance: dg.DagsterInstance) -> None:
    """Mark the runs of a code server that is gone as failed, because they ended with it without a report.

    Otherwise they would hold their place in the queue for ever; as failed runs they are retried.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=LIVE)):
        instance.report_run_failed(run, "The process that ran it was killed.")


def fork_runs() -> None:
    """Fork runs from a process that has imported Dagster already, which saves each of them seconds.

    Dagster asks for processes that start from nothing, and has no setting for it.
    """
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(RUNS_IMPORT)
    multiprocessing.get_context = lambda method=None: forked  # type: ignore[assignment]  # noqa: ARG005
    multiprocessing.forkserver.ensure_running()  # so that it is ready for the first run


def main(where: str) -> None:
    """Serve the definitions on the Unix socket or the TCP port `where` until SIGTERM."""
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
