"""Drops over REST: sent in, what each did, and its rejected rows as a file to correct and send again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import ENTITIES, V1, Document, a_problem, served, served_with_types

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.idempotency]

DROPS = f"{V1}/drops"
CSV = {"Content-Type": "text/csv"}
HEADER = "entity_uid,display_name,entity_type,details,change_ts"
BOOKS = [
    "file", "sha256", "status", "rows_read", "rows_accepted", "rows_rejected", "rows_changed", "rows_unchanged",
    "rows_late", "rows_superseded", "entities_ended", "entity_versions_added", "detail_versions_added", "seconds",
    "error", "rows_ending_nobody", "rows_fallen_together", "notes", "dry_run",
]  # fmt: skip


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def client(database: Database, home: Path) -> Iterator[httpx.Client]:
    with served_with_types(database, home=home) as client:
        yield client
    assert [path for path in home.rglob("*") if path.is_file()] == [], "nothing that was sent lies about"


def a_drop(*rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (HEADER, *rows)).encode()


def sent(client: httpx.Client, content: bytes, **params: str) -> httpx.Response:
    return client.post(DROPS, content=content, headers=CSV, params=params)


def books(answer: httpx.Response, status: int) -> Document:
    assert answer.status_code == status, answer.text
    document = dict(answer.json())
    assert list(document) == (BOOKS if not document["dry_run"] else [*BOOKS, "differences"])
    return dict(answer.json())


def named(client: httpx.Client, name: str) -> int:
    return int(client.get(ENTITIES, params={"q": name}).json()["count"])


def test_a_drop_is_taken_in_and_its_outcome_can_be_read_again(client: httpx.Client) -> None:
    content = a_drop(",Ada Sent,PERSON,[],2024-01-01", ",,PERSON,[],2024-01-01", ",Bo Sent,ROBOT,[],soon")
    answer = sent(client, content, file_name="first.csv")
    report = books(answer, 201)
    sha256 = hashlib.sha256(content).hexdigest()
    assert {**report, "seconds": 0} == {
        "file": "first.csv", "sha256": sha256, "status": "merged", "rows_read": 3, "rows_accepted": 1,
        "rows_rejected": 2, "rows_changed": 1, "rows_unchanged": 0, "rows_late": 0, "rows_superseded": 0,
        "entities_ended": 0, "entity_versions_added": 1, "detail_versions_added": 0, "seconds": 0, "error": None,
        "rows_ending_nobody": 0, "rows_fallen_together": 0, "notes": [], "dry_run": False,
    }  # fmt: skip
    assert answer.headers["location"] == f"{DROPS}/{sha256}"
    kept = client.get(answer.headers["location"]).json()
    kept_too = [name for name in BOOKS if name not in ("seconds", "dry_run")]
    assert {name: kept[name] for name in kept_too} == {name: report[name] for name in kept_too}
    assert kept["bytes"] == len(content)
    assert named(client, "Ada Sent") == 1


def test_the_same_drop_again_changes_nothing(client: httpx.Client) -> None:
    content = a_drop(",Twice,PERSON,[],2024-01-01")
    assert books(sent(client, content), 201)["status"] == "merged"
    again = books(sent(client, content, file_name="another name.csv"), 200)
    assert (again["status"], again["rows_changed"], again["entity_versions_added"]) == ("replayed", 0, 0)
    assert named(client, "Twice") == 1


def test_two_that_send_the_same_at_once_merge_it_once(client: httpx.Client) -> None:
    content = a_drop(",Together,PERSON,[],2024-01-01")
    with ThreadPoolExecutor(4) as many:
        answers = list(many.map(lambda _: sent(client, content), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert named(client, "Together") == 1


def test_who_sent_it_is_in_the_audit(client: httpx.Client) -> None:
    report = books(sent(client, a_drop(",Sender,PERSON,[],2024-01-01"), file_name="named.csv"), 201)
    (entity,) = client.get(ENTITIES, params={"q": "Sender"}).json()["results"]
    (entry,) = client.get(f"{ENTITIES}/{entity['entity_uid']}/audit").json()["results"]
    assert entry["actor"] == "anonymous"
    assert entry["source"] == {"kind": "drop", "sha256": report["sha256"], "file_name": "named.csv", "line": 2}


def test_a_form_of_a_browser_will_do(client: httpx.Client) -> None:
    content = a_drop(",By Form,PERSON,[],2024-01-01")
    answer = client.post(DROPS, files={"file": ("C:\\temp\\form é.csv", content)})
    assert books(answer, 201)["file"] == "form é.csv"
    assert named(client, "By Form") == 1
    for wrong in ({"other": ("a.csv", content)}, {"file": (None, content)}):
        a_problem(client.post(DROPS, files=wrong), 400, "body.file", "curl -F file=@drop.csv")
    two = [("file", ("a.csv", content)), ("file", ("b.csv", content))]
    a_problem(client.post(DROPS, files=two), 400)
    broken = client.post(DROPS, content=b"nonsense", headers={"Content-Type": "multipart/form-data; boundary=x"})
    a_problem(broken, 400)
    a_problem(client.post(DROPS, content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "upload.csv"),
        ("/", "upload.csv"),
        ("-rf.csv", "-rf.csv"),
        (".hidden.csv", "hidden.csv"),
        ("a\nb\r.csv", "ab.csv"),
        ("x" * 5000, "x" * 200),
        ("é" * 150, "é" * 100),
        ("  ", "upload.csv"),
        ("<script>.csv", "<script>.csv"),
    ],
)
def test_a_name_is_a_name_and_no_path(client: httpx.Client, name: str, kept: str) -> None:
    content = a_drop(f",Named {hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()},PERSON,[],2024-01-01")
    assert books(sent(client, content, file_name=name), 201)["file"] == kept


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"a,b,c\n1,2,3\n", "display_name"),
        (b"PK\x03\x04nonsense", "drop.csv"),
        (HEADER.encode("utf-16"), "drop.csv"),
        (f"{HEADER},change_time\n".encode(), "change_time"),
    ],
)
def test_a_file_that_is_not_a_drop_is_refused_whole(client: httpx.Client, content: bytes, said: str) -> None:
    problem = a_problem(sent(client, content, file_name="drop.csv"), 400, "drop.csv", said)
    assert "/tmp" not in problem["detail"]
    assert "uploads" not in problem["detail"]


def test_a_dry_run_tells_and_changes_nothing(client: httpx.Client) -> None:
    content = a_drop(",Dry,PERSON,[],2024-01-01", ",,PERSON,[],2024-01-01")
    answer = sent(client, content, dry_run="true")
    report = books(answer, 200)
    assert (report["rows_read"], report["rows_changed"], report["rows_rejected"], report["dry_run"]) == (2, 1, 1, True)
    assert "location" not in answer.headers
    assert named(client, "Dry") == 0
    a_problem(client.get(f"{DROPS}/{report['sha256']}"), 404)
    assert books(sent(client, content), 201)["status"] == "merged"


def test_a_strict_drop_with_a_bad_row_is_refused_with_the_row(client: httpx.Client) -> None:
    content = a_drop(",Strict,PERSON,[],2024-01-01", ",Bad,ROBOT,[],2024-01-01")
    problem = a_problem(sent(client, content, strict="true"), 400)
    assert problem["errors"] == [
        {"where": "line 3", "detail": ",Bad,ROBOT,[],2024-01-01", "reason": "unknown_entity_type"}
    ]
    assert named(client, "Strict") == 0


def test_rejected_rows_come_in_pages_and_as_a_file_to_send_again(client: httpx.Client) -> None:
    bad = [f",Row {number},ROBOT,[],2024-01-01" for number in range(25)]
    report = books(sent(client, a_drop(*bad)), 201)
    address = f"{DROPS}/{report['sha256']}/rejects"
    first = client.get(address).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (25, 20, None)
    assert first["results"][0] == {"line": 2, "reasons": ["unknown_entity_type"], "raw": bad[0]}
    second = client.get(first["next"]).json()
    assert [row["line"] for row in second["results"]] == list(range(22, 27))
    assert second["next"] is None
    assert client.get(second["previous"]).json() == first
    for answer in (client.get(f"{address}?format=csv"), client.get(address, headers={"Accept": "text/csv"})):
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.text.splitlines()[0] == f"reject_line,reject_reasons,{HEADER}"
        assert len(answer.text.splitlines()) == 26
    corrected = answer.text.replace("ROBOT", "PERSON").encode()
    again = books(sent(client, corrected), 201)
    assert (again["rows_accepted"], again["rows_rejected"], again["rows_changed"]) == (25, 0, 25)
    a_problem(client.get(f"{DROPS}/{'0' * 64}/rejects"), 404, "no drop")
    a_problem(client.get(f"{DROPS}/{'0' * 64}/rejects?format=csv"), 404)
    a_problem(client.get(f"{address}?format=xml"), 400, "query.format")


def test_the_drops_are_listed_newest_first(client: httpx.Client) -> None:
    sha256s = [books(sent(client, a_drop(f",Listed {n},PERSON,[],2024-01-01")), 201)["sha256"] for n in range(3)]
    found = client.get(DROPS, params={"page_size": 3}).json()
    assert [drop["sha256"] for drop in found["results"]] == sha256s[::-1]
    whole = client.get(DROPS, params={"page_size": 200}).json()
    assert whole["count"] == len(whole["results"])
    for start in ("", "&cursor="):
        listed, address = [], f"{DROPS}?page_size=4{start}"
        while address:
            page = client.get(address).json()
            listed += page["results"]
            address = page["next"]
        assert listed == whole["results"]
    a_problem(client.get(f"{DROPS}?q=x"), 400, "query.q")


@pytest.mark.parametrize("sha256", ["x", "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "%00"])
def test_a_name_that_is_not_a_sha256_is_refused(client: httpx.Client, sha256: str) -> None:
    assert client.get(f"{DROPS}/{sha256}").status_code == 400
    a_problem(client.get(f"{DROPS}/{'0' * 64}"), 404, "no drop", DROPS)


def test_a_body_of_another_kind_is_refused(client: httpx.Client) -> None:
    content = a_drop(",Kind,PERSON,[],2024-01-01")
    for kind in ({}, {"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        a_problem(client.post(DROPS, content=content, headers=kind), 400, "header.Content-Type", "text/csv")
    a_problem(client.post(f"{DROPS}?nope=1", content=content, headers=CSV), 400, "query.nope")
    a_problem(client.post(f"{DROPS}?dry_run=maybe", content=content, headers=CSV), 400, "query.dry_run")
    assert named(client, "Kind") == 0


def test_a_drop_may_be_longer_than_other_bodies_up_to_its_own_limit(
    database: Database, home: Path, client: httpx.Client
) -> None:
    value = json.dumps([{"detail_type": "note", "detail_value": "x" * 50_000}]).replace('"', '""')
    content = a_drop(*(f',Long {number},PERSON,"{value}",2024-01-01' for number in range(40)))
    assert len(content) > 2_000_000
    assert books(sent(client, content), 201)["rows_changed"] == 40
    with served(database, home=home, max_drop_bytes=10_000) as small:
        for body in (content, iter([content[:9_000], content[9_000:]])):
            a_problem(small.post(DROPS, content=body, headers=CSV), 400, "more than 10,000 bytes")
        a_problem(small.post(f"{DROPS}/", content=content, headers=CSV), 400, "more than 10,000 bytes")
        a_problem(small.post(DROPS, files={"file": ("a.csv", content)}), 400, "more than 10,000 bytes")
        assert small.get("/healthz").status_code == 200
