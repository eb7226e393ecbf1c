"""The code server: what its runs start from."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest
import yaml

from crm_core.server.up import INSTANCE
from pipelines import pools
from pipelines.assets import drop_to_versions

pytestmark = pytest.mark.unit

IN_A_RUN = """
import os, sys
assert "dagster_postgres" in sys.modules, "it is forked from a process that has imported it"
assert os.listdir(f"/proc/{os.getppid()}/task") == [str(os.getppid())], "a thread that a fork would lose"
"""
IN_THE_CODE_SERVER = f"""
import multiprocessing, sys
from pipelines.code_server import fork_runs
fork_runs()
run = multiprocessing.get_context("spawn").Process(target=exec, args=({IN_A_RUN!r}, {{}}))
run.start()
run.join()
sys.exit(run.exitcode)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_run_is_forked_from_a_process_of_one_thread_that_has_imported_dagster() -> None:
    done = subprocess.run([sys.executable, "-c", IN_THE_CODE_SERVER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_merges_queue_from_the_first_on() -> None:
    ours = yaml.safe_load(INSTANCE.read_text())["concurrency"]
    with dg.instance_for_test(overrides={"concurrency": ours}) as instance:
        pools.make_known(instance)
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {drop_to_versions.op.pool: 1}
