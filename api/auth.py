"""Who may do what: bearer tokens, their roles, and open access on a loopback address without tokens."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeAlias, get_args

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse, parse_many

from api.problems import Refusal
from api.rate_limits import Limiter
from api.state import State, state_of
from crm_core.access import tokens
from crm_core.access.principal import Principal, Role
from crm_core.errors import DatabaseError
from crm_core.postgres.connection import Connection

REMEMBERED_SECONDS = 0.9  # seconds: a revoked token is refused within one
MAX_TOKENS_KEPT = 10_000  # tokens that a process remembers
USE_NOTED_SECONDS = 60.0  # seconds between two records of a token's use
MAX_FAILURES = parse("30/minute")  # wrong tokens from one address
ANYBODY = Principal("anonymous", "admin")
READS_ONLY = Principal("anonymous", "reader")
INVALID_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
CREATE_TOKEN = "make a token with `crm token create NAME --role {role}` and send it as Authorization: Bearer …"

bearer = HTTPBearer(
    auto_error=False, description="A token made by `crm token create`; not needed as long as there is no token"
)


class Gate:
    """Admit requests, or refuse them."""

    def __init__(self, state: State, limiter: Limiter, *, is_loopback: bool) -> None:
        """Begin; `is_loopback` says that no other machine can reach the application (False if not known)."""
        self._state, self.limiter, self._is_loopback = state, limiter, is_loopback
        self._closed: tuple[bool, float] = (True, -math.inf)
        self._known: dict[bytes, tuple[Principal | None, float]] = {}  # by the SHA-256 of what was presented
        self._guessing: dict[str, float] = {}  # addresses that presented too many wrong tokens, and until when
        self._noted: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._limits = parse_many(state.settings.rate_limit) if state.settings.rate_limit else []

    async def admit(self, request: Request, role: Role) -> Principal:
        """Return who sends the request; raises Refusal if they may not, or send too many."""
        address = address_of(request)
        try:
            principal = await self._principal(request, role, address)
        except Refusal:
            self._count(self._limits, address)  # refused requests count too
            raise
        request.state.actor = principal.name
        self._count(self._limits, principal.token_id or address)
        return principal

    def _count(self, limits: Sequence[RateLimitItem], who: str) -> None:
        """Raise Refusal if this call exceeds the limit."""
        for limit in limits:
            if (seconds := self.limiter.hit(limit, who)) > 0:
                what = f"more than {self._state.settings.rate_limit}"
                raise _too_many(what, seconds)

    def _require_no_guessing(self, address: str, *, has_failed: bool) -> None:
        """Raise Refusal if too many wrong tokens came from an address; the token is not looked up then."""
        now = time.monotonic()
        if has_failed and (seconds := self.limiter.hit(MAX_FAILURES, f"failed {address}")) > 0:
            if len(self._guessing) >= MAX_TOKENS_KEPT:
                self._guessing.clear()
            self._guessing[address] = now + seconds
        if (seconds := self._guessing.get(address, now) - now) > 0:
            what = f"more than {MAX_FAILURES.amount} wrong tokens in a minute from {address}"
            raise _too_many(what, seconds)

    async def _principal(self, request: Request, role: Role, address: str) -> Principal:
        authorization = request.headers.get("authorization")
        scheme, _, token = (authorization or "").partition(" ")
        presented = token.strip() if scheme.lower() == "bearer" else ""
        if self._state.settings.auth == "off":
            known = await self._of_token(presented) if presented else None
            return replace(known, role="admin") if known else ANYBODY
        if presented:
            if not self._was_good(presented):
                self._require_no_guessing(address, has_failed=False)
            principal = await self._of_token(presented)
            if principal is None:
                self._require_no_guessing(address, has_failed=True)
                said = f"the token is unknown, expired or revoked; {CREATE_TOKEN.format(role=role)}"
                raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers=INVALID_TOKEN)
            if not principal.may(role):
                said = f"the token {principal.name!r} has the role {principal.role}, but this needs the role {role}"
                raise Refusal(HTTPStatus.FORBIDDEN, said)
            return principal
        if authorization is not None:
            self._require_no_guessing(address, has_failed=True)
            said = "the Authorization header is not of the form Bearer TOKEN"
            raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers={"WWW-Authenticate": "Bearer"})
        if not await self._is_closed(request):
            return ANYBODY
        if role == "reader" and self._state.settings.public_read:
            return READS_ONLY
        said = f"this needs a token with the role {role}; {CREATE_TOKEN.format(role=role)}"
        raise Refusal(HTTPStatus.UNAUTHORIZED, said, headers={"WWW-Authenticate": "Bearer"})

    def forget(self) -> None:
        """Forget the tokens in memory and whether the service is open: this process has changed accounts or tokens."""
        self._closed = (True, -math.inf)
        self._known.clear()

    async def is_open(self, request: Request) -> bool:
        """Return whether everybody may do everything: there is neither a token nor an account, or CRM_AUTH=off."""
        return self._state.settings.auth == "off" or not await self._is_closed(request)

    async def _is_closed(self, request: Request) -> bool:
        if self._state.settings.auth == "on" or not self._is_loopback or _is_remote(request):
            return True
        closed, at = self._closed
        if time.monotonic() - at > REMEMBERED_SECONDS:
            asked = time.monotonic()
            closed = await self._state.read(tokens.is_closed)
            self._closed = (closed, asked)
        return closed

    def _was_good(self, presented: str) -> bool:
        """Return whether the token was valid when it was last looked up: others' failures do not affect its bearer."""
        return self._known.get(_key(presented), (None, 0.0))[0] is not None

    async def _of_token(self, presented: str) -> Principal | None:
        key = _key(presented)
        principal, at = self._known.get(key, (None, -math.inf))
        asked = time.monotonic()
        if asked - at > REMEMBERED_SECONDS:
            now = datetime.now(UTC)
            principal = await self._state.read(partial(_found, presented, now))
            if len(self._known) >= MAX_TOKENS_KEPT:
                self._known.clear()
            self._known[key] = (principal, asked)
            self._note(principal, now, asked)
        return principal

    def _note(self, principal: Principal | None, now: datetime, asked: float) -> None:
        """Record when a token was last used, once a minute and in the background."""
        token_id = principal and principal.token_id
        if token_id and asked - self._noted.get(token_id, -USE_NOTED_SECONDS) >= USE_NOTED_SECONDS:
            self._noted[token_id] = asked
            task = asyncio.create_task(self._write_down(token_id, now))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write_down(self, token_id: str, now: datetime) -> None:
        with suppress(DatabaseError):
            await self._state.write(lambda connection: tokens.mark_used(connection, token_id, now=now))


def _key(presented: str) -> bytes:
    return hashlib.sha256(presented.encode(errors="surrogateescape")).digest()


def address_of(request: Request) -> str:
    """Return the client's address; for IPv6 its network, because one client can use any address in it."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host


def _is_remote(request: Request) -> bool:
    """Return whether a trusted proxy on this machine has passed on a request of another machine."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket of this machine has no address
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_loopback


def _too_many(what: str, seconds: float) -> Refusal:
    wait = math.ceil(seconds)
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"{what}; retry in {wait} s", headers={"Retry-After": str(wait)})


def _found(presented: str, now: datetime, connection: Connection) -> Principal | None:
    return tokens.principal(connection, presented, now=now)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was admitted: who makes it, and the state to answer it with."""

    who: Principal
    state: State


class Admission:
    """A FastAPI dependency that admits a call of a role, and documents that tokens are used."""

    def __init__(self, role: Role) -> None:
        """Admit this role and higher ones."""
        self.role: Role = role

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None
    ) -> Call:
        """Return the call; raise Refusal."""
        gate: Gate = request.app.state.gate
        return Call(await gate.admit(request, self.role), state_of(request))


def admission(annotation: object) -> Admission:
    """Return the admission of a parameter that is annotated as Reader, Writer or Admin."""
    _, depends = get_args(annotation)
    assert isinstance(depends.dependency, Admission)
    return depends.dependency


Reader: TypeAlias = Annotated[Call, Depends(Admission("reader"))]
Writer: TypeAlias = Annotated[Call, Depends(Admission("writer"))]
Admin: TypeAlias = Annotated[Call, Depends(Admission("admin"))]
