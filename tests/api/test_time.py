"""Time over REST: as of, as known at, history and diff."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from builders import an_entity, uid
from serving import ENTITIES, NDJSON, V1, Document, a_problem, create, detail_list, values

from crm_core.postgres.connection import Database
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.temporal]

ASOF, DIFF = f"{V1}/entities-asof", f"{V1}/diff"


def asked(client: httpx.Client, path: str, **params: Any) -> Document:
    answer = client.get(path, params={name.rstrip("_"): value for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def now() -> str:
    return datetime.now(UTC).isoformat()


@pytest.fixture
def story(client: httpx.Client) -> Document:
    """John Doe of 2020, John Smith since 2022; his email ended, a phone came."""
    entity = create(client, "John Doe", email="john@example.org", body={"change_ts": "2020-01-01"})
    body = {
        "display_name": "John Smith",
        "details": detail_list({"email": None, "phone": "1"}),
        "change_ts": "2022-01-01",
    }
    assert client.patch(f"{ENTITIES}/{entity['entity_uid']}", json=body).status_code == 200
    return entity


def test_an_entity_is_answered_as_it_was(client: httpx.Client, story: Document) -> None:
    address = f"{ENTITIES}/{story['entity_uid']}"
    then = asked(client, address, as_of="2021-06-01")
    assert (then["display_name"], values(then)) == ("John Doe", {"email": "john@example.org"})
    assert (then["valid_from"], then["valid_to"], then["is_current"]) == (
        "2020-01-01T00:00:00Z", "2022-01-01T00:00:00Z", False,
    )  # fmt: skip
    assert asked(client, address, as_of="2021-12-31T23:59:59.999999Z") == then
    since = asked(client, address, as_of="2022-01-01")
    assert (since["display_name"], values(since)) == ("John Smith", {"phone": "1"})
    assert since | {"keys": {}} == asked(client, address)
    assert since == asked(client, address, as_of=now())
    assert asked(client, address, as_of="2022-01-01T01:00:00+01:00") == since
    a_problem(
        client.get(address, params={"as_of": "2019-12-31"}),
        404,
        "did not exist at that time",
        "begins at 2020-01-01T00:00:00Z",
    )
    a_problem(client.get(address, params={"as_of": "2019-12-31", "known_at": now()}), 404, "begins at 2020-01-01")
    a_problem(client.get(f"{ENTITIES}/{uuid4()}", params={"as_of": "2021-01-01"}), 404, "is known")


def test_all_entities_are_answered_as_they_were_by_uid(client: httpx.Client, story: Document) -> None:
    found = asked(client, ASOF, as_of="2021-06-01", page_size=200)
    uids = [entity["entity_uid"] for entity in found["results"]]
    assert uids == sorted(uids)
    assert found["count"] == len(uids)
    (john,) = [entity for entity in found["results"] if entity["entity_uid"] == story["entity_uid"]]
    assert john == asked(client, f"{ENTITIES}/{story['entity_uid']}", as_of="2021-06-01")
    assert asked(client, ASOF, as_of="1900-01-01") == {"count": 0, "next": None, "previous": None, "results": []}


def test_the_filters_are_those_of_then(client: httpx.Client, story: Document) -> None:
    def found(**params: str) -> bool:
        return story["entity_uid"] in [e["entity_uid"] for e in asked(client, ASOF, page_size=200, **params)["results"]]

    assert found(as_of="2021-06-01", q="doe", email="JOHN@example.org", entity_type="person")
    assert not found(as_of="2021-06-01", q="smith")
    assert found(as_of="2023-01-01", q="SMITH", phone="1")
    assert not found(as_of="2023-01-01", email="john@example.org")
    a_problem(client.get(ASOF, params={"as_of": "2021-06-01", "nope": "1"}), 400, "query.nope")


def test_pages_and_cursor_of_a_past_state_agree(client: httpx.Client) -> None:
    for number in range(7):
        create(client, f"Page {number}", body={"change_ts": "2018-01-01"})
    whole = asked(client, ASOF, as_of="2018-06-01", page_size=200)["results"]
    assert len(whole) == 7
    for start in ({}, {"cursor": ""}):
        found, answer = [], asked(client, ASOF, as_of="2018-06-01", page_size=3, **start)
        found += answer["results"]
        while answer["next"]:
            answer = client.get(answer["next"]).json()
            found += answer["results"]
        assert found == whole


def test_what_is_known_is_separate_from_what_was_true(client: httpx.Client, story: Document) -> None:
    address = f"{ENTITIES}/{story['entity_uid']}"
    before = now()
    late = client.patch(address, json={"display_name": "John Late", "change_ts": "2021-01-01"})
    assert late.json()["display_name"] == "John Smith"
    after = now()
    assert asked(client, address, as_of="2021-06-01")["display_name"] == "John Late"
    assert asked(client, address, as_of="2021-06-01", known_at=after)["display_name"] == "John Late"
    assert asked(client, address, as_of="2021-06-01", known_at=before)["display_name"] == "John Doe"
    versions = [asked(client, f"{address}/history", known_at=known)["results"] for known in (before, after)]
    assert [[v["display_name"] for v in found if v["kind"] == "entity"] for found in versions] == [
        ["John Doe", "John Smith"],
        ["John Doe", "John Late", "John Smith"],
    ]
    assert [asked(client, f"{address}/audit", known_at=known)["count"] for known in (before, after)] == [2, 3]
    window = {"from_": "2020-06-01", "to": "2021-06-01", "page_size": 200}
    assert story["entity_uid"] not in {
        d["entity_uid"] for d in asked(client, DIFF, known_at=before, **window)["results"]
    }
    assert story["entity_uid"] in {d["entity_uid"] for d in asked(client, DIFF, known_at=after, **window)["results"]}
    listed = asked(client, ASOF, as_of="2021-06-01", known_at=before, q="john late")
    assert listed["results"] == []
    a_problem(client.get(address, params={"known_at": "2000-01-01"}), 404, "was known yet")
    for part in ("history", "audit"):
        a_problem(client.get(f"{address}/{part}", params={"known_at": "2000-01-01"}), 404, "leave known_at out")


def test_a_deletion_is_known_since_it_was_recorded(client: httpx.Client, story: Document) -> None:
    address = f"{ENTITIES}/{story['entity_uid']}"
    before = now()
    assert client.delete(address).status_code == 204
    assert asked(client, address, known_at=before)["display_name"] == "John Smith"
    told = a_problem(client.get(address, params={"known_at": now()}), 410)
    assert told["valid_to"] == a_problem(client.get(address), 410)["valid_to"]


@pytest.mark.parametrize(
    ("path", "query", "where"),
    [
        (ASOF, "as_of=2024-01-01T00:00:00+01:00", "query.as_of"),
        (f"{ENTITIES}/{UUID(int=1)}", "known_at=2024-01-01T00:00:00+01:00", "query.known_at"),
        (DIFF, "from=2024-01-01T00:00:00+01:00&to=2024-02-01", "query.from"),
        (f"{ENTITIES}/{UUID(int=1)}/history", "known_at=2024-01-01T00:00:00+01:00", "query.known_at"),
    ],
)
def test_a_plus_that_became_a_space_is_explained(client: httpx.Client, path: str, query: str, where: str) -> None:
    a_problem(client.get(f"{path}?{query}"), 400, where, "%2B")
    assert client.get(f"{path}?{query.replace('+', '%2B')}").status_code in (200, 404)


@pytest.mark.parametrize(
    "text", ["", "x", "2024-13-45", "24-01-01", "0000-01-01", "10000-01-01", "now", "2024-01-01T25"]
)
def test_an_invalid_instant_is_refused(client: httpx.Client, text: str) -> None:
    uid = uuid4()
    for path, name, more in (
        (ASOF, "as_of", {}),
        (ASOF, "known_at", {"as_of": "2024-01-01"}),
        (f"{ENTITIES}/{uid}", "as_of", {}),
        (f"{ENTITIES}/{uid}", "known_at", {}),
        (f"{ENTITIES}/{uid}/history", "known_at", {}),
        (f"{ENTITIES}/{uid}/audit", "known_at", {}),
        (DIFF, "from", {"to": "2024-01-01"}),
        (DIFF, "to", {"from": "2024-01-01"}),
        (DIFF, "known_at", {"from": "2024-01-01", "to": "2024-01-02"}),
    ):
        a_problem(client.get(path, params={name: text, **more}), 400, f"query.{name}")


def test_the_first_and_the_last_instant_can_be_asked(client: httpx.Client, story: Document) -> None:
    assert asked(client, ASOF, as_of="0001-01-01")["count"] == 0
    assert asked(client, f"{ENTITIES}/{story['entity_uid']}", as_of="9999-12-31T23:59:59.999999Z")
    assert asked(client, DIFF, from_="0001-01-01", to="9999-12-31", page_size=200)["count"] > 0


def test_a_diff_tells_the_net_change_of_each_entity(client: httpx.Client, story: Document) -> None:
    def of(**params: str) -> list[Document]:
        found = asked(client, DIFF, page_size=200, **params)["results"]
        return [document for document in found if document["entity_uid"] == story["entity_uid"]]

    assert of(from_="2021-01-01", to="2023-01-01") == [
        {
            "entity_uid": story["entity_uid"],
            "action": "changed",
            "changes": [
                {"field": "display_name", "from": "John Doe", "to": "John Smith"},
                {"field": "details.email", "from": "john@example.org", "to": None},
                {"field": "details.phone", "from": None, "to": "1"},
            ],
        }
    ]
    assert of(from_="2020-06-01", to="2021-06-01") == []
    (created,) = of(from_="2019-01-01", to="2021-01-01")
    assert created["action"] == "created"
    client.delete(f"{ENTITIES}/{story['entity_uid']}", params={"change_ts": "2023-01-01"})
    (ended,) = of(from_="2022-06-01", to="2023-06-01")
    assert (ended["action"], {change["to"] for change in ended["changes"]}) == ("ended", {None})
    assert of(from_="2019-01-01", to="2024-01-01") == [], "it came and went"


def test_transitions_say_when_and_by_whom_they_were_recorded(client: httpx.Client, story: Document) -> None:
    answer = asked(client, DIFF, from_="2020-01-01", to="2022-01-01", mode="changes", page_size=200)
    (one,) = [document for document in answer["results"] if document["entity_uid"] == story["entity_uid"]]
    assert (one["at"], one["action"], one["actor"]) == ("2022-01-01T00:00:00Z", "changed", "anonymous")
    assert one["source"]["kind"] == "request"
    assert one["recorded_at"] > one["at"]
    assert [change["field"] for change in one["changes"]] == ["display_name", "details.email", "details.phone"]


@pytest.mark.parametrize("known_at", [{}, {"known_at": "2999-01-01"}])
def test_a_history_and_an_audit_come_whole_or_in_pages(client: httpx.Client, known_at: Document) -> None:
    entity = create(client, "Name 0", email="0@x.org", body={"change_ts": "2020-01-01"})
    address = f"{ENTITIES}/{entity['entity_uid']}"
    for number in range(1, 7):
        body = {"display_name": f"Name {number}", "change_ts": f"2020-01-0{number + 1}"}
        assert client.patch(address, json=body).status_code == 200
    for part, most in (("history", 8), ("audit", 7)):
        whole = asked(client, f"{address}/{part}", **known_at)
        assert (whole["count"], len(whole["results"]), whole["next"]) == (most, most, None)
        for start in ({}, {"cursor": ""}):
            answer = asked(client, f"{address}/{part}", page_size=3, **start, **known_at)
            assert answer["count"] == (None if start else most)
            found = answer["results"]
            while answer["next"]:
                answer = client.get(answer["next"]).json()
                found += answer["results"]
            assert found == whole["results"]
        assert asked(client, f"{address}/{part}", page_size=2, page=2, **known_at)["results"] == whole["results"][2:4]
        a_problem(client.get(f"{address}/{part}", params={"page_size": 201}), 400, "query.page_size")
        a_problem(client.get(f"{address}/{part}", params={"page_size": 200, "page": 52}), 400, "cursor=")


def test_a_page_of_a_whole_history_needs_a_size(client: httpx.Client, story: Document) -> None:
    a_problem(client.get(f"{ENTITIES}/{story['entity_uid']}/history", params={"page": 2}), 400, "query.page")


def test_a_long_history_is_whole_and_a_long_audit_leads_on(client: httpx.Client, database: Database) -> None:
    changes = [an_entity("long", at=number / 100, name=f"Name {number}", note="n" * 50) for number in range(1_500)]
    with database.connect() as connection:
        record(connection, reference_types(connection), changes, Origin("tester", "fixture"))
        connection.commit()
    address = f"{ENTITIES}/{uid('long')}"
    whole = asked(client, f"{address}/history")
    assert (whole["count"], whole["next"], len(whole["results"])) == (1_501, None, 1_501)
    names = [version["display_name"] for version in whole["results"] if version["kind"] == "entity"]
    assert names == [f"Name {number}" for number in range(1_500)]
    assert asked(client, f"{address}/history", known_at="2999-01-01") == whole
    audit = asked(client, f"{address}/audit")
    assert (audit["count"], len(audit["results"])) == (1_500, 200)
    assert audit["results"][199]["after"]["display_name"] == "Name 199"
    assert client.get(audit["next"]).json()["results"][0]["before"]["display_name"] == "Name 199"


def test_an_audit_tells_what_a_late_change_did(client: httpx.Client, story: Document) -> None:
    address = f"{ENTITIES}/{story['entity_uid']}"
    assert client.patch(address, json={"display_name": "Late", "change_ts": "2021-01-01"}).status_code == 200
    created, smith, late = asked(client, f"{address}/audit")["results"]
    assert (created["before"], created["after"]["display_name"]) == (None, "John Doe")
    assert (smith["before"]["display_name"], smith["after"]["display_name"]) == ("John Doe", "John Smith")
    assert (late["before"]["display_name"], late["after"]["display_name"]) == ("John Doe", "Late")
    assert late["after"]["details"] == {"email": "john@example.org"}, "as it was on that day"


def test_a_diff_needs_a_window(client: httpx.Client) -> None:
    for from_, to in (("2024-01-02", "2024-01-01"), ("2024-01-01", "2024-01-01")):
        a_problem(client.get(DIFF, params={"from": from_, "to": to}), 400, "query.from", "is not before")
    a_problem(client.get(DIFF, params={"from": "2024-01-01"}), 400, "query.to: is missing")
    a_problem(client.get(DIFF, params={"to": "2024-01-01"}), 400, "query.from: is missing")
    a_problem(client.get(ASOF), 400, "query.as_of: is missing")
    params = {"from": "2024-01-01", "to": "2024-01-02", "mode": "gross"}
    a_problem(client.get(DIFF, params=params), 400, "query.mode", "'net' or 'changes'")


def test_a_cursor_of_one_diff_is_not_valid_for_another(client: httpx.Client, story: Document) -> None:
    window = {"from": "2019-01-01", "to": "2030-01-01", "page_size": "1"}
    other = create(client, body={"change_ts": "2021-02-03"})
    following = client.get(DIFF, params={**window, "cursor": ""}).json()["next"]
    cursor = httpx.URL(following).params["cursor"]
    a_problem(client.get(DIFF, params={**window, "cursor": cursor, "mode": "changes"}), 400, "query.cursor")
    a_problem(client.get(DIFF, params={**window, "cursor": cursor, "to": "2031-01-01"}), 400, "query.cursor")
    assert other["entity_uid"] != story["entity_uid"]


@pytest.mark.parametrize("at", ["2021-02-03T00:00:00", "2021-02-03", "x", {}, True])
def test_a_forged_place_in_time_is_refused(client: httpx.Client, story: Document, at: object) -> None:
    window = {"from": "2019-01-01", "to": "2030-01-01", "page_size": "1", "mode": "changes"}
    following = client.get(DIFF, params={**window, "cursor": ""}).json()["next"]
    read = base64.urlsafe_b64decode(httpx.URL(following).params["cursor"] + "==")
    forged = read[:16] + json.dumps(json.loads(read[16:]) | {"at": at}).encode()
    answer = client.get(DIFF, params={**window, "cursor": base64.urlsafe_b64encode(forged).decode().rstrip("=")})
    a_problem(answer, 400, "query.cursor")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (ASOF, {"as_of": "2021-06-01"}),
        (ASOF, {"as_of": "2021-06-01", "q": "john"}),
        (ASOF, {"as_of": "2021-06-01", "email": "john@example.org"}),
        (ASOF, {"as_of": "2021-06-01", "known_at": "2999-01-01"}),
        (DIFF, {"from": "2019-01-01", "to": "2023-01-01"}),
        (DIFF, {"from": "2019-01-01", "to": "2023-01-01", "mode": "changes"}),
        (DIFF, {"from": "2019-01-01", "to": "2023-01-01", "mode": "changes", "known_at": "2999-01-01"}),
    ],
)
def test_a_stream_has_the_rows_of_all_pages(client: httpx.Client, story: Document, path: str, params: Document) -> None:
    streamed = client.get(path, params=params, headers={"Accept": NDJSON})
    assert (streamed.status_code, streamed.headers["content-type"].partition(";")[0]) == (200, NDJSON)
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert len(lines) > 0
    assert lines == client.get(path, params={**params, "page_size": 200}).json()["results"]


def test_a_stream_has_no_pages_and_its_faults_are_problems(client: httpx.Client) -> None:
    stream = {"Accept": NDJSON}
    for name, value in (("page", 1), ("page_size", 5), ("cursor", ""), ("count", "none")):
        answer = client.get(ASOF, params={"as_of": "2024-01-01", name: value}, headers=stream)
        a_problem(answer, 400, f"query.{name}", "leave it out")
    a_problem(client.get(ASOF, params={"as_of": "x"}, headers=stream), 400)
    a_problem(client.get(ASOF, params={"as_of": "2024-01-01", "entity_type": "x"}, headers=stream), 400)
    empty = client.get(ASOF, params={"as_of": "1900-01-01"}, headers=stream)
    assert (empty.status_code, empty.text) == (200, "")
