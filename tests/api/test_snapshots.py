"""Snapshots over REST: sent, held, approved and declined."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from serving import ENTITIES, V1, Document, a_problem, served_with_types

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

ADA, BOB = (f"0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a0{number}" for number in (1, 2))
HEADER = "entity_uid,display_name,entity_type,details,change_ts\n"
SNAPSHOT = {"mode": "snapshot", "scope": "PERSON", "at": "2024-03-01", "file_name": "today.csv"}


@pytest.fixture
def client(fresh_database: Database) -> Iterator[httpx.Client]:
    with served_with_types(fresh_database) as client:
        content = f"{HEADER}{ADA},Ada,PERSON,[],2024-01-01\n{BOB},Bob,PERSON,[],2024-01-01\n"
        assert send(client, content).status_code == 201
        yield client


def send(client: httpx.Client, content: str, **params: str) -> httpx.Response:
    return client.post(f"{V1}/drops", content=content, params=params, headers={"Content-Type": "text/csv"})


def held(client: httpx.Client) -> Document:
    answer = send(client, f"{HEADER}{BOB},Bob,PERSON,[],2024-03-01\n", **SNAPSHOT)
    assert answer.status_code == 202, answer.text
    told = dict(answer.json())
    assert answer.headers["location"] == f"{V1}/drops/{told['sha256']}"
    return told


def test_a_snapshot_that_ends_too_much_is_held_and_approved(client: httpx.Client) -> None:
    told = held(client)
    assert (told["status"], told["entities_ended"]) == ("held", 0)
    unlisted = {"would_end": 1, "in_scope": 2, "first": [{"entity_uid": ADA, "display_name": "Ada"}]}
    assert told["unlisted"] == unlisted
    kept = client.get(f"{V1}/drops/{told['sha256']}").json()
    assert (kept["status"], kept["mode"], kept["scope"], kept["snapshot_at"]) == (
        "held", "snapshot", "PERSON", "2024-03-01T00:00:00Z",
    )  # fmt: skip
    assert {name: kept["held"][name] for name in unlisted} == unlisted
    assert client.get(f"{ENTITIES}/{ADA}").status_code == 200
    answer = client.post(f"{V1}/drops/{told['sha256']}/approve", params={"reason": "she has left"})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["status"], answer.json()["entities_ended"]) == ("merged", 1)
    assert client.get(f"{ENTITIES}/{ADA}").json()["valid_to"] == "2024-03-01T00:00:00Z"
    kept = client.get(f"{V1}/drops/{told['sha256']}").json()
    assert (kept["held"]["decision"], kept["held"]["reason"]) == ("approved", "she has left")
    a_problem(client.post(f"{V1}/drops/{told['sha256']}/approve"), 409, "waits for no decision, it is merged")
    events = client.get(f"{V1}/changes").json()["results"]
    assert [(e["op"], e["since"]) for e in events if e["entity_uid"] == ADA][-1] == ("snapshot", "2024-03-01T00:00:00Z")
    audit = client.get(f"{V1}/audit", params={"op": "snapshot"}).json()["results"]
    assert [(entry["entity_uid"], entry["source"]["line"], entry["after"]) for entry in audit] == [(ADA, None, None)]
    assert audit[0]["before"]["display_name"] == "Ada"
    assert audit[0]["approval"] == {"sent_by": "anonymous", "reason": "she has left"}


def test_the_audit_keeps_an_approval_when_the_drop_is_undone_and_held_again(client: httpx.Client) -> None:
    sha256 = held(client)["sha256"]
    assert client.post(f"{V1}/drops/{sha256}/approve", params={"reason": "she has left"}).status_code == 201
    assert client.post(f"{V1}/drops/{sha256}/undo", params={"reason": "she is here"}).status_code in (200, 201)
    assert held(client)["sha256"] == sha256
    audit = client.get(f"{V1}/audit", params={"drop": sha256}).json()["results"]
    approved = {"sent_by": "anonymous", "reason": "she has left"}
    found = [(entry["op"], entry["entity_uid"], entry.get("approval")) for entry in audit]
    assert [entry for entry in found if entry[0] != "undo"] == [("upsert", BOB, approved), ("snapshot", ADA, approved)]
    assert [of for op, _, of in found if op == "undo"] == [None, None]


def test_a_declined_snapshot_is_a_conflict_when_it_is_sent_again(client: httpx.Client) -> None:
    sha256 = held(client)["sha256"]
    a_problem(client.post(f"{V1}/drops/{sha256}/decline"), 400, "reason")
    answer = client.post(f"{V1}/drops/{sha256}/decline", params={"reason": "half a file"})
    assert (answer.status_code, answer.json()["status"]) == (200, "declined")
    again = send(client, f"{HEADER}{BOB},Bob,PERSON,[],2024-03-01\n", **SNAPSHOT)
    a_problem(again, 409, "half a file", f"/drops/{sha256}/approve")
    a_problem(client.post(f"{V1}/drops/{sha256}/decline", params={"reason": "x"}), 409, "it is declined")
    a_problem(client.post(f"{V1}/drops/{'0' * 64}/approve"), 404, "was ever received")


def test_a_dry_run_says_what_would_end(client: httpx.Client) -> None:
    answer = send(client, f"{HEADER}{BOB},Bob,PERSON,[],2024-03-01\n", dry_run="true", **SNAPSHOT)
    assert (answer.status_code, answer.json()["entities_ended"]) == (200, 1)
    assert any("it would be held" in note for note in answer.json()["notes"])
    assert client.get(f"{ENTITIES}/{ADA}").status_code == 200


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"mode": "snapshot"}, "scope"),
        ({"scope": "PERSON"}, "mode=snapshot"),
        ({**SNAPSHOT, "at": "soon"}, "ISO 8601"),
        ({**SNAPSHOT, "scope": "NOBODY"}, "'NOBODY' in the scope is not an entity type"),
        ({**SNAPSHOT, "scope": "source=erp"}, "'erp' in the scope is not a source"),
        ({**SNAPSHOT, "scope": "PERSON,source=erp"}, "name one source alone, or entity types"),
        ({**SNAPSHOT, "at": "2999-01-01"}, "in the future"),
    ],
)
def test_what_no_snapshot_can_have_is_refused(client: httpx.Client, params: dict[str, str], said: str) -> None:
    answer = send(client, f"{HEADER}{BOB},Bob,PERSON,[],2024-03-01\n", **params)
    assert answer.status_code == 400
    assert said in answer.text
