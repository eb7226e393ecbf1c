"""Signing in and out, and what people do with their own account: its password and its sessions."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from limits import parse
from starlette.responses import Response
from starlette.routing import Route

from api.auth import address_of
from api.cockpit.page import Page, page
from api.problems import Refusal
from crm_core.access.accounts import Account, set_password, verified_account
from crm_core.access.principal import name_in_form
from crm_core.access.sessions import begin_session, end_other_sessions, end_session, sessions
from crm_core.errors import WeakPassword
from crm_core.postgres.connection import Connection

BY_NAME, BY_ADDRESS = parse("10/5minutes"), parse("30/5minutes")  # logins that fail
WRONG = "The username or the password is wrong."  # whichever it was
HASHING = asyncio.Semaphore(2)  # passwords that are looked at at one time: it takes a core and 64 MB for a moment


async def show_login(opened: Page) -> Response:
    """Show the form to sign in."""
    if opened.visitor.who is not None and opened.visitor.who.session_id:
        return opened.go(opened.url("/"))
    return opened.show("login.html", username="", fault=None, then=_inside(opened.request.query_params.get("next")))


async def log_in(opened: Page) -> Response:
    """Begin a session if name and password are right; after too many failures one has to wait."""
    form = await opened.form()
    username, password = str(form.get("username", "")), str(form.get("password", ""))
    then = _inside(form.get("next"))
    account = await _verified(opened, username, password)
    if account is None:
        return opened.show("login.html", status=401, username=username, fault=WRONG, then=then)
    text = await opened.state.write(partial(_begin, opened, account, address_of(opened.request)))
    opened.visitors.forget_all()  # the session of before has ended
    response = opened.go(opened.request.scope["root_path"] + then)
    opened.visitors.remember_session(response, text)
    return response


async def log_out(opened: Page) -> Response:
    """End the session."""
    await opened.form()
    who = opened.visitor.who
    if who is not None and (session_id := who.session_id):
        await opened.state.write(lambda connection: end_session(connection, who.name, session_id))
    response = opened.go(opened.url("/login", as_of=None, known_at=None), "You have signed out.")
    opened.visitors.forget_session(response, opened.request)
    return response


async def show_account(opened: Page) -> Response:
    """Show the visitor's own account, with its sessions."""
    return await _account(opened, [])


async def change_password(opened: Page) -> Response:
    """Set a new password if the old one is right; all other sessions end."""
    form = await opened.form()
    who = _owner(opened)
    old, new, again = (str(form.get(name, "")) for name in ("old", "new", "again"))
    if new != again:
        return await _account(opened, ["The two new passwords differ."])
    if await _verified(opened, who, old) is None:
        return await _account(opened, ["The old password is wrong."])

    def change(connection: Connection) -> None:
        with connection.transaction():
            set_password(connection, who, new, now=datetime.now(UTC), keep_session=opened.who.session_id)

    try:
        await opened.state.write(change)
    except WeakPassword as error:
        return await _account(opened, error.faults)
    opened.visitors.forget_all()
    return opened.go(opened.url("/account"), "The password is changed. All other sessions have ended.")


async def end_sessions(opened: Page) -> Response:
    """End one session of the account, or all others."""
    form = await opened.form()
    who, session_id = _owner(opened), str(form.get("session_id", ""))
    if session_id:
        await opened.state.write(lambda connection: end_session(connection, who, session_id))
    else:
        keep = opened.who.session_id
        await opened.state.write(lambda connection: end_other_sessions(connection, who, keep))
    opened.visitors.forget_all()
    return opened.go(
        opened.url("/account"), "The session has ended." if session_id else "All other sessions have ended."
    )


routes = [
    Route("/login", page(None, show_login), methods=["GET"]),
    Route("/login", page(None, log_in), methods=["POST"]),
    Route("/logout", page(None, log_out), methods=["POST"]),
    Route("/account", page("reader", show_account), methods=["GET"]),
    Route("/account/password", page("reader", change_password), methods=["POST"]),
    Route("/account/sessions", page("reader", end_sessions), methods=["POST"]),
]


async def _verified(opened: Page, username: str, password: str) -> Account | None:
    """Return the account with this name and password, or None; raises Refusal after too many failures.

    Passwords are looked at two at a time, and whether one has to wait is asked right before: many attempts at once are
    no way around it.
    """
    limiter, address = opened.request.app.state.gate.limiter, address_of(opened.request)
    name = name_in_form(username) or username
    counted = ((BY_NAME, f"login of {name}"), (BY_ADDRESS, f"login from {address}"))
    async with HASHING:
        seconds = max(limiter.wait(limit, who) for limit, who in counted)
        if seconds > 0:
            said = f"there were too many attempts to sign in; try again in {math.ceil(seconds / 60)} minutes"
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, said, headers={"Retry-After": str(math.ceil(seconds))})
        account = await opened.state.read(lambda connection: verified_account(connection, username, password))
        if account is None:
            for limit, who in counted:
                limiter.hit(limit, who)
    return account


def _begin(opened: Page, account: Account, address: str, connection: Connection) -> str:
    """Begin a session and end the previous one, so that a session known before the login is useless after it."""
    before = opened.visitor.who
    if before is not None and before.session_id:
        end_session(connection, before.name, before.session_id)
    agent = opened.request.headers.get("user-agent", "")
    return begin_session(connection, account.username, now=datetime.now(UTC), address=address, user_agent=agent)


async def _account(opened: Page, faults: list[str] | tuple[str, ...]) -> Response:
    who = _owner(opened)
    found = await opened.read(lambda connection: sessions(connection, who, now=datetime.now(UTC)))
    return opened.show("account.html", status=400 if faults else 200, sessions=found, faults=faults)


def _owner(opened: Page) -> str:
    """Return the name of the visitor's account; raises Refusal if nobody is signed in."""
    if opened.who.session_id is None:
        said = "nobody is signed in, so there is no account to show; sign in first"
        raise Refusal(HTTPStatus.NOT_FOUND, said)
    return opened.who.name


def _inside(there: object) -> str:
    """Return an address of the site, without the prefix; one that could lead elsewhere becomes the first page."""
    text = there if isinstance(there, str) else ""
    is_ours = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_ours else "/"
