"""What a change would do is shown as it then happens, and nothing of it is recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from builders import an_entity, day, reference_data, uid

from crm_core.errors import ChangeRefused, EntityAbsent, EntityExists, EntityStale, UnknownEntity
from crm_core.model import Change, Difference, Op
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.preview import ChangePreview, preview_change
from crm_core.timeline.single_change import ChangeRequest, Preconditions, Provenance, apply_change

pytestmark = [pytest.mark.integration, pytest.mark.temporal]

NOW = day(100)
ADA = str(uid("ada"))


@pytest.fixture
def types(any_connection: Connection) -> Connection:
    reference_data(any_connection)
    return any_connection


def recorded(connection: Connection, *changes: Change) -> None:
    for change in changes:
        record(connection, reference_types(connection), [change], Origin("tester", "fixture"))


def request(op: Op = "patch", at: float | None = None, **more: object) -> ChangeRequest:
    change_ts = None if at is None else day(at).isoformat()
    return ChangeRequest(op, uid("ada"), Provenance("ann", "r-1"), change_ts, **more)  # type: ignore[arg-type]


def shown(connection: Connection, asked: ChangeRequest, now: datetime = NOW) -> ChangePreview:
    """The preview of a change, which then comes to pass as it says; of this nothing was there before."""
    books = "select (select count(*) from ledger), (select count(*) from batch), (select count(*) from idempotency_key)"
    before = connection.execute(books).fetchone(), reads.history(connection, uid("ada"))
    types = reference_types(connection)
    preview = preview_change(connection, types, asked, now=now, time_zone=UTC)
    assert (connection.execute(books).fetchone(), reads.history(connection, uid("ada"))) == before
    with connection.transaction(force_rollback=True):
        done = apply_change(connection, types, asked, now=now, time_zone=UTC)
        assert done.outcome == preview.outcome
        after = set(reads.history(connection, uid("ada")))
    if asked.is_dated:  # otherwise it is of another moment each time
        assert done.document == preview.entity
        assert set(before[1]) - after == {version.before for version in preview.versions} - {None}
        assert after - set(before[1]) == {version.after for version in preview.versions} - {None}
    return preview


Interval = tuple[str, float, float | None]


def intervals(preview: ChangePreview) -> Sequence[tuple[str, Interval | None, Interval | None]]:
    """The versions before and after: field, value with its interval in days."""
    return [(version.field, _version(version.before), _version(version.after)) for version in preview.versions]


def _version(document: str | None) -> Interval | None:
    if document is None:
        return None
    version = json.loads(document)
    began, ended = (
        None if text is None else (datetime.fromisoformat(text) - day(0)) / timedelta(days=1)
        for text in (version["valid_from"], version["valid_to"])
    )
    assert began is not None
    return version.get("display_name") or version["detail_value"], began, ended


def test_a_late_change_shows_the_versions_of_the_past_that_it_cuts(types: Connection) -> None:
    recorded(types, an_entity(at=1, name="A", email="a@x.org"), an_entity(at=3, name="A", email="a@x.org"))
    preview = shown(types, request(at=2, display_name="B"))
    assert intervals(preview) == [
        ("entity", ("A", 1, None), ("A", 1, 2)),
        ("entity", None, ("B", 2, 3)),
        ("entity", None, ("A", 3, None)),
    ]
    assert preview.differences == (Difference(ADA, "display_name", "2024-01-03T00:00:00Z", "A", "B"),)
    assert (preview.outcome, preview.change_ts, preview.past_versions) == ("changed", day(2), 1)
    assert (preview.versions_added, preview.versions_changed, preview.versions_removed) == (2, 1, 0)
    assert json.loads(preview.entity or "")["display_name"] == "A", "it is A again since day 3"


def test_a_change_that_unites_two_versions_shows_the_one_that_goes(types: Connection) -> None:
    recorded(types, an_entity(at=1, name="A"), an_entity(at=3, name="B"), an_entity(at=5, name="A"))
    preview = shown(types, request(at=3, display_name="A"))
    assert intervals(preview) == [
        ("entity", ("A", 1, 3), ("A", 1, None)),
        ("entity", ("B", 3, 5), None),
        ("entity", ("A", 5, None), None),
    ]
    assert preview.versions_removed == 2
    assert preview.past_versions == 2


def test_a_deletion_in_the_past_shows_the_end_of_the_entity_and_of_its_details(types: Connection) -> None:
    recorded(types, an_entity(at=1, name="A", email="a@x.org"))
    preview = shown(types, request("delete", at=4))
    assert intervals(preview) == [
        ("entity", ("A", 1, None), ("A", 1, 4)),
        ("details.email", ("a@x.org", 1, None), ("a@x.org", 1, 4)),
    ]
    assert [(d.field, d.before, d.after) for d in preview.differences] == [
        ("display_name", "A", None),
        ("entity_type", "PERSON", None),
        ("details.email", "a@x.org", None),
    ]
    assert (preview.outcome, preview.entity, preview.past_versions) == ("deleted", None, 2)


def test_an_undated_change_leaves_the_past_as_it_is(types: Connection) -> None:
    recorded(types, an_entity(at=1, name="A", email="a@x.org"))
    preview = shown(types, request(details=[("email", "b@x.org"), ("phone", "1")]), now=datetime.now(UTC))
    assert [(field, before and before[0], after and after[0]) for field, before, after in intervals(preview)] == [
        ("details.email", "a@x.org", "a@x.org"),
        ("details.email", None, "b@x.org"),
        ("details.phone", None, "1"),
    ]
    assert preview.past_versions == 0
    assert abs(preview.change_ts - datetime.now(UTC)) < timedelta(minutes=1)
    assert [(d.field, d.before, d.after) for d in preview.differences] == [
        ("details.email", "a@x.org", "b@x.org"),
        ("details.phone", None, "1"),
    ]


def test_a_new_entity_and_a_change_of_nothing_are_shown_as_such(types: Connection) -> None:
    new = request("upsert", at=1, display_name="Ada", entity_type="person", details=[("email", "a@x.org")])
    preview = shown(types, new)
    assert intervals(preview) == [("entity", None, ("Ada", 1, None)), ("details.email", None, ("a@x.org", 1, None))]
    assert (preview.outcome, preview.past_versions) == ("created", 0)
    recorded(types, an_entity(at=1, name="Ada"))
    same = shown(types, request(at=2, display_name="Ada"))
    assert (same.outcome, same.versions, same.differences, same.past_versions) == ("changed", (), (), 0)


def test_the_conditions_are_those_of_the_change_but_for_its_key(types: Connection) -> None:
    with pytest.raises(UnknownEntity):
        shown(types, request(at=2, display_name="B"))
    recorded(types, an_entity(at=1))
    for asked, error in (
        (request("upsert", at=2, display_name="A", entity_type="PERSON"), EntityExists),
        (request(at=0, display_name="B"), EntityAbsent),
        (request(at=2, display_name="B", preconditions=Preconditions(only_if=["x"])), EntityStale),
        (request(at=2, display_name=""), ChangeRefused),
        (ChangeRequest("patch", uid("ada"), Provenance("ann", "r"), "soon", display_name="B"), ChangeRefused),
    ):
        with pytest.raises(error):
            shown(types, asked)
    keyed = request(at=2, display_name="B", preconditions=Preconditions(key="k", fingerprint=b"1"))
    assert shown(types, keyed).outcome == "changed"
    types.execute("delete from idempotency_key")
    apply_change(types, reference_types(types), keyed, now=NOW, time_zone=UTC)
    assert shown(types, keyed).versions == (), "a key that was used is not answered again: it would change nothing now"
