"""The feed over REST, and many changes in one call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import pytest
from serving import ENTITIES, NDJSON, V1, Document, a_problem, create, values

pytestmark = [pytest.mark.integration, pytest.mark.api]

CHANGES = f"{V1}/changes"
LINES = {"Content-Type": NDJSON}


def events(client: httpx.Client, after: str = "", **params: str | int) -> tuple[list[Document], str]:
    """All events behind a cursor, and where they end."""
    found: list[Document] = []
    while True:
        answer = client.get(CHANGES, params={"after": after, **params})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        if not page["results"]:
            return found, page["next"]
        assert page["next"] != after
        found += page["results"]
        after = page["next"]


def end(client: httpx.Client) -> str:
    return events(client)[1]


def post(client: httpx.Client, *lines: object, key: str | None = None) -> httpx.Response:
    body = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    headers = LINES if key is None else {**LINES, "Idempotency-Key": key}
    return client.post(CHANGES, content=body.encode(errors="surrogatepass"), headers=headers)


def recorded(client: httpx.Client, *lines: object, key: str | None = None) -> Document:
    answer = post(client, *lines, key=key)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def said(found: Sequence[Document]) -> list[tuple[str, str, str]]:
    return [(event["entity_uid"], event["op"], event["since"]) for event in found]


# the feed


def test_what_was_recorded_comes_in_its_order_with_the_entity_as_it_is(client: httpx.Client) -> None:
    after = end(client)
    ada = create(client, "Ada", body={"change_ts": "2024-01-01"})
    bob = create(client, "Bob", body={"change_ts": "2024-01-02"})
    address = f"{ENTITIES}/{ada['entity_uid']}"
    client.patch(address, json={"display_name": "Ada L.", "change_ts": "2024-02-01"})
    client.delete(f"{ENTITIES}/{bob['entity_uid']}", params={"change_ts": "2024-03-01"})
    found, _ = events(client, after, include="entity")
    assert said(found) == [
        (ada["entity_uid"], "upsert", "2024-01-01T00:00:00Z"),
        (bob["entity_uid"], "upsert", "2024-01-02T00:00:00Z"),
        (ada["entity_uid"], "patch", "2024-02-01T00:00:00Z"),
        (bob["entity_uid"], "delete", "2024-03-01T00:00:00Z"),
    ]
    now = client.get(address).json()
    assert [event["entity"] for event in found] == [now, None, now, None]
    assert all("entity" not in event for event in events(client, after)[0])
    audit = client.get(f"{address}/audit").json()["results"]
    assert [(e["recorded_at"], e["actor"]) for e in found[::2]] == [(e["recorded_at"], e["actor"]) for e in audit]
    assert [event["batch_id"] for event in found] == sorted({event["batch_id"] for event in found})


def test_pages_of_any_size_make_up_the_whole(client: httpx.Client) -> None:
    recorded(
        client, *({"display_name": f"No. {n}", "entity_type": "PERSON", "change_ts": "2024-01-01"} for n in range(7))
    )
    whole, last = events(client)
    for size in (1, 3, 1000):
        assert events(client, page_size=size) == (whole, last)
    for event in whole[-3:]:
        assert event in whole


def test_the_end_answers_where_it_is_and_the_link_says_the_same(client: httpx.Client) -> None:
    create(client)
    last = end(client)
    answer = client.get(CHANGES, params={"after": last})
    assert answer.json() == {"next": last, "results": []}
    assert answer.headers["link"].startswith(f"<{client.base_url}{CHANGES}?after={last}>")


def test_a_batch_has_one_event_an_entity_however_often_it_names_it(client: httpx.Client) -> None:
    after, uid = end(client), str(uuid4())
    rows = [{"entity_uid": uid, "display_name": f"No. {n}", "entity_type": "PERSON"} for n in range(3)]
    shown = recorded(client, *({**row, "change_ts": f"2024-01-0{3 - n}"} for n, row in enumerate(rows)))
    found, _ = events(client, after)
    assert said(found) == [(uid, "upsert", "2024-01-01T00:00:00Z")]
    assert found[0]["batch_id"] == shown["batch_id"]


def test_who_waits_is_told_as_soon_as_there_is_news(client: httpx.Client) -> None:
    after = end(client)
    timer = threading.Timer(0.7, create, [client, "News"])
    timer.start()
    begun = time.monotonic()
    page = client.get(CHANGES, params={"after": after, "wait": 20}).json()
    timer.join()
    assert len(page["results"]) == 1
    assert time.monotonic() - begun < 15


def test_who_waits_for_nothing_is_told_so_when_the_time_is_over(client: httpx.Client) -> None:
    after = end(client)
    begun = time.monotonic()
    assert client.get(CHANGES, params={"after": after, "wait": 0.6}).json() == {"next": after, "results": []}
    assert time.monotonic() - begun >= 0.6


@pytest.mark.parametrize("cursor", ["x", "1-2", f"{10**18 - 1}-1-1-{UUID(int=1).hex}", "1-1-1-" + "0" * 31 + "g"])
def test_a_cursor_that_is_none_is_refused(client: httpx.Client, cursor: str) -> None:
    problem = a_problem(client.get(CHANGES, params={"after": cursor}), 400, "next")
    assert problem["errors"][0]["where"] == "query.after"


def test_what_commits_late_comes_late_and_nothing_is_missed(client: httpx.Client) -> None:
    """Sixteen writers beside a reader who never looks back."""
    after, people = end(client), [create(client, f"Writer {n}")["entity_uid"] for n in range(16)]
    found: list[Document] = []

    def write(uid: str) -> int:
        for n in range(12):
            assert client.patch(f"{ENTITIES}/{uid}", json={"display_name": f"Name {n}"}).status_code == 200
        return 12

    with ThreadPoolExecutor(17) as pool:
        writing = [pool.submit(write, uid) for uid in people]
        deadline = time.monotonic() + 60
        while not all(done.done() for done in writing) and time.monotonic() < deadline:
            more, after = events(client, after)
            found += more
        assert sum(done.result(1) for done in writing) == 16 * 12
    found += events(client, after)[0]
    assert len(found) == 16 * 13
    places = [(event["recorded_at"], event["batch_id"]) for event in found]
    assert len({*places}) == 16 * 13
    for uid in people:
        batches = [event["batch_id"] for event in found if event["entity_uid"] == uid]
        assert batches == sorted(batches)


# many changes


def test_many_changes_go_in_as_one_batch(client: httpx.Client) -> None:
    gone = create(client, "Gone", body={"change_ts": "2024-01-01"})["entity_uid"]
    found = recorded(
        client,
        {"display_name": "Ada", "entity_type": "person", "details": [{"detail_type": "phone", "detail_value": "1"}],
         "email": "ada@x.org", "change_ts": "2024-01-01"},
        "",
        {"entity_uid": gone, "op": "delete", "change_ts": "2024-02-01"},
    )  # fmt: skip
    ada, second = found.pop("entity_uids")
    assert second == gone
    assert found.pop("batch_id") > 0
    assert found == {
        "rows_accepted": 2, "rows_changed": 2, "rows_unchanged": 0, "rows_late": 0, "rows_superseded": 0,
        "entity_versions_added": 1, "detail_versions_added": 2,
    }  # fmt: skip
    entity = client.get(f"{ENTITIES}/{ada}").json()
    assert (entity["display_name"], values(entity)) == ("Ada", {"email": "ada@x.org", "phone": "1"})
    assert client.get(f"{ENTITIES}/{gone}").status_code == 410
    audit = client.get(f"{ENTITIES}/{ada}/audit").json()["results"]
    assert [entry["source"]["kind"] for entry in audit] == ["request"]


def test_bad_lines_are_told_and_nothing_goes_in(client: httpx.Client) -> None:
    after = end(client)
    good = {"display_name": "Good", "entity_type": "PERSON"}
    problem = a_problem(
        post(client, good, {"entity_type": "ROBOT"}, {**good, "change_ts": "soon"}), 400, "2 lines are bad"
    )
    assert [(fault["where"], fault["reason"]) for fault in problem["errors"]] == [
        ("line 2", "missing_display_name, unknown_entity_type"),
        ("line 3", "invalid_change_ts"),
    ]
    assert problem["errors"][0]["detail"] == '{"entity_type": "ROBOT"}'
    assert events(client, after)[0] == []


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"a": 1, "a": 2}', "given twice"),
        ('{"display_nam": "x"}', "unknown member 'display_nam'"),
        ('{"display_name": 1}', "has no text in 'display_name'"),
        ('{"display_name": "\\u0000"}', "NUL"),
        ('{"display_name": "\\ud800"}', "surrogate"),
        ('{"email": "x", "Email": "y"}', "has 'Email' twice"),
        ('{"details": [{"detail_type": "email", "detail_type": "email"}]}', "given twice"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_line_that_is_no_change_is_told_with_its_number(client: httpx.Client, line: str, part: str) -> None:
    problem = a_problem(post(client, {"display_name": "x", "entity_type": "PERSON"}, line), 400, "1 line is bad")
    assert [fault["where"] for fault in problem["errors"]] == ["line 2"]
    assert part in problem["errors"][0]["detail"]


def test_a_body_of_nothing_or_of_another_kind_is_refused(client: httpx.Client) -> None:
    assert a_problem(post(client), 400)["errors"][0]["where"] == "line 1"
    assert a_problem(client.post(CHANGES, json={}), 400)["errors"][0]["where"] == "header.Content-Type"
    problem = a_problem(client.post(CHANGES, content=b'{"display_name": "\xff"}', headers=LINES), 400)
    assert problem["errors"] == [
        {"where": "line 1", "detail": "is not UTF-8; send UTF-8", "reason": "invalid_encoding"}
    ]


def test_the_same_call_under_its_key_is_made_once(client: httpx.Client) -> None:
    line, key = {"display_name": "Once", "entity_type": "PERSON"}, uuid4().hex
    first, again = post(client, line, key=key), post(client, line, key=key)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    a_problem(post(client, {**line, "email": "x"}, key=key), 422, "another request")
    assert recorded(client, line)["batch_id"] > first.json()["batch_id"], "without a key it is another request"


def test_what_is_said_again_at_one_instant_stands(client: httpx.Client) -> None:
    """A request is never a repeat."""
    uid = str(uuid4())
    for name in ("X", "Y", "X"):
        row = {"entity_uid": uid, "display_name": name, "entity_type": "PERSON", "change_ts": "2024-01-01"}
        recorded(client, row)
    assert client.get(f"{ENTITIES}/{uid}").json()["display_name"] == "X"


def test_an_undated_line_is_later_than_all_that_is_known(client: httpx.Client) -> None:
    uid = str(uuid4())
    row = {"entity_uid": uid, "entity_type": "PERSON"}
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 200))
    recorded(client, {**row, "display_name": "Ahead", "change_ts": ahead})
    found = recorded(client, {**row, "display_name": "Now"})
    assert found["rows_late"] == 0
    assert client.get(f"{ENTITIES}/{uid}").json()["display_name"] == "Now"
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 250))
    recorded(client, {**row, "display_name": "Last"}, {**row, "display_name": "Later", "change_ts": later})
    assert client.get(f"{ENTITIES}/{uid}").json()["display_name"] == "Last"
