"""`crm demo`: the whole way from nothing to history, on sample data, told to a newcomer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

from rich.console import Console
from rich.table import Table

from crm_core import temporal
from crm_core.console import output, rejects_table, reports_table
from crm_core.database import Connection, Database, open_database
from crm_core.fixtures import read_fixtures
from crm_core.loaddata import load_fixtures
from crm_core.migrations import migrate
from crm_core.model import MergeReport
from crm_core.reference import reference_types
from crm_core.rejects import rejects
from crm_core.resources import DATA
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


def run_demo(settings: Settings) -> None:
    """Migrate, load the fixtures, run the job over the sample drops, and print what happened.

    Raises CrmError.
    """
    console = output()
    with console.status("Starting PostgreSQL …") as status, open_database(settings) as database:
        where = (
            "the server of the settings" if settings.database_url else f"the embedded one in {_shown(settings.home)}"
        )
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
            status.update(f"Dagster: {len(reports)} of {len(drops)} drops …")
        console.print(f"✓ Dagster: the job ingest_drop ran over {len(drops)} drops\n")
        status.stop()
        _tell_drops(console, reports)
        _tell_rejects(console, database, reports)
        with database.connect() as connection:
            _tell_rename(console, connection)
    _tell_next(console, settings)


def _run_job(drops: Sequence[Path]) -> Iterator[MergeReport]:
    from pipelines.runs import run_drops  # here: it takes seconds, and the core knows no orchestration framework

    return run_drops(drops)


def _tell_drops(console: Console, reports: Sequence[MergeReport]) -> None:
    console.print(
        reports_table(reports, {report.file: KINDS[Path(report.file).stem.rpartition("_")[2]] for report in reports})
    )
    if all(report.status == "replayed" for report in reports):
        console.print("\nAll of them were known, byte for byte: a replay changes nothing.")


def _tell_rejects(console: Console, database: Database, reports: Sequence[MergeReport]) -> None:
    for report in reports:
        if report.rows_rejected and report.sha256:
            with database.connect() as connection:
                rows = rejects(connection, report.sha256, limit=report.rows_rejected)
            console.print(f"\nThe rows of {Path(report.file).name} that were refused; its good rows are in:")
            console.print(rejects_table(rows))
        if report.error:
            console.print(f"\nerror: {report.error}")


def _tell_rename(console: Console, connection: Connection) -> None:
    before, after = _midnight(RENAMED_ON - timedelta(days=1)), _midnight(RENAMED_ON)
    types = reference_types(connection)
    page = temporal.entities(connection, types, temporal.Filter(name_contains=OLD_NAME), as_of=before, limit=1)
    if not page.documents:
        return
    entity_uid = UUID(_entity(page.documents[0])["entity_uid"])
    console.print(f"\n{OLD_NAME} changed its name on {RENAMED_ON}. Ask for any instant, and hear what held then:")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("as of", "display_name", "valid_from", "valid_to", "details"):
        table.add_column(heading, overflow="fold")
    for as_of in (before, after):
        document = temporal.snapshot(connection, entity_uid, as_of=as_of)
        if document is not None:
            then = _entity(document)
            details = ", ".join(f"{detail['detail_type']} {detail['detail_value']}" for detail in then["details"])
            valid_to = (then["valid_to"] or "")[:10]
            table.add_row(f"{as_of:%Y-%m-%d}", then["display_name"], then["valid_from"][:10], valid_to, details)
    console.print(table)
    console.print(f"\nThe diff from {before:%Y-%m-%d} to {after:%Y-%m-%d}:")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("action", "field", "from", "to"):
        table.add_column(heading, overflow="fold")
    for document in temporal.diff(connection, before, after).documents:
        changed: Changed = json.loads(document)
        for change in changed["changes"]:
            table.add_row(changed["action"], change["field"], change["from"] or "", change["to"] or "")
    console.print(table)


def _tell_next(console: Console, settings: Settings) -> None:
    sample = _shown(DATA / "sample_ingest.csv")
    console.print("\nTo go on:")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(f"  crm ingest {sample}", "take a drop in; copy the file, edit a row, and see what changes")
    table.add_row("  crm check", "recompute every invariant from the tables")
    table.add_row("  crm explain", "see how PostgreSQL answers, and by which index")
    table.add_row("  crm --help", "the other commands")
    console.print(table)
    if settings.database_url is None:
        console.print(f"All data are in {_shown(settings.home)}; remove it to begin again.")


def _entity(document: temporal.Document) -> Entity:
    entity: Entity = json.loads(document)
    return entity


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _shown(path: Path) -> str:
    """Answer a path as it is typed here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
