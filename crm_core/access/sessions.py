"""Sessions of accounts: a browser that has signed in sends a secret until the session ends; only its hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_core.access.principal import Principal
from crm_core.errors import UnknownAccount
from crm_core.postgres.connection import Connection
from crm_core.resources import statement

IDLE = timedelta(hours=12)  # a session that is not used for so long ends
LONGEST = timedelta(days=7)  # however much it is used
NOTED = 300  # characters of a browser's name that are kept
_TEXT = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")
_NO_SECRET = bytes(32)  # no text is known whose SHA-256 this is


@dataclass(frozen=True, slots=True)
class Session:
    """A session, without its secret."""

    session_id: str  # the part of it that may be shown
    username: str
    created_at: datetime
    last_used_at: datetime  # to the minute
    expires_at: datetime
    address: str
    user_agent: str


def begin_session(connection: Connection, username: str, *, now: datetime, address: str, user_agent: str) -> str:
    """Begin a session of an active account, and return the text to present; sessions that have ended are removed.

    Raises UnknownAccount.
    """
    remove_ended_sessions(connection, now=now)
    session_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    values = {
        "session_id": session_id,
        "secret_sha256": _sha256(secret),
        "username": username,
        "now": now,
        "expires_at": now + LONGEST,
        "address": address,
        "user_agent": "".join(filter(str.isprintable, user_agent))[:NOTED],
    }
    if connection.execute(statement("access/add_session"), values).rowcount == 0:
        raise UnknownAccount(username)
    return f"{session_id}.{secret}"


def remove_ended_sessions(connection: Connection, *, now: datetime) -> int:
    """Remove the sessions that have ended, and return how many."""
    return connection.execute(statement("access/sweep_sessions"), {"now": now, "idle": IDLE}).rowcount


def session_principal(connection: Connection, presented: str, *, now: datetime) -> Principal | None:
    """Return whose session this is; None if it is malformed, unknown or has ended, or its account cannot sign in."""
    parts = _TEXT.fullmatch(presented)
    if parts is None:
        return None
    values = {"session_id": parts[1], "now": now, "idle": IDLE}
    row = connection.execute(statement("access/session_secret"), values).fetchone()
    name, role, known, _ = row or ("", "reader", _NO_SECRET, None)
    same = hmac.compare_digest(_sha256(parts[2]), known)
    return Principal(name, role, session_id=parts[1]) if row and same else None


def mark_session_used(connection: Connection, session_id: str, *, now: datetime) -> None:
    """Note that a session was used; it is written once a minute at most."""
    connection.execute(statement("access/touch_session"), {"session_id": session_id, "now": now})


def sessions(connection: Connection, username: str, *, now: datetime) -> list[Session]:
    """Read the sessions of an account that have not ended, last used first."""
    values = {"username": username, "now": now, "idle": IDLE}
    return [Session(*row) for row in connection.execute(statement("access/sessions"), values)]


def count_sessions(connection: Connection, *, now: datetime) -> dict[str, int]:
    """Count the sessions that have not ended, by username; an account without any is left out."""
    return dict(connection.execute(statement("access/count_sessions"), {"now": now, "idle": IDLE}).fetchall())


def end_session(connection: Connection, username: str, session_id: str) -> bool:
    """End a session of an account; return whether there was one."""
    values = {"username": username, "session_id": session_id}
    return connection.execute(statement("access/end_session"), values).rowcount > 0


def end_other_sessions(connection: Connection, username: str, keep: str | None) -> None:
    """End all sessions of an account but the one to keep."""
    connection.execute(statement("access/end_sessions"), {"username": username, "but": keep})


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
