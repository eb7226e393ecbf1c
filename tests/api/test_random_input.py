"""Random bodies, queries and bytes: the server never fails, and each answer is a problem or a result."""

from __future__ import annotations

import json
import random
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import (
    ENTITIES,
    JSON,
    PROBLEM,
    V1,
    person,
    posted,
)

pytestmark = [pytest.mark.integration, pytest.mark.api]


TEXT = st.text(max_size=8) | st.sampled_from(
    ["PERSON", "email", "2024-01-01", "\0", "\ud800", "x" * 3000, str(uuid4())]
)


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


FIELD = st.sampled_from(
    ["entity_uid", "display_name", "entity_type", "details", "change_ts", "valid_from", "is_current", "hashdiff"]
)


DETAILS = st.lists(st.dictionaries(st.sampled_from(["detail_type", "detail_value", "x"]), VALUE), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(
    body=st.dictionaries(FIELD, VALUE)
    | st.builds(lambda d: {"display_name": "A", "entity_type": "PERSON", "details": d}, DETAILS)
)
def test_no_body_makes_the_server_fail(client: httpx.Client, body: dict[str, object]) -> None:
    content = json.dumps(body).encode()
    for answer in (
        posted(client, content),
        client.patch(f"{ENTITIES}/{uuid4()}", content=content, headers=JSON),
        posted(client, content, f"{V1}/detail-types"),
    ):
        assert answer.status_code < 500, (body, answer.text)
        assert answer.status_code < 400 or answer.headers["content-type"] == PROBLEM


NAMES = st.sampled_from(
    ["q", "page", "page_size", "cursor", "count", "as_of", "known_at", "from", "to", "mode", "email", "x"]
)


PATHS = st.sampled_from(
    [
        ENTITIES,
        f"{V1}/entities-asof",
        f"{V1}/diff",
        f"{ENTITIES}/{uuid4()}",
        f"{ENTITIES}/{uuid4()}/history",
        f"{V1}/drops",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(
    path=PATHS,
    query=st.lists(st.tuples(NAMES, st.text(max_size=10) | st.sampled_from(["1", "2024-01-01", "net"])), max_size=4),
)
def test_no_query_makes_the_server_fail(client: httpx.Client, path: str, query: list[tuple[str, str]]) -> None:
    encoded = "&".join(f"{name}={_percent(value)}" for name, value in query)
    answer = client.get(f"{path}?{encoded}")
    assert answer.status_code < 500, (path, query, answer.text)
    assert answer.status_code < 400 or answer.headers["content-type"] == PROBLEM


def _percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def test_no_bytes_make_the_server_fail(client: httpx.Client) -> None:
    randomly = random.Random(7)
    for _ in range(150):
        content = bytearray(person(details=[{"detail_type": "email", "detail_value": "ada@x.org"}]))
        for _ in range(randomly.randrange(1, 6)):
            content[randomly.randrange(len(content))] = randomly.randrange(256)
        answer = posted(client, bytes(content))
        assert answer.status_code in (201, 400), (content, answer.text)
