"""Writers over HTTP while the API, the server or the connections between them go, and beside drops for a minute."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from builders import an_entity, day, reference_data, uid, write_drop
from endurance import SECONDS, Written, a_home, breaches, crash, insist, made_once, proxied, run, send, soon, start
from running import until
from servers import Server
from serving import ENTITIES, Document, create, detail_list, served_with_types
from timeline_model import COMPARES, Batch, Model

from crm_core.drops.ingest import ingest
from crm_core.model import Change
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import running_server
from crm_core.reading import reads
from crm_core.server.api import free_port

pytestmark = [pytest.mark.api, pytest.mark.integration, pytest.mark.slow]

WRITERS = 6
PEOPLE = [f"person {number}" for number in range(30)]
INSTANTS = 40  # few, so that many changes are late and many tie
ANSWERS = {"POST": {201, 409}, "PATCH": {200, 404, 409}, "DELETE": {204, 404, 409}}  # the state may forbid a change


@contextmanager
def writing(address: str, people: Sequence[str], refusals: list[str]) -> Iterator[list[Written]]:
    """Have four writers insist on their PATCHes, one after the other, for the block; yield what was answered so far."""
    written: list[Written] = []
    done = threading.Event()

    def write(writer: int) -> None:
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            number = 0
            while not done.wait(0.01):
                number += 1
                who = people[(writer + number) % len(people)]
                written.append(insist(client, who, f"{writer} {number}", refusals))

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        try:
            yield written
        finally:
            done.set()
        for writer in writers:
            writer.result(60)


def answers_replayed(address: str, written: Sequence[Written]) -> bool:
    """Send all of the PATCHes again; say whether each is answered as it was."""
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        again = [(send(client, one.entity_uid, one.name, one.key), one) for one in written]
    return all(a.content == one.answer and a.headers["idempotency-replayed"] == "true" for a, one in again)


def test_writes_over_connections_that_are_cut_are_made_once_if_they_are_repeated(server: Server) -> None:
    chance = random.Random(31)
    refusals: list[str] = []
    with server.clone() as database, proxied(database) as (proxy, behind), served_with_types(behind) as client:
        people = [create(client, name)["entity_uid"] for name in PEOPLE]
        with writing(str(client.base_url), people, refusals) as written:
            for _ in range(40):
                time.sleep(chance.uniform(0.02, 0.4))
                proxy.cut()
        assert refusals.count("database") > 5, "some were cut off"
        assert "API" not in refusals
        assert made_once(database, written)
        assert answers_replayed(str(client.base_url), written)
        assert made_once(database, written)
        assert breaches(database) == []


def test_writes_survive_kills_of_the_api_and_of_the_server_and_are_made_once() -> None:
    chance = random.Random(32)
    refusals: list[str] = []
    port = free_port("127.0.0.1", None, 18_000)
    address = f"http://127.0.0.1:{port}"
    with a_home() as home:
        assert run("migrate", CRM_HOME=str(home)).status == 0
        with running_server(home) as conninfo, Database(conninfo).transaction() as connection:
            reference_data(connection)
        database = Database(conninfo)
        api = serve(home, port)
        try:
            with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
                people = [create(client, name)["entity_uid"] for name in PEOPLE]
            with writing(address, people, refusals) as written:
                for turn in range(10):
                    answered = len(written)
                    soon(lambda: len(written) > answered + 8)  # noqa: B023
                    time.sleep(chance.uniform(0, 0.5))
                    if turn % 2:
                        crash(home)
                        answered = len(written)
                    if turn % 6 == 1:  # the API lives, and starts it again
                        until(lambda: len(written) > answered + 8, 60)  # noqa: B023
                    if turn % 3 != 1:
                        api.kill()
                        api.wait()
                    checked = run("check", CRM_HOME=str(home))  # it starts the server, if there is none
                    assert checked.status == 0, checked
                    if turn % 3 != 1:
                        api = serve(home, port)
            assert refusals.count("API") > 5
            assert made_once(database, written)
            assert answers_replayed(address, written)
            assert made_once(database, written)
            assert breaches(database) == []
        finally:
            api.kill()
            api.wait()


def serve(home: Path, port: int) -> subprocess.Popen[str]:
    """Start `crm serve`, and wait until it answers."""
    api = start("serve", "--port", str(port), output=subprocess.DEVNULL, CRM_HOME=str(home))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:

        def answers() -> bool:
            assert api.poll() is None
            with suppress(httpx.TransportError):
                return client.get("/readyz").status_code == 200
            return False

        until(answers, 120)
    return api


def test_six_writers_beside_drops_for_a_minute_end_as_the_ledger_says(server: Server, tmp_path: Path) -> None:
    ends = time.monotonic() + SECONDS
    answered: Counter[tuple[str, int]] = Counter()
    acknowledged: list[tuple[UUID, str]] = []  # names that were given

    def write(writer: int, client: httpx.Client) -> None:
        chance = random.Random(writer)
        number = 0
        while time.monotonic() < ends:
            number += 1
            who, name = uid(chance.choice(PEOPLE)), f"writer {writer} {number}"
            details = detail_list({chance.choice([*COMPARES]): chance.choice(["1", "2", "x@y.org", "X@Y.org", None])})
            when = {} if chance.random() < 0.2 else {"change_ts": day(chance.randrange(INSTANTS)).isoformat()}
            body = {"display_name": name, "details": details} | when
            match chance.random():
                case low if low < 0.1:
                    answer = client.delete(f"{ENTITIES}/{who}", params=when)
                case low if low < 0.4:
                    answer = client.post(ENTITIES, json={"entity_uid": str(who), "entity_type": "PERSON"} | body)
                case _:
                    answer = client.patch(f"{ENTITIES}/{who}", json=body)
            method = answer.request.method
            assert answer.status_code in ANSWERS[method], answer.text
            answered[method, answer.status_code] += 1
            if answer.status_code in (200, 201):
                acknowledged.append((who, name))

    def drop() -> int:
        chance = random.Random(99)
        number = 0
        while time.monotonic() < ends:
            number += 1
            changes = [
                an_entity(
                    chance.choice(PEOPLE),
                    at=chance.randrange(INSTANTS),
                    op="delete" if chance.random() < 0.1 else "upsert",
                    name=f"drop {chance.randrange(5)}",
                    **{chance.choice([*COMPARES]): chance.choice(["1", "2", "x@y.org", None])},
                )
                for _ in range(40)
            ]
            assert ingest(database, write_drop(tmp_path / f"{number}.csv", changes)).status == "merged"
        return number

    with server.clone() as database, served_with_types(database) as client, ThreadPoolExecutor(WRITERS + 1) as pool:
        dropping = pool.submit(drop)
        for writing in [pool.submit(write, writer, client) for writer in range(WRITERS)]:
            writing.result()
        assert dropping.result() > SECONDS / 10
        assert {status for _, status in answered} == {200, 201, 204, 404, 409}
        assert breaches(database) == []
        ledger = changes_of(database)
        named = {(change.entity_uid, change.display_name) for changes in ledger.values() for change in changes}
        assert {*acknowledged} <= named
        with database.connect() as connection:
            assert [who for who, changes in ledger.items() if not agree(connection, who, Model([Batch(changes)]))] == []


def agree(connection: Connection, entity_uid: UUID, model: Model) -> bool:
    """Return whether the history of an entity is what a model makes of it."""
    documents = [json.loads(document) for document in reads.history(connection, entity_uid)]
    return versions(documents, None) == model.entity_versions(entity_uid) and all(
        versions(documents, detail_type) == model.detail_versions(entity_uid, detail_type) for detail_type in COMPARES
    )


def changes_of(database: Database) -> dict[UUID, list[Change]]:
    """The changes of each entity in the order in which they were recorded.

    None is recorded before an earlier one, and no row of a drop is there that an earlier batch has, unless it comes
    after another of its drop for the same instant: the last line stands.
    """
    query = (
        "select batch_id, source, recorded_at, entity_uid, change_ts, op, display_name, code, details"
        " from ledger join batch using (batch_id) left join entity_type using (entity_type_id)"
        " order by batch_id, row_no"
    )
    changes: dict[UUID, list[Change]] = {}
    last: dict[UUID, datetime] = {}
    said: dict[str, int] = {}  # in which batch first
    before: set[tuple[int, UUID, datetime]] = set()
    with database.connect() as connection:
        for batch_id, source, recorded_at, entity_uid, *row in connection.execute(query):
            change_ts, op, name, code, details = row
            change = Change(entity_uid, change_ts, op, name, code, details or {})
            changes.setdefault(entity_uid, []).append(change)
            assert last.get(entity_uid, recorded_at) <= recorded_at
            last[entity_uid] = recorded_at
            is_new = said.setdefault(str(change), batch_id) == batch_id
            assert is_new or source != "drop" or (batch_id, entity_uid, change_ts) in before, change
            before.add((batch_id, entity_uid, change_ts))
    return changes


def versions(documents: Sequence[Document], detail_type: str | None) -> list[tuple[object, ...]]:
    """The versions of the entity, or of one of its details, as the model has them."""

    def instant(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text)

    names = ("display_name", "entity_type") if detail_type is None else ("detail_value",)
    return [
        (*(d[name] for name in names), instant(d["valid_from"]), instant(d["valid_to"]))
        for d in documents
        if d.get("detail_type") == detail_type
    ]
