"""Processes end together: with all that they started, even when their parent is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from running import until

from crm_core.errors import ServiceFailed, SettingsError
from crm_core.server.processes import GRACE_SECONDS, LOGS_KEPT, Processes

pytestmark = pytest.mark.unit

SERVER = ["http.server", "0", "--bind", "127.0.0.1"]  # a module of Python's that runs until it is stopped
PARENT = f"""
import os, sys, time
from pathlib import Path
from crm_core.server.processes import Processes
import fcntl
with Path("lock").open("w") as lock, Processes(Path(), dict(os.environ), lock) as processes:
    processes.start("server", *{SERVER})
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(processes.started["server"].pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[IO[str]]:
    with (tmp_path / "lock").open("w") as lock:
        yield lock


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_they_run_while_the_context_lasts_and_no_longer(tmp_path: Path, lock: IO[str]) -> None:
    with Processes(tmp_path, os.environ, lock) as processes:
        processes.start("first", *SERVER)
        processes.start("second", *SERVER)
        pids = [process.pid for process in processes.started.values()]
        children = psutil.Process().children()
        processes.require_all()
        assert all(runs(pid) for pid in pids)
        assert {os.getsid(pid) for pid in pids} == set(pids), "the terminal's Ctrl-C does not reach them"
    assert not any(runs(child.pid) for child in children)
    assert len(children) == 3


def test_one_that_ends_is_an_error_with_the_end_of_its_log(tmp_path: Path, lock: IO[str]) -> None:
    with Processes(tmp_path, os.environ, lock) as processes:
        processes.start("reader", "json.tool", str(tmp_path / "nothing.json"))
        processes.started["reader"].wait()
        with pytest.raises(
            ServiceFailed, match=r"the reader ended with exit status \d; its whole output is in "
        ) as caught:
            processes.require_all()
    assert "nothing.json" in caught.value.last_lines[-1]
    assert caught.value.log == tmp_path / "reader.log"


def test_one_that_is_killed_is_an_error_that_names_the_signal(tmp_path: Path, lock: IO[str]) -> None:
    with Processes(tmp_path, os.environ, lock) as processes:
        processes.start("server", *SERVER)
        processes.started["server"].kill()
        processes.started["server"].wait()
        with pytest.raises(ServiceFailed, match="was ended by signal 9"):
            processes.require_all()


def test_the_earlier_log_is_kept_and_a_failure_shows_only_what_was_written_since(tmp_path: Path, lock: IO[str]) -> None:
    for file in ("first.json", "second.json"):
        with Processes(tmp_path, os.environ, lock) as processes:
            processes.start("reader", "json.tool", file)
            processes.started["reader"].wait()
            words = processes.failure("reader", "ended").last_lines
            assert file in words[-1]
            assert file == "first.json" or not any("first.json" in line for line in words)
    log = (tmp_path / "reader.log").read_text()
    assert log.index("first.json") < log.index("second.json")


def test_a_log_that_is_full_is_kept_aside_while_its_process_goes_on_and_the_oldest_is_dropped(
    tmp_path: Path, lock: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatter.py").write_text("for line in range(10**9): print(f'line {line:020}', flush=True)")
    monkeypatch.setattr("crm_core.server.processes.LOG_BYTES", 5_000)
    log = tmp_path / "chatter.log"
    with Processes(tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)}, lock) as processes:
        processes.start("chatter", "chatter")
        for _ in range(LOGS_KEPT + 2):
            until(lambda: log.stat().st_size > 5_000, 20, pause=0.01)
            processes.turn_over_all()
            processes.require_all()
    kept = sorted(path.name for path in tmp_path.glob("chatter.log*"))
    assert kept == ["chatter.log", *[f"chatter.log.{number}" for number in range(1, LOGS_KEPT + 1)]]
    assert b"\0" not in log.read_bytes(), "its process goes on at the end of what is left"


def test_a_log_is_for_its_owner_alone_and_no_link_is_followed(tmp_path: Path, lock: IO[str]) -> None:
    with Processes(tmp_path, os.environ, lock) as processes:
        processes.start("reader", "json.tool", "--help")
        assert (tmp_path / "reader.log").stat().st_mode & 0o077 == 0
        (tmp_path / "other.log").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SettingsError, match=r"other\.log cannot be written"):
            processes.start("other", "json.tool", "--help")
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_process_started_ends_with_it(tmp_path: Path, lock: IO[str]) -> None:
    (tmp_path / "nest.py").write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-m', *{SERVER}])")
    with Processes(tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)}, lock) as processes:
        processes.start("nest", "nest")
        nest = psutil.Process(processes.started["nest"].pid)
        until(lambda: len(nest.children()) == 1, 10, pause=0.05)
        (inner,) = nest.children()
    assert not runs(inner.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_none_outlives_a_parent_that_is_killed_and_its_lock_holds_as_long(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.send_signal(number)
        with (tmp_path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert not runs(pid)


def test_who_cannot_wait_leaves_a_stubborn_process_to_the_watchman(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    script = PARENT.replace(f"*{SERVER}", "'stubborn'")
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        until(lambda: (tmp_path / "server.log").read_text() == "ready\n", 10, pause=0.05)
        parent.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert parent.poll() is None, "it waits for the process"
        parent.send_signal(signal.SIGINT)
        assert parent.wait(20) != 0
        assert runs(pid)
        until(lambda: not runs(pid), GRACE_SECONDS + 5, pause=0.05)
