"""`crm`, the command line: a command reads the settings, does one thing, and prints the result.

A command imports what it needs when it runs, so that `crm --help` is quick.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys

import click

from crm_core.cli.access import createsuperuser, token
from crm_core.cli.backup import backup, restore
from crm_core.cli.console import say_error
from crm_core.cli.database import exec_, loaddata, migrate, types
from crm_core.cli.distribute import distribute
from crm_core.cli.drops import ingest, rejects, report
from crm_core.cli.held import approve
from crm_core.cli.housekeeping import clean
from crm_core.cli.measure import bench, check, explain
from crm_core.cli.profile import profile
from crm_core.cli.server import demo, serve, up
from crm_core.cli.undo import undo
from crm_core.errors import CrmError, SettingsError
from crm_core.settings import Settings

INTERRUPTED = 130  # the exit status that shells give to a command that Ctrl-C ended
TERMINATED = 143  # and to one that SIGTERM ended


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: everything is rolled back and closed, as on Ctrl-C, the embedded server too."""


class Commands(click.Group):
    """The commands in the order in which they are added; an expected error is one line unless CRM_DEBUG is set."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands in the order in which a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an expected error exits with 1, Ctrl-C with 130 and SIGTERM with 143."""
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

    Begin with `crm demo`. The database is an embedded PostgreSQL whose data are in CRM_HOME (.crm). To use a server of
    your own, set CRM_DATABASE_URL, or POSTGRES_HOST and the other POSTGRES_ variables, in the environment or in .env.
    """


# In the order in which `crm --help` lists them.
for _command in (
    demo,
    up,
    serve,
    migrate,
    distribute,
    loaddata,
    types,
    createsuperuser,
    ingest,
    rejects,
    profile,
    approve,
    undo,
    token,
    check,
    backup,
    restore,
    clean,
    report,
    exec_,
    explain,
    bench,
):
    crm.add_command(_command)


def main() -> None:
    """Run the command line; characters that the terminal cannot show are replaced."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.umask(os.umask(0o077) | 0o077)  # files that are written hold personal data, so only their user may read them
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _terminate)
    for name in ("psycopg", "psycopg.transaction"):  # a filter of the first does not hold for the second
        logging.getLogger(name).addFilter(_matters)
    crm()


def _matters(record: logging.LogRecord) -> bool:
    """Return False for the message that a lost connection could not be rolled back: the server does that itself."""
    return _debug() or not record.getMessage().startswith("error ignored")


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


def _ours(error: Exception) -> CrmError | None:
    """Return the expected error that this is, or that the database's message means; None for any other."""
    if isinstance(error, CrmError):
        return error
    if "psycopg" not in sys.modules:  # no database was used
        return None
    from crm_core.postgres.sqlstates import domain_error

    return domain_error(error)


def _debug() -> bool:
    try:
        return Settings.from_environment().debug
    except SettingsError:
        return False
