"""Who opens a page: the owner of a session, or anybody while the service is open; and whose forms are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from api.auth import ANYBODY, READS_ONLY, Gate
from api.problems import Refusal
from api.state import State
from crm_core.access.principal import Principal
from crm_core.access.sessions import LONGEST, mark_session_used, session_principal
from crm_core.errors import DatabaseError

REMEMBERED_SECONDS = 0.9  # a session that was ended elsewhere is refused within a second
SESSIONS_KEPT = 10_000  # that a process remembers
SECRET_BYTES = 32
MESSAGE_SECONDS = 60
FORM_FIELD = "csrf"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who opens a page."""

    who: Principal | None  # None: nobody who may see anything, until they sign in
    is_open: bool  # nobody has to sign in: there is neither an account nor a token yet, or CRM_AUTH=off
    secret: str  # of the session, or of the browser while there is none; the cookie has it
    is_new: bool  # the browser has to be given the secret

    @property
    def form_token(self) -> str:
        """The text that each form has to send: no other site can know it."""
        return hashlib.sha256(f"crm form {self.secret}".encode()).hexdigest()

    def sent(self, token: object) -> bool:
        """Return whether a form came from one of our pages in this browser."""
        return isinstance(token, str) and not self.is_new and hmac.compare_digest(token.encode(), self._expected)

    @property
    def _expected(self) -> bytes:
        return self.form_token.encode()


class Visitors:
    """Recognizes visitors by their cookies."""

    def __init__(self, state: State, gate: Gate, *, is_secure: bool) -> None:
        """Begin; `secure` cookies are sent over HTTPS only."""
        self._state, self._gate, self._is_secure = state, gate, is_secure
        prefix = "__Host-" if is_secure else ""  # a page of another host of the domain cannot set such a cookie
        self._session_cookie, self._browser_cookie = f"{prefix}crm_session", f"{prefix}crm_browser"
        self.message_cookie = f"{prefix}crm_message"  # what was done; the next page shows it
        self._known: dict[str, tuple[Principal | None, float]] = {}
        self._noted: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def of(self, request: Request) -> Visitor:
        """Return the visitor who requests a page."""
        presented = request.cookies.get(self._session_cookie, "")
        who = await self._of_session(presented) if presented else None
        is_open = await self._gate.is_open(request)
        if who is not None:
            return Visitor(who, is_open, presented, is_new=False)
        if is_open:
            who = ANYBODY
        elif self._state.settings.public_read:
            who = READS_ONLY
        secret = request.cookies.get(self._browser_cookie, "")
        is_new = len(secret) < SECRET_BYTES
        return Visitor(who, is_open, secrets.token_urlsafe(SECRET_BYTES) if is_new else secret, is_new)

    def remember_browser(self, response: Response, visitor: Visitor) -> None:
        """Set the cookie with which a new browser can send forms."""
        if visitor.is_new:
            self._set(response, self._browser_cookie, visitor.secret, None)

    def remember_message(self, response: Response, text: str | None) -> None:
        """Set the message that the next page shows; None removes it."""
        self._set(response, self.message_cookie, text or "", 0 if text is None else MESSAGE_SECONDS)

    def remember_session(self, response: Response, text: str) -> None:
        """Set the cookie of a session."""
        self._set(response, self._session_cookie, text, int(LONGEST.total_seconds()))

    def forget_session(self, response: Response, request: Request) -> None:
        """Remove the session's cookie, and the session from the memory of this process."""
        self._known.pop(request.cookies.get(self._session_cookie, ""), None)
        response.delete_cookie(self._session_cookie, path="/", secure=self._is_secure, httponly=True, samesite="lax")

    def forget_all(self) -> None:
        """Forget all sessions in memory, because this process has changed accounts or sessions."""
        self._known.clear()

    def _set(self, response: Response, name: str, value: str, seconds: int | None) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._is_secure, httponly=True, samesite="lax"
        )

    async def _of_session(self, presented: str) -> Principal | None:
        who, at = self._known.get(presented, (None, -math.inf))
        asked = time.monotonic()
        if asked - at > REMEMBERED_SECONDS:
            now = datetime.now(UTC)
            who = await self._state.read(partial(session_principal, presented=presented, now=now))
            if len(self._known) >= SESSIONS_KEPT:
                self._known.clear()
                self._noted.clear()
            self._known[presented] = (who, asked)
            if who is not None and who.session_id and asked - self._noted.get(who.session_id, -math.inf) > 60:
                self._noted[who.session_id] = asked
                task = asyncio.create_task(self._note_use(who.session_id, now))
                self._noting.add(task)
                task.add_done_callback(self._noting.discard)
        return who

    async def _note_use(self, session_id: str, now: datetime) -> None:
        """Record in the background when a session was last used."""
        with suppress(DatabaseError, Refusal):
            await self._state.write(partial(mark_session_used, session_id=session_id, now=now))
