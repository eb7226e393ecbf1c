"""API tokens: the list, a form for a new one, whose text is shown only once, and how to revoke one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.admin.listing import as_file, fitting, listed
from api.cockpit.page import Page, page
from crm_core.access.accounts import accounts, require_admin
from crm_core.access.principal import ROLES, Role
from crm_core.access.tokens import Token, create_token, revoke_token, tokens
from crm_core.errors import AdminFirst, NameRefused, TokenExists
from crm_core.postgres.connection import Connection
from crm_core.values.instants import parse_instant

COLUMNS = ("token_id", "name", "role", "state", "created_at", "expires_at", "revoked_at", "last_used_at")
STATES = ("active", "expired", "revoked")


async def show_tokens(opened: Page) -> Response:
    """Show the tokens, by name; `state` chooses those that can be used, have expired or were revoked."""
    now = datetime.now(UTC)
    found = listed(opened, await _fitting(opened, now), lambda one: f"{one.name} {one.token_id}")
    return opened.show("admin/tokens.html", found=found, now=now, states=STATES, state=_state(opened))


async def download(opened: Page) -> Response:
    """Send the tokens as CSV, without their secrets."""
    now = datetime.now(UTC)
    rows = [{**asdict(one), "state": one.state(now)} for one in await _fitting(opened, now)]
    return as_file("tokens.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


async def show_new(opened: Page) -> Response:
    """Show the form for a new token."""
    return await _show_new(opened, {})


async def create(opened: Page) -> Response:
    """Make a token, and show its text, which cannot be shown again."""
    form = await opened.form()
    values = {name: str(form.get(name, "")).strip() for name in ("name", "role", "expires")}
    now, faults = datetime.now(UTC), {}
    role: Role | None = next((role for role in ROLES if role == values["role"]), None)
    if role is None:
        faults["role"] = "Choose reader, writer or admin."
    expires_at = None
    try:
        expires_at = parse_instant(values["expires"], opened.state.settings.time_zone) if values["expires"] else None
    except ValueError as error:
        faults["expires"] = f"The day {error}."
    if expires_at is not None and expires_at <= now:
        faults["expires"] = "This day is in the past; choose a later one."
    if role is not None and not faults:
        is_off = opened.state.settings.auth == "off"
        work = partial(_make, name=values["name"], role=role, now=now, expires_at=expires_at, is_off=is_off)
        try:
            made, text = await opened.state.write(work)
        except (NameRefused, TokenExists, AdminFirst) as error:
            faults["name"] = str(error)
        else:
            opened.request.app.state.gate.forget()
            base = str(opened.request.base_url).rstrip("/")
            return opened.show("admin/token_made.html", status=HTTPStatus.CREATED, token=made, text=text, base=base)
    return await _show_new(opened, values, faults)


async def revoke(opened: Page) -> Response:
    """Revoke a token for good."""
    await opened.form()
    token_id = str(opened.request.path_params["token_id"])
    revoked = await opened.state.write(partial(revoke_token, name_or_id=token_id, now=datetime.now(UTC)))
    opened.request.app.state.gate.forget()
    return opened.go(opened.url("/admin/tokens"), f"The token {revoked.name} is revoked.")


routes = [
    Route("/admin/tokens", page("admin", show_tokens), methods=["GET"]),
    Route("/admin/tokens.csv", page("admin", download), methods=["GET"]),
    Route("/admin/tokens/new", page("admin", show_new), methods=["GET"]),
    Route("/admin/tokens/new", page("admin", create), methods=["POST"]),
    Route("/admin/tokens/of/{token_id}/revoke", page("admin", revoke), methods=["POST"]),
]


async def _show_new(opened: Page, values: Mapping[str, str], faults: Mapping[str, str] | None = None) -> Response:
    found = await opened.read(accounts)
    may_make = opened.state.settings.auth == "off" or any(one.is_active and one.role == "admin" for one in found)
    status = HTTPStatus.BAD_REQUEST if faults else HTTPStatus.OK
    return opened.show("admin/token_new.html", status=status, values=values, faults=faults or {}, may_make=may_make)


def _make(
    connection: Connection, *, name: str, role: Role, now: datetime, expires_at: datetime | None, is_off: bool
) -> tuple[Token, str]:
    """Create a token. The first one closes the open access, so an account that can sign in has to exist already."""
    with connection.transaction():
        if not is_off:
            require_admin(connection)
        return create_token(connection, name, role, now=now, expires_at=expires_at)


async def _fitting(opened: Page, now: datetime) -> list[Token]:
    state = _state(opened)
    found = fitting(opened, await opened.read(tokens), lambda one: (one.name, one.token_id, one.role))
    return [one for one in found if not state or one.state(now) == state]


def _state(opened: Page) -> str:
    state = opened.request.query_params.get("state", "")
    return state if state in STATES else ""
