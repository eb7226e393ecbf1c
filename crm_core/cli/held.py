"""`crm approve`: let a held snapshot in, or decline it."""

from __future__ import annotations

import sys

import click

from crm_core.cli.console import HEADING, actor
from crm_core.cli.drops import only_drop, show_report
from crm_core.settings import Settings
from crm_core.values.text import json_line


@click.command(epilog="Example: crm approve customers.csv --reason 'the old branch was closed'")
@click.argument("drop")
@click.option("--decline", is_flag=True, help="Keep it out, also when it is sent again.")
@click.option("--reason", help="Why; it is recorded. To decline, it is needed.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON.")
def approve(drop: str, *, decline: bool, reason: str | None, as_json: bool) -> None:
    """Let a held snapshot in, whatever it ends.

    DROP is the file, its name, or the first six or more digits of its SHA-256; of several drops of one name it is the
    one that waits. A snapshot is held if it would end more
    than CRM_SNAPSHOT_LIMIT of its scope, or has no rows; its bytes are kept, so the file is not needed here. A drop
    that was declined can still be approved.
    """
    from crm_core.drops import held
    from crm_core.postgres.connection import open_migrated
    from crm_core.timeline.undo import Who

    if decline and not (reason or "").strip():
        message = "say why it is declined"
        raise click.BadParameter(message, param_hint="--reason")
    settings = Settings.from_environment()
    who = Who(actor(settings.actor), (reason or "").strip())
    with open_migrated(settings) as database, database.connect(autocommit=True) as connection:
        sha256 = only_drop(connection, drop, prefer=("held",) if decline else ("held", "declined"))
        if decline:
            held.decline(connection, sha256, who)
            if as_json:
                click.echo(json_line({"sha256": sha256, "status": "declined"}))
            else:
                click.echo(f"declined: {sha256[:12]} stays out, also when it is sent again")
            return
        report = held.approve(connection, sha256, who, time_zone=settings.time_zone)
    if as_json:
        click.echo(json_line(report.as_json()))
    else:
        click.secho(HEADING, bold=True)
        show_report(report)
    if report.error is not None:
        sys.exit(1)
