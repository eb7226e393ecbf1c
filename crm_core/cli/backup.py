"""`crm backup` and `crm restore`: the whole database as one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import drop_progress, mark, say_warning, shown_path
from crm_core.settings import Settings
from crm_core.utc import utc_text
from crm_core.values.text import one_line

if TYPE_CHECKING:
    from crm_core.backup.archive import Manifest


@click.command(epilog="Example: crm backup crm-monday.backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def backup(file: Path, *, force: bool) -> None:
    """Back the whole database up into one file.

    It holds everything that was recorded up to one moment, and nothing of later, while others go on reading and
    writing. FILE appears when it is complete. It holds personal data, tokens (hashed) and accounts, but nobody's
    session; Dagster's history of runs and the files of drops are not in it.
    """
    from crm_core.backup.taking import back_up
    from crm_core.postgres.connection import open_database

    with (
        open_database(Settings.from_environment()) as database,
        drop_progress(file) as progress,
    ):
        manifest = back_up(database, file, is_replaced=force, progress=progress)
    click.echo(f"{shown_path(file.absolute())}: {_described(manifest)}")


@click.command(epilog="Example: CRM_HOME=.crm-restored crm restore crm-monday.backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Only check the file: is it whole, and can it be restored?")
def restore(file: Path, *, only_check: bool) -> None:
    """Restore a backup into an empty database, and check it.

    The database is that of the settings; the embedded one is created. A backup of an earlier release is brought up to
    date. All of that is one transaction: if it fails or is killed, the database is empty as before. The exit status is
    1 if an invariant does not hold afterwards; the data are there then, as they were in the backup.
    """
    from crm_core.backup.restoring import inspect
    from crm_core.backup.restoring import restore as restore_into
    from crm_core.postgres.connection import open_database

    if only_check:
        with drop_progress(file) as progress:
            manifest = inspect(file, progress)
        click.echo(f"{shown_path(file.absolute())} is whole: {_described(manifest)}")
        return
    with (
        open_database(Settings.from_environment()) as database,
        drop_progress(file) as progress,
    ):
        restored = restore_into(database, file, progress)
    click.echo(f"Restored {shown_path(file.absolute())}: {_described(restored.manifest)}")
    for step in restored.steps:
        click.echo(step)
    broken = [found for found in restored.checks if not found.holds]
    if not broken:
        click.echo(f"{mark(ok=True)} All {len(restored.checks)} invariants hold, as `crm check` says.")
    for found in broken:
        click.echo(f"{mark(ok=False)} {found.invariant}")
        for example in found.examples:
            click.echo(f"    {one_line(example)}")
    say_warning(
        "accounts and tokens are as they were then: deactivate or revoke again what was since (`crm token list`); "
        "everybody signs in again"
    )
    if broken:
        sys.exit(1)


def _described(manifest: Manifest) -> str:
    from rich.filesize import decimal

    rows = sum(manifest.rows.values())
    return (
        f"everything recorded up to {utc_text(manifest.taken_at)}, {rows:,} rows in {len(manifest.rows)} tables, "
        f"revision {manifest.revision}, {decimal(manifest.size)}"
    )
