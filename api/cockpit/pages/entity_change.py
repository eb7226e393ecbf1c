"""Forms that change an entity: create, edit, end and revive, each with a preview of what it would do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from uuid import UUID

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.time_bar import iso, typed
from api.problems import Refusal
from api.wire.conditions import etag
from crm_core.errors import ChangeRefused, EntityExists, EntityStale, RequestRefused
from crm_core.model import Op, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.reading import reads
from crm_core.timeline.preview import ChangePreview
from crm_core.timeline.single_change import ChangeRequest, Preconditions, Provenance

WAS = "was."  # before the name of a field: what the form showed at first
DETAIL = "details."


@dataclass(slots=True)
class State:
    """What is known of an entity: by field, display_name, entity_type and details.<code>."""

    values: dict[str, str] = field(default_factory=dict)
    tag: str = ""  # of the document; blank: it does not exist now


@dataclass(slots=True)
class Form:
    """What the form shows."""

    op: Op  # upsert creates or revives, patch changes, delete ends
    uid: UUID
    values: dict[str, str]  # by field, as they are typed
    was: dict[str, str]  # by field, as the form showed them at first
    tag: str  # that the entity must still have
    change_ts: str = ""  # blank: now
    faults: Mapping[str, str] = field(default_factory=dict)  # by field
    fault: str | None = None  # of the whole
    preview: ChangePreview | None = None
    theirs: State | None = None  # what somebody else has made of it meanwhile

    @property
    def changed(self) -> dict[str, str | None]:
        """Return the fields that were changed in the form; None ends a detail."""
        return {
            name: value or None
            for name, value in self.values.items()
            if self.op == "upsert" or value != self.was.get(name, "")
        }


async def show_new(opened: Page) -> Response:
    """Show the form for a new entity."""
    types = await opened.read(opened.state.types)
    query = opened.request.query_params
    return _show(opened, types, Form("upsert", uuid.uuid4(), {"display_name": query.get("display_name", "")}, {}, ""))


async def show_change(opened: Page) -> Response:
    """Show the form to change an entity that exists, or to revive one that has ended.

    The address may give values to fill in, such as `display_name=`, and the instant of the change: `change_ts=`.
    """
    uid = _uid(opened)
    types, (now, last) = await opened.read(opened.state.types), await opened.read(partial(_states, uid=uid))
    if last is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"no entity {uid} is known; search for it by its name")
    state = now or State(last.values)
    query = opened.request.query_params
    given = {name: value for name, value in query.items() if name in _fields(types)}
    form = Form(
        "patch" if now else "upsert",
        uid,
        state.values | given,
        dict(state.values) if now else {},
        state.tag,
        query.get("change_ts", "") or _instant(opened),
    )
    return _show(opened, types, form)


async def show_end(opened: Page) -> Response:
    """Show the form to end an entity."""
    uid = _uid(opened)
    types, (now, last) = await opened.read(opened.state.types), await opened.read(partial(_states, uid=uid))
    if last is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"no entity {uid} is known; search for it by its name")
    state = now or last
    form = Form("delete", uid, dict(state.values), dict(state.values), state.tag)
    form.change_ts = _instant(opened)
    return _show(opened, types, form)


async def change(opened: Page) -> Response:
    """Preview what the form would do, or do it."""
    sent = await opened.form()
    types = await opened.read(opened.state.types)
    form = _sent(opened, sent, types)
    try:
        if sent.get("do") == "save":
            await opened.state.change(_request(opened, form))
            opened.has_written()
            return opened.go(opened.url(f"/entities/{form.uid}", as_of=None, known_at=None), _told(form))
        form.preview = await opened.state.preview(_request(opened, form))
    except ChangeRefused as error:
        form.faults = {_field_of(where, form): said for _, where, said in error.faults}
    except EntityStale:
        now, _ = await opened.read(partial(_states, uid=form.uid))
        form.theirs = now or State()
        yours = {name: value for name, value in form.values.items() if value != form.was.get(name, "")}
        form.values = form.theirs.values | yours
    except EntityExists:
        form.fault = "An entity with this uid exists already; load the page again, and change that one."
    except RequestRefused as error:
        form.fault = str(error)
    status = 200 if form.preview else HTTPStatus.CONFLICT if form.theirs else HTTPStatus.BAD_REQUEST
    return _show(opened, types, form, status)


routes = [
    Route("/entities/new", page("writer", show_new), methods=["GET"]),
    Route("/entities/new", page("writer", change), methods=["POST"]),
    Route("/entities/{uid:uuid}/change", page("writer", show_change), methods=["GET"]),
    Route("/entities/{uid:uuid}/change", page("writer", change), methods=["POST"]),
    Route("/entities/{uid:uuid}/end", page("writer", show_end), methods=["GET"]),
    Route("/entities/{uid:uuid}/end", page("writer", change), methods=["POST"]),
]


def _show(opened: Page, types: ReferenceTypes, form: Form, status: int = 200) -> Response:
    preview = form.preview
    versions = [
        {
            "field": version.field,
            "before": None if version.before is None else json.loads(version.before),
            "after": None if version.after is None else json.loads(version.after),
        }
        for version in (preview.versions if preview else ())
    ]
    fields = [(f"{DETAIL}{kind.code}", kind.name) for kind in types.detail_types if kind.is_active]
    return opened.show(
        "entity_form.html",
        status=status,
        form=form,
        preview=preview,
        versions=versions,
        types=types,
        fields=fields,
        names=dict(fields) | {"display_name": "Name", "entity_type": "Type"},
        was=WAS,
    )


def _sent(opened: Page, sent: FormData, types: ReferenceTypes) -> Form:
    def text(name: str) -> str:
        value = sent.get(name, "")
        return value.replace("\r\n", "\n") if isinstance(value, str) else ""

    op: Op = "delete" if opened.request.url.path.endswith("/end") else "patch" if text("op") == "patch" else "upsert"
    given = opened.request.path_params.get("uid")
    try:
        uid = given if isinstance(given, UUID) else UUID(text("uid"))
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the form has no uid; load the page again") from None
    names = _fields(types)
    return Form(
        op,
        uid,
        {name: text(name).strip() for name in names},
        {name: text(WAS + name) for name in names},
        text("tag"),
        typed(text("change_ts")),
    )


def _request(opened: Page, form: Form) -> ChangeRequest:
    request_id = opened.request.state.request_id
    changed = {} if form.op == "delete" else form.changed
    details = [
        (name.removeprefix(DETAIL), value)
        for name, value in changed.items()
        if name.startswith(DETAIL) and (value is not None or form.was.get(name))
    ]
    only_if = [form.tag] if form.tag else None
    return ChangeRequest(
        form.op,
        form.uid,
        Provenance(opened.who.name, request_id),
        form.change_ts or None,
        (changed["display_name"] or "") if "display_name" in changed else None,
        changed.get("entity_type"),
        details,
        Preconditions(only_if=only_if),
    )


def _states(connection: Connection, *, uid: UUID) -> tuple[State | None, State | None]:
    """Read the entity's state now (None: it does not exist), and its last state (None: it never existed)."""
    document = reads.snapshot(connection, uid)
    if document is not None:
        state = _state(document)
        return state, state
    versions = [json.loads(version) for version in reads.history(connection, uid)]
    own = [version for version in versions if version["kind"] == "entity"]
    if not own:
        return None, None
    values = {"display_name": own[-1]["display_name"], "entity_type": own[-1]["entity_type"]}
    values |= {
        f"{DETAIL}{version['detail_type']}": version["detail_value"]
        for version in versions
        if version["kind"] == "detail" and version["valid_to"] == own[-1]["valid_to"]
    }
    return None, State(values)


def _state(document: str) -> State:
    entity = json.loads(document)
    values = {"display_name": entity["display_name"], "entity_type": entity["entity_type"]}
    values |= {f"{DETAIL}{detail['detail_type']}": detail["detail_value"] for detail in entity["details"]}
    return State(values, etag(document).strip('"'))


def _fields(types: ReferenceTypes) -> list[str]:
    return ["display_name", "entity_type", *(f"{DETAIL}{kind.code}" for kind in types.detail_types)]


def _field_of(where: str, form: Form) -> str:
    """Return the field of the form that a fault of a change is about."""
    if where.startswith("details["):
        listed = [
            name for name, value in form.changed.items() if name.startswith(DETAIL) and (value or form.was.get(name))
        ]
        place = int(where[len("details[") :].partition("]")[0])
        return listed[place] if place < len(listed) else "display_name"
    return where


def _told(form: Form) -> str:
    name = form.values.get("display_name") or form.was.get("display_name", "")
    match form.op:
        case "delete":
            return f"{name} has been ended. Its history stays."
        case "patch":
            return f"The change of {name} is recorded."
        case _:
            return f"{name} is recorded."


def _instant(opened: Page) -> str:
    """Return the instant of the time bar as it is typed into a field; blank for now."""
    return iso(opened.bar.as_of, opened.bar.zone) if opened.bar.as_of else ""


def _uid(opened: Page) -> UUID:
    found = opened.request.path_params["uid"]
    assert isinstance(found, UUID)
    return found
