"""What a change would do, over HTTP: it is shown, and nothing of it is there afterwards."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from serving import ENTITIES, a_problem, create

pytestmark = [pytest.mark.integration, pytest.mark.api]


def test_a_patch_that_is_tried_shows_what_it_would_do_to_the_past(client: httpx.Client) -> None:
    entity = create(client, "A", body={"change_ts": "2024-01-01"})
    address = f"{ENTITIES}/{entity['entity_uid']}"
    client.patch(address, json={"display_name": "A", "change_ts": "2024-01-03"})
    before = client.get(f"{address}/history").json()
    body = {"display_name": "B", "change_ts": "2024-01-02"}
    answer = client.patch(f"{address}?dry_run=true", json=body)
    assert answer.status_code == 200
    preview = answer.json()
    assert client.get(f"{address}/history").json() == before
    assert client.get(f"{address}/audit").json()["count"] == 2
    assert client.patch(address, json=body).status_code == 200
    made = client.get(f"{address}/history").json()["results"]
    ended, added, again = preview["versions"]
    assert [version["field"] for version in preview["versions"]] == ["entity"] * 3
    assert [ended["after"], added["after"], again["after"]] == made
    assert (ended["before"], added["before"], again["before"]) == (before["results"][0], None, None)
    assert {name: preview[name] for name in list(preview)[:9]} == {
        "dry_run": True,
        "entity_uid": entity["entity_uid"],
        "outcome": "changed",
        "change_ts": "2024-01-02T00:00:00Z",
        "past_versions": 1,
        "versions_added": 2,
        "versions_changed": 1,
        "versions_removed": 0,
        "differences": [
            {
                "entity_uid": entity["entity_uid"],
                "field": "display_name",
                "at": "2024-01-02T00:00:00Z",
                "before": "A",
                "after": "B",
            }
        ],
    }
    assert preview["entity"] == client.get(address).json()


def test_a_new_entity_that_is_tried_is_not_there(client: httpx.Client) -> None:
    uid = str(uuid4())
    body = {"entity_uid": uid, "display_name": "New", "entity_type": "PERSON", "change_ts": "2024-01-01"}
    answer = client.post(f"{ENTITIES}?dry_run=true", json=body, headers={"Idempotency-Key": "new"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "created")
    assert "location" not in answer.headers
    assert answer.json()["entity"]["display_name"] == "New"
    assert client.get(f"{ENTITIES}/{uid}").status_code == 404
    made = client.post(ENTITIES, json=body, headers={"Idempotency-Key": "new"})
    assert made.status_code == 201, "the key was not used up"
    assert "idempotency-replayed" not in made.headers
    assert made.json() == answer.json()["entity"]


def test_a_deletion_that_is_tried_leaves_the_entity(client: httpx.Client) -> None:
    entity = create(client, "Gone", email="g@x.org", body={"change_ts": "2024-01-01"})
    address = f"{ENTITIES}/{entity['entity_uid']}"
    answer = client.delete(f"{address}?dry_run=true&change_ts=2024-01-05")
    assert answer.status_code == 200
    assert (answer.json()["outcome"], answer.json()["entity"], answer.json()["past_versions"]) == ("deleted", None, 2)
    assert [version["after"]["valid_to"] for version in answer.json()["versions"]] == ["2024-01-05T00:00:00Z"] * 2
    assert client.get(address).json() == entity


def test_conditions_and_faults_are_those_of_the_change_itself(client: httpx.Client) -> None:
    entity = create(client, "Held")
    address = f"{ENTITIES}/{entity['entity_uid']}?dry_run=true"
    a_problem(client.patch(address, json={"display_name": "B"}, headers={"If-Match": '"x"'}), 412)
    a_problem(client.patch(address, json={"display_name": "B", "change_ts": "1990-01-01"}), 409)
    a_problem(client.patch(address, json={"display_name": " "}), 400, "body.display_name")
    a_problem(client.patch(f"{ENTITIES}/{uuid4()}?dry_run=true", json={"display_name": "B"}), 404)
    a_problem(client.post(f"{ENTITIES}?dry_run=true", json={**_posted(entity)}), 409)
    a_problem(client.patch(f"{address.partition('?')[0]}?dry_run=maybe", json={"display_name": "B"}), 400)
    a_problem(client.patch(f"{address.partition('?')[0]}?nope=1", json={"display_name": "B"}), 400, "query.nope")
    tag = client.get(address.partition("?")[0]).headers["etag"]
    assert client.patch(address, json={"display_name": "B"}, headers={"If-Match": tag}).status_code == 200


def _posted(entity: dict[str, object]) -> dict[str, object]:
    return {name: entity[name] for name in ("entity_uid", "display_name", "entity_type")}
