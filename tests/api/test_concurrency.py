"""Writers over HTTP beside drops: what was acknowledged is there, nothing is seen half, nobody gets another's error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from builders import an_entity, reference_data, uid, write_drop
from serving import ENTITIES, V1, detail_list, served, values

from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import check

pytestmark = [pytest.mark.api, pytest.mark.integration]

WRITERS, WRITES, DROPS = 16, 8, 4
SHARED = [f"shared {number}" for number in range(8)]
PAIR = [f"pair {number}" for number in range(30)]


@pytest.fixture
def database(fresh_database: Database) -> Database:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    return fresh_database


@pytest.fixture
def client(database: Database) -> Iterator[httpx.Client]:
    with served(database) as client:
        yield client


def test_sixteen_writers_beside_drops_lose_no_acknowledged_write(
    client: httpx.Client, database: Database, tmp_path: Path
) -> None:
    drops = [
        write_drop(
            tmp_path / f"{number}.csv",
            [an_entity(who, at=number + 1, name=f"drop {number}", phone=str(number)) for who in [*SHARED, *PAIR]],
        )
        for number in range(DROPS)
    ]
    ingest(database, drops[0])

    def write(writer: int) -> list[tuple[str, str]]:
        acknowledged = []
        for number in range(WRITES):
            name = f"writer {writer} write {number}"
            who = str(uid(SHARED[(writer + number) % len(SHARED)]))
            if number % 4 == 3:
                made = client.post(ENTITIES, json={"display_name": name, "entity_type": "PERSON"})
                assert made.status_code == 201, made.text
                who = made.json()["entity_uid"]
            else:
                details = detail_list({"email": f"{writer}.{number}@example.org"})
                patched = client.patch(f"{ENTITIES}/{who}", json={"display_name": name, "details": details})
                assert patched.status_code == 200, patched.text
                assert patched.json()["display_name"] == name, "who is answered sees their own write"
            acknowledged.append((who, name))
        return acknowledged

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        loading = pool.submit(lambda: [ingest(database, drop).status for drop in drops[1:]])
        acknowledged = [pair for pairs in pool.map(write, range(WRITERS)) for pair in pairs]
        assert loading.result() == ["merged"] * (DROPS - 1)

    asserted: dict[str, set[str]] = {}
    for who in {who for who, _ in acknowledged}:
        audit = client.get(f"{ENTITIES}/{who}/audit").json()["results"]
        asserted[who] = {change["asserted"]["display_name"] for change in audit}
        names = [version["display_name"] for version in client.get(f"{ENTITIES}/{who}/history").json()["results"]
                 if version["kind"] == "entity"]  # fmt: skip
        assert {name for one, name in acknowledged if one == who} <= set(names), "each of them was so for a while"
    assert all(name in asserted[who] for who, name in acknowledged)
    with database.connect() as connection:
        assert [found.name for found in check(connection) if not found.holds] == []


def test_no_read_sees_half_of_a_request_or_half_of_a_drop(
    client: httpx.Client, database: Database, tmp_path: Path
) -> None:
    """Each entity's name and details carry one number; those of the drops carry the same number all together."""
    patched = str(uid("patched"))
    details = detail_list({"email": "0", "phone": "0"})
    body = {"entity_uid": patched, "display_name": "0", "entity_type": "INSTITUTION", "details": details}
    assert client.post(ENTITIES, json=body).status_code == 201
    drops = [
        write_drop(
            tmp_path / f"{number}.csv",
            [an_entity(who, at=number + 1, name=str(number), email=str(number), phone=str(number)) for who in PAIR],
        )
        for number in range(12)
    ]
    ingest(database, drops[0])
    done = threading.Event()

    def patch() -> None:
        for number in range(1, 60):
            changed = {
                "display_name": str(number),
                "details": detail_list({"email": str(number), "phone": str(number)}),
            }
            assert client.patch(f"{ENTITIES}/{patched}", json=changed).status_code == 200

    def drop() -> None:
        for file in drops[1:]:
            assert ingest(database, file).status == "merged"

    def read() -> set[str]:
        seen = set()
        while not done.is_set():
            entity = client.get(f"{ENTITIES}/{patched}").json()
            assert set(values(entity).values()) == {entity["display_name"]}, entity
            listed = client.get(ENTITIES, params={"entity_type": "PERSON", "page_size": 200}).json()
            assert listed["count"] == len(PAIR)
            numbers = {one["display_name"] for one in listed["results"]}
            numbers |= {value for one in listed["results"] for value in values(one).values()}
            assert len(numbers) == 1, numbers
            lines = client.get(
                f"{V1}/entities-asof",
                params={"as_of": "2050-01-01", "entity_type": "PERSON"},
                headers={"Accept": "application/x-ndjson"},
            ).text.splitlines()
            assert len({json.loads(line)["display_name"] for line in lines}) == 1
            seen |= {entity["display_name"], *numbers}
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(patch), pool.submit(drop)]
        for writer in writers:
            writer.result(60)
        done.set()
        assert len(set.union(*(reader.result(60) for reader in readers))) > 3, "they read while it changed"
