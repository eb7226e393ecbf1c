"""The Idempotency-Key: a request that is sent again, because its answer was lost, is made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from serving import ENTITIES, Document, a_problem, create

from crm_core.access.tokens import create_token
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.idempotency]

ADA = {"display_name": "Ada", "entity_type": "PERSON"}


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


def count(client: httpx.Client, name: str) -> int:
    return int(client.get(ENTITIES, params={"q": name}).json()["count"])


def changes(client: httpx.Client, entity: Document) -> int:
    return int(client.get(f"{ENTITIES}/{entity['entity_uid']}/audit").json()["count"])


def test_a_creation_sent_again_is_answered_the_same_and_made_once(client: httpx.Client) -> None:
    headers = key()
    first = client.post(ENTITIES, json=ADA | {"display_name": "Once"}, headers=headers)
    again = client.post(ENTITIES, json=ADA | {"display_name": "Once"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for header in ("etag", "location", "content-type"):
        assert again.headers[header] == first.headers[header]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert count(client, "once") == 1
    assert changes(client, first.json()) == 1


def test_a_change_sent_again_is_answered_as_it_was_though_more_came_since(client: httpx.Client) -> None:
    entity = create(client)
    address, headers = f"{ENTITIES}/{entity['entity_uid']}", key()
    tag = client.get(address).headers["etag"]
    first = client.patch(address, json={"display_name": "B"}, headers=headers | {"If-Match": tag})
    client.patch(address, json={"display_name": "C"})
    again = client.patch(address, json={"display_name": "B"}, headers=headers | {"If-Match": tag})
    assert (first.status_code, again.status_code) == (200, 200), "the condition held when it was made"
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert client.get(address).json()["display_name"] == "C"
    assert changes(client, entity) == 3


def test_a_deletion_sent_again_is_answered_the_same(client: httpx.Client) -> None:
    entity = create(client)
    address, headers = f"{ENTITIES}/{entity['entity_uid']}", key()
    answers = [client.delete(address, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
    assert changes(client, entity) == 2


def test_a_key_is_for_one_request_alone(client: httpx.Client) -> None:
    headers = key()
    entity = client.post(ENTITIES, json=ADA, headers=headers).json()
    address = f"{ENTITIES}/{entity['entity_uid']}"
    for other in (
        client.post(ENTITIES, json=ADA | {"display_name": "Bob"}, headers=headers),
        client.patch(address, json={}, headers=headers),
        client.delete(address, headers=headers),
        client.delete(address, params={"change_ts": "2024-01-01"}, headers=headers),
    ):
        a_problem(other, 422, headers["Idempotency-Key"], "new key")
    assert client.get(address).json() == entity


def test_what_was_refused_is_not_kept(client: httpx.Client) -> None:
    headers, uid = key(), str(uuid4())
    body = ADA | {"entity_uid": uid}
    a_problem(client.patch(f"{ENTITIES}/{uid}", json={"display_name": "B"}, headers=headers), 404)
    a_problem(client.post(ENTITIES, json=body | {"display_name": ""}, headers=headers), 400)
    assert client.post(ENTITIES, json=body, headers=headers).status_code == 201
    clash = key()
    a_problem(client.post(ENTITIES, json=body, headers=clash), 409)
    client.delete(f"{ENTITIES}/{uid}")
    assert client.post(ENTITIES, json=body, headers=clash).status_code == 201


@pytest.mark.parametrize("uid", [None, "8b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01"])
def test_two_at_once_make_one_entity(client: httpx.Client, uid: str | None) -> None:
    name = f"At once {uid}"
    for _ in range(5):
        headers = key()
        if uid:
            client.delete(f"{ENTITIES}/{uid}")

        def post(_: int, headers: dict[str, str] = headers) -> httpx.Response:
            body = ADA | {"display_name": name} | ({"entity_uid": uid} if uid else {})
            return client.post(ENTITIES, json=body, headers=headers)

        before = count(client, name)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(post, range(6)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
        assert count(client, name) == before + 1


def test_a_key_belongs_to_who_sent_it(client: httpx.Client, database: Database) -> None:
    headers = key()
    bearers = []
    with database.connect(autocommit=True) as connection:
        for name in ("ann", "bob"):
            _, token = create_token(connection, name, "writer", now=datetime.now(UTC))
            bearers.append({"Authorization": f"Bearer {token}"})
    answers = [client.post(ENTITIES, json=ADA | {"display_name": "Two"}, headers=headers | who) for who in bearers]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["entity_uid"] != answers[1].json()["entity_uid"]
    again = client.post(ENTITIES, json=ADA | {"display_name": "Two"}, headers=headers | bearers[1])
    assert again.content == answers[1].content
