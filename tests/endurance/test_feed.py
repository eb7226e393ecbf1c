"""Sixteen writers, drops, snapshots and undos beside a follower of the feed, with kills of all: its copy is true."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from builders import an_entity, day, write_drop
from endurance import SECONDS, a_home, breaches, crash, is_up, with_types
from running import until

from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_batch, undo_drop
from crm_core.errors import CrmError
from crm_core.model import Op
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import running_server
from crm_core.reading import reads
from crm_core.reading.feed import Cursor, feed
from crm_core.reference import reference_types
from crm_core.timeline.single_change import ChangeRequest, Provenance, apply_change
from crm_core.timeline.undo import Kind, Who

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.slow]

WRITERS = 16
WHO = Who("test", "endurance")
LOST = (psycopg.Error, CrmError)  # a connection was cut, or somebody else was quicker


class Crowd:
    """Everybody who works at the same time until the time is over."""

    def __init__(self, database: Database, home: Path, folder: Path) -> None:
        self.database, self.home, self.folder = database, home, folder
        self.end = time.monotonic() + SECONDS
        self.followed: dict[str, object] = {}
        self.cursor: Cursor | None = None
        self.recorded = self.kills = 0

    def again_and_again(self, work: Callable[[Connection, random.Random], None], seed: int) -> None:
        """Do some work until the time is over, over a new connection whenever one is cut."""
        draw = random.Random(seed)
        while time.monotonic() < self.end:
            with suppress(*LOST), self.database.connect(autocommit=True) as connection:
                while time.monotonic() < self.end:
                    work(connection, draw)
            time.sleep(0.02)  # the server may be down

    def write(self, connection: Connection, draw: random.Random) -> None:
        types = reference_types(connection)
        provenance = Provenance("writer", uuid4().hex)
        uid = UUID(int=(draw.randrange(30) + 1) << 121)
        ops: list[Op] = ["upsert", "patch", "patch", "patch", "delete"]
        op = draw.choice(ops)
        name, type_ = (None, None) if op == "delete" else (f"Name {draw.random()}", "PERSON")
        request = ChangeRequest(op, uid, provenance, display_name=name, entity_type=type_)
        with suppress(CrmError):
            apply_change(connection, types, request, now=datetime.now(UTC), time_zone=UTC)
            self.recorded += 1

    def drop(self, connection: Connection, draw: random.Random) -> None:
        rows = [an_entity(f"{draw.randrange(200)}", at=draw.randrange(9), name=f"{draw.random()}") for _ in range(100)]
        ingest_on(connection, write_drop(self.folder / f"{uuid4()}.csv", rows), Options())

    def snapshot(self, connection: Connection, draw: random.Random) -> None:
        at = draw.randrange(9)
        rows = [an_entity(f"{number}", at=at) for number in draw.sample(range(200), 150)]
        snapshot = SnapshotOptions("PERSON", day(at))
        ingest_on(
            connection,
            write_drop(self.folder / f"{uuid4()}.csv", rows),
            Options(snapshot=snapshot, snapshot_limit=1.0),
        )

    def undo(self, connection: Connection, draw: random.Random) -> None:
        kind: Kind = draw.choice(["undo", "reinstate"])
        row = connection.execute(
            "select batch_id, drop_sha256 from batch where source in ('drop', 'request') order by random() limit 1"
        ).fetchone()
        if row is None:
            return
        with suppress(CrmError):
            if row[1] is None:
                undo_batch(connection, row[0], kind, WHO)
            else:
                undo_drop(connection, row[1], kind, WHO)
        time.sleep(0.05)

    def cut(self, connection: Connection, draw: random.Random) -> None:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() order by random() limit 1"
        )
        time.sleep(draw.uniform(0.1, 0.5))

    def kill(self) -> None:
        """Kill the server again and again; it is started again by who keeps it."""
        draw = random.Random(WRITERS)
        while time.monotonic() < self.end:
            time.sleep(draw.uniform(5, 10))
            self.kills += crash(self.home)

    def follow(self, connection: Connection, draw: random.Random) -> None:
        """Take what comes; at times what came is lost, with the place where it ended."""
        page = feed(connection, self.cursor, limit=draw.choice([1, 50, 1_000]), with_entities=True)
        if draw.random() < 0.1:
            return
        for event in map(json.loads, page.documents):
            self.followed[event["entity_uid"]] = event["entity"]
        self.cursor = page.next


def test_the_copy_of_a_follower_is_true_whatever_happens(tmp_path: Path) -> None:
    with a_home() as home, running_server(home, is_kept=True) as conninfo:
        database = with_types(Database(conninfo))
        crowd = Crowd(database, home, tmp_path)
        drops = [crowd.drop, crowd.drop, crowd.snapshot, crowd.undo, crowd.undo]
        jobs = [*[crowd.write] * WRITERS, *drops, crowd.follow, crowd.cut]
        with ThreadPoolExecutor(len(jobs) + 1) as pool:
            done = [pool.submit(crowd.again_and_again, job, seed) for seed, job in enumerate(jobs)]
            done.append(pool.submit(crowd.kill))
            for one in done:
                one.result(timeout=SECONDS + 120)
        until(partial(is_up, database), 60)
        with database.connect(autocommit=True) as connection:
            before = None
            while before != crowd.cursor:
                before = crowd.cursor
                page = feed(connection, crowd.cursor, limit=1_000, with_entities=True)
                for event in map(json.loads, page.documents):
                    crowd.followed[event["entity_uid"]] = event["entity"]
                crowd.cursor = page.next
            lines = b"".join(reads.stream_entities(connection, reference_types(connection))).splitlines()
        truth = {entity["entity_uid"]: entity for entity in map(json.loads, lines)}
        assert {uid: entity for uid, entity in crowd.followed.items() if entity is not None} == truth
        assert crowd.kills >= SECONDS // 20
        assert crowd.recorded > SECONDS
        assert breaches(database) == []
