"""Undo over REST: a preview, the undo of a drop and of a request, and their taking back."""

from __future__ import annotations

import httpx
import pytest
from serving import ENTITIES, V1, Document, a_problem, create

pytestmark = [pytest.mark.integration, pytest.mark.api]

ADA = "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01"


def dropped(client: httpx.Client, name: str) -> str:
    content = f"entity_uid,display_name,entity_type,details,change_ts\n{ADA},{name},PERSON,[],2024-01-01\n"
    answer = client.post(f"{V1}/drops?file_name=ada.csv", content=content, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sha256"])


def undone(client: httpx.Client, what: str, **params: str) -> Document:
    answer = client.post(f"{V1}/{what}/undo", params={"reason": "wrong", **params})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_drop_is_previewed_undone_and_reinstated(client: httpx.Client) -> None:
    sha256 = dropped(client, "Ada Dropped")
    would = undone(client, f"drops/{sha256}", dry_run="true")
    assert client.get(f"{ENTITIES}/{ADA}").json()["display_name"] == "Ada Dropped"
    did = undone(client, f"drops/{sha256}")
    assert (would.pop("dry_run"), did.pop("dry_run")) == (True, False)
    assert would | {"batch_id": 0} == did | {"batch_id": 0}
    assert (did["kind"], did["changes"], did["entities"], did["entity_versions_removed"]) == ("undo", 1, 1, 1)
    at = "2024-01-01T00:00:00Z"
    assert did["differences"][0] == {
        "entity_uid": ADA, "field": "display_name", "at": at, "before": "Ada Dropped", "after": None,
    }  # fmt: skip
    assert client.get(f"{ENTITIES}/{ADA}").status_code == 404
    assert client.get(f"{V1}/drops/{sha256}").json()["status"] == "undone"
    assert undone(client, f"drops/{sha256}", reinstate="true")["kind"] == "reinstate"
    assert client.get(f"{ENTITIES}/{ADA}").json()["display_name"] == "Ada Dropped"
    assert client.get(f"{V1}/drops/{sha256}").json()["status"] == "merged"
    audit = client.get(f"{ENTITIES}/{ADA}/audit").json()["results"]
    assert [(entry["op"], entry.get("reason")) for entry in audit] == [
        ("upsert", None), ("undo", "wrong"), ("reinstate", "wrong"),
    ]  # fmt: skip
    drop = {"kind": "drop", "sha256": sha256, "file_name": "ada.csv", "line": None}
    assert [entry.get("undone") for entry in audit] == [None, drop, drop]


def test_the_feed_tells_of_undos(client: httpx.Client) -> None:
    sha256 = dropped(client, "Ada Followed")
    after = client.get(f"{V1}/changes", params={"page_size": 1000}).json()["next"]
    undone(client, f"drops/{sha256}")
    undone(client, f"drops/{sha256}", reinstate="true")
    found = client.get(f"{V1}/changes", params={"after": after, "include": "entity"}).json()["results"]
    assert [(event["entity_uid"], event["op"], event["since"]) for event in found] == [
        (ADA, "undo", "2024-01-01T00:00:00Z"), (ADA, "reinstate", "2024-01-01T00:00:00Z"),
    ]  # fmt: skip


def test_a_request_is_undone_by_its_batch(client: httpx.Client) -> None:
    uid = create(client, "Before")["entity_uid"]
    after = client.get(f"{V1}/changes", params={"page_size": 1000}).json()["next"]
    client.patch(f"{ENTITIES}/{uid}", json={"display_name": "After"}).raise_for_status()
    (event,) = client.get(f"{V1}/changes", params={"after": after}).json()["results"]
    undone(client, f"batches/{event['batch_id']}")
    assert client.get(f"{ENTITIES}/{uid}").json()["display_name"] == "Before"
    _, patch, undo = client.get(f"{ENTITIES}/{uid}/audit").json()["results"]
    assert patch["source"]["request_id"]
    assert undo["undone"] == patch["source"]
    undone(client, f"batches/{event['batch_id']}", reinstate="true")
    assert client.get(f"{ENTITIES}/{uid}").json()["display_name"] == "After"


def test_what_cannot_be_undone_says_so(client: httpx.Client) -> None:
    a_problem(client.post(f"{V1}/drops/{'0' * 64}/undo", params={"reason": "x"}), 404, "was ever received")
    a_problem(client.post(f"{V1}/batches/{10**15}/undo", params={"reason": "x"}), 404, "was ever recorded")
    sha256 = dropped(client, "Ada Once")
    undone(client, f"drops/{sha256}")
    a_problem(client.post(f"{V1}/drops/{sha256}/undo", params={"reason": "x"}), 409, "undone already")
    problem = a_problem(client.post(f"{V1}/drops/{sha256}/undo"), 400)
    assert problem["errors"][0]["where"] == "query.reason"
    problem = a_problem(client.post(f"{V1}/drops/{sha256}/undo", params={"reason": " "}), 400, "say why")


def test_the_same_bytes_go_in_again_after_an_undo(client: httpx.Client) -> None:
    sha256 = dropped(client, "Ada Again")
    undone(client, f"drops/{sha256}")
    assert dropped(client, "Ada Again") == sha256
    assert client.get(f"{ENTITIES}/{ADA}").json()["display_name"] == "Ada Again"
