"""Reference data over REST: the types of entities and details, which admins keep."""

from __future__ import annotations

import time

import httpx
import pytest
from serving import ENTITIES, V1, Document, a_problem, create, served, values

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

ENTITY_TYPES, DETAIL_TYPES = f"{V1}/entity-types", f"{V1}/detail-types"


def listed(client: httpx.Client, path: str) -> list[Document]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["count"], found["next"], found["previous"]) == (len(found["results"]), None, None)
    return list(found["results"])


def test_the_types_are_listed_by_code(client: httpx.Client) -> None:
    assert listed(client, ENTITY_TYPES)[:2] == [
        {"code": "INSTITUTION", "name": "Institution", "description": "", "is_active": True},
        {"code": "PERSON", "name": "Person", "description": "", "is_active": True},
    ]
    found = {kind["code"]: kind for kind in listed(client, DETAIL_TYPES)}
    assert list(found) == sorted(found)
    assert found["email"] == {
        "code": "email", "name": "Email", "description": "", "is_active": True, "compares": "casefold",
    }  # fmt: skip


def test_a_new_detail_type_is_a_parameter_and_a_detail_at_once(client: httpx.Client) -> None:
    a_problem(client.get(ENTITIES, params={"fax": "1"}), 400, "query.fax")
    answer = client.post(DETAIL_TYPES, json={"code": "fax", "name": "Fax", "compares": "exact"})
    assert answer.status_code == 201
    assert answer.json() == {"code": "fax", "name": "Fax", "description": "", "is_active": True, "compares": "exact"}
    assert client.get(ENTITIES, params={"fax": "1"}).json()["count"] == 0
    entity = create(client, FAX="1")
    assert values(entity) == {"fax": "1"}
    assert client.get(ENTITIES, params={"fax": "1"}).json()["results"] == [entity]
    assert answer.json() in listed(client, DETAIL_TYPES)


def test_a_new_entity_type_can_be_used_at_once(client: httpx.Client) -> None:
    body = {"code": "ROBOT", "name": "Robot", "description": "No person", "is_active": True}
    answer = client.post(ENTITY_TYPES, json=body)
    assert (answer.status_code, answer.json()) == (201, body)
    assert create(client, "R2D2", type_="robot")["entity_type"] == "ROBOT"
    assert client.get(ENTITIES, params={"entity_type": "Robot"}).json()["count"] == 1


def test_another_process_knows_a_new_type_within_a_second(client: httpx.Client, database: Database) -> None:
    with served(database) as other:
        a_problem(other.get(ENTITIES, params={"pager": "1"}), 400)
        assert client.post(DETAIL_TYPES, json={"code": "pager", "name": "Pager"}).status_code == 201
        time.sleep(1.1)
        assert other.get(ENTITIES, params={"pager": "1"}).status_code == 200
        assert values(create(other, pager="5")) == {"pager": "5"}


def test_a_code_exists_once_whatever_its_case(client: httpx.Client) -> None:
    for path, code in ((ENTITY_TYPES, "Person"), (DETAIL_TYPES, "EMAIL")):
        answer = client.post(path, json={"code": code, "name": "Again"})
        a_problem(answer, 409, "already", "change it with PATCH")
    assert [kind["name"] for kind in listed(client, ENTITY_TYPES) if kind["code"] == "PERSON"] == ["Person"]


@pytest.mark.parametrize("path", [ENTITY_TYPES, DETAIL_TYPES])
@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": "Fax"}, "body.code: is missing"),
        ({"code": "fax2"}, "body.name: is missing"),
        ({"code": "", "name": "x"}, "body.code"),
        ({"code": "a b", "name": "x"}, "body.code"),
        ({"code": "é", "name": "x"}, "body.code"),
        ({"code": "a&b", "name": "x"}, "body.code"),
        ({"code": "a" * 64, "name": "x"}, "body.code"),
        ({"code": "1a", "name": "x"}, "body.code"),
        ({"code": "fax2\n", "name": "x"}, "body.code"),
        ({"code": "fax2", "name": ""}, "body.name"),
        ({"code": "fax2", "name": " \t"}, "body.name"),
        ({"code": "fax2", "name": "a\0"}, "body.name"),
        ({"code": "fax2", "name": "x", "is_active": "maybe"}, "body.is_active"),
        ({"code": "fax2", "name": "x", "nope": 1}, "body.nope"),
        ({"code": "fax2", "name": "x", "description": None}, "body.description"),
        ({"code": "fax2", "name": "x", "compares": "loosely"}, "body.compares"),
    ],
)
def test_an_invalid_type_is_refused(client: httpx.Client, path: str, body: Document, where: str) -> None:
    a_problem(client.post(path, json=body), 400, where)
    assert "fax2" not in {kind["code"] for kind in listed(client, path)}


@pytest.mark.parametrize("code", ["q", "page", "PAGE_SIZE", "cursor", "count", "entity_type", "as_of", "known_at"])
def test_a_detail_type_cannot_have_the_name_of_a_parameter(client: httpx.Client, code: str) -> None:
    a_problem(client.post(DETAIL_TYPES, json={"code": code, "name": "x"}), 400, "body.code", "is already a parameter")


def test_a_patch_changes_what_it_names(client: httpx.Client) -> None:
    client.post(DETAIL_TYPES, json={"code": "telex", "name": "Telex", "description": "Old"})
    answer = client.patch(f"{DETAIL_TYPES}/TELEX", json={"name": "Teleprinter"})
    assert answer.status_code == 200
    assert answer.json() == {
        "code": "telex", "name": "Teleprinter", "description": "Old", "is_active": True, "compares": "text",
    }  # fmt: skip
    assert client.patch(f"{DETAIL_TYPES}/telex", json={}).json() == answer.json()
    a_problem(client.patch(f"{DETAIL_TYPES}/telex", json={"code": "x"}), 400, "body.code: is unknown here")
    a_problem(client.patch(f"{DETAIL_TYPES}/nope", json={"name": "x"}), 404, "no detail type nope")
    a_problem(client.patch(f"{ENTITY_TYPES}/email", json={"name": "x"}), 404, "no entity type email")
    a_problem(client.patch(f"{ENTITY_TYPES}/PERSON", json={"compares": "text"}), 400, "body.compares")
    for name in (None, "", "  "):
        a_problem(client.patch(f"{ENTITY_TYPES}/PERSON", json={"name": name}), 400, "body.name")


def test_how_values_compare_is_fixed_once_there_are_some(client: httpx.Client) -> None:
    client.post(DETAIL_TYPES, json={"code": "badge", "name": "Badge"})
    assert client.patch(f"{DETAIL_TYPES}/badge", json={"compares": "casefold"}).json()["compares"] == "casefold"
    entity = create(client, badge="X")
    a_problem(client.patch(f"{DETAIL_TYPES}/badge", json={"compares": "exact"}), 409, "casefold")
    client.delete(f"{ENTITIES}/{entity['entity_uid']}")
    a_problem(client.patch(f"{DETAIL_TYPES}/badge", json={"compares": "exact"}), 409, "keep casefold")
    assert client.patch(f"{DETAIL_TYPES}/badge", json={"compares": "casefold", "name": "B"}).status_code == 200


def test_an_inactive_type_keeps_its_history_and_takes_no_new_changes(client: httpx.Client) -> None:
    client.post(DETAIL_TYPES, json={"code": "icq", "name": "ICQ"})
    client.post(ENTITY_TYPES, json={"code": "CLUB", "name": "Club"})
    entity = create(client, "Chess", type_="CLUB", icq="123")
    for path in (f"{DETAIL_TYPES}/icq", f"{ENTITY_TYPES}/club"):
        assert client.patch(path, json={"is_active": False}).json()["is_active"] is False
    address = f"{ENTITIES}/{entity['entity_uid']}"
    assert client.get(address).json() == entity
    assert client.get(ENTITIES, params={"icq": "123", "entity_type": "CLUB"}).json()["results"] == [entity]
    refused = client.patch(address, json={"details": [{"detail_type": "icq", "detail_value": "4"}]})
    a_problem(refused, 400, "body.details[0].detail_type", "not an active detail type")
    a_problem(client.post(ENTITIES, json={"display_name": "x", "entity_type": "CLUB"}), 400, "body.entity_type")
    assert client.patch(address, json={"display_name": "Chess Club"}).status_code == 200, "what is named is active"
    client.patch(f"{DETAIL_TYPES}/icq", json={"is_active": True})
    assert client.patch(address, json={"details": [{"detail_type": "icq", "detail_value": "4"}]}).status_code == 200
