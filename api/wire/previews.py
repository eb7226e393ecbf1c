"""What a change would do, as a document."""

from __future__ import annotations

import json
from dataclasses import asdict

from fastapi import Response

from api.wire.paging import JSON
from api.wire.schemas import Preview
from crm_core.timeline.preview import ChangePreview
from crm_core.utc import utc_text

PREVIEWED: dict[int | str, dict[str, object]] = {  # of calls that take dry_run, for OpenAPI
    200: {"model": Preview, "description": "With dry_run: what it would do"}
}


def shown(preview: ChangePreview) -> Response:
    """Return the answer to a change that is only previewed."""
    versions = ",".join(
        f'{{"field":{json.dumps(version.field)},"before":{version.before or "null"},"after":{version.after or "null"}}}'
        for version in preview.versions
    )
    books = {
        "dry_run": True,
        "entity_uid": str(preview.entity_uid),
        "outcome": preview.outcome,
        "change_ts": utc_text(preview.change_ts),
        "past_versions": preview.past_versions,
        "versions_added": preview.versions_added,
        "versions_changed": preview.versions_changed,
        "versions_removed": preview.versions_removed,
        "differences": [asdict(difference) for difference in preview.differences],
    }
    head = json.dumps(books, ensure_ascii=False, separators=(",", ":"))
    body = f'{head[:-1]},"versions":[{versions}],"entity":{preview.entity or "null"}}}'
    return Response(body.encode(), media_type=JSON)
