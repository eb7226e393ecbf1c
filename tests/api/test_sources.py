"""Sources over REST, and entities by the keys that sources have for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
from serving import (
    ENTITIES,
    NDJSON,
    V1,
    Document,
    a_problem,
    create,
    detail_list,
    patch,
    read,
    served_with_types,
    values,
)

from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import check
from crm_core.values.hashing import key_uid

pytestmark = [pytest.mark.integration, pytest.mark.api]
SOURCES = f"{V1}/sources"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    with served_with_types(database) as client:
        for code, name in (("erp", "ERP"), ("Shop", "The shop")):
            assert client.post(SOURCES, json={"code": code, "name": name}).status_code == 201
        yield client
    with database.connect() as connection:
        assert [found.examples for found in check(connection) if not found.holds] == []


def by_key(key: str, source: str = "erp") -> str:
    return f"{SOURCES}/{source}/entities/{quote(key, safe='')}"


def link(key: str, source: str = "erp") -> str:
    return f"{SOURCES}/{source}/links/{quote(key, safe='')}"


def body(name: str = "Ada", **details: str | None) -> Document:
    return {"display_name": name, "entity_type": "PERSON", "details": detail_list(details)}


def put(
    client: httpx.Client, key: str, sent: Document | None = None, *, source: str = "erp", **params: str
) -> Document:
    answer = client.put(by_key(key, source), json=sent or body(), params=params)
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def events(client: httpx.Client) -> list[Document]:
    """All events of the feed."""
    found: list[Document] = []
    after = ""
    while (page := client.get(f"{V1}/changes", params={"after": after}).json())["results"]:
        found, after = [*found, *page["results"]], page["next"]
    return found


class TestSources:
    def test_are_listed_by_code(self, client: httpx.Client) -> None:
        found = client.get(SOURCES).json()
        assert found["results"][:2] == [
            {"code": "Shop", "name": "The shop", "description": "", "is_active": True},
            {"code": "erp", "name": "ERP", "description": "", "is_active": True},
        ]
        assert (found["count"], found["next"], found["previous"]) == (len(found["results"]), None, None)

    def test_exist_once_whatever_the_case(self, client: httpx.Client) -> None:
        a_problem(client.post(SOURCES, json={"code": "ERP", "name": "x"}), 409, "the source erp exists already")

    def test_have_plain_codes(self, client: httpx.Client) -> None:
        a_problem(client.post(SOURCES, json={"code": "our erp", "name": "x"}), 400, "body.code")

    def test_can_be_renamed_and_retired(self, client: httpx.Client) -> None:
        client.post(SOURCES, json={"code": "old", "name": "Old"})
        put(client, "1", source="old")
        answer = client.patch(f"{SOURCES}/OLD", json={"name": "Older", "is_active": False})
        assert answer.json() == {"code": "old", "name": "Older", "description": "", "is_active": False}
        a_problem(client.put(by_key("1", "old"), json=body()), 404, "'old' is not an active source", "erp")
        assert client.get(ENTITIES, params={"source": "old"}).json()["count"] == 1, "it keeps its keys"

    def test_that_do_not_exist_are_named(self, client: httpx.Client) -> None:
        a_problem(
            client.patch(f"{SOURCES}/none", json={"name": "x"}), 404, "there is no source none", "/api/v1/sources"
        )
        a_problem(client.put(by_key("1", "none"), json=body()), 404, "'none' is not an active source")
        a_problem(client.get(ENTITIES, params={"source": "none"}), 400, "'none' is not a known source", "erp")


class TestPutting:
    def test_makes_the_entity_of_a_key_and_then_changes_it(self, client: httpx.Client) -> None:
        answer = client.put(by_key("4711"), json=body("Ada", email="a@x.org", phone="1"))
        made = answer.json()
        assert answer.status_code == 201
        assert made["entity_uid"] == str(key_uid("erp", "4711"))
        assert answer.headers["location"] == f"{ENTITIES}/{made['entity_uid']}"
        assert list(made)[-2:] == ["keys", "details"]
        assert made["keys"] == {"erp": "4711"}
        answer = client.put(by_key("4711", "ERP"), json=body("Ada King", email=None))
        assert answer.status_code == 200
        assert (answer.json()["display_name"], values(answer.json())) == ("Ada King", {"phone": "1"})
        assert answer.headers["etag"] == client.get(by_key("4711")).headers["etag"]
        assert read(client, made) == answer.json() == client.get(by_key("4711")).json()

    def test_may_be_about_the_past(self, client: httpx.Client) -> None:
        put(client, "past", body("Now") | {"change_ts": "2024-01-03"})
        put(client, "past", body("Then") | {"change_ts": "2024-01-02"})
        found = client.get(by_key("past"), params={"as_of": "2024-01-02"}).json()
        assert found["display_name"] == "Then"
        assert "keys" not in found, "an answer for the past never changes"

    def test_is_made_once_under_its_idempotency_key(self, client: httpx.Client) -> None:
        first, second = (client.put(by_key("once"), json=body(), headers={"Idempotency-Key": "k1"}) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 201)
        assert second.headers["idempotency-replayed"] == "true"
        assert first.content == second.content
        a_problem(client.put(by_key("once"), json=body("x"), headers={"Idempotency-Key": "k1"}), 422)

    def test_on_a_condition_that_does_not_hold_changes_nothing(self, client: httpx.Client) -> None:
        put(client, "if")
        tag = client.get(by_key("if")).headers["etag"]
        a_problem(client.put(by_key("if"), json=body("x"), headers={"If-Match": '"other"'}), 412)
        assert client.put(by_key("if"), json=body("x"), headers={"If-Match": tag}).status_code == 200

    def test_can_be_tried(self, client: httpx.Client) -> None:
        put(client, "try", body("Ada") | {"change_ts": "2024-01-01"})
        answer = client.put(by_key("try"), json=body("Eve") | {"change_ts": "2024-01-02"}, params={"dry_run": "true"})
        assert answer.status_code == 200
        assert (answer.json()["outcome"], answer.json()["versions_added"]) == ("changed", 1)
        assert client.get(by_key("try")).json()["display_name"] == "Ada"
        tried = client.put(by_key("try new"), json=body(), params={"dry_run": "true"})
        assert tried.json()["outcome"] == "created"
        a_problem(client.get(by_key("try new")), 404)

    @pytest.mark.parametrize("key", ["A/1", "a b", "ü%2F?#", "links", "1/link", "x" * 500, "\u674e\u96f7", "."])
    def test_takes_any_key(self, client: httpx.Client, key: str) -> None:
        address = f"{SOURCES}/erp/entities/{quote(key, safe='').replace('.', '%2E')}"
        made = client.put(address, json=body()).json()
        assert made["keys"] == {"erp": key}
        assert made["entity_uid"] == str(key_uid("erp", key))
        assert client.get(ENTITIES, params={"source": "erp", "source_key": key}).json()["results"] == [made]

    def test_refuses_a_key_that_is_none(self, client: httpx.Client) -> None:
        a_problem(client.put(by_key(" "), json=body()), 400, "path.key: is blank")
        a_problem(client.put(by_key("x" * 501), json=body()), 400, "path.key: has 501 characters")
        a_problem(client.put(by_key("\0"), json=body()), 400)

    def test_takes_the_uid_of_the_entity_and_no_other(self, client: httpx.Client) -> None:
        made = put(client, "uid")
        put(client, "uid", body() | {"entity_uid": made["entity_uid"]})
        other = create(client)["entity_uid"]
        a_problem(
            client.put(by_key("uid"), json=body() | {"entity_uid": other}), 400, "body.entity_uid", made["entity_uid"]
        )

    def test_takes_what_was_answered(self, client: httpx.Client) -> None:
        made = put(client, "echo", body("Ada", email="a@x.org"))
        assert put(client, "echo", made)["hashdiff"] == made["hashdiff"]
        assert patch(client, made, made)["keys"] == {"erp": "echo"}
        a_problem(client.post(ENTITIES, json=body() | {"keys": {"erp": "1"}}), 400, "body.keys", "PUT /api/v1/sources")

    def test_faults_are_named_by_their_codes(self, client: httpx.Client) -> None:
        problem = a_problem(client.put(by_key("bad"), json=body(" ") | {"entity_type": "x"}), 400)
        assert {fault["reason"] for fault in problem["errors"]} == {"missing_display_name", "unknown_entity_type"}


class TestAtTheSameTime:
    def test_requests_for_a_new_key_make_one_entity(self, client: httpx.Client) -> None:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda n: client.put(by_key("race"), json=body(f"Ada {n}")), range(8)))
        assert sorted(answer.status_code for answer in found) == [200] * 7 + [201]
        assert {answer.json()["entity_uid"] for answer in found} == {str(key_uid("erp", "race"))}

    def test_requests_go_to_the_entity_that_their_key_names_when_they_are_recorded(self, client: httpx.Client) -> None:
        ada, own = create(client, "Ada"), put(client, "moving")

        def move(n: int) -> int:
            if n % 2:
                return client.put(by_key("moving"), json=body(f"Ada {n}")).status_code
            if n % 4:
                return client.put(link("moving"), json={"entity_uid": ada["entity_uid"], "reason": "x"}).status_code
            return client.delete(link("moving"), params={"reason": "x"}).status_code

        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(move, range(24))) <= {200, 201}
        entries = [
            (entry["recorded_at"], "links" in entry, one["entity_uid"], entry.get("links", [{}])[0].get("entity_uid"))
            for one in (ada, own)
            for entry in client.get(f"{ENTITIES}/{one['entity_uid']}/audit").json()["results"][1:]
        ]
        named = own["entity_uid"]
        for _, is_link, uid, linked in sorted(entries, key=lambda entry: entry[0]):
            if is_link:
                named = linked or own["entity_uid"]
            else:
                assert uid == named, "a change is of the entity that was linked last before it"


class TestDeleting:
    def test_ends_the_entity_and_keeps_the_key(self, client: httpx.Client) -> None:
        made = put(client, "end")
        assert client.delete(by_key("end")).status_code == 204
        a_problem(client.get(by_key("end")), 410)
        assert put(client, "end")["entity_uid"] == made["entity_uid"]

    def test_of_what_was_never_known_is_not_found(self, client: httpx.Client) -> None:
        a_problem(client.delete(by_key("nobody")), 404)

    def test_slashes_in_a_key_are_of_it_also_at_its_ends(self, client: httpx.Client) -> None:
        keys = ["x", "x/", "x//", "/x", "/", "x/y"]
        uids = [put(client, key, body(f"Key {key}"))["entity_uid"] for key in keys]
        assert uids == [str(key_uid("erp", key)) for key in keys]
        for key, uid in zip(keys, uids, strict=True):
            found = client.get(by_key(key)).json()
            assert (found["entity_uid"], found["keys"]) == (uid, {"erp": key})
            assert client.get(link(key)).json()["source_key"] == key
        assert client.get(f"{by_key('x')}/").json()["keys"] == {"erp": "x"}, (
            "a slash behind the address is not of the key"
        )


class TestLinks:
    def test_have_a_key_name_another_entity_until_they_end(self, client: httpx.Client) -> None:
        own = put(client, "L1", body("Own"))
        ada = create(client, "Ada L1")
        before = client.get(f"{ENTITIES}/{ada['entity_uid']}").headers["etag"]
        document = client.put(link("L1"), json={"entity_uid": ada["entity_uid"], "reason": "the same person"}).json()
        assert (document["source"], document["source_key"], document["entity_uid"], document["is_linked"]) == (
            "erp", "L1", ada["entity_uid"], True,
        )  # fmt: skip
        assert document["links"][0]["reason"] == "the same person"
        assert client.get(link("L1")).json() == document, "with the moment of the commit"
        assert read(client, ada)["keys"] == {"erp": "L1"}
        assert read(client, own)["keys"] == {}
        assert client.get(f"{ENTITIES}/{ada['entity_uid']}").headers["etag"] != before
        assert put(client, "L1", body("Linked"))["entity_uid"] == ada["entity_uid"]
        document = client.delete(link("L1"), params={"reason": "they are two"}).json()
        assert (document["entity_uid"], document["is_linked"], len(document["links"])) == (own["entity_uid"], False, 2)
        assert put(client, "L1", body("Own again"))["entity_uid"] == own["entity_uid"]
        assert [one["display_name"] for one in (read(client, own), read(client, ada))] == ["Own again", "Linked"]

    def test_are_in_the_audit_of_both_entities_and_in_the_feed(self, client: httpx.Client) -> None:
        own, ada = put(client, "L2"), create(client, "Ada L2")
        client.put(link("L2"), json={"entity_uid": ada["entity_uid"], "reason": "the same"})
        linked = [{"source": "erp", "source_key": "L2", "entity_uid": ada["entity_uid"]}]
        for one in (own, ada):
            entry = client.get(f"{ENTITIES}/{one['entity_uid']}/audit").json()["results"][-1]
            assert (entry["links"], entry["reason"], entry["op"]) == (linked, "the same", "patch")
            assert entry["before"] == entry["after"]
        assert {one["entity_uid"] for one in events(client)[-2:]} == {own["entity_uid"], ada["entity_uid"]}

    def test_can_be_undone_like_any_request(self, client: httpx.Client) -> None:
        own, ada = put(client, "L3"), create(client, "Ada L3")
        document = client.put(link("L3"), json={"entity_uid": ada["entity_uid"], "reason": "the same"}).json()
        batch = document["links"][0]["batch_id"]
        assert client.post(f"{V1}/batches/{batch}/undo", params={"reason": "no"}).status_code == 200
        document = client.get(link("L3")).json()
        assert (document["entity_uid"], document["links"][0]["is_undone"]) == (own["entity_uid"], True)
        client.post(f"{V1}/batches/{batch}/undo", params={"reason": "yes", "reinstate": "true"})
        assert client.get(link("L3")).json()["entity_uid"] == ada["entity_uid"]

    def test_show_all_keys_of_a_source(self, client: httpx.Client) -> None:
        ada = create(client, "Ada L4")
        for key in ("L4-b", "L4-a"):
            client.put(link(key), json={"entity_uid": ada["entity_uid"], "reason": "the same"})
        client.put(link("L4", "shop"), json={"entity_uid": ada["entity_uid"], "reason": "the same"})
        assert read(client, ada)["keys"] == {"Shop": "L4", "erp": ["L4-a", "L4-b"]}
        listed = client.get(ENTITIES, params={"q": "Ada L4"}).json()["results"]
        streamed = client.get(ENTITIES, params={"q": "Ada L4"}, headers={"Accept": NDJSON})
        assert listed == [read(client, ada)] == [json.loads(streamed.text)]

    def test_need_an_entity_that_is_known_and_a_reason(self, client: httpx.Client) -> None:
        nobody = str(key_uid("erp", "nobody ever"))
        a_problem(
            client.put(link("L5"), json={"entity_uid": nobody, "reason": "x"}),
            404,
            f"no entity {nobody} was ever known",
        )
        ada = create(client)["entity_uid"]
        a_problem(client.put(link("L5"), json={"entity_uid": ada, "reason": " "}), 400, "reason: is blank")
        a_problem(client.delete(link("L5")), 400, "query.reason")
        assert client.get(link("L5")).json()["links"] == []


class TestManyChanges:
    def test_name_entities_by_keys(self, client: httpx.Client) -> None:
        ada = create(client, "Ada M")
        client.put(link("M2"), json={"entity_uid": ada["entity_uid"], "reason": "the same"})
        rows = [
            body("Ann") | {"source": "erp", "source_key": "M1", "key.shop": "M1"},
            body("Ada K") | {"source": "ERP", "source_key": "M2"},
            body("Ann B") | {"source": "shop", "source_key": "M1"},
        ]
        answer = client.post(
            f"{V1}/changes", content="\n".join(map(json.dumps, rows)), headers={"Content-Type": NDJSON}
        )
        assert answer.status_code in (200, 201), answer.text
        ann = str(key_uid("erp", "M1"))
        assert answer.json()["entity_uids"] == [ann, ada["entity_uid"], ann]
        found = client.get(by_key("M1")).json()
        assert (found["display_name"], found["keys"]) == ("Ann B", {"Shop": "M1", "erp": "M1"})

    def test_with_a_key_of_another_entity_are_refused_by_line(self, client: httpx.Client) -> None:
        put(client, "M3")
        rows = [body("A"), body("B") | {"source": "erp", "source_key": "M3", "entity_uid": str(key_uid("erp", "x"))}]
        answer = client.post(
            f"{V1}/changes", content="\n".join(map(json.dumps, rows)), headers={"Content-Type": NDJSON}
        )
        fault = a_problem(answer, 400)["errors"][0]
        assert (fault["where"], fault["reason"]) == ("line 2", "key_of_another_entity")


def test_a_list_as_csv_has_the_keys_and_can_be_corrected_and_dropped_again(client: httpx.Client) -> None:
    uid = put(client, "C-1", body("Csv One", email="c1@x.org"))["entity_uid"]
    put(client, "C-2", body("Csv Two"))
    for key, source in (("C-1b", "erp"), ("S-1", "Shop")):
        assert client.put(link(key, source), json={"entity_uid": uid, "reason": "the same"}).is_success
    file = client.get(ENTITIES, params={"q": "csv "}, headers={"Accept": "text/csv"}).text
    head, first, second = file.splitlines()
    assert head == "entity_uid,display_name,entity_type,address,email,note,phone,website,key.shop,key.erp"
    assert first == f"{uid},Csv One,PERSON,,c1@x.org,,,,S-1,C-1", "of several keys the first"
    assert second.endswith(",Csv Two,PERSON,,,,,,,C-2")
    corrected = file.replace("Csv Two", "Csv Deux")
    sent = client.post(f"{V1}/drops", content=corrected, headers={"Content-Type": "text/csv"}).json()
    assert (sent["rows_accepted"], sent["rows_changed"], sent["rows_rejected"]) == (2, 1, 0)
    assert client.get(f"{ENTITIES}/{uid}").json()["keys"] == {"Shop": "S-1", "erp": ["C-1", "C-1b"]}
    was = client.get(f"{V1}/entities-asof", params={"as_of": "2020-01-01"}, headers={"Accept": "text/csv"}).text
    assert was.splitlines()[0].endswith(",website"), "which keys it had then is not asked"
    page = client.get("/search.csv", params={"q": "csv one"}).text
    assert page.splitlines()[1].endswith(",S-1,C-1")
