"""`crm demo`, `up` and `serve`: the commands that start something that keeps running."""

from __future__ import annotations

import socket
import sys
from functools import partial

import click

from crm_core.settings import Settings
from crm_core.values.text import one_line


@click.command(epilog="Example: crm demo --no-serve")
@click.option("--no-serve", is_flag=True, help="Stop after printing the outcome; serve nothing.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port of the API; default: the first free one from 8000."
)
def demo(port: int | None, *, no_serve: bool) -> None:
    """Show everything at once, on sample data.

    The demo creates the schema, loads the fixtures, runs the Dagster job over the sample drops, prints what happened,
    and serves the cockpit and the API until Ctrl-C. Running it again changes nothing.
    """
    from crm_core.cli.demo import run_demo, serve_demo

    settings = Settings.from_environment()
    if not (run_demo(settings) if no_serve else run_demo(settings, partial(serve_demo, settings, port))):
        sys.exit(1)


@click.command(epilog="Example: crm up, then copy a CSV file into .crm/drops")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve the API on.")
@click.option(
    "--dagster-host",
    default="127.0.0.1",
    show_default=True,
    help="The address to serve Dagster's UI on; it has no login, so everybody who can reach it can run the jobs.",
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

    This starts PostgreSQL, the API with the cockpit, Dagster's UI and Dagster's daemon, which takes in each file that
    you put into the drop folder. Ctrl-C stops them all. If one of the processes dies, the others are stopped, the end
    of its log is shown, and the exit status is 1.
    """
    from crm_core.errors import ServiceFailed
    from crm_core.server.up import prepare as get_ready
    from crm_core.server.up import run_up

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


@click.command(epilog="Example: crm serve, then open http://127.0.0.1:8000/docs")
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
    """Serve the API and the cockpit alone.

    On 127.0.0.1 both are open to everybody on this machine until you create a token or an account. On any other address
    you have to create one first, with `crm token create` or `crm createsuperuser`. One line of JSON is logged for each
    request. Ctrl-C stops the server.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.server.api import run_api

    settings = Settings.from_environment()
    with open_migrated(settings, is_kept=True) as database:
        run_api(
            settings,
            database,
            host,
            port,
            workers=workers,
            listening=None if fd is None else socket.socket(fileno=fd),
            on_start=lambda address: click.echo(f"The cockpit is at {address}/\nThe API is at {address}/docs"),
        )
