"""The instant of a change over REST: how it is written, which are refused, and which of one instant holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from serving import (
    ENTITIES,
    a_problem,
    at,
    create,
    history,
    patch,
    read,
)

pytestmark = [pytest.mark.integration, pytest.mark.api]


@pytest.mark.parametrize(
    ("change_ts", "valid_from"),
    [
        ("2024-05-06", "2024-05-06T00:00:00Z"),
        ("2024-05-06T07:08", "2024-05-06T07:08:00Z"),
        ("2024-05-06T07:08:09.1234567", "2024-05-06T07:08:09.123456Z"),
        ("2024-05-06T07:08:09-02:30", "2024-05-06T09:38:09Z"),
        ("20240506T070809Z", "2024-05-06T07:08:09Z"),
        (" 2024-05-06 07:08:09Z ", "2024-05-06T07:08:09Z"),
    ],
)
def test_an_instant_may_be_written_in_many_ways(client: httpx.Client, change_ts: str, valid_from: str) -> None:
    assert create(client, body={"change_ts": change_ts})["valid_from"] == valid_from


def test_an_instant_may_be_a_little_ahead_and_no_more(client: httpx.Client) -> None:
    def ahead(**by: int) -> str:
        return (datetime.now(UTC) + timedelta(**by)).isoformat()

    soon = ahead(minutes=4)
    assert create(client, body={"change_ts": soon})["valid_from"] == soon.replace("+00:00", "Z")
    refused = client.post(ENTITIES, json={"display_name": "A", "entity_type": "PERSON", "change_ts": ahead(minutes=6)})
    problem = a_problem(refused, 400, "body.change_ts", "is in the future")
    assert problem["errors"][0]["reason"] == "future_change_ts"


@pytest.mark.parametrize("change_ts", ["2024-13-45", "2023-02-29", "yesterday", "2024", "24:00", "1e9", "infinity"])
def test_an_invalid_instant_is_refused(client: httpx.Client, change_ts: str) -> None:
    for answer in (
        client.post(ENTITIES, json={"display_name": "A", "entity_type": "PERSON", "change_ts": change_ts}),
        client.patch(f"{ENTITIES}/{uuid4()}", json={"change_ts": change_ts}),
        client.delete(f"{ENTITIES}/{uuid4()}", params={"change_ts": change_ts}),
    ):
        where = "query.change_ts" if answer.request.method == "DELETE" else "body.change_ts"
        (fault,) = a_problem(answer, 400)["errors"]
        assert (fault["where"], fault["reason"]) == (where, "invalid_change_ts")


def test_a_request_is_never_a_repeat_and_the_last_of_an_instant_stands(client: httpx.Client) -> None:
    entity = create(client, body={"change_ts": "2024-01-01"})
    for name in ("B", "C", "B"):
        assert patch(client, entity, {"display_name": name, "change_ts": "2024-02-01"})["display_name"] == name
    assert [v["display_name"] for v in history(client, entity)] == ["Ada Lovelace", "B"]
    assert client.get(f"{at(entity)}/audit").json()["count"] == 4


def test_an_undated_change_is_later_than_one_that_is_ahead_of_the_clock(client: httpx.Client) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    entity = create(client, body={"change_ts": "2024-01-01"})
    patch(client, entity, {"display_name": "Ahead", "change_ts": ahead})
    assert patch(client, entity, {"display_name": "Now"})["display_name"] == "Now"
    assert client.delete(at(entity)).status_code == 204
    a_problem(client.get(at(entity)), 410)
    again = create(client, body={"entity_uid": entity["entity_uid"], "display_name": "Again"})
    assert (read(client, entity)["display_name"], again["is_current"]) == ("Again", True)


def test_of_requests_at_one_instant_the_last_holds_even_if_it_was_said_before(client: httpx.Client) -> None:
    entity = create(client, body={"change_ts": "2024-01-01"})
    for name in ("B", "C", "B"):
        answer = client.patch(at(entity), json={"display_name": name, "change_ts": "2024-02-01"})
        assert (answer.status_code, answer.json()["display_name"]) == (200, name)
    assert client.get(f"{at(entity)}/audit").json()["count"] == 4
    for _ in range(2):
        assert client.delete(at(entity), params={"change_ts": "2024-03-01"}).status_code == 204
        assert client.get(at(entity)).status_code == 410
        body = {"display_name": "A", "entity_type": "PERSON"}
        again = client.post(ENTITIES, json={**body, "entity_uid": entity["entity_uid"], "change_ts": "2024-03-01"})
        assert (again.status_code, again.json()["is_current"]) == (201, True)


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_change_ts_is_not_now(client: httpx.Client, blank: str) -> None:
    entity = create(client)
    address = f"{ENTITIES}/{entity['entity_uid']}"
    a_problem(client.delete(address, params={"change_ts": blank}), 400, "change_ts")
    a_problem(client.patch(address, json={"display_name": "B", "change_ts": blank}), 400, "change_ts")
    assert client.get(address).json() == entity
