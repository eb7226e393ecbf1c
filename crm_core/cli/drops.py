"""`crm ingest`, `rejects` and `report`: take drops in, get their rejected rows back, and see what they did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import (
    HEADING,
    REJECT_HEADING,
    DropPath,
    actor,
    counts,
    difference_line,
    drop_progress,
    reject_lines,
    say_error,
    say_warning,
    this_command,
)
from crm_core.cli.database import how_to_load_types
from crm_core.cli.profile import profile_of
from crm_core.model import MergeReport
from crm_core.settings import Settings
from crm_core.values.text import json_line, one_line

if TYPE_CHECKING:
    from crm_core.drops.ingest import Options, Progress
    from crm_core.drops.snapshots import SnapshotOptions
    from crm_core.model import CloudPath
    from crm_core.postgres.connection import Connection, Database

REJECTS_SHOWN = 1_000  # on a terminal; all of them go to a file


@click.command(epilog="Example: crm ingest data/sample_ingest.csv")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=DropPath())
@click.option("--dry-run", is_flag=True, help="Show what would happen, but change nothing.")
@click.option("--strict", is_flag=True, help="Refuse a whole file if one of its rows is bad.")
@click.option("--profile", "profile_name", metavar="NAME", help="How the files are read; default: the standard form.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each file.")
@click.option(
    "--mode",
    type=click.Choice(["delta", "snapshot"]),
    default="delta",
    show_default=True,
    help="snapshot: entities of the scope that are not in the file end.",
)
@click.option(
    "--scope",
    metavar="TYPE,…|source=CODE",
    help="Of a snapshot: what it lists completely, entities of some types, or those that a source names.",
)
@click.option("--at", metavar="INSTANT", help="Of a snapshot: when it is true; default: when the file was first seen.")
def ingest(
    files: Sequence[Path | CloudPath],
    *,
    dry_run: bool,
    strict: bool,
    profile_name: str | None,
    as_json: bool,
    mode: str,
    scope: str | None,
    at: str | None,
) -> None:
    """Take in drops: files of changes.

    A file is CSV, also packed with gzip or Zstandard, or JSON lines, Parquet or Excel; s3://bucket/file and
    gs://bucket/file are read from there (with the extra s3). The files are taken in one
    after the other, each in one transaction. Bad rows are set aside with their reasons, and the good rows are still
    recorded; `crm rejects` writes the bad rows as a file to correct. A refused file does not stop the others.

    \b
    accepted    good rows: changed + unchanged
    changed     rows that changed what is known
    unchanged   rows that say what was known already, or that another row
                about the same instant replaces (superseded)
    late        rows about an earlier time than the newest one known of their
                entity; they change its past
    +versions   versions of entities and details that were added
    merged      the file was taken in
    replayed    the file was taken in before, so nothing changed
    held        a snapshot would end so much that it waits for crm approve;
                nothing changed

    A snapshot (--mode snapshot --scope PERSON, or --scope source=erp) says in addition that there are no others: every
    entity of the scope that has no row in the file ends at its instant. If more than CRM_SNAPSHOT_LIMIT (5 percent) of
    them would end, or the file has no rows, it is held.

    The exit status is 0 if every file was merged or replayed, and 1 if one was refused, held or declined. To treat bad
    rows as a failure, add --strict.
    """
    from crm_core.drops.ingest import Options
    from crm_core.postgres.connection import open_migrated

    failed = without_types = False
    settings = Settings.from_environment()
    profile = profile_of(settings, profile_name) if profile_name else None
    snapshot = _snapshot(mode, scope, at, settings)
    with open_migrated(settings) as database:
        options = Options(
            actor(settings.actor),
            settings.time_zone,
            dry_run=dry_run,
            strict=strict,
            profile=profile,
            snapshot=snapshot,
            snapshot_limit=settings.snapshot_limit,
        )
        if not as_json:
            click.secho(f"{HEADING}{' (dry run: nothing is changed)' if dry_run else ''}", bold=True)
        for path in files:
            with drop_progress(path) as progress, _as_usage(snapshot):
                report = _taken_in(database, path, options, progress, settings.home)
            failed = failed or report.error is not None
            if as_json:
                click.echo(json_line(report.as_json()))
            else:
                show_report(report)
            for note in report.notes:
                say_warning(f"{report.file}: {note}")
            without_types = without_types or (report.rows_rejected > 0 and not _knows_types(database))
    if without_types:
        click.echo(f"The types that ship are not loaded: {how_to_load_types()}.", err=True)
    if failed:
        sys.exit(1)


@click.command(epilog="Example: crm rejects dirty.csv > to_correct.csv")
@click.argument("drop")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV to a terminal too; a file or a pipe always gets CSV.")
def rejects(drop: str, *, as_csv: bool) -> None:
    """Write the rejected rows of a drop.

    DROP is the file, its name, or the first six or more digits of its SHA-256. The rows are written as CSV with two
    columns in front: reject_line and reject_reasons. Correct the rows in that file and ingest it; the two columns may
    stay. On a terminal the rows are shown as a table. Take care with a spreadsheet: a field that begins with =, +, - or
    @ may be run as a formula there.
    """
    from crm_core.drops import registry
    from crm_core.postgres.connection import open_migrated

    with open_migrated(Settings.from_environment()) as database, database.connect(autocommit=True) as connection:
        sha256 = only_drop(connection, drop)
        number = registry.count_rejects(connection, sha256)
        if not number:
            click.echo("no row of this drop was rejected", err=True)
        elif as_csv or not sys.stdout.isatty():
            for block in registry.rejects_file(connection, sha256):
                click.echo(block, nl=False)  # bytes as they are
        else:
            click.secho(REJECT_HEADING, bold=True)
            for line in reject_lines(registry.rejects(connection, sha256, limit=REJECTS_SHOWN)):
                click.echo(line)
            if number > REJECTS_SHOWN:
                click.echo(f"{_more(number - REJECTS_SHOWN)}; --csv writes all of them")


@click.command(epilog="Example: crm report, or crm report data/sample_ingest.csv")
@click.argument("drops", metavar="[DROP]…", nargs=-1)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; default: crm-report.html."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, to standard output unless --output is given.")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 1_000), help="How many drops to include.")
@click.option("--show-values", is_flag=True, help="Show rejected rows as they are instead of masking their values.")
def report(drops: Sequence[str], *, output: Path | None, as_json: bool, last: int, show_values: bool) -> None:
    """Write the data-quality report.

    The report is one HTML file that opens offline. It covers the last drops, or each DROP that you name: a file, the
    name of a drop that was received, or the first six or more digits of its SHA-256.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.report import numbers as report_module
    from crm_core.report.page import as_html, write_whole

    with open_migrated(Settings.from_environment()) as database, database.connect(autocommit=True) as connection:
        named = [sha256 for name in drops for sha256 in report_module.find_drops(connection, name)]
        now = datetime.now(UTC)
        found = report_module.collect(connection, now=now, last=last, sha256s=named or None, show_values=show_values)
    if as_json and output is None:
        click.echo(report_module.as_json(found))
        return
    output = output or Path("crm-report.html")
    try:
        write_whole(output, report_module.as_json(found) if as_json else as_html(found))
    except OSError as error:
        raise click.FileError(one_line(output), error.strerror) from None
    click.echo(f"The report on {len(found.drops)} drop(s) is in {one_line(output)}")


def _taken_in(
    database: Database, path: Path | CloudPath, options: Options, progress: Progress, home: Path
) -> MergeReport:
    """Take in a file of this machine, or one in the cloud; a refusal is returned too."""
    from crm_core.drops.ingest import ingest as ingest_file
    from crm_core.errors import DropUnreadable
    from crm_core.formats.cloud import copied

    if isinstance(path, Path):
        return ingest_file(database, path, options, progress)
    try:
        with copied(path, home, on_bytes=partial(progress, "downloading")) as copy:
            report = ingest_file(database, copy, replace(options, shown_as=path.name), progress)
    except DropUnreadable as error:
        return MergeReport(file=str(path), sha256=None, status="refused", error=str(error))
    return replace(report, file=str(path))


def _snapshot(mode: str, scope: str | None, at: str | None, settings: Settings) -> SnapshotOptions | None:
    """Return the options of a snapshot; raise UsageError for options that do not go together."""
    from crm_core.drops.snapshots import SnapshotOptions
    from crm_core.values.instants import parse_instant

    if mode == "delta":
        if scope is not None or at is not None:
            message = "--scope and --at are of a snapshot; add --mode snapshot, or leave them out"
            raise click.UsageError(message)
        return None
    if scope is None:
        message = "a snapshot needs --scope: what the file lists completely, such as PERSON, or source=erp"
        raise click.UsageError(message)
    try:
        instant = None if at is None else parse_instant(at, settings.time_zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    return SnapshotOptions(scope, instant)


@contextmanager
def _as_usage(snapshot: SnapshotOptions | None) -> Iterator[None]:
    """Raise UsageError for options of a snapshot that the database does not know, such as a scope of no type."""
    from crm_core.errors import SnapshotRefused

    try:
        yield
    except SnapshotRefused as refusal:
        if snapshot is None:  # it is the profile's
            raise
        raise click.UsageError(str(refusal)) from None


def show_report(report: MergeReport) -> None:
    """Print what a drop did, or why nothing."""
    if report.error is not None:
        say_error(report.error if report.status == "refused" else f"{report.file}: {report.error}")
    else:
        click.echo(one_line(report.file))
        click.echo(counts(report))
    if report.unlisted is not None:
        ends = "would end" if report.dry_run or report.status == "held" else "ended"
        number = report.unlisted.would_end if report.dry_run or report.status == "held" else report.entities_ended
        click.echo(f"entities that it does not list, and that {ends}: {number:,} of {report.unlisted.in_scope:,}")
        for each in report.unlisted.first if number else ():
            click.echo(f"  {each.entity_uid}  {one_line(each.display_name)}")
    for line in (REJECT_HEADING, *reject_lines(report.rejects)) if report.rejects else ():
        click.echo(line)
    if len(report.rejects) < report.rows_rejected:
        click.echo(_more(report.rows_rejected - len(report.rejects)))
    for difference in report.differences:
        click.echo(difference_line(difference))
    if report.rows_rejected and report.error is None and not report.dry_run and report.sha256:
        command = f"{this_command()} rejects {report.sha256[:12]} > rejects.csv"
        click.echo(f"To get the rejected rows as a file to correct and ingest: {command}", err=True)


def _more(number: int) -> str:
    return f"{'…':>8}  {number:,} more rejected rows"


def _knows_types(database: Database) -> bool:
    from crm_core.reference import reference_types

    with database.connect() as connection:
        return bool(reference_types(connection).entity_types)


def only_drop(connection: Connection, name: str, *, prefer: Sequence[str] = ()) -> str:
    """Return the SHA-256 of the one drop that a file, its name or digits mean; raise UnknownDrop, BadParameter.

    Of several, it is the one with a status of `prefer`; an earlier status goes before a later one.
    """
    from crm_core.report.numbers import find_drops

    found = find_drops(connection, name, prefer=prefer)
    if len(found) > 1:
        digits = ", ".join(sha256[:12] for sha256 in found)
        message = f"{len(found)} drops are named {name!r}; name one by its SHA-256: {digits}"
        raise click.BadParameter(message, param_hint="DROP")
    return found[0]
