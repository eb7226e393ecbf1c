"""Who may do what: API tokens with a role, stored as hashes only, and the superusers of the admin panel."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
import string
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pwdlib import PasswordHash

from crm_core.errors import NameRefused, SuperuserExists, TokenExists, UnknownToken, WeakPassword
from crm_core.postgres.connection import Connection
from crm_core.resources import statement

Role = Literal["reader", "writer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each role may do what those before it may do

PASSWORD_LENGTH = 10
_ID_LENGTH, _SECRET_LENGTH = 12, 43  # 43 of 62 characters are 256 bits
_ID_CHARACTERS = string.ascii_lowercase + string.digits
_SECRET_CHARACTERS = string.ascii_letters + string.digits
_TOKEN = re.compile(rf"crm_([a-z0-9]{{{_ID_LENGTH}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})")
_NAME = re.compile(r"[^\W_][\w.@+-]{0,99}")
_NO_SECRET = bytes(32)  # no known text has this SHA-256


@dataclass(frozen=True, slots=True)
class Principal:
    """The one who makes a request: the bearer of a token, or the anonymous user of an open API."""

    name: str  # the actor in the ledger
    role: Role
    token_id: str | None = None

    def may(self, role: Role) -> bool:
        """Return whether this principal may do what a role may do."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token without its secret, which only its bearer knows."""

    token_id: str  # the part of the token that may be shown
    name: str  # only one active token has it
    role: Role
    created_at: datetime
    expires_at: datetime | None  # None: never
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute


def create_token(
    connection: Connection, name: str, role: Role, *, now: datetime, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Create a token, and return it with its text, which cannot be shown again.

    Raises NameRefused, or TokenExists if a token with that name is neither revoked nor expired.
    """
    token_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(_SECRET_LENGTH))
    values = {
        "token_id": token_id,
        "name": _usable(name),
        "role": role,
        "secret_sha256": _sha256(secret),
        "now": now,
        "expires_at": expires_at,
    }
    connection.execute(statement("access/retire_expired_token"), values)
    row = connection.execute(statement("access/add_token"), values).fetchone()
    if row is None:
        raise TokenExists(name)
    return Token(*row), f"crm_{token_id}_{secret}"


def tokens(connection: Connection) -> list[Token]:
    """Read every token that was ever made, oldest first."""
    return [Token(*row) for row in connection.execute(statement("access/tokens"))]


def revoke_token(connection: Connection, name_or_id: str, *, now: datetime) -> Token:
    """Revoke a token for good, and return it; revoking it again changes nothing.

    A name means the active token with that name, or else the last one that had it. The whole text of a token, found
    where it leaked, works too. Raises UnknownToken.
    """
    row = None
    whole = _TOKEN.fullmatch(name_or_id.strip())
    if name := whole[1] if whole else _in_form(name_or_id):
        values = {"name_or_id": name, "now": now}
        row = connection.execute(statement("access/revoke_token"), values).fetchone()
    if row is None:
        raise UnknownToken(name_or_id)
    return Token(*row)


def principal(connection: Connection, presented: str, *, now: datetime) -> Principal | None:
    """Return the bearer of a token; None if it is malformed, unknown, revoked or expired."""
    parts = _TOKEN.fullmatch(presented)
    if parts is None:
        return None
    values = {"token_id": parts[1], "now": now}
    row = connection.execute(statement("access/token_secret"), values).fetchone()
    name, role, known = row or ("", ROLES[0], _NO_SECRET)
    same = hmac.compare_digest(_sha256(parts[2]), known)
    return Principal(name, role, parts[1]) if same else None


def mark_used(connection: Connection, token_id: str, *, now: datetime) -> None:
    """Record that a token was used; this is written at most once a minute."""
    connection.execute(statement("access/touch_token"), {"token_id": token_id, "now": now})


def is_closed(connection: Connection) -> bool:
    """Return whether a token was ever created, even if it was revoked: from then on the API needs tokens."""
    return connection.execute(statement("access/has_tokens")).fetchone() == (True,)


def has_active_token(connection: Connection, *, now: datetime) -> bool:
    """Return whether there is a token that is neither revoked nor expired."""
    return connection.execute(statement("access/has_active_token"), {"now": now}).fetchone() == (True,)


def create_superuser(connection: Connection, username: str, password: str, *, now: datetime) -> None:
    """Create a superuser of the admin panel.

    Raises NameRefused, SuperuserExists or WeakPassword.
    """
    name = _usable(username)
    faults = password_faults(name, password)
    if faults:
        raise WeakPassword(faults)
    values = {"username": name, "password_hash": _hasher().hash(_as_bytes(password)), "now": now}
    if connection.execute(statement("access/add_superuser"), values).rowcount == 0:
        raise SuperuserExists(name)


def available_username(connection: Connection, username: str) -> str:
    """Return a username in normal form if it is still free.

    Raises NameRefused or SuperuserExists.
    """
    name = _usable(username)
    if _password_hash(connection, name) is not None:
        raise SuperuserExists(name)
    return name


def verify_superuser(connection: Connection, username: str, password: str) -> bool:
    """Return whether the password is right; this takes as long if there is no such superuser."""
    known = _password_hash(connection, username)
    return _hasher().verify(_as_bytes(password), known or _hash_of_nobody()) and known is not None


def password_faults(username: str, password: str) -> list[str]:
    """Return what is wrong with a password, one sentence each, by the rules of Django's validators."""
    folded, name = password.casefold(), username.casefold()
    faults = []
    if len(password) < PASSWORD_LENGTH:
        faults.append(f"This password is too short: it must have at least {PASSWORD_LENGTH} characters.")
    if name and len(folded.replace(name, "")) < PASSWORD_LENGTH // 2 + 1:
        faults.append("This password is too similar to the username.")
    if password.isdigit():
        faults.append("This password is entirely numeric.")
    if len(set(folded)) < PASSWORD_LENGTH // 2:
        faults.append("This password repeats too few characters.")
    return faults


def _in_form(name: str) -> str | None:
    """Return a name in normal form, or None if it is not a valid name."""
    normal = unicodedata.normalize("NFC", name)
    return normal if _NAME.fullmatch(normal) else None


def _usable(name: str) -> str:
    normal = _in_form(name)
    if normal is None:
        raise NameRefused(name)
    return normal


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _as_bytes(password: str) -> bytes:
    """Return the bytes to hash, in NFC because keyboards differ; a lone surrogate must not fail."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _password_hash(connection: Connection, username: str) -> str | None:
    if (name := _in_form(username)) is None:
        return None
    row = connection.execute(statement("access/superuser_password"), {"username": name}).fetchone()
    return str(row[0]) if row else None


@functools.cache
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()  # argon2id


@functools.cache
def _hash_of_nobody() -> str:
    return _hasher().hash(secrets.token_bytes())
