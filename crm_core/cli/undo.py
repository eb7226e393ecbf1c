"""`crm undo`: undo a drop or a request or, with --reinstate, take the undo back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crm_core.cli.console import actor, difference_line
from crm_core.cli.drops import only_drop
from crm_core.settings import Settings
from crm_core.values.text import json_line

if TYPE_CHECKING:
    from crm_core.timeline.undo import Kind, Retraction


@click.command(epilog="Example: crm undo prices.csv --dry-run --reason 'prices of another year'")
@click.argument("drop", required=False)
@click.option("--batch", type=click.IntRange(min=1), help="Undo this batch of a request instead of a drop.")
@click.option("--reason", required=True, help="Why; it is recorded and shown in the audit.")
@click.option("--reinstate", is_flag=True, help="Take the last undo back: what the drop said counts again.")
@click.option("--dry-run", is_flag=True, help="Show what would change; nothing is changed.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON.")
def undo(drop: str | None, *, batch: int | None, reason: str, reinstate: bool, dry_run: bool, as_json: bool) -> None:
    """Undo a drop, however long ago it was merged.

    DROP is the file, its name, or the first six or more digits of its SHA-256; of several drops of one name it is the
    one that is merged, or with --reinstate undone. Afterwards everything is as if the drop
    had not come, whatever came before or after it: what it changed, created and deleted is taken back. What other drops
    said too stays. The ledger keeps what the drop said, and who undid it, when and why; a read with a known_at before
    the undo answers as it did. The same file can be ingested again, or the undo taken back with --reinstate.
    """
    from crm_core.drops.undo import undo_batch, undo_drop
    from crm_core.postgres.connection import open_migrated
    from crm_core.timeline.undo import Who

    if (drop is None) == (batch is None):
        message = "name a drop, or a batch with --batch"
        raise click.UsageError(message)
    if not reason.strip():
        message = "is blank; say why"
        raise click.BadParameter(message, param_hint="--reason")
    settings = Settings.from_environment()
    kind: Kind = "reinstate" if reinstate else "undo"
    who = Who(actor(settings.actor), reason.strip())
    with open_migrated(settings) as database, database.connect(autocommit=True) as connection:
        if batch is not None:
            done = undo_batch(connection, batch, kind, who, dry_run=dry_run)
        else:
            assert drop is not None
            sha256 = only_drop(connection, drop, prefer=("undone" if reinstate else "merged",))
            done = undo_drop(connection, sha256, kind, who, dry_run=dry_run)
    if as_json:
        click.echo(json_line(done.as_json() | {"dry_run": dry_run}))
        return
    _show(done, dry_run=dry_run)


def _show(done: Retraction, *, dry_run: bool) -> None:
    what = {"undo": "undone", "reinstate": "reinstated"}[done.kind]
    click.echo(f"{'A dry run, nothing is changed: ' if dry_run else ''}changes {what}: {done.changes:,}")
    if done.repeats:
        click.echo(f"repeats of other drops that stand in their place: {done.repeats:,}")
    click.echo(
        f"entities that differ: {done.entities:,}; versions: +{done.entity_versions_added:,}"
        f" -{done.entity_versions_removed:,}; versions of details: +{done.detail_versions_added:,}"
        f" -{done.detail_versions_removed:,}"
    )
    for difference in done.differences:
        click.echo(difference_line(difference))
