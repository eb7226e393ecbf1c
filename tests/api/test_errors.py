"""Whatever is sent, the answer is a problem document that says what was wrong and what to do: never a 500."""

from __future__ import annotations

import socket
from uuid import uuid4

import httpx
import pytest
from builders import NOBODY
from serving import (
    ENTITIES,
    JSON,
    PROBLEM,
    V1,
    a_problem,
    a_raw_problem,
    ask_raw,
    create,
    person,
    posted,
    read_raw,
    served,
)

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

HOST = b"Host: localhost\r\n"


def test_a_problem_says_what_when_and_where(client: httpx.Client) -> None:
    answer = posted(client, person(details=[{"detail_type": "email"}], nope=1))
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": (
            "body.details[0].detail_value: is missing; body.nope: is unknown here; see /docs for the fields that exist"
        ),
        "request_id": answer.headers["x-request-id"],
        "errors": [
            {"where": "body.details[0].detail_value", "detail": "is missing"},
            {"where": "body.nope", "detail": "is unknown here; see /docs for the fields that exist"},
        ],
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "body: is missing"),
        (b"{", "body: is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"nonsense", "body: is not JSON"),
        (b"{}x", "body: is not JSON"),
        (b"[]", "body: is not a JSON object"),
        (b"null", "body: is not a JSON object"),
        (b'"text"', "body: is not a JSON object"),
        (b"12", "body: is not a JSON object"),
        (b"\xff\xfe\x00", "body: cannot be read as JSON"),
        (b'{"display_name": "\xff", "entity_type": "PERSON"}', "body: cannot be read as JSON: it is not UTF-8"),
        (b"[" * 100_000, "body: cannot be read as JSON"),
        (b'{"a":' * 100_000, "body: cannot be read as JSON"),
        (b'{"display_name": ' + b"9" * 10_000 + b"}", "body: cannot be read as JSON"),
        (person().replace(b'"A"', b"NaN"), "body.display_name"),
        (person(display_name=1), "body.display_name"),
        (person(display_name=[]), "body.display_name"),
        (person(display_name=None), "body.display_name"),
        (person(entity_type=10**400), "body.entity_type"),
        (person(entity_uid=5), "body.entity_uid"),
        (person(entity_uid="x"), "body.entity_uid"),
        (person(change_ts=1704067200), "body.change_ts"),
        (person(change_ts={}), "body.change_ts"),
        (person(details={}), "body.details"),
        (person(details=None), "body.details"),
        (person(details="[]"), "body.details"),
        (person(details=[1]), "body.details[0]"),
        (person(details=[[]]), "body.details[0]"),
        (person(details=[{}]), "body.details[0].detail_type: is missing"),
        (person(details=[{"detail_type": 1, "detail_value": "x"}]), "body.details[0].detail_type"),
        (person(details=[{"detail_type": "email", "detail_value": 1}]), "body.details[0].detail_value"),
        (person(details=[{"detail_type": "email", "detail_value": ["x"]}]), "body.details[0].detail_value"),
        (person(details=[{"detail_type": "email", "detail_value": "x", "more": 1}]), "body.details[0].more"),
        (person(valid_from={}), "body.valid_from"),
        (person(display_names="x"), "body.display_names: is unknown here"),
        (person(display_name="a\0b"), "body.display_name: has a NUL"),
        (person(display_name="\ud800"), "body.display_name: has a NUL or half a surrogate pair"),
        (person(entity_type="PER\0SON"), "body.entity_type"),
        (person(entity_type="\udfff"), "body.entity_type"),
        (person(details=[{"detail_type": "em\0ail", "detail_value": "x"}]), "body.details[0].detail_type"),
        (person(details=[{"detail_type": "\ud800", "detail_value": "x"}]), "body.details[0].detail_type"),
        (person(details=[{"detail_type": "email", "detail_value": "\0"}]), "body.details[0].detail_value"),
        (person(details=[{"detail_type": "note", "detail_value": "x\udc00"}]), "body.details[0].detail_value"),
        (person(entity_uid="\ud800"), "body.entity_uid"),
        (person(change_ts="\ud800"), "body.change_ts"),
        (person(change_ts="2024-01-01\0"), "body.change_ts"),
        (person().replace(b'"display_name"', b'"\\ud800": 1, "display_name"'), "body"),
    ],
)
def test_an_invalid_body_is_refused_and_changes_nothing(client: httpx.Client, content: bytes, said: str) -> None:
    before = client.get(ENTITIES).json()["count"]
    a_problem(posted(client, content), 400, said)
    assert client.get(ENTITIES).json()["count"] == before
    patched = client.patch(f"{ENTITIES}/{uuid4()}", content=content, headers=JSON)
    assert (patched.status_code, patched.headers["content-type"]) in ((400, PROBLEM), (404, PROBLEM))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"display_name":"A","display_name":"B","entity_type":"PERSON"}', ["body.display_name"]),
        (b'{"display_name":"A","disp\\u006cay_name":"A","entity_type":"PERSON"}', ["body.display_name"]),
        (
            b'{"display_name":"A","entity_type":"PERSON","details":[{"detail_type":"phone","detail_value":"1"},'
            b'{"detail_type":"email","detail_value":"a@x.org","detail_value":"b@x.org"}]}',
            ["body.details[1].detail_value"],
        ),
        (
            b'{"display_name":"A","entity_type":"PERSON","change_ts":"2024-01-01","change_ts":"2020-01-01"}',
            ["body.change_ts"],
        ),
        (
            b'{"valid_from":null,"valid_from":null,"a":[{"b":{"c":1,"c":2,"c":3}}]}',
            ["body.valid_from", "body.a[0].b.c"],
        ),
    ],
)
def test_a_member_that_comes_twice_is_malformed(client: httpx.Client, content: bytes, where: list[str]) -> None:
    before = client.get(ENTITIES).json()["count"]
    for answer in (posted(client, content), client.patch(f"{ENTITIES}/{uuid4()}", content=content, headers=JSON)):
        problem = a_problem(answer, 400, where[0], "given twice; give it once")
        assert [fault["where"] for fault in problem["errors"]] == where
    assert client.get(ENTITIES).json()["count"] == before


@pytest.mark.parametrize("path", ["detail-types", "entity-types", "detail-types/email", "entity-types/PERSON"])
def test_a_member_that_comes_twice_is_malformed_in_reference_data_too(client: httpx.Client, path: str) -> None:
    before = client.get(f"{V1}/{path.partition('/')[0]}").json()
    method = "PATCH" if "/" in path else "POST"
    body = b'{"name":"One","name":"Two"}' if "/" in path else b'{"code":"twice","name":"One","name":"Two"}'
    a_problem(client.request(method, f"{V1}/{path}", content=body, headers=JSON), 400, "body.name", "given twice")
    assert client.get(f"{V1}/{path.partition('/')[0]}").json() == before


@pytest.mark.parametrize(
    ("declared", "status"),
    [
        ("application/json; charset=iso-8859-1", 400),
        ("application/json; charset=windows-1252", 400),
        ("application/json;charset=utf-16", 400),
        ("application/json; charset=klingon", 400),
        ("application/json; charset=utf-8; charset=latin-1", 400),
        ("application/json; charset*=us-ascii''latin-1", 400),
        ("application/json; charset=utf-8", 201),
        ('application/json; charset="UTF-8"', 201),
        ("application/json; charset=us-ascii", 201),
        ("application/merge-patch+json; Charset=UTF8", 201),
    ],
)
def test_the_declared_encoding_is_respected(client: httpx.Client, declared: str, status: int) -> None:
    answer = client.post(ENTITIES, content=person(display_name="Jürg"), headers={"Content-Type": declared})
    assert answer.status_code == status, answer.text
    if status == 400:
        a_problem(answer, 400, "header.Content-Type", "UTF-8")


def test_json_may_begin_with_a_mark_of_its_encoding_and_is_utf_8(client: httpx.Client) -> None:
    assert posted(client, b"\xef\xbb\xbf" + person()).status_code == 201
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        a_problem(posted(client, person().decode().encode(encoding)), 400, "body:", "JSON")
    for packed in ("gzip", "br", "deflate, gzip"):
        answer = posted(client, person(), **{"Content-Encoding": packed})
        a_problem(answer, 400, "header.Content-Encoding", packed, "decode the body first")
    assert posted(client, person(), **{"Content-Encoding": "identity"}).status_code == 201


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml", "json"]
)
def test_a_body_that_is_not_called_json_is_refused(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post(ENTITIES, content=person(), headers=headers)
    a_problem(answer, 400, "Content-Type: application/json")


def test_many_faults_are_reported_in_few_words(client: httpx.Client) -> None:
    details = [{"detail_type": f"unknown {number}", "detail_value": "x"} for number in range(5_000)]
    answer = posted(client, person(details=details, change_ts="9" * 100_000))
    problem = a_problem(answer, 400, "and 4998 more")
    assert len(problem["errors"]) == 20
    assert len(answer.content) < 20_000, "an answer is not as long as what was sent"


@pytest.mark.parametrize("size", [2 << 20, 20 << 20])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_long_is_refused_and_the_connection_survives(
    client: httpx.Client, size: int, is_chunked: bool
) -> None:
    with httpx.Client(base_url=client.base_url, trust_env=False) as fresh:
        block = b" " * (1 << 16)
        content = (block for _ in range(size // len(block))) if is_chunked else block * (size // len(block))
        answer = fresh.post(ENTITIES, content=content, headers=JSON)
        a_problem(answer, 400, "more than 1,048,576 bytes", "as a drop")
        assert fresh.get("/healthz").status_code == 200


def test_the_longest_body_is_a_setting(client: httpx.Client, database: Database) -> None:
    empty = person(details=[{"detail_type": "note", "detail_value": ""}])
    just_fits = empty.replace(b'""', b'"%s"' % (b"x" * (2048 - len(empty))))
    with served(database, max_body_bytes=2048) as small:
        assert posted(small, just_fits).status_code == 201
        a_problem(posted(small, just_fits + b" "), 400, "more than 2,048 bytes")
        a_problem(small.patch(f"{ENTITIES}/{uuid4()}", content=just_fits + b" ", headers=JSON), 400, "2,048")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"{ENTITIES}?q=%00", "NUL"),
        (f"{ENTITIES}?q=a%00b&page=1", "NUL"),
        (f"{ENTITIES}?%00=1", "NUL"),
        (f"{ENTITIES}/%00", "NUL"),
        ("/api%00/v1/entities", "NUL"),
        (f"{ENTITIES}?q=%ff", "not UTF-8"),
        (f"{ENTITIES}?q=%ED%A0%80", "not UTF-8"),
        (f"{ENTITIES}?%C3=1", "not UTF-8"),
        (f"{ENTITIES}/%ff", "not UTF-8"),
        (f"{V1}/entity-types/%ff", "not UTF-8"),
        (f"{ENTITIES}/x", "path.uid"),
        (f"{ENTITIES}/{'0' * 33}", "path.uid"),
        (f"{ENTITIES}/{NOBODY}?as_of=2024-01-01&as_of=2025-01-01", "query.as_of: is given twice"),
        (f"{ENTITIES}/{NOBODY}?page=1", "query.page: is unknown here"),
        (f"{ENTITIES}/{NOBODY}/history?page_size=0", "query.page_size"),
        (f"{ENTITIES}/{NOBODY}/audit?page=0&page_size=1", "query.page"),
    ],
)
def test_an_invalid_address_is_refused(client: httpx.Client, address: str, said: str) -> None:
    a_raw_problem(ask_raw(client, b"GET %s HTTP/1.1\r\n%s\r\n" % (address.encode(), HOST)), 400, said)


@pytest.mark.parametrize(
    "header",
    [
        b"Idempotency-Key: \r\n",
        b"Idempotency-Key: " + b"k" * 256 + b"\r\n",
        b"Idempotency-Key: a\tb\r\n",
        b"If-Match: \xff\r\n",
        b"If-Match: abc\r\n",
    ],
)
def test_an_invalid_header_is_refused(client: httpx.Client, header: bytes) -> None:
    uid = create(client)["entity_uid"].encode()
    head = b"PATCH /api/v1/entities/%s HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: 2\r\n" % (
        uid,
        HOST,
    )
    problem = a_raw_problem(ask_raw(client, head + header + b"\r\n{}"), 400)
    assert problem["errors"][0]["where"] == f"header.{header.partition(b':')[0].decode()}"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Request-ID: a\0b\r\n\r\n",
        b"GET /healthz?\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /api/v1/entities HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"POST /api/v1/entities HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
        b"POST /api/v1/entities HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_refused_by_the_server_itself(client: httpx.Client, request_: bytes) -> None:
    status, _, _ = ask_raw(client, request_)
    assert status == 400
    assert client.get("/healthz").status_code == 200


def test_a_client_that_leaves_in_the_middle_harms_nobody(client: httpx.Client) -> None:
    before = client.get(ENTITIES).json()["count"]
    for sent in (b'{"display_name"', b""):
        with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
            head = (
                b"POST /api/v1/entities HTTP/1.1\r\n"
                + HOST
                + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n"
            )
            connection.sendall(head + sent)
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
        connection.sendall(b"GET /api/v1/entities-asof?as_of=2024-01-01 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.get(ENTITIES).json()["count"] == before


def test_requests_may_come_in_a_row_on_one_connection(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert read_raw(connection)[0] == 200


def test_a_call_without_parameters_refuses_all_and_records_nothing(client: httpx.Client) -> None:
    line = b'{"display_name": "Not to be recorded", "entity_type": "PERSON"}\n'
    for method, path, sent in (
        ("POST", "/changes", {"content": line, "headers": {"Content-Type": "application/x-ndjson"}}),
        ("POST", "/detail-types", {"json": {"code": "dry", "name": "Dry"}}),
        ("GET", "/detail-types", {}),
        ("GET", f"/drops/{'0' * 64}", {}),
    ):
        answer = client.request(method, f"{V1}{path}", params={"dry_run": "true"}, **sent)
        assert a_problem(answer, 400)["errors"][0]["where"] == "query.dry_run"
    assert client.get(ENTITIES, params={"q": "Not to be recorded"}).json()["count"] == 0
    assert "dry" not in [kind["code"] for kind in client.get(f"{V1}/detail-types").json()["results"]]


def test_a_wrong_method_is_answered_with_the_right_ones(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("PUT", ENTITIES, "HEAD, GET, POST"),
        ("DELETE", ENTITIES, "HEAD, GET, POST"),
        ("PUT", f"{ENTITIES}/{NOBODY}", "HEAD, GET, PATCH, DELETE"),
        ("POST", f"{ENTITIES}/{NOBODY}", "HEAD, GET, PATCH, DELETE"),
        ("POST", f"{ENTITIES}/{NOBODY}/history", "HEAD, GET"),
        ("DELETE", f"{V1}/detail-types/email", "PATCH"),
        ("POST", "/healthz", "HEAD, GET"),
        ("OPTIONS", ENTITIES, "HEAD, GET, POST"),
    ):
        answer = client.request(method, path)
        a_problem(answer, 405, allowed)
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/nope", "/api", "/api/v1", "/api/v2/entities", f"{ENTITIES}/{NOBODY}/nope", "//api/v1/entities"]
)
def test_an_unknown_address_leads_to_the_documentation(client: httpx.Client, path: str) -> None:
    a_raw_problem(ask_raw(client, b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), HOST)), 404, path, "/docs")
