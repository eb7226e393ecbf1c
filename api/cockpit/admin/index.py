"""The first page of the panel: what can be managed, how much there is of it, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from crm_core.access.accounts import Account, accounts
from crm_core.access.tokens import Token, tokens
from crm_core.postgres.connection import Connection
from crm_core.postgres.schema_version import current_revision
from crm_core.report.numbers import Totals, totals


@dataclass(frozen=True, slots=True)
class Managed:
    """What there is to manage."""

    accounts: list[Account]
    tokens: list[Token]
    revision: str | None  # of the schema


async def show_index(opened: Page) -> Response:
    """Show the cards of the panel."""
    now = datetime.now(UTC)
    managed = await opened.read(_managed)
    sums: Totals | None = await opened.soon("totals", totals)
    is_off = opened.state.settings.auth == "off"
    return opened.show(
        "admin/index.html",
        types=await opened.read(opened.state.types),
        managed=managed,
        active_accounts=sum(one.is_active for one in managed.accounts),
        active_tokens=sum(one.state(now) == "active" for one in managed.tokens),
        sums=sums,
        version=version("crm-core"),
        is_off=is_off,
    )


async def lead_to_index(opened: Page) -> Response:
    """Redirect to the panel from its address without the slash."""
    return opened.go(opened.url("/admin/"))


routes = [
    Route("/admin/", page("admin", show_index), methods=["GET"]),
    Route("/admin", page("admin", lead_to_index), methods=["GET"]),
]


def _managed(connection: Connection) -> Managed:
    return Managed(accounts(connection), tokens(connection), current_revision(connection))
