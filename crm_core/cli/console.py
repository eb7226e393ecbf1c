"""Output for a terminal of 80 columns: what a drop did, its rejected rows, and its progress.

Text from outside (names of files, rows, values) passes through `one_line` or `json_line` before it is shown, so that no
terminal takes a part of it for a command.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.model import CloudPath
from crm_core.values.text import one_line

if TYPE_CHECKING:
    from crm_core.drops.ingest import Progress
    from crm_core.model import Difference, MergeReport, Reject

HEADING = "status       read accepted rejected changed unchanged    late +versions seconds"
REJECT_HEADING = "    line  reason                 row"
ROW_BEGINS = 46  # characters of a rejected row that are shown
IN_BYTES = ("downloading", "reading", "dumping", "restoring")  # phases; the others count steps
ACTOR_LENGTH = 100  # characters of a name in the audit


class DropPath(click.ParamType["Path | CloudPath"]):
    """The path of a file of this machine, or an address in the cloud."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path | CloudPath:
        """Return the path; fail for an address without a bucket."""
        try:
            return CloudPath.parse(value) or Path(value)
        except ValueError:
            self.fail(
                f"{value!r} is not an address in the cloud; write s3://bucket/file or gs://bucket/file", param, ctx
            )

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return what a shell completes a path with."""
        return click.Path().shell_complete(ctx, param, incomplete)


def counts(report: MergeReport) -> str:
    """Return what a drop did, as a line to print under HEADING."""
    versions = report.entity_versions_added + report.detail_versions_added
    rows = f"{report.rows_read:>8} {report.rows_accepted:>8} {report.rows_rejected:>8}"
    changes = f"{report.rows_changed:>7} {report.rows_unchanged:>9} {report.rows_late:>7}"
    return f"{report.status:<8} {rows} {changes} {versions:>9} {report.seconds:>7.2f}"


def reject_lines(rejects: Iterable[Reject]) -> Iterator[str]:
    """Yield a line for each reason, to print under REJECT_HEADING; the first of a row shows how the row begins."""
    for reject in rejects:
        begins = one_line(reject.raw)
        begins = begins if len(begins) <= ROW_BEGINS else f"{begins[: ROW_BEGINS - 1]}…"
        for number, reason in enumerate(reject.reasons):
            yield f"{reject.line:>8}  {reason:<21}  {begins}" if number == 0 else f"{'':>8}  {reason}"


def difference_line(difference: Difference) -> str:
    """Return a change that a dry run would make: entity, instant, field, and values before and after."""
    values = " → ".join("none" if value is None else one_line(value) for value in (difference.before, difference.after))
    return f"  {difference.entity_uid}  {difference.at}  {difference.field}: {values}"


def table_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows, heading first, with their cells aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def say_error(error: object) -> None:
    """Write an error to standard error, in one line."""
    click.echo(f"error: {one_line(error)}", err=True)


def say_warning(warning: object) -> None:
    """Write a warning to standard error, in one line."""
    click.echo(click.style(f"warning: {one_line(warning)}", fg="yellow"), err=True)


def mark(*, ok: bool) -> str:
    """Return the sign for right or for wrong."""
    return click.style("✓", fg="green") if ok else click.style("✗", fg="red")


def shown_path(path: Path) -> str:
    """Return a path as the user would type it here: relative if it is below the current folder."""
    return one_line(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def this_command() -> str:
    """Return how the user calls `crm` here: `crm`, `uv run crm` if uv started this process, or its full path."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # uv sets it; the folder of `crm` is in PATH only for this process
        uv = Path(os.environ.get("UV", "uv"))
        return f"{'uv' if shutil.which('uv') else shlex.quote(shown_path(uv))} run crm"
    beside = Path(sys.executable).with_name("crm")
    found = shutil.which("crm")
    if found and beside.is_file() and Path(found).samefile(beside):
        return "crm"
    return shlex.quote(shown_path(beside)) if beside.is_file() else f"{shlex.quote(sys.executable)} -m crm_core"


def login() -> str | None:
    """Return the name of the user who runs this process; None if it has no name, as in a container."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def actor(given: str | None) -> str:
    """Return the name that the audit shows for a command: CRM_ACTOR if it is set, else the user's login."""
    return one_line(given or login() or "")[:ACTOR_LENGTH] or "crm"


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done; yield the function to call with each new text."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status("") as status:
        yield lambda what: status.update(f"{what} …")


@contextmanager
def drop_progress(path: Path | CloudPath) -> Iterator[Progress]:
    """Show on a terminal how far a drop, or a backup, is; yield the function to call with each progress.

    There is a bar while bytes are read; a phase of unknown length has a bar that pulses. The spinner turns and the
    clock goes on in every phase.
    """
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich import progress as rich
    from rich.console import Console
    from rich.filesize import decimal

    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=20),
        rich.TextColumn("{task.fields[amount]}", markup=False),
        rich.TimeElapsedColumn(),
    )
    name = one_line(path.name)
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}: opening", total=None, amount="")

        def on_progress(phase: str, done: int, total: int | None) -> None:
            # The clock of a task stops once it reaches its total, so a total that is reached is not shown.
            progress.tasks[0].total = total if total and done < total else None
            shown = decimal if phase in IN_BYTES else str
            amount = f"{shown(done)} of {shown(total)}" if total else shown(done) if done else ""
            description = f"{name}: {phase}"
            is_new = description != progress.tasks[0].description
            progress.update(task, description=description, completed=done, amount=amount, refresh=is_new)

        yield on_progress
