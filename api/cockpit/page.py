"""One page: who opens it, at which instants, and how it is shown. Errors are pages too."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeAlias, TypeVar
from urllib.parse import quote, unquote
from uuid import UUID

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.cockpit import templates
from api.cockpit.answer_cache import AnswerCache
from api.cockpit.time_bar import TimeBar, address, on_the_clock, thinned, time_bar
from api.cockpit.visitor import FORM_FIELD, Visitor, Visitors
from api.problems import INTERNAL_ERROR, Refusal, refusal_of, refuse
from api.state import State, state_of
from api.wire.paging import CSV
from api.wire.streams import Blocks, stream
from crm_core.access.principal import Principal, Role
from crm_core.errors import CrmError, DatabaseError
from crm_core.postgres.connection import Connection
from crm_core.reading.moments import DayOfChange, days_of_change
from crm_core.values.instants import parse_instant

YEAR = timedelta(days=365)
FIRST_INSTANT = datetime.min.replace(tzinfo=UTC)

SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
AGAIN_SECONDS = 5  # after which a page that the database could not give is asked for again by itself
PATIENCE_SECONDS = 0.06  # after which a page waits no longer for what can be shown later
DAYS = "days of change"
_LOG = logging.getLogger("crm.api")
T = TypeVar("T")


@dataclass(slots=True)
class Page:
    """A page that was asked for by somebody who may see it."""

    request: Request
    state: State
    visitors: Visitors
    visitor: Visitor
    bar: TimeBar
    trouble: Refusal | None = None  # why the visitor is not known
    patient_until: float = field(default_factory=lambda: time.monotonic() + PATIENCE_SECONDS)

    @property
    def who(self) -> Principal:
        """Return the visitor; to be used only on pages that need a role."""
        assert self.visitor.who is not None
        return self.visitor.who

    async def cached(self, key: Hashable, work: Callable[[Connection], T]) -> T:
        """Return the result of `work` from the cache, for reads of all data; it may be some seconds old."""
        found: AnswerCache = self.request.app.state.answers
        return await found.get(key, work)

    async def soon(self, key: Hashable, work: Callable[[Connection], T]) -> T | None:
        """Return what `cached` returns, or None if that takes too long; a page with `data-again` asks again."""
        found: AnswerCache = self.request.app.state.answers
        return await found.soon(key, work, max(self.patient_until - time.monotonic(), 0.0))

    async def last_days_of_change(self) -> list[DayOfChange] | None:
        """Return the days on which something changed, in order of time, as last read; None: not read yet."""
        found: AnswerCache = self.request.app.state.answers
        work = partial(days_of_change, time_zone=self.state.settings.time_zone)
        return await found.last(DAYS, work, max(self.patient_until - time.monotonic(), 0.0))

    async def days_of_change(self) -> list[DayOfChange]:
        """Return the days on which something changed, in order of time."""
        return await self.cached(DAYS, partial(days_of_change, time_zone=self.state.settings.time_zone))

    async def year_earlier(self, at: datetime) -> datetime:
        """Return the start of the day a year before an instant, or before the last change if that is earlier."""
        days, zone = await self.days_of_change(), self.state.settings.time_zone
        last = min(at, days[-1].last_at) if days else at
        try:
            return parse_instant(on_the_clock(last - YEAR, zone).date().isoformat(), zone)
        except (OverflowError, ValueError):  # there is no year 0
            return FIRST_INSTANT

    def has_written(self) -> None:
        """Mark every cached answer as outdated, because this page has changed something."""
        answers: AnswerCache = self.request.app.state.answers
        answers.forget()

    def may(self, role: Role) -> bool:
        """Return whether the visitor has the rights of a role, so that the page offers what needs them."""
        return self.visitor.who is not None and self.visitor.who.may(role)

    def url(self, path: str, **params: object) -> str:
        """Return the address of another page at the same instants; `params` replace them, None removes one."""
        return address(self.request.scope["root_path"], path, self.bar, params)

    def here(self, **params: object) -> str:
        """Return the address of this page with other parameters; None removes one."""
        return self.url(self.request.scope["path"], **{**self.request.query_params, **params})

    async def read(self, work: Callable[[Connection], T], *, is_long: bool = False) -> T:
        """Return the result of `work`; with `is_long` no other read waits for it."""
        return await (self.state.read_heavily if is_long else self.state.read)(work)

    def uid_asked(self, name: str) -> UUID | None:
        """Return the uid in a parameter of the address, None without one; raises Refusal for anything else."""
        text = self.request.query_params.get(name, "").strip()
        try:
            return UUID(text) if text else None
        except ValueError:
            refuse(name, f"{text!r} is not a UUID; leave it out")

    async def send_csv(self, name: str, blocks: Blocks) -> Response:
        """Send blocks of CSV as a file to download."""
        response = await stream(self.state, blocks, media_type=CSV)
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    async def form(self) -> FormData:
        """Return the form that was sent; raises Refusal if it is not from one of our pages."""
        form = await self.request.form(max_files=0, max_fields=1_000)
        self.require_ours(form.get(FORM_FIELD))
        return form

    def require_ours(self, token: object) -> None:
        """Raise Refusal for a form that did not come from one of our pages in this browser."""
        if not self.visitor.sent(token):
            said = "the form is too old, or was not sent from this site; go back, load the page again and repeat"
            raise Refusal(HTTPStatus.FORBIDDEN, said)

    def show(self, template: str, *, status: int = 200, **values: object) -> Response:
        """Return the page that a template renders with the values."""
        message = unquote(self.request.cookies.get(self.visitors.message_cookie, ""))
        given = {"page": self, "bar": self.bar, "message": message}
        given |= {"zone": self.state.settings.time_zone, "root": self.request.scope["root_path"]}
        html = templates.render(template, given | values)
        response = HTMLResponse(html, status)
        response.headers["Content-Security-Policy"] = SECURITY_POLICY
        response.headers["Cache-Control"] = "no-store"
        self.visitors.remember_browser(response, self.visitor)
        if message:
            self.visitors.remember_message(response, None)
        return response

    def go(self, to: str, message: str | None = None) -> Response:
        """Redirect to another page of the cockpit, which shows the message."""
        response = RedirectResponse(to, HTTPStatus.SEE_OTHER)
        if message:
            self.visitors.remember_message(response, quote(message[:1_000]))
        return response


Handler: TypeAlias = Callable[[Page], Awaitable[Response]]


def page(role: Role | None, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a page, which only visitors with the role may open (None: everybody)."""

    async def answer(request: Request) -> Response:
        opened = await _opened(request)
        response = await shown(opened)
        response.headers.setdefault("Cache-Control", "no-store")  # files too: they are not for others
        return response

    async def shown(opened: Page) -> Response:
        if opened.trouble is not None:
            return error_page(opened, opened.trouble)
        try:
            bar = time_bar(opened.request.query_params, opened.state.settings.time_zone)
            opened.bar = bar
            if role is not None and opened.visitor.who is None:
                return _to_login(opened)
            if role is not None and not opened.may(role):
                said = f"{opened.who.name} has the role {opened.who.role}, and this page needs the role {role}"
                raise Refusal(HTTPStatus.FORBIDDEN, said)
            if role is not None:
                days = await opened.last_days_of_change()
                opened.bar = replace(bar, moments=None if days is None else thinned([day.last_at for day in days]))
            return await handler(opened)
        except (Refusal, CrmError) as error:
            return error_page(opened, error if isinstance(error, Refusal) else refusal_of(error))
        except HTTPException as error:  # of the framework, while it reads a form
            return error_page(opened, Refusal(HTTPStatus(error.status_code), str(error.detail)))
        except Exception as error:
            request_id = getattr(opened.request.state, "request_id", None)
            _LOG.error("an internal error", exc_info=error, extra={"request_id": request_id})
            return error_page(opened, INTERNAL_ERROR)

    return answer


async def not_found(request: Request) -> Response:
    """Return the page for an address at which there is nothing."""
    said = f"there is no page at {request.scope['path']}"
    return error_page(await _opened(request), Refusal(HTTPStatus.NOT_FOUND, said))


def error_page(opened: Page, refusal: Refusal) -> Response:
    """Return the page that says what went wrong and what to do."""
    values = {"refusal": refusal, "request_id": getattr(opened.request.state, "request_id", None)}
    response = opened.show("error.html", status=refusal.status_code, **values)
    response.headers.update(refusal.headers or {})
    if refusal.status_code == HTTPStatus.SERVICE_UNAVAILABLE and opened.request.method == "GET":
        response.headers["Refresh"] = str(AGAIN_SECONDS)
    return response


async def _opened(request: Request) -> Page:
    """Return a page for the visitor, without instants; without a visitor if the database cannot be asked who it is."""
    state, visitors = state_of(request), request.app.state.visitors
    trouble: Refusal | None = None
    try:
        visitor = await visitors.of(request)
    except (DatabaseError, Refusal) as error:
        visitor = Visitor(None, is_open=False, secret="", is_new=False)
        trouble = error if isinstance(error, Refusal) else refusal_of(error)
    if visitor.who is not None:
        request.state.actor = visitor.who.name
    return Page(request, state, visitors, visitor, TimeBar(zone=state.settings.time_zone), trouble)


def _to_login(opened: Page) -> Response:
    request = opened.request
    if request.method != "GET":
        raise Refusal(HTTPStatus.UNAUTHORIZED, "your session has ended; sign in again, and repeat what you did")
    query = request.scope["query_string"].decode("latin-1")
    there = request.scope["path"] + (f"?{query}" if query else "")
    root = request.scope["root_path"]
    return opened.go(f"{root}/login" if there == "/" else f"{root}/login?next={quote(there, safe='/')}")
