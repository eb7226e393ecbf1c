"""What was recorded, over HTTP: in pages, by filter, as lines and as a file."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest
from serving import ENTITIES, NDJSON, V1, Document, a_problem, create

pytestmark = [pytest.mark.integration, pytest.mark.api]

AUDIT = f"{V1}/audit"
DROP = "display_name,entity_type,details,change_ts\nAda,PERSON,[],2024-01-01\n"


@pytest.fixture(scope="module")
def bo(client: httpx.Client) -> Document:
    """A drop, then an entity that is created, renamed late and deleted."""
    sent = client.post(f"{V1}/drops?file_name=ada.csv", content=DROP, headers={"Content-Type": "text/csv"})
    assert sent.status_code == 201
    entity = create(client, "Bo", email="b@x.org", body={"change_ts": "2024-01-01"})
    address = f"{ENTITIES}/{entity['entity_uid']}"
    client.patch(address, json={"display_name": "Late", "change_ts": "2024-01-02", "details": []})
    assert client.delete(f"{address}?change_ts=2024-01-03").status_code == 204
    return entity


def asked(client: httpx.Client, **params: str | int) -> Document:
    answer = client.get(AUDIT, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_it_lists_what_was_recorded_the_newest_first(client: httpx.Client, bo: Document) -> None:
    found = asked(client)
    assert (found["count"], found["next"], found["previous"]) == (4, None, None)
    assert [(entry["op"], entry["display_name"]) for entry in found["results"]] == [
        ("delete", "Late"),
        ("patch", "Late"),
        ("upsert", "Late"),
        ("upsert", "Ada"),
    ]
    own = client.get(f"{ENTITIES}/{bo['entity_uid']}/audit").json()["results"]
    assert [{**entry, "display_name": "Late"} for entry in reversed(own)] == found["results"][:3]
    assert found["results"][1]["before"]["display_name"] == "Bo"
    assert found["results"][0]["after"] is None


def test_its_filters_must_all_hold(client: httpx.Client, bo: Document) -> None:
    newest, *_, oldest = asked(client)["results"]
    uid = bo["entity_uid"]
    for params, count in (
        ({"actor": "anonymous"}, 4),
        ({"actor": "nobody"}, 0),
        ({"from": newest["recorded_at"]}, 1),
        ({"to": newest["recorded_at"]}, 3),
        ({"from": "2024-01-01", "to": "2024-02-01"}, 0),
        ({"drop": "ada.csv"}, 1),
        ({"drop": oldest["source"]["sha256"]}, 1),
        ({"op": "patch"}, 1),
        ({"detail_type": "EMAIL"}, 1),
        ({"entity_uid": uid}, 3),
        ({"entity_uid": uid, "op": "upsert"}, 1),
    ):
        found = asked(client, **params)
        assert (found["count"], len(found["results"])) == (count, count), params


@pytest.mark.parametrize(
    "path",
    [
        "/audit", "/diff?from=2023-01-01&to=2025-01-01", "/changes?include=entity", "/drops", "/detail-types",
        "/entities", "/entities/{uid}", "/entities/{uid}/history", "/entities/{uid}/audit",
        "/entities-asof?as_of=2024-01-02",
    ],
)  # fmt: skip
def test_every_answer_is_written_without_spaces(client: httpx.Client, bo: Document, path: str) -> None:
    text = client.get(V1 + path.format(uid=bo["entity_uid"])).text
    assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def test_its_pages_lead_on_by_number_and_by_cursor(client: httpx.Client, bo: Document) -> None:
    whole = asked(client, entity_uid=bo["entity_uid"])["results"]
    for way in ({"page": 1}, {"cursor": ""}):
        answer = client.get(AUDIT, params={"entity_uid": bo["entity_uid"], "page_size": 2, **way})
        assert answer.links["next"]["url"] == answer.json()["next"]
        following = client.get(answer.links["next"]["url"])
        assert answer.json()["results"] + following.json()["results"] == whole
        assert following.json()["next"] is None
        assert client.get(following.links["first"]["url"]).json()["results"] == whole[:2]


def test_what_is_no_filter_is_refused_with_what_there_is(client: httpx.Client) -> None:
    a_problem(client.get(AUDIT, params={"detail_type": "fax"}), 400, "query.detail_type", "email")
    for name, value in (("op", "merge"), ("entity_uid", "x"), ("from", "soon"), ("nope", "1")):
        problem = a_problem(client.get(AUDIT, params={name: value}), 400, f"query.{name}")
        assert [fault["where"] for fault in problem["errors"]] == [f"query.{name}"]
    a_problem(client.get(AUDIT, params={"page": 2}, headers={"Accept": NDJSON}), 400, "query.page")


def test_all_of_it_comes_as_lines_and_as_a_row_for_each_field(client: httpx.Client, bo: Document) -> None:
    params = {"entity_uid": bo["entity_uid"]}
    lines = client.get(AUDIT, params=params, headers={"Accept": NDJSON})
    assert [json.loads(line) for line in lines.text.splitlines()] == asked(client, **params)["results"]
    file = client.get(AUDIT, params=params, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [(row["op"], row["field"], row["before"], row["after"]) for row in rows] == [
        ("delete", "display_name", "Late", ""),
        ("delete", "entity_type", "PERSON", ""),
        ("delete", "details.email", "b@x.org", ""),
        ("patch", "display_name", "Bo", "Late"),
        ("upsert", "display_name", "", "Bo"),
        ("upsert", "entity_type", "", "PERSON"),
        ("upsert", "details.email", "", "b@x.org"),
    ]
    assert {row["display_name"] for row in rows} == {"Late"}
    own = client.get(f"{ENTITIES}/{bo['entity_uid']}/audit", headers={"Accept": "text/csv"})
    assert [(row["op"], row["field"]) for row in csv.DictReader(io.StringIO(own.text))] == [
        (row["op"], row["field"]) for row in sorted(rows, key=lambda row: row["recorded_at"])
    ]
    assert "display_name" not in own.text.partition("\n")[0]
    nobody = f"{ENTITIES}/{'0' * 8}-0000-4000-8000-{'0' * 12}/audit"
    a_problem(client.get(nobody, headers={"Accept": "text/csv"}), 404)
    of_drop = client.get(AUDIT, params={"drop": "ada.csv"}, headers={"Accept": "text/csv"})
    first = next(csv.DictReader(io.StringIO(of_drop.text)))
    assert (first["source"], first["file_name"], first["line"], first["field"]) == (
        "drop",
        "ada.csv",
        "2",
        "display_name",
    )


def test_changes_and_drops_come_as_files_too(client: httpx.Client, bo: Document) -> None:
    window = {"from": "2024-01-01T12:00:00Z", "to": "2024-01-05"}
    file = client.get(f"{V1}/diff", params=window, headers={"Accept": "text/csv"})
    assert file.headers["content-type"].partition(";")[0] == "text/csv"
    rows = list(csv.reader(io.StringIO(file.text)))
    uid = bo["entity_uid"]
    assert rows == [
        ["entity_uid", "action", "field", "from", "to"],
        [uid, "ended", "display_name", "Bo", ""],
        [uid, "ended", "entity_type", "PERSON", ""],
        [uid, "ended", "details.email", "b@x.org", ""],
    ]
    file = client.get(f"{V1}/diff", params={**window, "mode": "changes"}, headers={"Accept": "text/csv"})
    changes = list(csv.DictReader(io.StringIO(file.text)))
    assert [(row["at"], row["field"], row["from"], row["to"], row["source"]) for row in changes][:2] == [
        ("2024-01-02T00:00:00Z", "display_name", "Bo", "Late", "request"),
        ("2024-01-03T00:00:00Z", "display_name", "Late", "", "request"),
    ]
    file = client.get(f"{V1}/drops", headers={"Accept": "text/csv"})
    (drop,) = csv.DictReader(io.StringIO(file.text))
    (known,) = client.get(f"{V1}/drops").json()["results"]
    assert set(drop) == set(known)
    assert (drop["file"], drop["status"], drop["rows_accepted"]) == ("ada.csv", "merged", "1")
    lines = client.get(f"{V1}/drops", headers={"Accept": NDJSON})
    assert [json.loads(line) for line in lines.text.splitlines()] == [known]


def test_the_document_says_where_lists_lead(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in (ENTITIES, f"{V1}/entities-asof", f"{V1}/diff", AUDIT, f"{V1}/drops", f"{ENTITIES}/{{uid}}/audit"):
        answer = paths[path]["get"]["responses"]["200"]
        assert "Link" in answer["headers"], path
        assert {"text/csv", NDJSON, "application/json"} <= set(answer["content"]), path
