"""One entity over REST: created, read, changed under conditions, and ended, as a client sees it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from serving import (
    DETAIL_KEYS,
    ENTITIES,
    ENTITY_KEYS,
    Document,
    a_problem,
    at,
    create,
    detail_list,
    history,
    patch,
    read,
    values,
)

from crm_core.values.hashing import detail_hashdiff, entity_hashdiff

pytestmark = [pytest.mark.integration, pytest.mark.api]

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
ADA = "ada@example.org"


def names(client: httpx.Client, entity: Document) -> list[tuple[str, str]]:
    """The names of an entity in order, each with the date from which it holds."""
    return [(version["display_name"], version["valid_from"][:10]) for version in history(client, entity)]


def test_what_is_created_is_answered_whole(client: httpx.Client) -> None:
    uid = str(uuid4())
    body = {
        "entity_uid": uid,
        "display_name": "Ada Lovelace",
        "entity_type": "PERSON",
        "details": detail_list({"phone": "+44 1", "email": ADA}),
        "change_ts": "2024-03-01T09:00:00+01:00",
    }
    answer = client.post(ENTITIES, json=body)
    assert answer.status_code == 201
    version = {"valid_from": "2024-03-01T08:00:00Z", "valid_to": None, "is_current": True}
    assert answer.json() == {
        "entity_uid": uid,
        "display_name": "Ada Lovelace",
        "entity_type": "PERSON",
        **version,
        "hashdiff": entity_hashdiff("Ada Lovelace", "PERSON").hex(),
        "keys": {},
        "details": [
            {
                "detail_type": "email",
                "detail_value": ADA,
                **version,
                "hashdiff": detail_hashdiff("email", ADA, "casefold").hex(),
            },
            {
                "detail_type": "phone",
                "detail_value": "+44 1",
                **version,
                "hashdiff": detail_hashdiff("phone", "+44 1", "text").hex(),
            },
        ],
    }
    assert (list(answer.json()), list(answer.json()["details"][0])) == (ENTITY_KEYS, DETAIL_KEYS)
    assert answer.headers["location"] == f"{ENTITIES}/{uid}"
    again = client.get(answer.headers["location"])
    assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])


def test_without_a_uid_and_an_instant_one_is_made_and_it_is_now(client: httpx.Client) -> None:
    before = datetime.now(UTC)
    one, two = create(client), create(client)
    assert one["entity_uid"] != two["entity_uid"]
    assert INSTANT.fullmatch(one["valid_from"])
    assert before - timedelta(seconds=1) < datetime.fromisoformat(one["valid_from"]) <= datetime.now(UTC)


def test_an_answer_can_be_posted_again_as_it_is(client: httpx.Client) -> None:
    posted = create(client, "Grace Hopper", email="grace@example.org", note="  exact  ")
    a_problem(client.post(ENTITIES, json=posted), 409, posted["entity_uid"], "PATCH")
    twin = client.post(ENTITIES, json={**posted, "entity_uid": str(uuid4())}).json()
    assert twin["hashdiff"] == posted["hashdiff"]
    assert [detail["hashdiff"] for detail in twin["details"]] == [detail["hashdiff"] for detail in posted["details"]]
    assert patch(client, posted, posted) == posted, "nor does patching with it change anything"


def test_texts_are_kept_in_normal_form_and_codes_in_canonical_spelling(client: httpx.Client) -> None:
    entity = create(
        client,
        "  Zoe\u0308 \t Doe\n",
        type_=" person ",
        EMAIL=" Zoe@Example.ORG ",
        Phone="+1   2",
        note="  kept  as it is ",
        website="   ",
        address="",
    )
    assert (entity["display_name"], entity["entity_type"]) == ("Zoë Doe", "PERSON")
    assert values(entity) == {"email": "Zoe@Example.ORG", "phone": "+1 2", "note": "  kept  as it is "}


def test_every_fault_of_a_change_is_named_with_its_place_and_reason(client: httpx.Client) -> None:
    answer = client.post(
        ENTITIES,
        json={
            "display_name": " ",
            "entity_type": "ROBOT",
            "details": [*detail_list({"email": ADA, "fax": "1"}), *detail_list({"EMAIL": "b@x.org"})],
            "change_ts": "2999-01-01",
        },
    )
    problem = a_problem(answer, 400, "body.display_name", "and 2 more")
    assert [(fault["where"], fault["reason"]) for fault in problem["errors"]] == [
        ("body.change_ts", "future_change_ts"),
        ("body.display_name", "missing_display_name"),
        ("body.entity_type", "unknown_entity_type"),
        ("body.details[1].detail_type", "unknown_detail_type"),
        ("body.details[2].detail_type", "duplicate_detail_type"),
    ]
    assert "INSTITUTION, PERSON" in problem["errors"][2]["detail"]


def test_a_patch_changes_what_it_names_and_nothing_else(client: httpx.Client) -> None:
    entity = create(client, "Ada", email=ADA, phone="1", body={"change_ts": "2024-01-01"})
    changed = patch(
        client,
        entity,
        {
            "details": detail_list({"phone": "2", "website": "https://ada.example", "email": None}),
            "change_ts": "2024-02-01",
        },
    )
    assert (changed["display_name"], changed["valid_from"]) == ("Ada", "2024-01-01T00:00:00Z")
    assert values(changed) == {"phone": "2", "website": "https://ada.example"}
    renamed = patch(client, entity, {"display_name": "Ada Byron", "change_ts": "2024-03-01"})
    assert (renamed["display_name"], renamed["valid_from"]) == ("Ada Byron", "2024-03-01T00:00:00Z")
    assert renamed["details"] == changed["details"], "a new name makes no new versions of details"
    assert [(v["detail_type"], v["detail_value"], v["valid_to"]) for v in history(client, entity, "detail")] == [
        ("email", ADA, "2024-02-01T00:00:00Z"),
        ("phone", "1", "2024-02-01T00:00:00Z"),
        ("phone", "2", None),
        ("website", "https://ada.example", None),
    ]
    kind = patch(client, entity, {"entity_type": "institution"})
    assert (kind["entity_type"], kind["display_name"]) == ("INSTITUTION", "Ada Byron")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"details": []},
        {"display_name": " Ada  Lovelace "},
        {"details": [{"detail_type": "EMAIL", "detail_value": ADA.upper()}]},
        {"details": [{"detail_type": "phone", "detail_value": None}]},
        {"change_ts": "2024-06-01"},
    ],
)
def test_a_patch_that_says_nothing_new_makes_no_version(client: httpx.Client, body: Document) -> None:
    entity = create(client, email=ADA, body={"change_ts": "2024-01-01"})
    tag = client.get(at(entity)).headers["etag"]
    answer = client.patch(at(entity), json=body)
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, entity, tag)
    assert len(history(client, entity)) == len(history(client, entity, "detail")) == 1


def test_a_late_patch_lands_in_the_past_and_the_snapshot_stays(client: httpx.Client) -> None:
    entity = create(client, "A", body={"change_ts": "2024-01-01"})
    patch(client, entity, {"display_name": "A", "change_ts": "2024-01-03"})
    answer = client.patch(at(entity), json={"display_name": "B", "change_ts": "2024-01-02"})
    assert answer.json()["display_name"] == "A", "what is answered is the entity as it is now"
    assert names(client, entity) == [("A", "2024-01-01"), ("B", "2024-01-02"), ("A", "2024-01-03")]
    assert answer.json() == read(client, entity)
    assert answer.headers["etag"] == client.get(at(entity)).headers["etag"]


def test_a_patch_needs_an_entity_that_exists_then(client: httpx.Client) -> None:
    a_problem(client.patch(f"{ENTITIES}/{uuid4()}", json={"display_name": "A"}), 404, "was ever known")
    entity = create(client, body={"change_ts": "2024-01-01"})
    a_problem(client.patch(at(entity), json={"display_name": "A", "change_ts": "2023-12-31"}), 409, "does not exist at")
    client.delete(at(entity), params={"change_ts": "2024-02-01"})
    problem = a_problem(client.patch(at(entity), json={"display_name": "A"}), 409, "does not exist now")
    assert "it last ended at 2024-02-01T00:00:00Z" in problem["detail"]
    late = client.patch(at(entity), json={"display_name": "Late", "change_ts": "2024-01-15"})
    assert (late.status_code, late.json()["display_name"]) == (200, "Late"), "in the past it did exist"
    assert late.json()["valid_to"] == "2024-02-01T00:00:00Z"
    assert names(client, entity) == [("Ada Lovelace", "2024-01-01"), ("Late", "2024-01-15")]


def test_when_an_entity_last_ended_is_said_as_of_the_change(client: httpx.Client) -> None:
    entity = create(client, body={"display_name": "A", "change_ts": "2024-01-01"})
    client.patch(at(entity), json={"display_name": "B", "change_ts": "2024-01-10"})
    early = client.patch(at(entity), json={"display_name": "C", "change_ts": "2023-12-31"})
    assert "ended" not in a_problem(early, 409, "does not exist at 2023-12-31")["detail"], "a new name is no end"
    client.delete(at(entity), params={"change_ts": "2024-02-01"})
    create(client, body={"entity_uid": entity["entity_uid"], "change_ts": "2024-03-01"})
    client.delete(at(entity), params={"change_ts": "2024-04-01"})
    gap = client.patch(at(entity), json={"display_name": "C", "change_ts": "2024-02-10"})
    a_problem(gap, 409, "it last ended at 2024-02-01T00:00:00Z")


def test_a_body_that_names_another_entity_is_refused(client: httpx.Client) -> None:
    entity, other = create(client), create(client)
    a_problem(client.patch(at(entity), json={"entity_uid": other["entity_uid"]}), 400, "body.entity_uid")
    a_problem(client.patch(at(entity), json={"display_name": None}), 400, "body.display_name", "give the entity a name")
    a_problem(client.patch(at(entity), json={"display_name": "  "}), 400, "body.display_name")
    a_problem(client.patch(at(entity), json={"entity_type": None}), 400, "body.entity_type")
    assert patch(client, entity, {"entity_uid": entity["entity_uid"].upper()}) == entity


def test_a_uid_is_understood_in_every_spelling_and_answered_in_one(client: httpx.Client) -> None:
    entity = create(client)
    uid = entity["entity_uid"]
    for spelling in (uid.upper(), uid.replace("-", ""), f"{{{uid}}}", f"urn:uuid:{uid}"):
        assert client.get(f"{ENTITIES}/{spelling}").json() == entity
    a_problem(client.get(f"{ENTITIES}/{uid[:-1]}"), 400, "path.uid")


def test_if_match_lets_a_change_in_only_where_it_was_read(client: httpx.Client) -> None:
    entity = create(client)
    read_at = client.get(at(entity)).headers["etag"]
    first = client.patch(at(entity), json={"display_name": "First"}, headers={"If-Match": read_at})
    assert first.status_code == 200
    assert first.headers["etag"] not in ("", read_at)
    refused = client.patch(at(entity), json={"display_name": "Second"}, headers={"If-Match": read_at})
    a_problem(refused, 412, "has changed since", "read it again")
    assert read(client, entity)["display_name"] == "First"
    listed = f'"nonsense" , {first.headers["etag"]}'
    assert patch(client, entity, {"display_name": "Third"}, **{"If-Match": listed})["display_name"] == "Third"
    assert patch(client, entity, {"display_name": "Fourth"}, **{"If-Match": "*"})["display_name"] == "Fourth"
    a_problem(client.delete(at(entity), headers={"If-Match": read_at}), 412)
    tag = client.get(at(entity)).headers["etag"]
    assert client.delete(at(entity), headers={"If-Match": tag}).status_code == 204
    a_problem(client.patch(at(entity), json={}, headers={"If-Match": "*"}), 412)


def test_a_weak_tag_matches_nothing_and_a_malformed_one_is_refused(client: httpx.Client) -> None:
    entity = create(client)
    tag = client.get(at(entity)).headers["etag"]
    a_problem(client.patch(at(entity), json={"display_name": "B"}, headers={"If-Match": f"W/{tag}"}), 412)
    for malformed in (tag.strip('"'), '"', f"{tag} {tag}", f"*, {tag}", "", "w/"):
        answer = client.patch(at(entity), json={"display_name": "B"}, headers={"If-Match": malformed})
        a_problem(answer, 400, "header.If-Match", "ETag")
    assert read(client, entity) == entity


def test_the_tag_sees_what_came_and_went_again(client: httpx.Client) -> None:
    entity = create(client, "A", body={"change_ts": "2024-01-01"})
    tag = client.get(at(entity)).headers["etag"]
    patch(client, entity, {"display_name": "B"})
    back = client.patch(at(entity), json={"display_name": "A"})
    assert (back.json()["display_name"], back.json()["hashdiff"]) == ("A", entity["hashdiff"])
    assert back.headers["etag"] != tag
    a_problem(client.patch(at(entity), json={"display_name": "C"}, headers={"If-Match": tag}), 412)


def test_what_the_client_has_already_is_not_sent_again(client: httpx.Client) -> None:
    entity = create(client)
    tag = client.get(at(entity)).headers["etag"]
    for given in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        answer = client.get(at(entity), headers={"If-None-Match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(at(entity), headers={"If-None-Match": '"x"'}).json() == entity


def test_who_asked_and_under_which_id_is_in_the_audit(client: httpx.Client) -> None:
    answer = client.post(
        ENTITIES, json={"display_name": "A", "entity_type": "PERSON"}, headers={"X-Request-ID": "order-66"}
    )
    assert answer.headers["x-request-id"] == "order-66"
    (entry,) = client.get(f"{at(answer.json())}/audit").json()["results"]
    assert list(entry) == [
        "entity_uid", "change_ts", "recorded_at", "op", "actor", "source", "asserted", "before", "after",
    ]  # fmt: skip
    assert (entry["actor"], entry["source"]) == ("anonymous", {"kind": "request", "request_id": "order-66"})
    assert entry["asserted"] == {"display_name": "A", "entity_type": "PERSON", "details": None}
    assert (entry["before"], entry["after"]) == (None, {"display_name": "A", "entity_type": "PERSON", "details": {}})


def test_history_and_audit_come_whole_or_in_parts(client: httpx.Client) -> None:
    entity = create(client, "0", email=ADA, body={"change_ts": "2024-01-01"})
    for number in range(1, 5):
        patch(client, entity, {"display_name": str(number), "change_ts": f"2024-01-0{number + 1}"})
    for part, total in (("history", 6), ("audit", 5)):
        whole = client.get(f"{at(entity)}/{part}").json()
        assert (whole["count"], whole["next"], whole["previous"], len(whole["results"])) == (total, None, None, total)
        found: list[Document] = []
        address, pages = f"{at(entity)}/{part}?page_size=2", []
        while address:
            page = client.get(address).json()
            assert page["count"] == total
            pages.append(page)
            found += page["results"]
            address = page["next"]
        assert found == whole["results"]
        assert client.get(pages[1]["previous"]).json() == pages[0]
        a_problem(client.get(f"{ENTITIES}/{uuid4()}/{part}"), 404)
    a_problem(client.get(f"{at(entity)}/history?page=2"), 400, "page_size")


def test_names_and_values_may_be_long(client: httpx.Client) -> None:
    long = "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(6000))
    entity = create(client, long[:500], note=long)
    assert (entity["display_name"], values(entity)) == (long[:500], {"note": long})
    assert client.get(ENTITIES, params={"note": long}).json()["results"] == [entity]
    body = {"display_name": long[:501], "entity_type": "PERSON", "details": detail_list({"note": long * 6})}
    problem = a_problem(client.post(ENTITIES, json=body), 400, "at most 500", "100,000 bytes")
    assert [fault["reason"] for fault in problem["errors"]] == ["value_too_long"] * 2


def test_invisible_characters_are_not_a_name_and_are_not_stored(client: httpx.Client) -> None:
    entity = create(client, "\ufeffVera Seen\u200b", email="vera@seen.org\u200b")
    assert (entity["display_name"], values(entity)) == ("Vera Seen", {"email": "vera@seen.org"})
    family = "Family 👩\u200d👩\u200d👧"
    assert create(client, family)["display_name"] == family
    for nothing in ("\u200b", "\u2060 \ufeff", "\u3164"):
        problem = a_problem(client.post(ENTITIES, json={"display_name": nothing, "entity_type": "PERSON"}), 400)
        assert [fault["reason"] for fault in problem["errors"]] == ["missing_display_name"]


@pytest.mark.parametrize("uid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_a_uid_that_names_nobody_is_refused(client: httpx.Client, uid: str) -> None:
    body = {"entity_uid": uid, "display_name": "Nil", "entity_type": "PERSON"}
    problem = a_problem(client.post(ENTITIES, json=body), 400, "body.entity_uid")
    assert [fault["reason"] for fault in problem["errors"]] == ["invalid_uid"]
    a_problem(client.get(f"{ENTITIES}/{uid}"), 404)
    a_problem(client.patch(f"{ENTITIES}/{uid}", json={"display_name": "Nil"}), 404)
    a_problem(client.delete(f"{ENTITIES}/{uid}"), 404)
