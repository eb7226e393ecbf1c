"""`crm demo`: from an empty database to a history that can be queried, on sample data, for newcomers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

from rich.console import Console

from crm_core.cli.console import REJECT_HEADING, reject_lines, shown_path, this_command
from crm_core.drops.ingest import Options, ingest
from crm_core.drops.registry import rejects
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection, Database, open_database
from crm_core.postgres.migrations import migrate
from crm_core.profiles import store
from crm_core.reading import reads
from crm_core.reading.lists import Document, Filter
from crm_core.reference import reference_types
from crm_core.resources import DATA
from crm_core.server.api import HOST, PORT, free_port, run_api
from crm_core.settings import Settings

KINDS = {  # how the name of a sample ends → what kind of drop it is
    "register": "the first load",
    "changes": "what has changed since",
    "late": "facts about the past, learnt late",
    "initial": "the first load of another list, of contacts",
    "census": "everything once more, changed or not",
    "delta": "some changes among many unchanged rows",
    "replay": "the same bytes again",
    "dirty": "bad rows among good ones",
    "corrected": "the bad rows put right, and wrong values replaced",
    "closed": "deletions alone",
    "ingest": "a small file to play with",
}
DROP_HEADING = f"{'drop':<20} status    read rejected changed unchanged late +versions"
OLD_NAME, RENAMED_ON = "Facebook, Inc.", date(2021, 10, 28)
SAME_NAME, SAME_ON = "Anna Lindqvist", (date(2020, 1, 1), date(2022, 1, 1))  # what two drops say, in this order
LATE_NAME, LATE_SINCE = "Anna Lindqvist-Berg", date(2020, 9, 12)  # what a later drop says of the time between them


class Detail(TypedDict):
    """The fields of a detail that the demo shows."""

    detail_type: str
    detail_value: str


class Entity(TypedDict):
    """The fields of an entity that the demo shows."""

    entity_uid: str
    display_name: str
    valid_from: str
    valid_to: str | None
    details: list[Detail]


FieldChange = TypedDict("FieldChange", {"field": str, "from": str | None, "to": str | None})


class Changed(TypedDict):
    """The fields of a net change that the demo shows."""

    action: str
    changes: list[FieldChange]


def run_demo(settings: Settings, then: Callable[[Database], None] = lambda _: None) -> bool:
    """Migrate, load the fixtures, run the job over the sample drops and print what happened.

    Return whether all of them were taken in; if so, `then` is called first. Raises CrmError.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        status = stack.enter_context(console.status("Starting PostgreSQL …"))
        database = stack.enter_context(open_database(settings, is_kept=True))
        where = (
            f"the embedded one in {shown_path(settings.home)}" if settings.database_url is None else "the given server"
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
            status.update(f"Dagster has run {len(reports)} of {len(drops)} drops …")
        console.print(f"✓ Dagster: the job ingest_drop ran over {len(drops)} drops")
        of_sources = [_ingest(database, settings, path) for path in sorted((DATA / "sources").glob("*/*"))]
        console.print(
            f"✓ Sources: {len(of_sources)} files as other systems write them, each by the profile of its source"
        )
        status.stop()
        _tell_drops(console, reports)
        _tell_sources(console, of_sources)
        with database.connect() as connection:
            _tell_rejects(console, connection, reports)
            _tell_rename(console, connection)
            _tell_late_fact(console, connection)
        _tell_next(console, settings)
        is_well = all(report.error is None for report in (*reports, *of_sources))
        if is_well:
            then(database)
    return is_well


def serve_demo(settings: Settings, port: int | None, database: Database) -> None:
    """Serve the API over the sample data until Ctrl-C, and print what to open.

    Raises AddressUnusable or OpenToAll.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)

    def on_start(address: str) -> None:
        console.print(f"\nCockpit   {address}/", style="bold")
        console.print(f"Open      {address}/docs (the API)")
        console.print(f"Try       curl '{address}/api/v1/entities?q=meta'")
        console.print(f"          curl '{address}/api/v1/diff?from=2021-10-01&to=2021-11-01'")
        console.print("Stop      with Ctrl-C\n")

    run_api(settings, database, HOST, free_port(HOST, port, PORT), on_start=on_start)


def _run_job(drops: Sequence[Path]) -> Iterator[MergeReport]:
    from pipelines.runs import run_drops  # imported here: it takes seconds, and the core must not depend on Dagster

    return run_drops(drops)


def _tell_drops(console: Console, reports: Sequence[MergeReport]) -> None:
    console.print(f"\n{DROP_HEADING}", style="bold")
    for report in reports:
        console.print(_drop_line(report) if report.error is None else f"error: {report.error}")
    console.print("\nHow the name of a drop ends, and what it holds:", style="bold")
    for kind, meaning in KINDS.items():
        console.print(f"  {kind:<10} {meaning}")
    if all(report.status == "replayed" for report in reports):
        console.print("\nAll these files were taken in before, byte for byte: a replay changes nothing.")


def _ingest(database: Database, settings: Settings, path: Path) -> MergeReport:
    """Take in a file of a source by the profile of the same name."""
    profile = store.load(DATA / "profiles", path.parent.name)
    shown_as = f"{path.parent.name}/{path.name}"
    return ingest(database, path, Options("demo", settings.time_zone, shown_as=shown_as, profile=profile))


def _tell_sources(console: Console, reports: Sequence[MergeReport]) -> None:
    console.print("\nFiles of three sources; profiles say what their columns mean:", style="bold")
    for report in reports:
        line = (
            f"{report.status}: {report.rows_read} rows, {report.rows_rejected} rejected, {report.rows_changed} changed"
        )
        console.print(f"  {report.file:<34} {line if report.error is None else f'error: {report.error}'}")
    console.print(
        f"  The profiles are in {shown_path(DATA / 'profiles')}, the files in {shown_path(DATA / 'sources')}."
    )


def _drop_line(report: MergeReport) -> str:
    rows = f"{report.rows_read:>5} {report.rows_rejected:>8} {report.rows_changed:>7} {report.rows_unchanged:>9}"
    versions = report.entity_versions_added + report.detail_versions_added
    return f"{Path(report.file).stem:<20} {report.status:<8} {rows} {report.rows_late:>4} {versions:>9}"


def _tell_rejects(console: Console, connection: Connection, reports: Sequence[MergeReport]) -> None:
    for report in reports:
        if report.rows_rejected and report.sha256:
            console.print(f"\nThe rejected rows of {Path(report.file).name}; its good rows were recorded:")
            console.print(REJECT_HEADING, style="bold")
            for line in reject_lines(rejects(connection, report.sha256, limit=report.rows_rejected)):
                console.print(line)


def _tell_rename(console: Console, connection: Connection) -> None:
    before, after = _midnight(RENAMED_ON - timedelta(days=1)), _midnight(RENAMED_ON)
    entity_uid = _named(connection, OLD_NAME, before)
    if entity_uid is None:
        return
    console.print(f"\n{OLD_NAME} changed its name on {RENAMED_ON}. Ask for any instant:")
    for as_of in (before, after):
        _tell_instant(console, connection, entity_uid, as_of)
    console.print(f"\nWhat changed from {before:%Y-%m-%d} to {after:%Y-%m-%d}:")
    for document in reads.diff(connection, before, after).documents:
        changed: Changed = json.loads(document)
        for change in changed["changes"]:
            console.print(f"  {changed['action']:<8} {change['field']:<16} {change['from']} → {change['to']}")


def _tell_late_fact(console: Console, connection: Connection) -> None:
    first, again = SAME_ON
    entity_uid = _named(connection, SAME_NAME, _midnight(first))
    if entity_uid is None:
        return
    console.print(f"\nTwo drops said: {SAME_NAME}, on {first} and again on {again}.")
    console.print(f"Then a late one said: {LATE_NAME}, from {LATE_SINCE}. All three are true:")
    for day in (first, LATE_SINCE, again):
        _tell_instant(console, connection, entity_uid, _midnight(day), with_details=False)


def _named(connection: Connection, name: str, as_of: datetime) -> UUID | None:
    """Return the first entity that ever had this name, or None."""
    named = Filter(name_contains=name)
    page = reads.entities(connection, reference_types(connection), named, as_of=as_of, limit=1)
    return UUID(_entity(page.documents[0])["entity_uid"]) if page.documents else None


def _tell_instant(
    console: Console, connection: Connection, entity_uid: UUID, as_of: datetime, *, with_details: bool = True
) -> None:
    document = reads.snapshot(connection, entity_uid, as_of=as_of)
    if document is None:
        return
    then = _entity(document)
    until = f"until {then['valid_to'][:10]}" if then["valid_to"] else "until further notice"
    console.print(f"  as of {as_of:%Y-%m-%d}  {then['display_name']}, from {then['valid_from'][:10]} {until}")
    for detail in then["details"] if with_details else ():
        console.print(f"{'':20}{detail['detail_type']:<8} {detail['detail_value']}")


def _tell_next(console: Console, settings: Settings) -> None:
    crm = this_command()
    sample = shown_path(DATA / "sample_ingest.csv")
    console.print("\nTo go on:")
    console.print(f"  {crm} check      # check that all data are consistent")
    console.print(f"  {crm} explain    # see which indexes PostgreSQL uses")
    console.print(f"  {crm} rejects 2022-06-01_dirty.csv    # its rejected rows")
    console.print(f"  {crm} ingest {sample}    # edit a copy of it, and see what changes")
    console.print(f"  {crm} --help     # all commands")
    if settings.database_url is None:
        console.print(f"All data are in {shown_path(settings.home)}; remove it to begin again.")


def _entity(document: Document) -> Entity:
    entity: Entity = json.loads(document)
    return entity


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
