"""Who may do what: bearer tokens, their roles, and the open door of a loopback bind without tokens."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeAlias, get_args

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.problems import Refusal
from api.state import State, state_of
from crm_core import access
from crm_core.access import Principal, Role
from crm_core.database import Connection
from crm_core.errors import DatabaseError

REMEMBERED = 0.9  # seconds: a revoked token is refused within one
TOKENS_KEPT = 10_000  # that a process remembers
USE_NOTED = 60.0  # seconds between two notes of a token's use
ANYBODY = Principal("anonymous", "admin")
READS_ONLY = Principal("anonymous", "reader")
INVALID = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
CREATE = "make a token with `crm token create NAME --role {role}` and send it as Authorization: Bearer …"

bearer = HTTPBearer(auto_error=False, description="A token of `crm token create`; none is needed while there are none")


class Gate:
    """Lets requests in, or refuses them."""

    def __init__(self, state: State, *, is_loopback: bool) -> None:
        """Take where the application listens; whoever does not know says that it is no loopback."""
        self._state, self._is_loopback = state, is_loopback
        self._closed: tuple[bool, float] = (True, -math.inf)
        self._known: dict[bytes, tuple[Principal | None, float]] = {}  # by the SHA-256 of what was presented
        self._noted: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._limits = parse_many(state.settings.rate_limit) if state.settings.rate_limit else []
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def admit(self, request: Request, role: Role) -> Principal:
        """Answer who asks; raises Refusal when they may not, or ask too often."""
        principal = await self._principal(request.headers.get("authorization"), role)
        request.state.actor = principal.name
        who = principal.token_id or (request.client.host if request.client else "unknown")
        for limit in self._limits:
            if not self._limiter.hit(limit, who):
                reset, _ = self._limiter.get_window_stats(limit, who)
                wait = max(1, int(reset - time.time()) + 1)
                said = f"more than {self._state.settings.rate_limit}; come again in {wait} s"
                raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, said, headers={"Retry-After": str(wait)})
        return principal

    async def _principal(self, authorization: str | None, role: Role) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        presented = token.strip() if scheme.lower() == "bearer" else ""
        if self._state.settings.auth == "off":
            known = await self._of_token(presented) if presented else None
            return replace(known, role="admin") if known else ANYBODY
        if presented:
            principal = await self._of_token(presented)
            if principal is None:
                said = f"the token is unknown, expired or revoked; {CREATE.format(role=role)}"
                raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers=INVALID)
            if not principal.may(role):
                said = f"the token {principal.name!r} is of a {principal.role}, and this takes a {role}"
                raise Refusal(HTTPStatus.FORBIDDEN, said)
            return principal
        if authorization is not None:
            said = "the Authorization header is none of the form Bearer TOKEN"
            raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers={"WWW-Authenticate": "Bearer"})
        if not await self._is_closed():
            return ANYBODY
        if role == "reader" and self._state.settings.public_read:
            return READS_ONLY
        said = f"this takes the token of a {role}; {CREATE.format(role=role)}"
        raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers={"WWW-Authenticate": "Bearer"})

    async def _is_closed(self) -> bool:
        if self._state.settings.auth == "on" or not self._is_loopback:
            return True
        closed, at = self._closed
        if time.monotonic() - at > REMEMBERED:
            asked = time.monotonic()
            closed = await self._state.read(access.is_closed)
            self._closed = (closed, asked)
        return closed

    async def _of_token(self, presented: str) -> Principal | None:
        key = hashlib.sha256(presented.encode(errors="surrogateescape")).digest()
        principal, at = self._known.get(key, (None, -math.inf))
        asked = time.monotonic()
        if asked - at > REMEMBERED:
            now = datetime.now(UTC)
            principal = await self._state.read(partial(_found, presented, now))
            if len(self._known) >= TOKENS_KEPT:
                self._known.clear()
            self._known[key] = (principal, asked)
            self._note(principal, now, asked)
        return principal

    def _note(self, principal: Principal | None, now: datetime, asked: float) -> None:
        """Write down when a token was last used, once a minute; nobody waits for it."""
        token_id = principal and principal.token_id
        if token_id and asked - self._noted.get(token_id, -USE_NOTED) >= USE_NOTED:
            self._noted[token_id] = asked
            task = asyncio.create_task(self._write_down(token_id, now))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write_down(self, token_id: str, now: datetime) -> None:
        with suppress(DatabaseError):
            await self._state.write(lambda connection: access.mark_used(connection, token_id, now=now))


def _found(presented: str, now: datetime, connection: Connection) -> Principal | None:
    return access.principal(connection, presented, now=now)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be answered: who asks, and what there is to answer with."""

    who: Principal
    state: State


class Admission:
    """Lets a call of a role in; a dependency of FastAPI, to which it also says that there are tokens."""

    def __init__(self, role: Role) -> None:
        """Take the least role that may."""
        self.role: Role = role

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None
    ) -> Call:
        """Answer the call; raises Refusal."""
        gate: Gate = request.app.state.gate
        return Call(await gate.admit(request, self.role), state_of(request))


def admission(annotation: object) -> Admission:
    """Answer what lets in a parameter that is annotated as Reader, Writer or Admin."""
    _, depends = get_args(annotation)
    assert isinstance(depends.dependency, Admission)
    return depends.dependency


Reader: TypeAlias = Annotated[Call, Depends(Admission("reader"))]
Writer: TypeAlias = Annotated[Call, Depends(Admission("writer"))]
Admin: TypeAlias = Annotated[Call, Depends(Admission("admin"))]
