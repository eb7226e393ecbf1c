"""Nothing waits for ever, and what a client gave up is not done later."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from builders import an_entity, write_drop
from running import clean_environment, until
from serving import ENTITIES, create, served_with_types, waiters

from crm_core.postgres.connection import Database
from crm_core.postgres.session import Bounds

pytestmark = [pytest.mark.integration, pytest.mark.api]


def ask_and_leave(client: httpx.Client, database: Database, request: bytes) -> None:
    """Send a write that has to wait for a lock, and leave while it does."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        connection.sendall(request)
        until(lambda: waiters(database) == 1, 10)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_write_whose_client_left_is_not_made_later(any_fresh_database: Database, method: str) -> None:
    with served_with_types(any_fresh_database) as client, any_fresh_database.connect() as holder:
        entity = create(client)
        address = f"{ENTITIES}/{entity['entity_uid']}"
        body = json.dumps({"display_name": "Late"}).encode() if method == "PATCH" else b""
        head = f"{method} {address} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        holder.execute("lock table ledger in access exclusive mode")
        ask_and_leave(client, any_fresh_database, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: waiters(any_fresh_database) == 0, 10)
        holder.rollback()
        time.sleep(0.3)
        assert client.get(address).json() == entity
        assert client.get(f"{address}/audit").json()["count"] == 1
        assert client.patch(address, json={"display_name": "Now"}).status_code == 200, (
            "the connection is as good as new"
        )


def test_a_drop_whose_client_left_is_not_taken_in(any_fresh_database: Database, tmp_path: Path) -> None:
    body = write_drop(tmp_path / "a.csv", [an_entity("ada")]).read_bytes()
    with served_with_types(any_fresh_database) as client, any_fresh_database.connect() as holder:
        holder.execute("lock table ledger in access exclusive mode")
        head = "POST /api/v1/drops HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        ask_and_leave(client, any_fresh_database, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: waiters(any_fresh_database) == 0, 10)
        holder.rollback()
        assert client.get(ENTITIES).json()["count"] == 0


def test_a_client_that_is_idle_in_a_transaction_loses_its_locks(any_fresh_database: Database) -> None:
    impatient = Database(any_fresh_database.conninfo, Bounds(idle=1))
    with served_with_types(any_fresh_database) as client:
        entity = create(client)
        holder = impatient.connect()
        holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [entity["entity_uid"]])
        holder.execute("lock table ledger in access exclusive mode")
        started = time.monotonic()
        answer = client.patch(f"{ENTITIES}/{entity['entity_uid']}", json={"display_name": "B"})
        assert (answer.status_code, time.monotonic() - started < 10) == (200, True)
        holder.close()


def test_an_ingest_that_is_suspended_in_its_merge_stops_writes_for_a_bounded_time(
    any_fresh_database: Database, tmp_path: Path
) -> None:
    with served_with_types(any_fresh_database) as client, any_fresh_database.connect() as holder:
        entity = create(client)
        drop = write_drop(tmp_path / "a.csv", [an_entity(f"person {number}") for number in range(300)])
        holder.execute("lock table batch in access exclusive mode")  # the merge waits here, with its locks
        command = [sys.executable, "-c", "from crm_core.cli.main import main; main()", "ingest", str(drop)]
        environment = clean_environment(CRM_DATABASE_URL=any_fresh_database.conninfo, CRM_IDLE_TIMEOUT="2")
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as one:
            until(lambda: waiters(any_fresh_database) == 1, 60)
            os.kill(one.pid, signal.SIGSTOP)
            holder.rollback()
            started = time.monotonic()
            address = f"{ENTITIES}/{entity['entity_uid']}"
            assert client.patch(address, json={"display_name": "B"}).status_code == 200
            assert time.monotonic() - started < 15
            os.kill(one.pid, signal.SIGCONT)
            _, said = one.communicate(timeout=60)
            (line,) = said.splitlines()
            assert one.returncode == 1
            assert line.startswith("error: ")
            assert "nothing was changed" in line
        assert client.get(ENTITIES).json()["count"] == 1
        del environment["CRM_IDLE_TIMEOUT"]
        assert subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode == 0


def test_a_statement_that_takes_longer_than_it_may_is_ended(any_fresh_database: Database) -> None:
    bounded = Database(any_fresh_database.conninfo, Bounds(work=1))
    with bounded.connect() as connection, pytest.raises(Exception, match="statement timeout"):
        connection.execute("select pg_sleep(5)")
