"""The first page: what there is, what changed, and what waits for a decision."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page


async def show_overview(opened: Page) -> Response:
    """Show the overview."""
    return opened.show("overview.html")


routes = [Route("/", page("reader", show_overview), methods=["GET"])]
