"""Random changes over HTTP: what is accepted agrees with the small model, what is refused changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from builders import day
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import ENTITIES, NDJSON, V1, Document, detail_list, values
from timeline_model import Model

from crm_core.model import Change

pytestmark = [pytest.mark.integration, pytest.mark.api, pytest.mark.temporal]

ASOF, DIFF = f"{V1}/entities-asof", f"{V1}/diff"


def now() -> str:
    return datetime.now(UTC).isoformat()


NAMES = st.sampled_from(["Ada", "ADA", "O'Neil"])
TYPES = st.sampled_from(["PERSON", "INSTITUTION"])
DETAILS = st.dictionaries(
    st.sampled_from(["email", "phone"]), st.none() | st.sampled_from(["ada@x.org", "ADA@x.org", "É b"]), max_size=2
)
INSTANTS = st.integers(0, 6).map(day)
WHO = st.sampled_from([UUID(int=0), UUID(int=1)])
upserts = st.builds(Change, WHO, INSTANTS, st.just("upsert"), NAMES, TYPES, DETAILS)
patches = st.builds(Change, WHO, INSTANTS, st.just("patch"), st.none() | NAMES, st.none() | TYPES, DETAILS)
deletions = st.builds(Change, WHO, INSTANTS, st.just("delete"))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(changes=st.lists(upserts | patches | patches | deletions, min_size=2, max_size=8))
def test_changes_over_http_agree_with_the_model(client: httpx.Client, changes: list[Change]) -> None:
    """What is refused says so and changes nothing; what is accepted is a change of the model."""
    uids = [uuid4(), uuid4()]
    model, known = Model(), []
    for asked_for in changes:
        uid = uids[asked_for.entity_uid.int]
        change = Change(uid, asked_for.change_ts, asked_for.op, *_said(asked_for))
        existed = model.state(uid, change.change_ts).exists
        is_there = model.state(uid, day(99)).exists
        status = _send(client, change)
        if change.op == "upsert":
            assert status == (409 if is_there else 201)
        elif change in model.changes:
            assert status in (200, 204, 409)
        else:
            was_known = bool(model.entity_versions(uid)) if uid in model.uids() else False
            done = 200 if change.op == "patch" else 204
            is_again = change.op == "delete" and any(
                c.op == "delete" and c.change_ts == change.change_ts and c.entity_uid == uid for c in model.changes
            )
            assert status == (done if existed or is_again else 409 if was_known else 404)
        if status < 400:
            model.record(change)
            known.append((now(), len(model.batches)))
    mine = {str(uid) for uid in uids}
    for known_at, model_then in [(None, model), *((at, model.known_after(count)) for at, count in known[-2:])]:
        more = {} if known_at is None else {"known_at": known_at}
        for at in (day(-1), day(2), day(3.5), day(9)):
            state = {
                UUID(e["entity_uid"]): (e["display_name"], e["entity_type"], values(e))
                for e in _all(client, ASOF, mine, as_of=at.isoformat(), **more)
            }
            assert state == model_then.as_of(at)
        for from_, to in ((day(-1), day(9)), (day(1), day(4))):
            window = {"from": from_.isoformat(), "to": to.isoformat(), **more}
            net = {UUID(d["entity_uid"]): (d["action"], _changes(d)) for d in _all(client, DIFF, mine, **window)}
            assert net == model_then.diff(from_, to)
            every = [
                (datetime.fromisoformat(d["at"]), UUID(d["entity_uid"]), d["action"], _changes(d))
                for d in _all(client, DIFF, mine, mode="changes", **window)
            ]
            assert every == model_then.transitions(from_, to)


def _said(change: Change) -> tuple[Any, ...]:
    return () if change.op == "delete" else (change.display_name, change.entity_type, change.details)


def _send(client: httpx.Client, change: Change) -> int:
    address, change_ts = f"{ENTITIES}/{change.entity_uid}", change.change_ts.isoformat()
    if change.op == "delete":
        return client.delete(address, params={"change_ts": change_ts}).status_code
    body: Document = {"details": detail_list(dict(change.details)), "change_ts": change_ts}
    body |= {"display_name": change.display_name} if change.display_name else {}
    body |= {"entity_type": change.entity_type} if change.entity_type else {}
    if change.op == "patch":
        return client.patch(address, json=body).status_code
    return client.post(ENTITIES, json={**body, "entity_uid": str(change.entity_uid)}).status_code


def _all(client: httpx.Client, path: str, mine: set[str], **params: str) -> list[Document]:
    """The documents of some entities among all, by NDJSON."""
    answer = client.get(path, params=params, headers={"Accept": NDJSON})
    assert answer.status_code == 200, answer.text
    return [found for found in map(json.loads, answer.text.splitlines()) if found["entity_uid"] in mine]


def _changes(document: Document) -> dict[str, tuple[str | None, str | None]]:
    return {change["field"]: (change["from"], change["to"]) for change in document["changes"]}
