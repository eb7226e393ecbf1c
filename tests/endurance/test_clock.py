"""A clock steps back, the server's or a client's: what was recorded stays before what comes after it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from builders import an_entity, uid, write_drop
from endurance import a_home, breaches, run, send, with_types
from servers import CARELESS, Server
from serving import ENTITIES, create, served, served_with_types

from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import bundled_binaries, running_server

pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.slow]

FAKETIME = next(iter(Path("/usr/lib").glob("**/libfaketime.so.1")), None)
FAKED = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
with_fake_clocks = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")


@contextmanager
def a_server_with_a_clock() -> Iterator[tuple[Database, Callable[[str], None]]]:
    """Yield a database, and what sets the clock of its server: so far ahead, such as +2h."""
    with a_home() as home:
        with running_server(home, settings=CARELESS) as conninfo:
            with_types(Database(conninfo))
        data, clock = home / "postgres", home / "clock"

        def is_set(offset: str) -> None:
            clock.write_text(offset)

        is_set("+0h")
        subprocess.run(
            [bundled_binaries() / "pg_ctl", "start", "-D", data, "-l", data / "server.log", "-w"],
            env={**FAKED, "FAKETIME_TIMESTAMP_FILE": str(clock)},
            user=data.stat().st_uid,
            group=data.stat().st_gid,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
            cwd="/",
            check=True,
        )
        with running_server(home) as conninfo:  # as one that a killed command left
            yield Database(conninfo), is_set


def recorded(database: Database) -> list[datetime]:
    """When each batch was recorded, in recording order."""
    with database.connect() as connection:
        return [at for (at,) in connection.execute("select recorded_at from batch order by batch_id")]


@with_fake_clocks
def test_a_server_whose_clock_steps_back_records_everything_after_what_it_has(tmp_path: Path) -> None:
    with a_server_with_a_clock() as (database, clock), served(database) as client:
        clock("+2h")
        made = create(client, "Ada", email="ada@example.org")
        who = made["entity_uid"]
        assert ingest(database, write_drop(tmp_path / "1.csv", [an_entity("eve", at=1, name="Eve")])).status == "merged"
        keyed = send(client, who, "Ada II", "a key")
        assert keyed.status_code == 200
        ahead = recorded(database)
        assert ahead[-1] - datetime.now(ahead[-1].tzinfo) > timedelta(hours=1), "the clock was ahead"

        clock("+0h")
        again = send(client, who, "Ada II", "a key")
        assert (again.content, again.headers["idempotency-replayed"]) == (keyed.content, "true")
        patched = client.patch(f"{ENTITIES}/{who}", json={"display_name": "Ada III"})
        assert patched.status_code == 200
        assert patched.json()["display_name"] == "Ada III", "what is answered stands"
        assert patched.json()["valid_from"] >= keyed.json()["valid_from"]
        report = ingest(database, write_drop(tmp_path / "2.csv", [an_entity("eve", at=2, name="Eva")]))
        assert (report.status, report.rows_changed) == ("merged", 1)
        assert recorded(database) == sorted(recorded(database))
        assert recorded(database)[-1] >= ahead[-1]

        def name(entity_uid: object, known_at: datetime) -> str:
            answer = client.get(f"{ENTITIES}/{entity_uid}", params={"known_at": known_at.isoformat()})
            return str(answer.json()["display_name"])

        assert name(who, ahead[0]) == name(who, ahead[1]) == "Ada", "as it was known before the step"
        assert name(uid("eve"), ahead[1]) == "Eve"
        assert name(uid("eve"), recorded(database)[-1]) == "Eva"

        clock("+27h")  # a day after it was answered, a key is free
        assert send(client, who, "Ada IV", "another key").status_code == 200
        assert "idempotency-replayed" not in send(client, who, "Ada II", "a key").headers
        clock("+0h")
        assert send(client, who, "Ada II", "a key").headers["idempotency-replayed"] == "true"
        assert recorded(database) == sorted(recorded(database))
        assert breaches(database) == []


def test_after_a_batch_of_the_future_nothing_is_recorded_before_it(server: Server, tmp_path: Path) -> None:
    """The same without a clock to set: a batch stands an hour ahead, as after a step back."""
    with server.clone() as database, served_with_types(database) as client:
        made = create(client, "Ada")
        with database.connect() as connection:
            connection.execute("update batch set recorded_at = recorded_at + interval '1 hour'")
        assert client.patch(f"{ENTITIES}/{made['entity_uid']}", json={"display_name": "Eve"}).status_code == 200
        assert ingest(database, write_drop(tmp_path / "1.csv", [an_entity("eve")])).status == "merged"
        assert recorded(database) == sorted(recorded(database))
        assert len(recorded(database)) == 3
        assert breaches(database) == []


def to(database: Database, clock: str) -> dict[str, str]:
    """Return the environment of a command whose clock differs."""
    return {"CRM_DATABASE_URL": database.conninfo, "FAKETIME": clock, **FAKED}


@with_fake_clocks
def test_a_client_whose_clock_is_behind_or_steps_back_keeps_the_moment_that_a_drop_was_first_seen(
    server: Server, tmp_path: Path
) -> None:
    columns = ("entity_uid", "display_name", "entity_type", "details")
    row = {"entity_uid": str(uid("ada")), "display_name": "Ada", "entity_type": "PERSON", "details": "[]"}
    drop = write_drop(tmp_path / "drop.csv", [row, {**row, "entity_uid": "none"}], columns)
    with server.clone() as database:
        with_types(database)

        def take_in(*options: str, clock: str) -> str:
            found = run("ingest", "--json", *options, drop, seconds=60, **to(database, clock))
            return str(json.loads(found.said)["status"])

        assert take_in("--strict", clock="-1h") == "refused"
        assert take_in(clock="+0h") == "merged"
        assert take_in(clock="-2h") == "replayed"
        with database.connect() as connection:
            ((seen, valid_from, behind),) = connection.execute(
                "select first_seen_at, valid_from, now() - first_seen_at from drop_file, entity"
            )
        assert seen == valid_from
        assert behind > timedelta(minutes=50), "the first clock was behind"
        dated = write_drop(tmp_path / "dated.csv", [an_entity("ada", at=1, name="Ada the First")])
        found = run("ingest", dated, seconds=60, **to(database, "-1h"))
        assert found.status == 0, found
        assert recorded(database) == sorted(recorded(database))
        assert breaches(database) == []
