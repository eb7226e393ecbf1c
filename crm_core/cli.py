"""`crm`, the command line: a command reads the settings, does one thing, and says what came of it.

What a command needs is imported inside it: `crm --help` answers at once.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.access_commands import createsuperuser, token
from crm_core.errors import CrmError, SettingsError
from crm_core.measure_commands import bench, explain
from crm_core.settings import Settings

if TYPE_CHECKING:
    from crm_core.database import Database
    from crm_core.model import MergeReport

INTERRUPTED = 130  # what a shell answers for a command that Ctrl-C ended
TERMINATED = 143  # and for one that SIGTERM ended

FILES = click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: what Ctrl-C undoes and closes is undone and closed, the embedded server too."""


class Commands(click.Group):
    """The commands in the order of their writing; an error of ours is one line, unless CRM_DEBUG asks for more."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Answer the names of the commands as a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = _ours(error)
            if ours is None or _debug():
                raise
            _say_error(ours)
            ctx.exit(1)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted: what was under way has been rolled back", err=True)
            ctx.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="crm-core", message="crm %(version)s")
def crm() -> None:
    """Keep a CRM whose every entity and detail is versioned in time, in PostgreSQL.

    With neither CRM_DATABASE_URL nor POSTGRES_* in the environment or in .env, an embedded PostgreSQL keeps its data in
    CRM_HOME (.crm). Begin with `crm demo`.
    """


@crm.command(epilog="Example: crm demo --no-serve")
@click.option("--no-serve", is_flag=True, help="Stop after the outcome, before anything is served.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port of the API; if none, a free one from 8000.")
def demo(port: int | None, *, no_serve: bool) -> None:
    """Show it all at once on sample data.

    Migrate, load the fixtures, run the Dagster job over the sample drops, tell what happened, and serve the API over
    it until Ctrl-C. To run it again changes nothing.
    """
    from crm_core.demo import run_demo, serve_demo

    settings = Settings.from_environment()
    if not (run_demo(settings) if no_serve else run_demo(settings, partial(serve_demo, settings, port))):
        sys.exit(1)


@crm.command(epilog="Example: crm up, then copy a CSV file into .crm/drops")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port of Dagster's UI; if none, a free one from 3000.")
@click.option("--api-port", type=click.IntRange(1, 65535), help="The port of the API; if none, a free one from 8000.")
@click.option("--browser/--no-browser", default=None, help="Open the UI; on a desktop that is what happens.")
@click.option("--prepare", is_flag=True, help="Get the database ready, and start nothing.")
def up(host: str, port: int | None, api_port: int | None, *, browser: bool | None, prepare: bool) -> None:
    """Start everything for daily use.

    PostgreSQL, the API, Dagster's UI and its daemon, which takes in what you put into the drop folder. Ctrl-C stops it
    all. Of a process that dies the end of its log is shown; the exit status is 1 then.
    """
    from crm_core.console import one_line
    from crm_core.errors import ServiceFailed
    from crm_core.up import prepare as get_ready
    from crm_core.up import run_up

    settings = Settings.from_environment()
    try:
        if prepare:
            get_ready(settings)
        else:
            run_up(settings, host, port, api_port, browser=sys.stdout.isatty() if browser is None else browser)
    except ServiceFailed as failure:
        for line in failure.last_lines:
            click.echo(f"  {one_line(line)}", err=True)
        raise


@crm.command(epilog="Example: crm serve, then open http://127.0.0.1:8000/docs")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="How many processes.")
def serve(host: str, port: int, workers: int) -> None:
    """Serve the API alone.

    On this machine's own address it is open while there is no token; on any other one has to be made first, with
    `crm token create`. Ctrl-C stops it; a line of JSON is logged for each request.
    """
    from crm_core.serve import run_api

    with _database() as (settings, database):
        run_api(
            settings,
            database,
            host,
            port,
            workers=workers,
            tell=lambda address: click.echo(f"The API is at {address}/docs"),
        )


@crm.command(
    epilog="Example: crm migrate, or crm migrate 0004 to go there, crm migrate -1 to go back a step",
    context_settings={"ignore_unknown_options": True},  # -1 is none
)
@click.argument("revision", default="head")
def migrate(revision: str) -> None:
    """Bring the schema to a revision.

    REVISION is where to go, up or down, the newest if none is given: a number of sql/ddl, head, base (before the
    first: all data are dropped), or a number of steps with its sign.
    """
    if not re.fullmatch(r"head|base|\d{1,4}|[+-]\d+", revision):
        message = f"{revision!r} is none: give head, base, a number such as 0004, or steps such as -1"
        raise click.BadParameter(message, param_hint="REVISION")
    from crm_core.database import open_database
    from crm_core.migrations import current_revision
    from crm_core.migrations import migrate as bring_to

    with open_database(Settings.from_environment()) as database:
        steps = bring_to(database, revision.zfill(4) if revision.isdigit() else revision)
        with database.connect() as connection:
            current = current_revision(connection)
    for step in steps:
        click.echo(step)
    click.echo(f"The schema is at revision {current}." if current else "The schema is gone.")


@crm.command(epilog="Example: crm loaddata data/fixtures/*.json")
@FILES
def loaddata(files: Sequence[Path]) -> None:
    """Load fixtures in Django's format.

    All of the files go in, or none. To load them again changes nothing.
    """
    from crm_core.fixtures import read_fixtures
    from crm_core.loaddata import load_fixtures

    with _database() as (settings, database):
        fixtures = read_fixtures(files, settings.time_zone)
        with database.transaction() as connection:
            load_fixtures(connection, fixtures)
    click.echo(f"Installed {fixtures.objects} object(s) from {len(files)} fixture(s)")


crm.add_command(createsuperuser)


@crm.command(epilog="Example: crm ingest data/sample_ingest.csv")
@FILES
@click.option("--dry-run", is_flag=True, help="Say what would happen; nothing goes in.")
@click.option("--strict", is_flag=True, help="Let nothing of a file in if one of its rows is bad.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each file.")
def ingest(files: Sequence[Path], *, dry_run: bool, strict: bool, as_json: bool) -> None:
    """Take drops in: CSV files.

    They go in as they are given, one transaction each; bad rows are kept apart, with the reasons. A refused file does
    not keep the others out. The exit status is 0 when every file was merged or replayed, 1 when one was refused.
    """
    from crm_core.console import HEADING, bytes_progress
    from crm_core.ingest import Options
    from crm_core.ingest import ingest as take_in

    refused = False
    with _database() as (settings, database):
        options = Options(time_zone=settings.time_zone, dry_run=dry_run, strict=strict)
        if not as_json:
            click.secho(f"{HEADING}{' (dry run: nothing goes in)' if dry_run else ''}", bold=True)
        for path in files:
            with bytes_progress(path) as progress:
                report = take_in(database, path, options, progress)
            refused = refused or report.status == "refused"
            if as_json:
                click.echo(json.dumps(report.as_json(), ensure_ascii=False))
            else:
                _show(report)
    if refused:
        sys.exit(1)


crm.add_command(token)


@crm.command(epilog="Example: crm check")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each invariant.")
def check(*, as_json: bool) -> None:
    """Recompute every invariant.

    They are recomputed from the tables, all data of them. The exit status is 1 on any breach.
    """
    from crm_core.console import mark
    from crm_core.quality import check as recompute

    breached = False
    with _database(even_incomplete=True) as (_, database), database.connect(autocommit=True) as connection:
        for found in recompute(connection):
            breached = breached or not found.holds
            if as_json:
                click.echo(json.dumps({**asdict(found), "holds": found.holds}, ensure_ascii=False))
                continue
            click.echo(f"{mark(ok=found.holds)} {found.invariant}")
            for example in found.examples:
                click.echo(f"    {example}")
            if found.breaches > len(found.examples):
                click.echo(f"    … {found.breaches:,} breaches in all")
    if breached:
        sys.exit(1)


@crm.command(epilog="Example: crm report, or crm report data/sample_ingest.csv")
@click.argument("drops", metavar="[DROP]…", nargs=-1)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write: crm-report.html.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, to standard output unless --output is given.")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 1_000), help="How many drops to tell of.")
@click.option("--show-values", is_flag=True, help="Show rejected rows as they stand, and not masked.")
def report(drops: Sequence[str], *, output: Path | None, as_json: bool, last: int, show_values: bool) -> None:
    """Write the data-quality report.

    It is one HTML file that opens offline. It tells of the last drops, or of each DROP given: a file, the name of one
    that was taken in, or the first six or more digits of its SHA-256.
    """
    from crm_core import report as of
    from crm_core.report_page import as_html

    with _database() as (_, database), database.connect(autocommit=True) as connection:
        named = [sha256 for name in drops for sha256 in of.find_drops(connection, name)]
        now = datetime.now(UTC)
        found = of.collect(connection, now=now, last=last, sha256s=named or None, show_values=show_values)
    if as_json and output is None:
        click.echo(of.as_json(found))
        return
    output = output or Path("crm-report.html")
    try:
        output.write_text(of.as_json(found) if as_json else as_html(found), encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror) from None
    click.echo(f"The report on {len(found.drops)} drop(s) is in {output}")


crm.add_command(explain)
crm.add_command(bench)


def main() -> None:
    """Run the command line; a character that the terminal cannot show does not end it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.umask(os.umask(0o077) | 0o077)  # what is written holds personal data: it is for its user alone
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, _terminate)
    logging.getLogger("psycopg").addFilter(_matters)
    crm()


def _matters(record: logging.LogRecord) -> bool:
    """Leave out that a connection which is given up could not be rolled back: the server does so by itself."""
    return _debug() or not record.getMessage().startswith("error ignored")


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


@contextmanager
def _database(*, even_incomplete: bool = False) -> Iterator[tuple[Settings, Database]]:
    """Open the database of the settings, and make sure that it is migrated and, unless said otherwise, whole."""
    from crm_core.database import open_migrated

    settings = Settings.from_environment()
    with open_migrated(settings, even_incomplete=even_incomplete) as database:
        yield settings, database


def _show(report: MergeReport) -> None:
    from crm_core.console import REJECT_HEADING, counts, reject_lines

    if report.error is not None:
        _say_error(report.error)
    else:
        click.echo(report.file)
        click.echo(counts(report))
    for line in (REJECT_HEADING, *reject_lines(report.rejects)) if report.rejects else ():
        click.echo(line)
    if len(report.rejects) < report.rows_rejected:
        click.echo(f"{'…':>8}  {report.rows_rejected - len(report.rejects):,} more rejected rows")


def _ours(error: Exception) -> CrmError | None:
    """Answer an error of ours, or the one that stands for what the database said in mid-command."""
    if isinstance(error, CrmError):
        return error
    if "psycopg" not in sys.modules:  # nobody has talked to a database
        return None
    from crm_core.database import domain_error

    return domain_error(error)


def _say_error(error: object) -> None:
    from crm_core.console import one_line

    click.echo(f"error: {one_line(str(error))}", err=True)


def _debug() -> bool:
    try:
        return Settings.from_environment().debug
    except SettingsError:
        return False
