"""The end of an entity over REST: deleted, deleted again, and started again."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from serving import (
    ENTITIES,
    a_problem,
    at,
    create,
    history,
    read,
    values,
)

pytestmark = [pytest.mark.integration, pytest.mark.api]

ADA = "ada@example.org"


def test_an_entity_that_ended_starts_again_without_its_old_details(client: httpx.Client) -> None:
    entity = create(client, email=ADA, body={"change_ts": "2024-01-01"})
    assert client.delete(at(entity), params={"change_ts": "2024-02-01"}).status_code == 204
    body = {
        "entity_uid": entity["entity_uid"],
        "display_name": "Ada",
        "entity_type": "PERSON",
        "change_ts": "2024-03-01",
    }
    answer = client.post(ENTITIES, json=body)
    assert (answer.status_code, answer.json()["details"], answer.json()["display_name"]) == (201, [], "Ada")
    assert [(v["valid_from"], v["valid_to"]) for v in history(client, entity)] == [
        ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("2024-03-01T00:00:00Z", None),
    ]
    a_problem(client.get(at(entity), params={"as_of": "2024-02-15"}), 404, "did not exist at that time")
    assert values(read(client, entity, as_of="2024-01-15")) == {"email": ADA}


def test_a_deleted_entity_is_gone_and_all_its_past_still_answers(client: httpx.Client) -> None:
    entity = create(client, email=ADA, body={"change_ts": "2024-01-01"})
    answer = client.delete(at(entity), params={"change_ts": "2024-02-01"})
    assert (answer.status_code, answer.content) == (204, b"")
    problem = a_problem(client.get(at(entity)), 410, "ended at 2024-02-01T00:00:00Z")
    assert problem["valid_to"] == "2024-02-01T00:00:00Z"
    (version,) = history(client, entity)
    assert (version["valid_to"], version["is_current"]) == ("2024-02-01T00:00:00Z", False)
    assert values(read(client, entity, as_of="2024-01-31")) == {"email": ADA}
    a_problem(client.get(at(entity), params={"as_of": "2024-02-01"}), 404)
    audit = client.get(f"{at(entity)}/audit").json()["results"]
    assert [entry["op"] for entry in audit] == ["upsert", "delete"]
    assert audit[1]["before"] == {"display_name": "Ada Lovelace", "entity_type": "PERSON", "details": {"email": ADA}}
    assert audit[1]["after"] is None


def test_to_delete_again_is_refused_unless_it_is_at_the_same_instant(client: httpx.Client) -> None:
    a_problem(client.delete(f"{ENTITIES}/{uuid4()}"), 404, "was ever known")
    entity = create(client, body={"change_ts": "2024-01-01"})
    assert client.delete(at(entity), params={"change_ts": "2024-02-01"}).status_code == 204
    a_problem(client.delete(at(entity)), 409, "does not exist now")
    a_problem(client.delete(at(entity), params={"change_ts": "2024-03-01"}), 409)
    assert client.delete(at(entity), params={"change_ts": "2024-02-01"}).status_code == 204, "it deletes again"
    assert client.get(f"{at(entity)}/audit").json()["count"] == 3
    assert client.delete(at(entity), params={"change_ts": "2024-01-15"}).status_code == 204, "late, while it existed"
    assert [v["valid_to"] for v in history(client, entity)] == ["2024-01-15T00:00:00Z"]


def test_a_deletion_has_no_body_that_could_be_overlooked(client: httpx.Client) -> None:
    entity = create(client)
    answer = client.request("DELETE", at(entity), json={"change_ts": "2024-01-01"})
    a_problem(answer, 400, "body: ", "?change_ts=")
    a_problem(client.delete(at(entity), params={"force": "1"}), 400, "query.force: is unknown here")
    assert read(client, entity) == entity


def test_of_a_deletion_a_creation_and_a_deletion_at_one_instant_the_last_stands(client: httpx.Client) -> None:
    entity = create(client, body={"change_ts": "2024-01-01"})
    moment = {"change_ts": "2024-02-01"}
    assert client.delete(at(entity), params=moment).status_code == 204
    assert create(client, body={"entity_uid": entity["entity_uid"], **moment})["is_current"]
    assert client.delete(at(entity), params=moment).status_code == 204
    a_problem(client.get(at(entity)), 410)
