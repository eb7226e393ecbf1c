"""Conditional requests as RFC 9110 has them: weak and strong tags, lists of them, and what is checked first."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from serving import ENTITIES, Document, a_problem, create

pytestmark = [pytest.mark.integration, pytest.mark.api]


def at(entity: Document) -> str:
    return f"{ENTITIES}/{entity['entity_uid']}"


def tag_of(client: httpx.Client, entity: Document) -> str:
    return client.get(at(entity)).headers["etag"]


def ledger(client: httpx.Client, entity: Document) -> int:
    return int(client.get(f"{at(entity)}/audit").json()["count"])


def test_a_weak_tag_of_a_proxy_is_not_reported_as_a_change_by_somebody_else(client: httpx.Client) -> None:
    entity = create(client)
    tag = tag_of(client, entity)
    for method in ("patch", "delete"):
        body = {"display_name": "B"} if method == "patch" else None
        refused = client.request(method, at(entity), headers={"If-Match": f"W/{tag}"}, json=body)
        problem = a_problem(refused, 412, "weak", "proxy", "without the W/")
        assert "has changed" not in problem["detail"]
    assert client.get(at(entity), headers={"If-None-Match": f"W/{tag}"}).status_code == 304
    listed = f"W/{tag}, {tag}"
    assert client.patch(at(entity), json={"display_name": "B"}, headers={"If-Match": listed}).status_code == 200
    a_problem(client.patch(at(entity), json={"display_name": "C"}, headers={"If-Match": tag}), 412, "has changed since")


def test_a_tag_may_contain_a_comma_and_an_asterisk(client: httpx.Client) -> None:
    entity = create(client)
    tag = tag_of(client, entity)
    for listed in (
        f"{tag},",
        f",{tag}",
        f'"a",, ,{tag} ,',
        f'"a,b", {tag}',
        f'{tag},"*"',
        f'"W/", {tag}',
        f'"",\t{tag}',
        f'W/"a, {tag[1:-1]}", {tag}',
    ):
        assert client.get(at(entity), headers={"If-None-Match": listed}).status_code == 304, listed
        assert client.patch(at(entity), json={}, headers={"If-Match": listed}).status_code == 200, listed
    for other in ('"x*y"', '"*"', f'"a,{tag[1:-1]}"', f'"{tag[1:-1]} "'.replace(" ", "!"), f'W/"*", "{tag[1:-2]}"'):
        assert client.get(at(entity), headers={"If-None-Match": other}).json() == entity, other
        a_problem(client.patch(at(entity), json={"display_name": "B"}, headers={"If-Match": other}), 412)
    for malformed in (",", "x*y", tag[1:-1], f"{tag} {tag}", f"*, {tag}", '"a" b"', "w/" + tag):
        a_problem(client.get(at(entity), headers={"If-None-Match": malformed}), 400, "header.If-None-Match", "ETag")
        refused = client.patch(at(entity), json={"display_name": "B"}, headers={"If-Match": malformed})
        a_problem(refused, 400, "header.If-Match", "ETag")
    assert ledger(client, entity) == 1


def test_tags_in_several_headers_are_one_list(client: httpx.Client) -> None:
    entity = create(client)
    tag = tag_of(client, entity)
    for name, call in (("If-None-Match", client.get), ("If-Match", client.delete)):
        answer = call(at(entity), headers=[(name, '"x"'), (name, tag)])
        assert answer.status_code == {"If-None-Match": 304, "If-Match": 204}[name]


def test_a_change_on_a_condition_for_reads_is_refused_and_not_made(client: httpx.Client) -> None:
    entity = create(client)
    for condition in ("*", tag_of(client, entity), '"x"'):
        headers = {"If-None-Match": condition}
        a_problem(client.patch(at(entity), json={"display_name": "B"}, headers=headers), 400, "send If-Match")
        a_problem(client.delete(at(entity), headers=headers), 400, "send If-Match")
    assert ledger(client, entity) == 1
    body = {"display_name": "B", "entity_type": "PERSON"}
    a_problem(client.post(ENTITIES, json=body, headers={"If-None-Match": '"x"'}), 400, "send If-Match")
    only_new = {"If-None-Match": "*"}
    assert client.post(ENTITIES, json=body, headers=only_new).status_code == 201
    a_problem(client.post(ENTITIES, json={**body, "entity_uid": entity["entity_uid"]}, headers=only_new), 409)


def test_an_unknown_entity_is_not_found_whatever_the_condition(client: httpx.Client) -> None:
    for condition in ("*", '"x"', 'W/"x"'):
        for body in ({}, {"display_name": "B"}):
            unknown = client.patch(f"{ENTITIES}/{uuid4()}", json=body, headers={"If-Match": condition})
            a_problem(unknown, 404, "was ever known")
        a_problem(client.delete(f"{ENTITIES}/{uuid4()}", headers={"If-Match": condition}), 404)
    ended = create(client)
    client.delete(at(ended))
    for body in ({}, {"display_name": "B"}):
        a_problem(client.patch(at(ended), json=body, headers={"If-Match": "*"}), 412)


def test_a_patch_that_names_nothing_is_checked_and_records_nothing(client: httpx.Client) -> None:
    entity = create(client, body={"change_ts": "2024-01-02"})
    tag = tag_of(client, entity)
    bodies: tuple[Document, ...] = (
        {},
        {"details": []},
        {"change_ts": "2024-06-01"},
        {"entity_uid": entity["entity_uid"]},
    )
    for body in bodies:
        answer = client.patch(at(entity), json=body, headers={"If-Match": tag})
        assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, entity, tag)
    a_problem(client.patch(at(entity), json={}, headers={"If-Match": '"x"'}), 412, "has changed since")
    a_problem(client.patch(at(entity), json={"change_ts": "2024-01-01"}), 409, "does not exist at 2024-01-01")
    a_problem(client.patch(at(entity), json={"change_ts": "2999-01-01"}), 400, "is in the future")
    a_problem(client.patch(f"{ENTITIES}/{uuid4()}", json={}), 404)
    assert ledger(client, entity) == 1
    client.delete(at(entity), params={"change_ts": "2025-01-01"})
    a_problem(client.patch(at(entity), json={}), 409, "last ended at 2025-01-01")
    then = client.patch(at(entity), json={"change_ts": "2024-06-01"})
    assert (then.status_code, then.json()["valid_to"]) == (200, "2025-01-01T00:00:00Z")
