"""The page of an entity: its state at the bar's instant, its timeline, what was believed when, values and audit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.pages.audit import changes_of
from api.cockpit.pages.beliefs import BeliefPicture, belief_picture
from api.cockpit.pages.picture import Picture, Window, fitting, picture
from api.cockpit.time_bar import instant_of
from api.problems import refuse
from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading import history, reads
from crm_core.reading.compare import FieldChange, Which, compared
from crm_core.reading.keys import KeyOfEntity, keys_of
from crm_core.reading.known import in_one_snapshot, is_all_known
from crm_core.reading.lanes import Extent, Past, beliefs, past

ROWS = 20  # of a page of a table
JUST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of the page's address, except for the instants of the bar."""

    uid: UUID
    as_of: datetime | None
    known_at: datetime | None
    now: datetime
    since: datetime | None  # of the picture
    until: datetime | None
    compared: tuple[datetime, datetime] | None  # two instants, the earlier one first
    field: str | None  # for which is shown what was believed when
    values_page: int
    audit_page: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A change as the audit shows it."""

    entry: Mapping[str, Any]  # the document of the API
    changes: Sequence[FieldChange]


@dataclass(frozen=True, slots=True)
class Found:
    """What is read for the page."""

    name: str | None  # at the instant, or at the nearest at which the entity existed
    exists: bool
    past: Past
    picture: Picture
    audit: Sequence[Recorded]
    audit_count: int
    first_recorded_at: str | None
    differences: Sequence[FieldChange] | None
    believed: BeliefPicture | None
    keys: Sequence[KeyOfEntity]  # as they are now


async def show_entity(opened: Page) -> Response:
    """Show an entity."""
    try:
        uid = UUID(opened.request.path_params["uid"])
    except ValueError:
        return _unknown(opened)
    asked = _asked(opened, uid)
    takes_long = asked.field is not None or asked.known_at is not None  # what was known is folded
    found = await opened.read(partial(_found, opened, asked), is_long=takes_long)
    if found is None:
        return _unknown(opened)
    if found.past.moments:
        opened.bar = replace(opened.bar, moments=found.past.moments)
    began, ended = found.past.extent.began_at or asked.now, asked.as_of or asked.now
    return opened.show(
        "entity.html",
        uid=uid,
        asked=asked,
        found=found,
        rows=ROWS,
        suggested={"from": min(began, ended), "to": max(began, ended)},  # to compare
        here=lambda window: opened.here(since=window.since, until=window.until),
        just_before=lambda at: at - JUST,
    )


routes = [Route("/entities/{uid}", page("reader", show_entity), methods=["GET"])]


def _unknown(opened: Page) -> Response:
    return opened.show("entity_unknown.html", status=HTTPStatus.NOT_FOUND, uid=opened.request.path_params["uid"])


def _asked(opened: Page, uid: UUID) -> Asked:
    """Read the address; raises Refusal for a parameter that makes no sense."""
    query, zone = opened.request.query_params, opened.state.settings.time_zone
    since, until, from_, to = (instant_of(query, name, zone) for name in ("since", "until", "from", "to"))
    if since is not None and until is not None and since >= until:
        refuse("until", "is not after since; leave both out to see everything")
    now = datetime.now(UTC)
    compared = None
    if from_ is not None or to is not None:
        to = to or opened.bar.as_of or now
        from_ = from_ or to
        compared = (min(from_, to), max(from_, to))
    pages = [_number(query.get(name, "1"), name) for name in ("values", "audit")]
    return Asked(
        uid, opened.bar.as_of, opened.bar.known_at, now, since, until, compared, query.get("field") or None, *pages
    )


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        refuse(name, f"{text!r} is not the number of a page; leave it out to see the first")
    return int(text)


def _found(opened: Page, asked: Asked, connection: Connection) -> Found | None:
    """Read what the page shows; None if nothing was ever recorded of the entity."""
    if asked.known_at is None:
        return _read(opened, asked, connection)
    with in_one_snapshot(connection, asked.known_at):
        if is_all_known(connection, asked.uid, asked.known_at):
            asked = replace(asked, known_at=None)  # the same, and nothing has to be folded
        return _read(opened, asked, connection)


def _read(opened: Page, asked: Asked, connection: Connection) -> Found | None:
    uid, known_at = asked.uid, asked.known_at
    if history.count_audit(connection, uid) == 0:
        return None
    known = past(
        connection,
        uid,
        asked.now,
        at=asked.as_of,
        known_at=known_at,
        window=(asked.since, asked.until),
        offset=(asked.values_page - 1) * ROWS,
        limit=ROWS,
    )
    fit = fitting(known.extent, asked.now, asked.as_of)
    window = Window(asked.since or fit.since, asked.until or fit.until)
    if window.since >= window.until:
        return _read(opened, replace(asked, since=None, until=None), connection)
    audit, audit_count = _audit(connection, asked)
    return Found(
        _name(connection, asked, known),
        any(run.holds and run.field == "" for run in known.lanes),
        known,
        picture(known.lanes, known.extent, window, asked.now, opened.state.settings.time_zone),
        audit,
        audit_count,
        None if known.extent.began_at else _first_recorded_at(connection, uid),
        _differences(connection, asked, opened.state.types(connection)),
        _believed(connection, asked, known.extent, window),
        keys_of(connection, uid),
    )


def _differences(connection: Connection, asked: Asked, types: ReferenceTypes) -> Sequence[FieldChange] | None:
    if asked.compared is None:
        return None
    from_, to = asked.compared
    found = compared(connection, types, from_, to, Which(entity_uid=asked.uid), known_at=asked.known_at).entities
    return [change for one in found for change in one.changes]


def _name(connection: Connection, asked: Asked, known: Past) -> str | None:
    """Return the entity's name at the instant, or at the nearest instant at which it existed."""
    for run in known.lanes:
        if run.field == "display_name" and run.holds:
            return run.value
    before, after = known.extent.ended_before, known.extent.begins_after
    nearest = after if before is None else before - JUST
    if nearest is None:
        return None
    document = reads.snapshot(connection, asked.uid, as_of=nearest, known_at=asked.known_at)
    return None if document is None else str(json.loads(document)["display_name"])


def _first_recorded_at(connection: Connection, uid: UUID) -> str:
    return str(json.loads(history.audit_page(connection, uid, limit=1).documents[0])["recorded_at"])


def _audit(connection: Connection, asked: Asked) -> tuple[list[Recorded], int]:
    """Read a page of the audit, the newest first."""
    count = history.count_audit(connection, asked.uid, known_at=asked.known_at)
    end = count - (asked.audit_page - 1) * ROWS
    if end <= 0:
        return [], count
    offset = max(0, end - ROWS)
    page = history.audit_page(connection, asked.uid, known_at=asked.known_at, offset=offset, limit=end - offset)
    return [
        Recorded(entry, changes_of(entry["before"], entry["after"]))
        for entry in map(json.loads, reversed(page.documents))
    ], count


def _believed(connection: Connection, asked: Asked, whole: Extent, window: Window) -> BeliefPicture | None:
    """Read what was ever believed of the field, also what was recorded after the bar's instant."""
    if asked.field is None:
        return None
    fields = whole.fields
    if asked.known_at is not None and asked.field not in fields:
        fields = past(connection, asked.uid, asked.now).extent.fields  # also those that were learnt later
    if asked.field not in fields:
        refuse("field", f"{asked.field!r} is not a field of this entity; there are: {', '.join(fields)}")
    return belief_picture(
        asked.field, beliefs(connection, asked.uid, asked.field, window=(window.since, window.until)), window
    )
