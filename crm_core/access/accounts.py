"""Accounts of people who sign in to the cockpit: name, role, and a password of which only a hash (argon2) is kept."""

from __future__ import annotations

import functools
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from pwdlib import PasswordHash

from crm_core.access.principal import Role, name_in_form, usable_name
from crm_core.errors import AccountExists, AdminFirst, LastAdmin, UnknownAccount, WeakPassword
from crm_core.postgres.connection import Connection
from crm_core.resources import statement

PASSWORD_LENGTH = 10
LONGEST_PASSWORD = 1_000  # characters: hashing more would only keep the server busy


@dataclass(frozen=True, slots=True)
class Account:
    """An account, without its password."""

    username: str
    role: Role
    is_active: bool  # False: it cannot sign in
    created_at: datetime
    password_at: datetime  # when the password was last set
    last_login_at: datetime | None


def create_account(connection: Connection, username: str, password: str, role: Role, *, now: datetime) -> Account:
    """Make an account, and return it.

    Raises NameRefused, WeakPassword or AccountExists.
    """
    name = usable_name(username)
    values = {"username": name, "password_hash": _checked_hash(name, password), "role": role, "now": now}
    row = connection.execute(statement("access/add_account"), values).fetchone()
    if row is None:
        raise AccountExists(name)
    return Account(*row)


def accounts(connection: Connection) -> list[Account]:
    """Read every account, in order of username."""
    return [Account(*row) for row in connection.execute(statement("access/accounts"))]


def account_of(connection: Connection, username: str) -> Account:
    """Read an account; raise UnknownAccount."""
    found = _account_and_hash(connection, username)
    if found is None:
        raise UnknownAccount(username)
    return found[0]


def require_admin(connection: Connection) -> None:
    """Raise AdminFirst unless an admin can sign in; accounts stay as they are until the transaction ends."""
    connection.execute(statement("access/lock_accounts"))
    if connection.execute(statement("access/has_other_admin"), {"username": ""}).fetchone() != (True,):
        raise AdminFirst


def available_username(connection: Connection, username: str) -> str:
    """Return a username in normal form, if it can be taken.

    Raises NameRefused or AccountExists.
    """
    name = usable_name(username)
    if _account_and_hash(connection, name) is not None:
        raise AccountExists(name)
    return name


def verified_account(connection: Connection, username: str, password: str) -> Account | None:
    """Return the active account with this name and password, or None, which takes as long whatever was wrong."""
    found = _account_and_hash(connection, username)
    is_right = _hasher().verify(_as_bytes(password[:LONGEST_PASSWORD]), found[1] if found else _hash_of_nobody())
    return found[0] if found and is_right and found[0].is_active else None


def set_password(
    connection: Connection, username: str, password: str, *, now: datetime, keep_session: str | None = None
) -> None:
    """Set a password, and end all sessions of the account but the one to keep.

    Raises UnknownAccount or WeakPassword. To be called in a transaction.
    """
    values = {"username": username, "password_hash": _checked_hash(username, password), "now": now}
    if connection.execute(statement("access/set_password"), values).rowcount == 0:
        raise UnknownAccount(username)
    connection.execute(statement("access/end_sessions"), {"username": username, "but": keep_session})


def change_account(
    connection: Connection, username: str, *, role: Role | None = None, is_active: bool | None = None
) -> Account:
    """Change the role of an account, or whether it may sign in; its sessions end if it may not.

    Raises UnknownAccount, or LastAdmin when no active admin would be left. To be called in a transaction.
    """
    connection.execute(statement("access/lock_accounts"))
    values = {"username": username, "role": role, "is_active": is_active}
    row = connection.execute(statement("access/change_account"), values).fetchone()
    if row is None:
        raise UnknownAccount(username)
    account = Account(*row)
    if not (account.role == "admin" and account.is_active):
        others = connection.execute(statement("access/has_other_admin"), {"username": username}).fetchone()
        if others != (True,):
            raise LastAdmin(username)
    if not account.is_active:
        connection.execute(statement("access/end_sessions"), {"username": username, "but": None})
    return account


def has_active_account(connection: Connection) -> bool:
    """Return whether there is an account that can sign in."""
    return connection.execute(statement("access/has_active_account")).fetchone() == (True,)


def password_faults(username: str, password: str) -> list[str]:
    """Return what is wrong with a password, a sentence each, by the rules of Django's validators."""
    folded, name = password.casefold(), username.casefold()
    faults = []
    if len(password) < PASSWORD_LENGTH:
        faults.append(f"This password is too short: it must have at least {PASSWORD_LENGTH} characters.")
    if len(password) > LONGEST_PASSWORD:
        faults.append(f"This password is too long: it may have at most {LONGEST_PASSWORD:,} characters.")
    if name and len(folded.replace(name, "")) < PASSWORD_LENGTH // 2 + 1:
        faults.append("This password is too similar to the username.")
    if password.isdigit():
        faults.append("This password is entirely numeric.")
    if len(set(folded)) < PASSWORD_LENGTH // 2:
        faults.append("This password repeats too few characters.")
    return faults


def _checked_hash(username: str, password: str) -> str:
    if faults := password_faults(username, password):
        raise WeakPassword(faults)
    return _hasher().hash(_as_bytes(password))


def _account_and_hash(connection: Connection, username: str) -> tuple[Account, str] | None:
    if (name := name_in_form(username)) is None:
        return None
    row = connection.execute(statement("access/account_password"), {"username": name}).fetchone()
    return None if row is None else (Account(*row[1:]), str(row[0]))


def _as_bytes(password: str) -> bytes:
    """Return the bytes to hash: keyboards compose accents or do not, and a lone surrogate is no reason to fail."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


@functools.cache
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()  # argon2id


@functools.cache
def _hash_of_nobody() -> str:
    return _hasher().hash(secrets.token_bytes())
