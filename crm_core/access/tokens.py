"""API tokens with a role, which identify a client. Only a hash of the secret is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from crm_core.access.principal import ROLES, Principal, Role, name_in_form, usable_name
from crm_core.errors import TokenExists, UnknownToken
from crm_core.postgres.connection import Connection
from crm_core.resources import statement

_ID_LENGTH, _SECRET_LENGTH = 12, 43  # 43 of 62 characters are 256 bits
_ID_CHARACTERS = string.ascii_lowercase + string.digits
_SECRET_CHARACTERS = string.ascii_letters + string.digits
_TOKEN = re.compile(rf"crm_([a-z0-9]{{{_ID_LENGTH}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})")
_NO_SECRET = bytes(32)  # no text is known whose SHA-256 this is


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, without its secret: nobody knows that but its bearer."""

    token_id: str  # the part of it that may be shown
    name: str  # one token in use has it at a time
    role: Role
    created_at: datetime
    expires_at: datetime | None  # None: never
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """Return whether the token can be used, or why not."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def create_token(
    connection: Connection, name: str, role: Role, *, now: datetime, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Create a token, and return it with its text, which cannot be read again.

    Raises NameRefused, or TokenExists when a token of that name is neither revoked nor expired.
    """
    token_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(_SECRET_LENGTH))
    values = {
        "token_id": token_id,
        "name": usable_name(name),
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
    """Revoke a token for good, and return it; to do it again changes nothing.

    A name means the token in use that has it, or else the last one that had; the whole text of a token, found where
    it leaked, will do too. Raises UnknownToken.
    """
    row = None
    whole = _TOKEN.fullmatch(name_or_id.strip())
    if name := whole[1] if whole else name_in_form(name_or_id):
        values = {"name_or_id": name, "now": now}
        row = connection.execute(statement("access/revoke_token"), values).fetchone()
    if row is None:
        raise UnknownToken(name_or_id)
    return Token(*row)


def principal(connection: Connection, presented: str, *, now: datetime) -> Principal | None:
    """Return whose token a text is; None if it is malformed, unknown, revoked or expired."""
    parts = _TOKEN.fullmatch(presented)
    if parts is None:
        return None
    values = {"token_id": parts[1], "now": now}
    row = connection.execute(statement("access/token_secret"), values).fetchone()
    name, role, known = row or ("", ROLES[0], _NO_SECRET)
    same = hmac.compare_digest(_sha256(parts[2]), known)
    return Principal(name, role, parts[1]) if same else None


def mark_used(connection: Connection, token_id: str, *, now: datetime) -> None:
    """Note that a token was used; it is written once a minute at most."""
    connection.execute(statement("access/touch_token"), {"token_id": token_id, "now": now})


def is_closed(connection: Connection) -> bool:
    """Return whether a token, revoked or not, or an account was ever made: from then on the API is never open again."""
    return connection.execute(statement("access/is_closed")).fetchone() == (True,)


def has_active_token(connection: Connection, *, now: datetime) -> bool:
    """Return whether there is a token that is neither revoked nor expired."""
    return connection.execute(statement("access/has_active_token"), {"now": now}).fetchone() == (True,)


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
