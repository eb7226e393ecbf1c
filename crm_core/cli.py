"""`crm`, the command line: a command reads the settings, does one thing, and says what came of it.

A command imports what it needs when it runs, so that `crm --help` is quick.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from crm_core.access_commands import createsuperuser, token
from crm_core.console import json_line, mark, one_line, say_error
from crm_core.database_commands import exec_, loaddata, migrate, types
from crm_core.drop_commands import ingest, rejects, report
from crm_core.errors import CrmError, SettingsError
from crm_core.measure_commands import bench, explain
from crm_core.settings import Settings

if TYPE_CHECKING:
    from crm_core.database import Database

INTERRUPTED = 130  # the exit status that shells give to a command that Ctrl-C ended
TERMINATED = 143  # and to one that SIGTERM ended


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: everything is rolled back and closed, as on Ctrl-C; the embedded server too."""


class Commands(click.Group):
    """The commands in the order in which they are added; an expected error is one line, unless CRM_DEBUG is set."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands in the order in which a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an expected error ends it with 1, Ctrl-C with 130 and SIGTERM with 143."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = _ours(error)
            if ours is None or _debug():
                raise
            say_error(ours)
            ctx.exit(1)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted: what was under way has been rolled back", err=True)
            ctx.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="crm-core", message="crm %(version)s")
def crm() -> None:
    """Keep a CRM in PostgreSQL with the full history of every entity and detail.

    Begin with `crm demo`. The database is an embedded PostgreSQL whose data are in CRM_HOME (.crm), unless
    CRM_DATABASE_URL or POSTGRES_HOST and its siblings name a server, in the environment or in .env.
    """


@crm.command(epilog="Example: crm demo --no-serve")
@click.option("--no-serve", is_flag=True, help="Stop after printing the outcome; serve nothing.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port of the API; default: the first free one from 8000."
)
def demo(port: int | None, *, no_serve: bool) -> None:
    """Show everything at once, on sample data.

    The demo creates the schema, loads the fixtures, runs the Dagster job over the sample drops, prints what happened,
    and serves the API until Ctrl-C. Running it again changes nothing.
    """
    from crm_core.demo import run_demo, serve_demo

    settings = Settings.from_environment()
    if not (run_demo(settings) if no_serve else run_demo(settings, partial(serve_demo, settings, port))):
        sys.exit(1)


@crm.command(epilog="Example: crm up, then copy a CSV file into .crm/drops")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve the API on.")
@click.option(
    "--dagster-host",
    default="127.0.0.1",
    show_default=True,
    help="The address to serve Dagster's UI on; it has no login, so whoever reaches it can run the jobs.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port of Dagster's UI; default: the first free one from 3000."
)
@click.option(
    "--api-port", type=click.IntRange(1, 65535), help="The port of the API; default: the first free one from 8000."
)
@click.option(
    "--browser/--no-browser", default=None, help="Open the UI in a browser; default: only if started from a terminal."
)
@click.option("--prepare", is_flag=True, help="Get the database ready, but start nothing.")
def up(
    host: str, dagster_host: str, port: int | None, api_port: int | None, *, browser: bool | None, prepare: bool
) -> None:
    """Start everything for daily use.

    This starts PostgreSQL, the API, Dagster's UI and Dagster's daemon, which takes in each file that you put into the
    drop folder. Ctrl-C stops them all. If one of the processes dies, the others are stopped, the end of its log is
    shown, and the exit status is 1.
    """
    from crm_core.errors import ServiceFailed
    from crm_core.up import prepare as get_ready
    from crm_core.up import run_up

    settings = Settings.from_environment()
    try:
        if prepare:
            get_ready(settings)
        else:
            is_wanted = sys.stdout.isatty() if browser is None else browser
            run_up(settings, host, port, api_port, dagster_host=dagster_host, browser=is_wanted)
    except ServiceFailed as failure:
        for line in failure.last_lines:
            click.echo(f"  {one_line(line)}", err=True)
        raise


@crm.command(epilog="Example: crm serve, then open http://127.0.0.1:8000/docs")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to serve on; 0: any free one.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="How many processes.")
@click.option("--fd", type=int, hidden=True, help="The number of a socket that listens there already: of `crm up`.")
def serve(host: str, port: int, workers: int, fd: int | None) -> None:
    """Serve the API alone.

    On 127.0.0.1 the API is open to everybody on this machine until you create a token. On any other address you have to
    create one first, with `crm token create`. One line of JSON is logged for each request. Ctrl-C stops the API.
    """
    from crm_core.serve import run_api

    with _database() as (settings, database):
        run_api(
            settings,
            database,
            host,
            port,
            workers=workers,
            listening=None if fd is None else socket.socket(fileno=fd),
            tell=lambda address: click.echo(f"The API is at {address}/docs"),
        )


crm.add_command(migrate)
crm.add_command(loaddata)
crm.add_command(types)
crm.add_command(createsuperuser)


crm.add_command(ingest)
crm.add_command(rejects)
crm.add_command(token)


@crm.command(epilog="Example: crm check")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each invariant.")
def check(*, as_json: bool) -> None:
    """Check that all data are consistent.

    Every invariant is recomputed from the tables, over all data. The exit status is 1 if one of them does not hold.
    """
    from crm_core.quality import check as recompute

    breached = False
    with _database(even_incomplete=True) as (_, database), database.connect(autocommit=True) as connection:
        for found in recompute(connection):
            breached = breached or not found.holds
            if as_json:
                click.echo(json_line({**asdict(found), "holds": found.holds}))
                continue
            click.echo(f"{mark(ok=found.holds)} {found.invariant}")
            for example in found.examples:
                click.echo(f"    {one_line(example)}")
            if found.breaches > len(found.examples):
                click.echo(f"    … {found.breaches:,} breaches in all")
    if breached:
        sys.exit(1)


crm.add_command(report)
crm.add_command(exec_)
crm.add_command(explain)
crm.add_command(bench)


def main() -> None:
    """Run the command line; characters that the terminal cannot show are replaced."""
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
    """Return False for the note that a lost connection could not be rolled back: the server does that by itself."""
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


def _ours(error: Exception) -> CrmError | None:
    """Return the expected error that this is, or that stands for what the database said; None for any other."""
    if isinstance(error, CrmError):
        return error
    if "psycopg" not in sys.modules:  # nobody has talked to a database
        return None
    from crm_core.database import domain_error

    return domain_error(error)


def _debug() -> bool:
    try:
        return Settings.from_environment().debug
    except SettingsError:
        return False
