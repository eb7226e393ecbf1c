"""What the lists of the panel share: a search, pages by key, and all of it as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.responses import Response

from api.cockpit.page import Page
from api.wire.paging import CSV
from api.wire.tables import Row, written

PAGE_SIZE = 50
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a list."""

    rows: Sequence[T]
    count: int  # of all rows that fit the search
    q: str
    next: str | None  # the key after which the next page begins


def fitting(opened: Page, found: Iterable[T], texts: Callable[[T], Iterable[str]]) -> list[T]:
    """Return the rows in which a text contains the `q` of the address, in upper or lower case."""
    part = _q(opened).casefold()
    return [row for row in found if any(part in text.casefold() for text in texts(row))]


def listed(opened: Page, found: Sequence[T], key: Callable[[T], str]) -> Listed[T]:
    """Return the page after the key in `after` of the address; rows are in order of their unique key."""
    after = opened.request.query_params.get("after", "")
    rows = sorted((row for row in found if key(row) > after), key=key)
    shown = rows[:PAGE_SIZE]
    return Listed(shown, len(found), _q(opened), key(shown[-1]) if len(rows) > PAGE_SIZE else None)


def as_file(name: str, columns: Sequence[str], rows: Iterable[Row]) -> Response:
    """Return rows as a CSV file to download."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(written([columns, *rows]), headers=headers, media_type=CSV)


def _q(opened: Page) -> str:
    return opened.request.query_params.get("q", "").strip()
