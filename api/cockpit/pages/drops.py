"""Drops: the list, what each one did, its rejected rows to correct and send again, and a preview of a new one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from api.cockpit.pages.drop_profiles import PROPOSE, Chosen, of_form, proposed
from api.cockpit.pending import Pending
from api.cockpit.visitor import FORM_FIELD
from api.problems import Refusal, refuse
from api.routers.drops import rejects_file
from api.uploads import receive, room
from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest_on
from crm_core.errors import ProfileRefused, UnknownProfile
from crm_core.formats.files import fingerprint
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection
from crm_core.profiles import store
from crm_core.profiles.toml import as_changes
from crm_core.reading.summaries import names_of
from crm_core.report.numbers import DropReport, collect_drop
from crm_core.report.page import MEANING

PAGE_SIZE = 30
REJECTS_SHOWN = 50
GONE = "the file is not here any more, because an hour has passed; bring it again"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A page of the rejected rows of a drop, and its header line."""

    rows: list[dict[str, object]]
    count: int
    header: str


async def show_drops(opened: Page) -> Response:
    """Show the drops, newest first, and where to upload a new one."""
    after = _position(opened.request.query_params.get("after", ""))
    found = await opened.read(partial(registry.drops, after=after, limit=PAGE_SIZE))
    return opened.show(
        "drops.html",
        drops=[json.loads(document) for document in found.documents],
        next=None if found.next is None else f"{found.next.first_seen_at.isoformat()}_{found.next.sha256}",
        profiles=store.names(opened.state.settings.profile_dir),
    )


async def show_drop(opened: Page) -> Response:
    """Show what a drop did, with a page of its rejected rows."""
    sha256 = sha256_of(opened)
    number = max(1, int(text) if (text := opened.request.query_params.get("page", "1")).isdecimal() else 1)
    work = partial(collect_drop, sha256=sha256, with_field_changes=False, show_values=True)
    report = await opened.read(lambda connection: work(connection))
    full: DropReport | None = await opened.soon(
        ("drop", sha256, report.merged_at), partial(collect_drop, sha256=sha256)
    )
    rejected = await opened.read(partial(_rejected, sha256=sha256, number=number))
    document = await opened.read(lambda connection: registry.drop(connection, sha256))
    kept = json.loads(document or "{}")
    at = kept.get("snapshot_at")
    return opened.show(
        "drop.html",
        drop=report,
        full=full,
        rejected=rejected,
        number=number,
        page_size=REJECTS_SHOWN,
        meaning=MEANING,
        kept=kept,
        snapshot_at=at and datetime.fromisoformat(at),
    )


async def upload(opened: Page) -> Response:
    """Store an uploaded file, and show what it would do; nothing is recorded before it is sent."""
    fields = {FORM_FIELD: "", "profile": ""}
    async with opened.state.uploads.folder() as folder:
        path = await receive(opened.request, folder, None, fields)
        opened.require_ours(fields[FORM_FIELD])
        name = fields["profile"].strip()
        return await _preview(opened, path, await proposed(opened, path) if name == PROPOSE else Chosen(name))


async def preview_again(opened: Page) -> Response:
    """Show what a file that was brought would do by another profile, or by one that was changed."""
    form = await opened.form()
    return await _previewed(opened, str(form.get("sha256", "")), of_form(form))


async def correct(opened: Page) -> Response:
    """Show what the corrected rows of a drop would do, as a file of their own."""
    sha256, form = sha256_of(opened), await opened.form()
    rows = (text.replace("\r\n", "\n").strip("\n") for text in _texts(form, "row"))  # forms send CR LF for each LF
    lines = [row for row in rows if row.strip()]
    if not lines:
        refuse("row", "is missing: leave at least one corrected row")
    header = await opened.read(partial(registry.header_of, sha256=sha256))
    document = await opened.read(lambda connection: registry.drop(connection, sha256))
    if document is None:
        raise _unknown(sha256)
    profile = await opened.read(partial(registry.profile_of, sha256=sha256))
    chosen = Chosen(profile.name, as_changes(profile.text)) if profile else Chosen()
    name = f"{Path(json.loads(document)['file']).stem}_corrected{'.csv' if header else '.ndjson'}"
    async with opened.state.uploads.folder() as folder:
        path = folder / name
        with room():
            content = "\n".join([*([header] if header else []), *lines, ""])
            await anyio.to_thread.run_sync(partial(path.write_text, content, encoding="utf-8", newline=""))
        return await _preview(opened, path, chosen)


async def send(opened: Page) -> Response:
    """Take in a file whose preview was confirmed."""
    form = await opened.form()
    sha256, pending = str(form.get("sha256", "")), _pending(opened)
    path = pending.find(sha256)
    if path is None:
        raise Refusal(HTTPStatus.GONE, GONE)
    options = replace(_options(opened, path, sha256=sha256), profile=await of_form(form).profile(opened))
    report = await opened.state.merge(partial(ingest_on, path=path, options=options))
    opened.has_written()
    if report.status == "refused":
        raise Refusal(HTTPStatus.BAD_REQUEST, report.error or "the drop was refused")
    pending.forget(sha256)
    message = f"{path.name}: {report.rows_changed:,} of {report.rows_read:,} rows changed something"
    message += f", {report.rows_rejected:,} were rejected." if report.rows_rejected else "."
    return opened.go(opened.url(f"/drops/{report.sha256}"), message)


async def rejects(opened: Page) -> Response:
    """Send all rejected rows of a drop as a file to correct and drop again."""
    return await rejects_file(opened.state, sha256_of(opened))


routes = [
    Route("/drops", page("reader", show_drops), methods=["GET"]),
    Route("/drops", page("writer", upload), methods=["POST"]),
    Route("/drops/send", page("writer", send), methods=["POST"]),
    Route("/drops/preview", page("writer", preview_again), methods=["POST"]),
    Route("/drops/{sha256}", page("reader", show_drop), methods=["GET"]),
    Route("/drops/{sha256}/correct", page("writer", correct), methods=["POST"]),
    Route("/drops/{sha256}/rejects.csv", page("reader", rejects), methods=["GET"]),
]


async def _preview(opened: Page, path: Path, chosen: Chosen) -> Response:
    sha256 = await anyio.to_thread.run_sync(fingerprint, path)
    await anyio.to_thread.run_sync(_pending(opened).keep, path, sha256)
    return await _previewed(opened, sha256, chosen)


async def _previewed(opened: Page, sha256: str, chosen: Chosen) -> Response:
    """Show what a file that was brought would do by a profile; a fault of the profile is shown beside it."""
    path = _pending(opened).find(sha256)
    if path is None:
        raise Refusal(HTTPStatus.GONE, GONE)
    try:
        profile = await chosen.profile(opened)
        options = replace(_options(opened, path, dry_run=True), profile=profile)
        report: MergeReport = await opened.state.merge(partial(ingest_on, path=path, options=options))
    except (ProfileRefused, UnknownProfile) as error:
        profile = None
        report = MergeReport(file=path.name, sha256=None, status="refused", error=str(error))
    uids = {difference.entity_uid for difference in report.differences}
    known = await opened.read(partial(names_of, uids=sorted(uids)))
    new = {one.entity_uid: one.after for one in report.differences if one.field == "display_name"}
    status = HTTPStatus.BAD_REQUEST if report.status == "refused" else HTTPStatus.OK
    return opened.show(
        "drop_preview.html",
        status=status,
        report=report,
        sha256=sha256,
        known=known,
        new=new,
        meaning=MEANING,
        chosen=chosen,
        toml=chosen.toml or (profile.text if profile else ""),
    )


def _options(opened: Page, path: Path, *, dry_run: bool = False, sha256: str | None = None) -> Options:
    settings = opened.state.settings
    return Options(
        opened.who.name,
        settings.time_zone,
        dry_run=dry_run,
        shown_as=path.name,
        sha256=sha256,
        snapshot_limit=settings.snapshot_limit,
        traceparent=opened.request.state.traceparent,
    )


def _rejected(connection: Connection, *, sha256: str, number: int) -> Rejected:
    found = registry.rejects_page(connection, sha256, limit=REJECTS_SHOWN, offset=(number - 1) * REJECTS_SHOWN)
    rows = [json.loads(document) for document in found.documents]
    return Rejected(rows, registry.count_rejects(connection, sha256), registry.header_of(connection, sha256))


def _pending(opened: Page) -> Pending:
    return Pending(opened.state.settings.home / "pending")


def _texts(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]


def sha256_of(opened: Page) -> str:
    """Return the SHA-256 in the address; raises Refusal if it is not one."""
    text = str(opened.request.path_params["sha256"])
    if not _SHA256.fullmatch(text):
        raise _unknown(text)
    return text


def _unknown(sha256: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, f"no drop {sha256[:64]!r} was ever received; go back to the list of drops")


def _position(text: str) -> registry.Position | None:
    if not text:
        return None
    try:
        at, sha256 = text.split("_")
        return registry.Position(datetime.fromisoformat(at), sha256)
    except ValueError:
        refuse("after", "is not a place in the list; go back to its first page")
