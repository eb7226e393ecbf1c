"""The keys by which sources name an entity: to link one to it, and to end such a link."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.problems import Refusal
from crm_core.errors import ChangeRefused, UnknownEntity
from crm_core.postgres.connection import Connection
from crm_core.reading.keys import find_key, keys_of
from crm_core.reading.summaries import names_of
from crm_core.timeline.links import link, unlink
from crm_core.timeline.undo import Who
from crm_core.values.hashing import normal_form

LONGEST = 500  # characters of a reason
SAY_WHY = "Say why: the reason is recorded, and shown in the audit."
Values = Mapping[str, str]


async def show_keys(opened: Page) -> Response:
    """Show the keys of an entity, and the form to link another."""
    return await _show(opened, {}, {})


async def add_key(opened: Page) -> Response:
    """Link a key to the entity."""
    uid, form = _uid(opened), await opened.form()
    values = {name: str(form.get(name, "")).strip() for name in ("source", "source_key", "reason")}
    reason = normal_form(values["reason"][:LONGEST])
    if reason is None:
        return await _show(opened, values, {"reason": SAY_WHY})
    who = Who(opened.who.name, reason, opened.request.state.request_id)

    def work(connection: Connection) -> str:
        key = find_key(opened.state.types(connection), values["source"], values["source_key"])
        return link(connection, key, uid, who).outcome

    try:
        outcome = await opened.state.write(work)
    except ChangeRefused as error:
        return await _show(opened, values, {field: _sentence(said) for _, field, said in error.faults})
    opened.has_written()
    named = f"{values['source_key']} of {values['source']}"
    said = (
        f"The key {named} names this entity already."
        if outcome == "unchanged"
        else f"The key {named} names this entity now."
    )
    return opened.go(opened.url(f"/entities/{uid}/keys"), said)


async def end_link(opened: Page) -> Response:
    """End the link of a key: it names the entity of its own again."""
    uid, form = _uid(opened), await opened.form()
    source, source_key = str(form.get("source", "")), str(form.get("source_key", ""))
    reason = normal_form(str(form.get("reason", ""))[:LONGEST])
    if reason is None:
        return await _show(opened, {}, {"end": SAY_WHY})
    who = Who(opened.who.name, reason, opened.request.state.request_id)

    def work(connection: Connection) -> UUID:
        return unlink(connection, find_key(opened.state.types(connection), source, source_key), who).entity_uid

    own = await opened.state.write(work)
    opened.has_written()
    return opened.go(
        opened.url(f"/entities/{uid}/keys"), f"The key {source_key} of {source} names the entity {own} again."
    )


routes = [
    Route("/entities/{uid}/keys", page("reader", show_keys), methods=["GET"]),
    Route("/entities/{uid}/keys", page("writer", add_key), methods=["POST"]),
    Route("/entities/{uid}/keys/end", page("writer", end_link), methods=["POST"]),
]


def _uid(opened: Page) -> UUID:
    try:
        return UUID(opened.request.path_params["uid"])
    except ValueError:
        said = "there is no such entity; look for it in the search"
        raise Refusal(HTTPStatus.NOT_FOUND, said) from None


async def _show(opened: Page, values: Values, faults: Values) -> Response:
    uid = _uid(opened)
    names = await opened.read(partial(names_of, uids=[str(uid)]))
    if not names:
        raise UnknownEntity(uid)
    return opened.show(
        "entity_keys.html",
        status=HTTPStatus.BAD_REQUEST if faults else HTTPStatus.OK,
        uid=uid,
        name=names.get(str(uid)),
        keys=await opened.read(partial(keys_of, entity_uid=uid)),
        sources=[source for source in (await opened.read(opened.state.types)).sources if source.is_active],
        values=values,
        faults=faults,
        longest=LONGEST,
    )


def _sentence(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}."
