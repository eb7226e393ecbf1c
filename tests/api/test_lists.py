"""The list of entities: its order, its filters, and the ways through it."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from builders import reference_data
from servers import Server
from serving import DETAIL_KEYS, ENTITIES, ENTITY_KEYS, NDJSON, V1, Document, a_problem, create, served, values

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

PEOPLE = [  # display_name, entity_type, details
    ("José García", "PERSON", {"email": "Jose@Example.org", "phone": "1"}),
    ("100% Juice", "INSTITUTION", {"email": "a_b@example.org"}),
    ("john doe", "PERSON", {"email": "JOHN@example.org", "phone": "1", "note": "Key"}),
    ("JOHN SMITH", "PERSON", {"phone": "2", "note": "key"}),
    ("Johnson & Sons", "INSTITUTION", {"phone": "1"}),
    ("Snake_case", "PERSON", {}),
    ("Back\\slash", "PERSON", {}),
    ("Élan", "INSTITUTION", {"address": "1 Main St"}),
    ("Twin", "PERSON", {}),
    ("Twin", "PERSON", {}),
]
IN_ORDER = sorted(name for name, _, _ in PEOPLE)


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        yield database


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    with served(database) as client:
        for name, type_, details in PEOPLE:
            create(client, name, type_=type_, **details)
        yield client


def listed(client: httpx.Client, **params: str | int) -> Document:
    answer = client.get(ENTITIES, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def names(client: httpx.Client, **params: str | int) -> list[str]:
    found = listed(client, **params)
    assert found["count"] == len(found["results"])
    return [entity["display_name"] for entity in found["results"]]


def follow(client: httpx.Client, address: str | None) -> list[Document]:
    """The pages from an address to the end."""
    pages = []
    while address:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        address = pages[-1]["next"]
        assert len(pages) < 50
    return pages


def results(pages: list[Document]) -> list[Document]:
    return [entity for page in pages for entity in page["results"]]


def test_the_list_is_of_whole_entities_by_name_then_uid(client: httpx.Client) -> None:
    found = listed(client)
    assert list(found) == ["count", "next", "previous", "results"]
    assert (found["count"], found["next"], found["previous"]) == (len(PEOPLE), None, None)
    assert [entity["display_name"] for entity in found["results"]] == IN_ORDER
    twins = [entity["entity_uid"] for entity in found["results"] if entity["display_name"] == "Twin"]
    assert twins == sorted(twins)
    assert all(list(entity) == ENTITY_KEYS for entity in found["results"])
    assert all(list(detail) == DETAIL_KEYS for entity in found["results"] for detail in entity["details"])
    for entity in found["results"]:
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}").json() == entity


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("john", ["JOHN SMITH", "Johnson & Sons", "john doe"]),
        ("JOHN", ["JOHN SMITH", "Johnson & Sons", "john doe"]),
        ("ohn d", ["john doe"]),
        ("garcía", ["José García"]),
        ("GARCÍA", ["José García"]),
        ("GARCI\u0301A", ["José García"]),
        ("élan", ["Élan"]),
        ("garcia", []),
        ("%", ["100% Juice"]),
        ("_", ["Snake_case"]),
        ("0%_", []),
        ("\\", ["Back\\slash"]),
        ("&", ["Johnson & Sons"]),
        ("n", ["JOHN SMITH", "Johnson & Sons", "Snake_case", "Twin", "Twin", "john doe", "Élan"]),
        ("nobody at all", []),
        ("' or 1=1 --", []),
        ("", IN_ORDER),
    ],
)
def test_q_finds_any_part_of_the_name_whatever_the_case(client: httpx.Client, q: str, found: list[str]) -> None:
    assert names(client, q=q) == found


def test_an_entity_type_filters_whatever_its_case(client: httpx.Client) -> None:
    institutions = ["100% Juice", "Johnson & Sons", "Élan"]
    assert names(client, entity_type="INSTITUTION") == names(client, entity_type="institution") == institutions
    a_problem(client.get(ENTITIES, params={"entity_type": "robot"}), 400, "'robot'", "INSTITUTION, PERSON")


def test_a_detail_filters_in_the_comparison_of_its_type(client: httpx.Client) -> None:
    assert names(client, email="john@EXAMPLE.org") == ["john doe"]
    assert names(client, EMAIL="jose@example.org") == ["José García"]
    assert names(client, email=" a_b@example.org ") == ["100% Juice"]
    assert names(client, email="aXb@example.org") == names(client, email="%") == names(client, email="") == []
    assert names(client, address=" 1  Main St") == ["Élan"]
    assert names(client, address="1 main st") == []
    assert (names(client, note="key"), names(client, note="Key")) == (["JOHN SMITH"], ["john doe"])


def test_all_filters_must_hold(client: httpx.Client) -> None:
    assert names(client, phone="1") == ["Johnson & Sons", "José García", "john doe"]
    assert names(client, phone="1", entity_type="PERSON") == ["José García", "john doe"]
    assert names(client, phone="1", entity_type="PERSON", q="doe") == ["john doe"]
    assert names(client, phone="1", email="jose@example.org") == ["José García"]
    assert names(client, phone="2", email="jose@example.org") == []


def test_what_has_ended_is_not_listed(client: httpx.Client) -> None:
    entity = create(client, "Short-lived", phone="777")
    assert names(client, q="short-lived") == names(client, phone="777") == ["Short-lived"]
    client.patch(f"{ENTITIES}/{entity['entity_uid']}", json={"display_name": "Renamed"})
    assert (names(client, q="short-lived"), names(client, q="renamed")) == ([], ["Renamed"])
    client.delete(f"{ENTITIES}/{entity['entity_uid']}")
    assert names(client, q="renamed") == names(client, phone="777") == []


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("nope=1", "query.nope"),
        ("E-mail=x", "query.E-mail"),
        ("q=a&q=b", "query.q"),
        ("page=1&page=1", "query.page"),
        ("email=a&email=b", "query.email"),
        ("email=a&%65mail=b", "query.email"),
        ("page=0", "query.page"),
        ("page=-1", "query.page"),
        ("page=x", "query.page"),
        ("page=", "query.page"),
        ("page=99999999999999999999", "query.page"),
        ("page_size=0", "query.page_size"),
        ("page_size=201", "query.page_size"),
        ("page_size=1.5", "query.page_size"),
        ("count=maybe", "query.count"),
        ("cursor=&page=1", "query.cursor"),
        ("cursor=x", "query.cursor"),
        ("cursor=" + "x" * 9000, "query.cursor"),
    ],
)
def test_an_unknown_parameter_is_refused_with_its_name(client: httpx.Client, query: str, where: str) -> None:
    told = a_problem(client.get(f"{ENTITIES}?{query}"), 400, where)
    assert [fault["where"] for fault in told["errors"]] == [where]


def test_a_refusal_lists_the_parameters_that_there_are(client: httpx.Client) -> None:
    a_problem(
        client.get(f"{ENTITIES}?e_mail=x"),
        400,
        "q, entity_type, source, source_key, address, email, note, phone, website",
    )


def test_pages_lead_to_the_end_and_back(client: httpx.Client) -> None:
    whole = listed(client)["results"]
    pages = follow(client, f"{ENTITIES}?page_size=3")
    assert [len(page["results"]) for page in pages] == [3, 3, 3, 1]
    assert {page["count"] for page in pages} == {len(PEOPLE)}
    assert results(pages) == whole
    back, address = [], pages[-1]["previous"]
    while address:
        back.append(client.get(address).json())
        address = back[-1]["previous"]
    assert list(reversed(back)) == pages[:-1]
    assert listed(client, page=9, page_size=3)["results"] == []


def test_a_link_keeps_the_filters(client: httpx.Client) -> None:
    pages = follow(client, f"{ENTITIES}?q=n&entity_type=PERSON&page_size=2")
    assert [entity["display_name"] for entity in results(pages)] == names(client, q="n", entity_type="PERSON")
    assert {page["count"] for page in pages} == {5}
    odd = client.get(ENTITIES, params={"q": "%", "page_size": 1, "note": "a&b=c d+é"}).json()
    assert odd["next"] is None
    pages = follow(client, f"{ENTITIES}?q=%26&page_size=1&cursor=")
    assert [entity["display_name"] for entity in results(pages)] == ["Johnson & Sons"]


@pytest.mark.parametrize("size", [1, 3, 10, 200])
@pytest.mark.parametrize("query", ["", "&q=n", "&phone=1", "&entity_type=PERSON"])
def test_a_cursor_goes_the_same_way_as_the_pages(client: httpx.Client, size: int, query: str) -> None:
    by_cursor = follow(client, f"{ENTITIES}?cursor=&page_size={size}{query}")
    assert results(by_cursor) == results(follow(client, f"{ENTITIES}?page_size=200{query}"))
    assert all(page["count"] is None and page["previous"] is None for page in by_cursor)
    assert all(len(page["results"]) == size for page in by_cursor[:-1])


def test_a_cursor_belongs_to_its_list_and_filters(client: httpx.Client) -> None:
    following = listed(client, cursor="", page_size=2, entity_type="PERSON")["next"]
    cursor = httpx.URL(following).params["cursor"]
    for other in ({"entity_type": "INSTITUTION"}, {}, {"entity_type": "PERSON", "q": "n"}):
        a_problem(client.get(ENTITIES, params={"cursor": cursor, **other}), 400, "query.cursor", "other filters")
    params = {"cursor": cursor, "entity_type": "PERSON", "as_of": "2999-01-01"}
    a_problem(client.get(f"{V1}/entities-asof", params=params), 400, "query.cursor")
    same: dict[str, str | int] = {"entity_type": "PERSON", "cursor": cursor, "page_size": 200, "count": "none"}
    assert len(listed(client, **same)["results"]) == 5, "its page size and place in the address do not matter"


def test_a_forged_cursor_is_refused(client: httpx.Client) -> None:
    read = base64.urlsafe_b64decode(_cursor(client) + "==")
    belongs_to, good = read[:16], json.loads(read[16:])
    for forged in (
        [], {}, None, 1, "x", [1, 2, 3, 4], {**good, "entity_uid": "x"}, {**good, "entity_uid": None},
        {**good, "at": "soon"}, {**good, "display_name": 5}, {**good, "display_name": "\0"},
        {**good, "display_name": "\ud800"},
    ):  # fmt: skip
        for start in (belongs_to, b"", b"0" * 16):
            text = base64.urlsafe_b64encode(start + json.dumps(forged).encode()).decode().rstrip("=")
            a_problem(client.get(ENTITIES, params={"cursor": text}), 400, "query.cursor")
    for text in ("é", "%", "W10=W10", "W" * 5, "/" * 8, base64.urlsafe_b64encode(b"[" * 5000).decode()):
        a_problem(client.get(ENTITIES, params={"cursor": text}), 400, "query.cursor")


def _cursor(client: httpx.Client) -> str:
    return httpx.URL(listed(client, cursor="", page_size=1)["next"]).params["cursor"]


def test_a_cursor_goes_on_even_if_its_entity_is_gone(client: httpx.Client) -> None:
    gone = create(client, "AAA")
    following = listed(client, cursor="", page_size=2)
    assert following["results"][1]["entity_uid"] == gone["entity_uid"]
    client.delete(f"{ENTITIES}/{gone['entity_uid']}")
    assert results(follow(client, following["next"])) == listed(client)["results"][1:]


def test_a_cursor_can_begin_at_any_name(client: httpx.Client) -> None:
    odd = ['\\u0000 "quoted"', "\U0001f600", "é\u0301 x"]
    entities = [create(client, name, website="odd") for name in odd]
    found = results(follow(client, f"{ENTITIES}?website=odd&cursor=&page_size=1"))
    assert sorted(e["display_name"] for e in found) == sorted(e["display_name"] for e in entities)
    for entity in entities:
        client.delete(f"{ENTITIES}/{entity['entity_uid']}")


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀", '"', "\\", "\x7f"])
def test_every_next_is_short_and_accepted_however_long_the_names(client: httpx.Client, letter: str) -> None:
    entities = [create(client, f"{letter * 498}{number:02}", website="long") for number in range(4)]
    try:
        pages = follow(client, f"{ENTITIES}?website=long&cursor=&page_size=1")
        assert [e["display_name"] for e in results(pages)] == [e["display_name"] for e in entities]
        cursors = [httpx.URL(page["next"]).params["cursor"] for page in pages if page["next"]]
        assert len(cursors) == 3
        assert max(map(len, cursors)) < 500
        assert max(len(page["next"] or "") for page in pages) < 700
        as_of = "2999-01-01T00:00:00Z"
        pages = follow(client, f"{V1}/entities-asof?as_of={as_of}&website=long&cursor=&page_size=1")
        assert sorted(e["display_name"] for e in results(pages)) == [e["display_name"] for e in entities]
        assert max(len(page["next"] or "") for page in pages) < 400
    finally:
        for entity in entities:
            client.delete(f"{ENTITIES}/{entity['entity_uid']}")


def test_a_link_header_says_the_same_as_next_and_previous(client: httpx.Client) -> None:
    address: str | None = f"{ENTITIES}?page_size=4"
    while address:
        answer = client.get(address)
        found = answer.json()
        assert answer.links.get("next", {}).get("url") == found["next"]
        assert answer.links.get("prev", {}).get("url") == found["previous"]
        address = found["next"]
    assert "link" not in client.get(ENTITIES).headers
    assert client.get(f"{ENTITIES}?cursor=&page_size=4").links["next"]["url"]


def test_all_entities_come_as_lines_or_as_a_file_too(client: httpx.Client) -> None:
    for query in ({}, {"q": "n"}, {"phone": "1"}, {"entity_type": "PERSON", "q": "john"}, {"q": "nobody at all"}):
        whole = listed(client, page_size=200, **query)["results"]
        answer = client.get(ENTITIES, params=query, headers={"Accept": NDJSON})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, NDJSON)
        assert [json.loads(line) for line in answer.text.splitlines()] == whole
        file = client.get(ENTITIES, params=query, headers={"Accept": "text/csv"})
        assert file.headers["content-type"].partition(";")[0] == "text/csv"
        rows = list(csv.DictReader(io.StringIO(file.text)))
        assert file.text.startswith("entity_uid,display_name,entity_type,address,email,note,phone,website\n")
        assert [row["display_name"] for row in rows] == [entity["display_name"] for entity in whole]
        for row, entity in zip(rows, whole, strict=True):
            assert {code: row[code] for code in values(entity)} == values(entity)
    for accept in (NDJSON, "text/csv"):
        a_problem(client.get(ENTITIES, params={"page_size": 2}, headers={"Accept": accept}), 400, "query.page_size")
        a_problem(client.get(ENTITIES, params={"nope": 2}, headers={"Accept": accept}), 400, "query.nope")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv; charset=utf-8, */*", "text/csv"),
        ("*/*, text/csv", "text/csv"),
        ("text/csv;q=0", "application/json"),
        ("application/json, text/csv;q=0.5", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("application/json;q=0.2, text/csv;q=0.5, Application/JSONL;q=0.7", NDJSON),
        ("text/csv;q=a lot", "application/json"),
    ],
)
def test_a_list_comes_in_the_form_that_the_client_likes_best(client: httpx.Client, accept: str, form: str) -> None:
    answer = client.get(ENTITIES, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, form)


def test_a_part_of_a_name_is_as_long_as_a_name_at_most(client: httpx.Client) -> None:
    assert names(client, q="z" * 2_000) == []
    a_problem(client.get(ENTITIES, params={"q": "z" * 2_001}), 400, "query.q")
    assert names(client, q="  JOHN   smith ") == ["JOHN SMITH"]
    assert names(client, q=" ") == names(client)


def test_a_page_deep_down_is_refused_and_names_the_cursor(client: httpx.Client) -> None:
    for deep in ("page=52&page_size=200", "page=10002&page_size=1", "page=99999999999999999999"):
        a_problem(client.get(f"{ENTITIES}?{deep}"), 400, "query.page", "cursor= (blank)")
    assert listed(client, page=51, page_size=200)["results"] == []


def test_a_count_can_be_left_out(client: httpx.Client) -> None:
    found = listed(client, count="none", page_size=2)
    assert (found["count"], len(found["results"])) == (None, 2)
    assert results(follow(client, f"{ENTITIES}?count=none&page_size=2")) == listed(client, count="exact")["results"]


def test_the_size_of_pages_is_a_setting(database: Database, client: httpx.Client) -> None:
    with served(database, page_size=4) as small:
        assert len(listed(small)["results"]) == 4
        assert len(listed(small, page_size=5)["results"]) == 5


def test_links_lead_where_the_client_came_from(client: httpx.Client, database: Database) -> None:
    headers = {"Host": "localhost:8123", "X-Forwarded-Proto": "https"}
    answer = client.get(f"{ENTITIES}?page_size=1", headers=headers)
    assert answer.json()["next"].startswith(f"http://localhost:8123{ENTITIES}?"), "anybody can say that"
    with served(database, trusted_proxies=("127.0.0.0/8",)) as behind:
        answer = behind.get(f"{ENTITIES}?page_size=1", headers=headers)
        assert answer.json()["next"].startswith(f"https://localhost:8123{ENTITIES}?")


def test_a_trailing_slash_makes_no_difference(client: httpx.Client) -> None:
    with_slash = client.get(f"{ENTITIES}/?page_size=2")
    assert with_slash.json() == listed(client, page_size=2)
    uid = with_slash.json()["results"][0]["entity_uid"]
    assert client.get(f"{ENTITIES}/{uid}/").json() == client.get(f"{ENTITIES}/{uid}").json()
    posted = client.post(f"{ENTITIES}/", json={"display_name": "Slash", "entity_type": "PERSON"})
    assert posted.status_code == 201
    assert client.delete(f"{ENTITIES}/{posted.json()['entity_uid']}/").status_code == 204


def test_head_says_what_get_would(client: httpx.Client) -> None:
    for path in (ENTITIES, f"{ENTITIES}?page=0", "/healthz", f"{ENTITIES}/{uuid4()}"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers["content-type"] == got.headers["content-type"]
    assert client.get("/healthz").status_code == 200, "the connection is as good as before"


def test_values_are_found_by_their_type_alone(client: httpx.Client) -> None:
    entity = create(client, "Mixed", email="same@x.org", website="same@x.org")
    assert [found["entity_uid"] for found in listed(client, email="SAME@x.org")["results"]] == [entity["entity_uid"]]
    assert listed(client, phone="same@x.org")["results"] == []
    assert values(listed(client, website="same@x.org")["results"][0])["email"] == "same@x.org"
    client.delete(f"{ENTITIES}/{entity['entity_uid']}")
