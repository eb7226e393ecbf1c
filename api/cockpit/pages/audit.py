"""What was recorded: who changed what, when it was recorded, from which file and line or request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from uuid import UUID

from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.time_bar import instant_of
from api.problems import refuse
from api.wire.tables import changed_fields
from crm_core.model import Effect, Op
from crm_core.reading.audit import Recorded, RecordedPosition, audit_of_all
from crm_core.reading.compare import FieldChange

PAGE_SIZE = 50
OPS: Mapping[str, Op | Effect] = {
    "upsert": "upsert",
    "patch": "patch",
    "delete": "delete",
    "undo": "undo",
    "reinstate": "reinstate",
    "snapshot": "snapshot",
}
FILTERS: tuple[str, ...] = ("actor", "from", "to", "drop", "detail_type", "op", "entity")


async def show_audit(opened: Page) -> Response:
    """Show a page of what was recorded, newest first; with `known_at`, of what was recorded up to then."""
    query = opened.request.query_params
    which, after = recorded_of(opened), place_after(query.get("after", ""))
    found = await opened.read(partial(audit_of_all, which=which, after=after, limit=PAGE_SIZE), is_long=True)
    entries = [json.loads(document) for document in found.documents]
    for entry in entries:
        entry["changes"] = changes_of(entry["before"], entry["after"])
    types = await opened.read(opened.state.types)
    return opened.show(
        "audit.html",
        entries=entries,
        next=None if found.next is None else place_of(found.next),
        types=types,
        query={name: query.get(name, "") for name in FILTERS},
        is_filtered=any(query.get(name) for name in FILTERS),
    )


routes = [Route("/audit", page("reader", show_audit), methods=["GET"])]


def changes_of(before: Mapping[str, object] | None, after: Mapping[str, object] | None) -> list[FieldChange]:
    """Return the fields that differ between two states of an audit; None: the entity did not exist."""
    return [FieldChange(*changed) for changed in changed_fields(before, after)]


def recorded_of(opened: Page) -> Recorded:
    """Return which changes the address asks for; raises Refusal for a value that cannot be read."""
    query, zone = opened.request.query_params, opened.state.settings.time_zone
    op = query.get("op", "")
    if op and op not in OPS:
        refuse("op", f"{op!r} is not an operation; choose one of: {', '.join(OPS)}")
    to, known_at = instant_of(query, "to", zone), opened.bar.known_at
    return Recorded(
        actor=query.get("actor", "").strip() or None,
        from_=instant_of(query, "from", zone),
        to=min((at for at in (to, known_at) if at is not None), default=None),
        drop=query.get("drop", "").strip() or None,
        op=OPS.get(op),
        detail_type=query.get("detail_type") or None,
        entity_uid=opened.uid_asked("entity"),
    )


def place_of(position: RecordedPosition) -> str:
    """Write a place in the audit for an address."""
    return f"{position.recorded_at.isoformat()}_{position.batch_id}_{position.entity_uid}_{position.row_no}"


def place_after(text: str) -> RecordedPosition | None:
    """Return the place that an address names, None for the beginning; raises Refusal for one that cannot be read."""
    if not text:
        return None
    try:
        at, batch_id, uid, row_no = text.split("_")
        return RecordedPosition(datetime.fromisoformat(at), int(batch_id), UUID(uid), int(row_no))
    except ValueError:
        refuse("after", "is not a place in the audit; go back to its first page")


def _fields(state: Mapping[str, object] | None) -> dict[str, str]:
    if state is None:
        return {}
    details = state["details"]
    assert isinstance(details, dict)
    named = {"display_name": str(state["display_name"]), "entity_type": str(state["entity_type"])}
    return named | {f"details.{code}": str(value) for code, value in details.items()}
