"""The program of docs/feed.md keeps a copy true while others write, and however often it is killed."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import httpx
import pytest
from builders import an_entity, write_drop
from serving import ENTITIES, V1, create, served_with_types

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

PAGE = (Path(__file__).parents[2] / "docs/feed.md").read_text()
PROGRAM = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KILLS = 3


def test_the_copy_is_true_whatever_is_written_and_whoever_is_killed(fresh_database: Database, tmp_path: Path) -> None:
    assert PROGRAM is not None
    program = tmp_path / "follow.py"
    program.write_text(PROGRAM[1])
    with served_with_types(fresh_database) as client, ThreadPoolExecutor(4) as pool:

        def follow() -> subprocess.Popen[bytes]:
            command = [sys.executable, str(program), str(client.base_url).rstrip("/"), str(tmp_path / "copy.db")]
            return subprocess.Popen(command)

        follower = follow()
        try:
            writing = [pool.submit(write, client, Random(seed), tmp_path) for seed in range(3)]
            for _ in range(KILLS):
                time.sleep(0.5)
                follower.kill()
                follower.wait(10)
                follower = follow()
            for done in writing:
                done.result(60)
            truth = current(client)
            assert len(truth) > 10
            wait_for(lambda: copied(tmp_path / "copy.db") == truth)
        finally:
            follower.kill()
            follower.wait(10)


def write(client: httpx.Client, draw: Random, folder: Path) -> None:
    """Create, change and delete entities, and drop files, some of which name the same entities."""
    mine: list[str] = []
    name = f"{draw.random()}"
    for number in range(25):
        mine.append(create(client, f"{name} {number}", email=f"{number}@x.org")["entity_uid"])
        address = f"{ENTITIES}/{draw.choice(mine)}"
        match draw.randrange(3):
            case 0:
                client.delete(address).raise_for_status()
                mine.remove(address.rpartition("/")[2])
            case 1:
                client.patch(address, json={"display_name": f"{name} changed {number}"}).raise_for_status()
            case _:
                rows = [an_entity(f"{draw.randrange(20)}", at=number, name=f"{name} {number}") for _ in range(5)]
                drop = write_drop(folder / f"{name}-{number}.csv", rows)
                client.post(
                    f"{V1}/drops", content=drop.read_bytes(), headers={"Content-Type": "text/csv"}
                ).raise_for_status()


def current(client: httpx.Client) -> dict[str, object]:
    lines = client.get(ENTITIES, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    return {entity["entity_uid"]: entity for entity in map(json.loads, lines)}


def copied(file: Path) -> dict[str, object]:
    with sqlite3.connect(file, timeout=10) as copy:
        rows = copy.execute("select entity_uid, document from entity").fetchall()
    copy.close()
    return {uid: json.loads(document) for uid, document in rows}


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the copy did not become true"
        time.sleep(0.1)
