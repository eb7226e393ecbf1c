"""`crm profile`: propose, show and try the profiles that say how the files of a source are read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import REJECT_HEADING, DropPath, reject_lines, say_warning, shown_path, table_lines
from crm_core.settings import Settings
from crm_core.utc import utc_text
from crm_core.values.text import one_line

if TYPE_CHECKING:
    from crm_core.model import CloudPath, ReferenceTypes
    from crm_core.profiles.profile import Profile
    from crm_core.rows.reader import Form
    from crm_core.rows.trial import Trial, TriedRow

WIDEST = 36  # characters of a cell that are shown


@click.group(epilog="Example: crm profile infer erp_2024-01-31.csv --write erp")
def profile() -> None:
    """Say how the files of a source are read.

    A profile describes files that are not in the standard form. It is a small file of TOML in the folder
    CRM_PROFILE_DIR (profiles). Take a file of the source, let `infer` propose a profile, correct it, and `check`
    it; then `crm ingest --profile NAME FILE` takes such files in, and so does Dagster from the folder drops/NAME.
    """


@profile.command("list", epilog="Example: crm profile list")
def list_profiles() -> None:
    """List the profiles."""
    from crm_core.errors import ProfileRefused
    from crm_core.profiles import store

    folder = Settings.from_environment().profile_dir
    rows = [("profile", "format", "description")]
    for name in store.names(folder):
        try:
            found = store.load(folder, name)
        except ProfileRefused as refusal:
            say_warning(refusal)
            continue
        rows.append((name, found.layout.kind or "any", one_line(found.description)))
    if len(rows) == 1:
        click.echo(
            f"there is no profile in {shown_path(folder)}; make one: crm profile infer FILE --write NAME", err=True
        )
        return
    for line in table_lines(rows):
        click.echo(line)


@profile.command(epilog="Example: crm profile show erp")
@click.argument("name")
def show(name: str) -> None:
    """Print a profile."""
    from crm_core.profiles import store

    click.echo(store.load(Settings.from_environment().profile_dir, name).text, nl=False)


@profile.command(epilog="Example: crm profile check erp erp_2024-01-31.csv")
@click.argument("name")
@click.argument("file", type=DropPath())
@click.option("--rows", default=10, show_default=True, type=click.IntRange(1, 1_000), help="How many rows to show.")
def check(name: str, file: Path | CloudPath, rows: int) -> None:
    """Show what the rows of a file become by a profile.

    Nothing is recorded. NAME is a profile, or the path of one; FILE may also be in the cloud, as s3://bucket/file. Each
    row is looked at by itself: what the database knows of its entity, and of its keys, is compared by
    `crm ingest --dry-run --profile NAME FILE`. The exit status is 1 if the file is refused or one of its rows is bad.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.reference import reference_types
    from crm_core.rows.trial import try_file

    settings = Settings.from_environment()
    chosen = profile_of(settings, name)
    with open_migrated(settings) as database, database.connect() as connection:
        types = reference_types(connection)
    with _on_this_machine(file, settings.home) as path:
        trial = try_file(path, _form(chosen, settings, types), types, datetime.now(UTC), shown=rows)
    _show(trial)
    if chosen.keys or {"entity_uid", "source_key"} <= chosen.columns.keys():
        dry_run = f"crm ingest --dry-run --profile {shlex.quote(name)} {shlex.quote(str(file))}"
        click.echo(f"Whether the database knows its keys for other entities is shown by: {one_line(dry_run)}", err=True)
    if trial.rows_rejected:
        sys.exit(1)


@profile.command(epilog="Example: crm profile infer erp_2024-01-31.csv --write erp")
@click.argument("file", type=DropPath())
@click.option("--write", "name", metavar="NAME", help="Save the proposal as the profile of this name.")
@click.option("--rows", default=5, show_default=True, type=click.IntRange(1, 1_000), help="How many rows to show.")
def infer(file: Path | CloudPath, name: str | None, rows: int) -> None:
    """Propose a profile for a file.

    FILE may also be in the cloud, as s3://bucket/file. It also shows what the first rows become by the proposal. The
    proposal goes to standard output and everything
    else to standard error, so that it can be redirected to a file.
    """
    from crm_core.errors import DropRefused, ProfileRefused
    from crm_core.postgres.connection import open_migrated
    from crm_core.profiles import store
    from crm_core.profiles.infer import infer as propose
    from crm_core.profiles.toml import read_profile
    from crm_core.reference import reference_types
    from crm_core.rows.trial import try_file

    settings = Settings.from_environment()
    with open_migrated(settings) as database, database.connect() as connection:
        types = reference_types(connection)
    codes = [kind.code for kind in types.detail_types if kind.is_active]
    source = name or source_of(file)
    with _on_this_machine(file, settings.home) as path:
        proposal = propose(path, source, codes, [known.code for known in types.sources if known.is_active])
        if name is not None:
            saved = store.save(settings.profile_dir, name, proposal.text)
            click.echo(f"The profile is in {shown_path(saved)}", err=True)
        else:
            click.echo(proposal.text, nl=False)
        for note in proposal.notes:
            say_warning(note)
        try:
            found = read_profile(source, proposal.text, "the proposal")
            form, now = _form(found, settings, types), datetime.now(UTC)
            _show(try_file(path, form, types, now, shown=rows, all_rows=False), is_first=True)
        except (DropRefused, ProfileRefused) as refusal:
            said = str(refusal).replace(str(path), str(file))
            say_warning(f"complete the proposal, then check it: {said}")


def profile_of(settings: Settings, name: str) -> Profile:
    """Return the profile of a name, or of a path that ends with .toml; raise UnknownProfile, ProfileRefused."""
    from crm_core.profiles import store

    if name.endswith(".toml"):
        path = Path(name)
        return store.load(path.parent, path.stem)
    return store.load(settings.profile_dir, name)


@contextmanager
def _on_this_machine(file: Path | CloudPath, home: Path) -> Iterator[Path]:
    """Yield the path of a file, or of a copy under its name if it is in the cloud; a refusal names the file itself."""
    from crm_core.errors import DropRefused
    from crm_core.formats.cloud import copied

    if isinstance(file, Path):
        yield file
        return
    with copied(file, home) as copy, TemporaryDirectory(dir=home) as folder:
        path = Path(folder) / file.name
        path.symlink_to(copy)
        try:
            yield path
        except DropRefused as refusal:
            raise type(refusal)(file.address, refusal.fault, refusal.line) from refusal


def source_of(file: Path | CloudPath) -> str:
    """Return a code for the system that a file comes from: the letters that its name begins with."""
    stem = Path(file.name).stem.lower()
    letters = "".join(char if char.isascii() and char.isalnum() else " " for char in stem).split()
    return letters[0] if letters and letters[0].isalpha() else "source"


def _form(chosen: Profile, settings: Settings, types: ReferenceTypes) -> Form:
    from crm_core.rows.reader import Form

    sources = [source.code for source in types.sources if source.is_active]
    return Form(profile=chosen, time_zone=settings.time_zone, sources=sources)


def _show(trial: Trial, *, is_first: bool = False) -> None:
    codes = sorted({code for row in trial.rows for code, _ in row.details})
    heading = ("line", "entity_uid", "op", "change_ts", "display_name", "entity_type", *codes)
    if trial.rows:
        click.echo("", err=is_first)
        for number, line in enumerate(table_lines([heading, *(_cells(row, codes) for row in trial.rows)])):
            click.secho(line, bold=number == 0, err=is_first)
    for line in (REJECT_HEADING, *reject_lines(trial.rejects)) if trial.rejects else ():
        click.echo(line, err=is_first)
    what = "the first rows" if is_first else "rows"
    click.echo(
        f"{what}: {trial.rows_read:,} read, {trial.rows_accepted:,} good, {trial.rows_rejected:,} bad", err=is_first
    )
    for reason, number in sorted(trial.reasons.items()):
        click.echo(f"  {reason}: {number:,}", err=is_first)


def _cells(row: TriedRow, codes: Sequence[str]) -> tuple[str, ...]:
    details = {code: "(ends)" if value is None else value for code, value in row.details}
    at = utc_text(row.change_ts, timespec="seconds")
    cells = (f"{row.line}", f"{row.entity_uid[:8]}…", row.op, at, row.display_name or "", row.entity_type or "")
    return (*cells, *(_short(details.get(code, "")) for code in codes))


def _short(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
