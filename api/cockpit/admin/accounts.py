"""Accounts: who can sign in, with what role; a form for a new one, and what an admin can do with each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.admin.listing import as_file, fitting, listed
from api.cockpit.page import Page, page
from api.cockpit.pages.accounts import HASHING
from crm_core.access.accounts import (
    Account,
    account_of,
    accounts,
    change_account,
    create_account,
    require_admin,
    set_password,
)
from crm_core.access.principal import ROLES, Role
from crm_core.access.sessions import Session, count_sessions, end_other_sessions, sessions
from crm_core.errors import AccountExists, AdminFirst, LastAdmin, NameRefused, WeakPassword
from crm_core.postgres.connection import Connection

COLUMNS = ("username", "role", "is_active", "created_at", "password_at", "last_login_at", "sessions")
DIFFER = "The two passwords differ."
NO_ROLE = "Choose reader, writer or admin."


@dataclass(frozen=True, slots=True)
class Listing:
    """All accounts, and how many sessions they have that have not ended."""

    accounts: list[Account]
    sessions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Known:
    """An account with its sessions."""

    account: Account
    sessions: list[Session]


async def show_accounts(opened: Page) -> Response:
    """Show the accounts, by username."""
    listing = await opened.read(partial(_listing, now=datetime.now(UTC)))
    found = listed(opened, fitting(opened, listing.accounts, _texts), lambda one: one.username)
    return opened.show("admin/accounts.html", found=found, sessions=listing.sessions)


async def download(opened: Page) -> Response:
    """Send the accounts as CSV."""
    listing = await opened.read(partial(_listing, now=datetime.now(UTC)))
    rows = [
        {**asdict(one), "sessions": listing.sessions.get(one.username, 0)}
        for one in fitting(opened, listing.accounts, _texts)
    ]
    return as_file("accounts.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


async def show_new(opened: Page) -> Response:
    """Show the form for a new account."""
    return await _show_new(opened, {})


async def create(opened: Page) -> Response:
    """Create an account; the first one closes the open access, so it has to be an admin."""
    form = await opened.form()
    values = {name: str(form.get(name, "")) for name in ("username", "role", "password", "again")}
    username, role = values["username"].strip(), _role(values["role"])
    faults = {} if role else {"role": NO_ROLE}
    if values["password"] != values["again"]:
        faults["again"] = DIFFER
    if role and not faults:
        try:
            async with HASHING:
                made = await opened.state.write(
                    partial(_make, username=username, password=values["password"], role=role)
                )
        except (NameRefused, AccountExists) as error:
            faults["username"] = str(error)
        except WeakPassword as error:
            faults["password"] = str(error)
        except AdminFirst as error:
            faults["role"] = str(error)
        else:
            return _made(opened, made)
    return await _show_new(opened, values, faults)


async def show_account(opened: Page) -> Response:
    """Show an account with its sessions, and what can be done with it."""
    return await _show(opened)


async def change(opened: Page) -> Response:
    """Change the role of an account, or whether it can sign in."""
    form, username = await opened.form(), _username(opened)
    role, active = _role(form.get("role")), form.get("active")
    if not role and "role" in form:
        return await _show(opened, {"role": NO_ROLE})

    def work(connection: Connection) -> Account:
        with connection.transaction():
            is_active = None if active is None else active == "yes"
            return change_account(connection, username, role=role, is_active=is_active)

    try:
        account = await opened.state.write(work)
    except LastAdmin as error:
        return await _show(opened, {"role" if role else "active": str(error)})
    _forget(opened)
    message = f"The account {account.username} has the role {account.role}"
    message += "." if account.is_active else ", and cannot sign in. Its sessions have ended."
    is_away = _is_own(opened, username) and not (account.is_active and account.role == "admin")
    return opened.go(opened.url("/") if is_away else _place(opened, username), message)


async def change_password(opened: Page) -> Response:
    """Set a new password; all sessions of the account end, but for the admin's own."""
    form, username = await opened.form(), _username(opened)
    new, again = str(form.get("new", "")), str(form.get("again", ""))
    if new != again:
        return await _show(opened, {"again": DIFFER})
    keep = opened.who.session_id if _is_own(opened, username) else None

    def work(connection: Connection) -> None:
        with connection.transaction():
            set_password(connection, username, new, now=datetime.now(UTC), keep_session=keep)

    try:
        async with HASHING:
            await opened.state.write(work)
    except WeakPassword as error:
        return await _show(opened, {"new": str(error)})
    _forget(opened)
    return opened.go(_place(opened, username), f"The password of {username} is changed, and its sessions have ended.")


async def end_sessions(opened: Page) -> Response:
    """End all sessions of an account, but for the admin's own."""
    await opened.form()
    username = _username(opened)
    keep = opened.who.session_id if _is_own(opened, username) else None
    await opened.state.write(partial(end_other_sessions, username=username, keep=keep))
    _forget(opened)
    return opened.go(_place(opened, username), f"The sessions of {username} have ended.")


routes = [
    Route("/admin/accounts", page("admin", show_accounts), methods=["GET"]),
    Route("/admin/accounts.csv", page("admin", download), methods=["GET"]),
    Route("/admin/accounts/new", page("admin", show_new), methods=["GET"]),
    Route("/admin/accounts/new", page("admin", create), methods=["POST"]),
    Route("/admin/accounts/of/{username}", page("admin", show_account), methods=["GET"]),
    Route("/admin/accounts/of/{username}", page("admin", change), methods=["POST"]),
    Route("/admin/accounts/of/{username}/password", page("admin", change_password), methods=["POST"]),
    Route("/admin/accounts/of/{username}/sessions", page("admin", end_sessions), methods=["POST"]),
]


def _made(opened: Page, made: Account) -> Response:
    was_open = opened.visitor.is_open and opened.state.settings.auth != "off"
    _forget(opened)
    if was_open:
        message = f"The account {made.username} is made, and from now on everybody has to sign in. Sign in with it."
        return opened.go(opened.url("/login", next="/admin/"), message)
    return opened.go(_place(opened, made.username), f"The account {made.username} is made, with the role {made.role}.")


async def _show_new(opened: Page, values: Mapping[str, str], faults: Mapping[str, str] | None = None) -> Response:
    found = await opened.read(accounts)
    has_admin = any(one.is_active and one.role == "admin" for one in found)
    return opened.show(
        "admin/account_new.html",
        status=HTTPStatus.BAD_REQUEST if faults else HTTPStatus.OK,
        values=values,
        faults=faults or {},
        roles=ROLES,
        is_first=not has_admin,
    )


async def _show(opened: Page, faults: Mapping[str, str] | None = None) -> Response:
    username = _username(opened)
    known = await opened.read(partial(_known, username=username, now=datetime.now(UTC)))
    return opened.show(
        "admin/account.html",
        status=HTTPStatus.BAD_REQUEST if faults else HTTPStatus.OK,
        account=known.account,
        sessions=known.sessions,
        faults=faults or {},
        roles=ROLES,
        is_own=_is_own(opened, username),
    )


def _make(connection: Connection, *, username: str, password: str, role: Role) -> Account:
    with connection.transaction():
        if role != "admin":
            require_admin(connection)
        return create_account(connection, username, password, role, now=datetime.now(UTC))


def _listing(connection: Connection, *, now: datetime) -> Listing:
    return Listing(accounts(connection), count_sessions(connection, now=now))


def _known(connection: Connection, *, username: str, now: datetime) -> Known:
    account = account_of(connection, username)
    return Known(account, sessions(connection, account.username, now=now))


def _forget(opened: Page) -> None:
    """Forget the accounts and sessions in memory, because this process has changed some."""
    opened.visitors.forget_all()
    opened.request.app.state.gate.forget()


def _is_own(opened: Page, username: str) -> bool:
    return opened.who.session_id is not None and opened.who.name == username


def _username(opened: Page) -> str:
    return str(opened.request.path_params["username"])


def _place(opened: Page, username: str) -> str:
    return opened.url(f"/admin/accounts/of/{username}")


def _role(value: object) -> Role | None:
    return next((role for role in ROLES if role == value), None)


def _texts(one: Account) -> tuple[str, str]:
    return one.username, one.role
