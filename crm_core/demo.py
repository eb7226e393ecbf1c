"""`crm demo`: the whole way from nothing to history, on sample data, told to a newcomer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

from rich.console import Console

from crm_core import temporal
from crm_core.console import HEADING, REJECT_HEADING, counts, reject_lines
from crm_core.database import Connection, Database, open_database
from crm_core.drop_log import rejects
from crm_core.fixtures import read_fixtures
from crm_core.lists import Document, Filter
from crm_core.loaddata import load_fixtures
from crm_core.migrations import migrate
from crm_core.model import MergeReport
from crm_core.reference import reference_types
from crm_core.resources import DATA
from crm_core.serve import HOST, PORT, free_port, run_api
from crm_core.settings import Settings

KINDS = {  # how the name of a sample ends → what kind of drop it is
    "initial": "the first load",
    "delta": "news among much that stays",
    "late": "facts learnt late",
    "replay": "the same bytes again",
    "dirty": "bad rows among good ones",
    "ingest": "a small one to play with",
}
OLD_NAME, RENAMED_ON = "Facebook, Inc.", date(2021, 10, 28)


class Detail(TypedDict):
    """What the story tells of a detail."""

    detail_type: str
    detail_value: str


class Entity(TypedDict):
    """What the story tells of an entity."""

    entity_uid: str
    display_name: str
    valid_from: str
    valid_to: str | None
    details: list[Detail]


FieldChange = TypedDict("FieldChange", {"field": str, "from": str | None, "to": str | None})


class Changed(TypedDict):
    """What the story tells of a net change."""

    action: str
    changes: list[FieldChange]


def run_demo(settings: Settings, then: Callable[[Database], None] = lambda _: None) -> bool:
    """Migrate, load the fixtures, run the job over the sample drops, print what happened, and say whether all went in.

    Raises CrmError.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        status = stack.enter_context(console.status("Starting PostgreSQL …"))
        database = stack.enter_context(open_database(settings))
        where = f"the embedded one in {_shown(settings.home)}" if settings.database_url is None else "the given server"
        console.print(f"✓ PostgreSQL: {where}")
        status.update("Migrating …")
        steps = migrate(database)
        console.print(f"✓ Schema: {len(steps)} revisions applied" if steps else "✓ Schema: nothing to migrate")
        files = sorted((DATA / "fixtures").glob("*.json"))
        fixtures = read_fixtures(files, settings.time_zone)
        with database.transaction() as connection:
            load_fixtures(connection, fixtures)
        console.print(f"✓ Fixtures: {fixtures.objects} objects from {len(files)} files")
        status.update("Starting Dagster …")
        drops = [*sorted((DATA / "drops").glob("*.csv")), DATA / "sample_ingest.csv"]
        reports = []
        for report in _run_job(drops):
            reports.append(report)
            status.update(f"Dagster has run {len(reports)} of {len(drops)} drops …")
        console.print(f"✓ Dagster: the job ingest_drop ran over {len(drops)} drops")
        status.stop()
        _tell_drops(console, reports)
        with database.connect() as connection:
            _tell_rejects(console, connection, reports)
            _tell_rename(console, connection)
        _tell_next(console, settings)
        is_well = all(report.error is None for report in reports)
        if is_well:
            then(database)
    return is_well


def serve_demo(settings: Settings, port: int | None, database: Database) -> None:
    """Serve the API over the sample data until Ctrl-C, and say what to open; raises AddressUnusable, OpenToAll."""
    console = Console(markup=False, highlight=False, soft_wrap=True)

    def tell(address: str) -> None:
        console.print(f"\nOpen      {address}/docs", style="bold")
        console.print(f"Try       curl '{address}/api/v1/entities?q=meta'")
        console.print(f"          curl '{address}/api/v1/diff?from=2021-10-01&to=2021-11-01'")
        console.print("Stop      with Ctrl-C\n")

    run_api(settings, database, HOST, free_port(HOST, port, PORT), tell=tell)


def _run_job(drops: Sequence[Path]) -> Iterator[MergeReport]:
    from pipelines.runs import run_drops  # here: it takes seconds, and the core knows no orchestration framework

    return run_drops(drops)


def _tell_drops(console: Console, reports: Sequence[MergeReport]) -> None:
    console.print(f"\n{HEADING}", style="bold")
    for report in reports:
        path = Path(report.file)
        console.print(f"{path.name}: {KINDS[path.stem.rpartition('_')[2]]}", style="dim")
        console.print(counts(report) if report.error is None else f"error: {report.error}")
    if all(report.status == "replayed" for report in reports):
        console.print("\nAll of them were known, byte for byte: a replay changes nothing.")


def _tell_rejects(console: Console, connection: Connection, reports: Sequence[MergeReport]) -> None:
    for report in reports:
        if report.rows_rejected and report.sha256:
            console.print(f"\nThe rows of {Path(report.file).name} that were rejected; the good ones are in:")
            console.print(REJECT_HEADING, style="bold")
            for line in reject_lines(rejects(connection, report.sha256, limit=report.rows_rejected)):
                console.print(line)


def _tell_rename(console: Console, connection: Connection) -> None:
    before, after = _midnight(RENAMED_ON - timedelta(days=1)), _midnight(RENAMED_ON)
    named = Filter(name_contains=OLD_NAME)
    page = temporal.entities(connection, reference_types(connection), named, as_of=before, limit=1)
    if not page.documents:
        return
    entity_uid = UUID(_entity(page.documents[0])["entity_uid"])
    console.print(f"\n{OLD_NAME} changed its name on {RENAMED_ON}. Ask for any instant:")
    for as_of in (before, after):
        document = temporal.snapshot(connection, entity_uid, as_of=as_of)
        if document is None:
            continue
        then = _entity(document)
        until = f"until {then['valid_to'][:10]}" if then["valid_to"] else "until further notice"
        console.print(f"  as of {as_of:%Y-%m-%d}  {then['display_name']}, from {then['valid_from'][:10]} {until}")
        for detail in then["details"]:
            console.print(f"{'':20}{detail['detail_type']:<8} {detail['detail_value']}")
    console.print(f"\nWhat changed from {before:%Y-%m-%d} to {after:%Y-%m-%d}:")
    for document in temporal.diff(connection, before, after).documents:
        changed: Changed = json.loads(document)
        for change in changed["changes"]:
            console.print(f"  {changed['action']:<8} {change['field']:<16} {change['from']} → {change['to']}")


def _tell_next(console: Console, settings: Settings) -> None:
    sample = _shown(DATA / "sample_ingest.csv")
    console.print("\nTo go on:")
    console.print("  crm check             # recompute every invariant from the tables")
    console.print("  crm explain           # see by which index PostgreSQL answers")
    console.print(f"  crm ingest {sample}   # known by now: edit a copy of it, and see what changes")
    console.print("  crm --help            # all commands")
    if settings.database_url is None:
        console.print(f"All data are in {_shown(settings.home)}; remove it to begin again.")


def _entity(document: Document) -> Entity:
    entity: Entity = json.loads(document)
    return entity


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _shown(path: Path) -> str:
    """Answer a path as it is typed here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
