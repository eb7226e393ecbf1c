"""What people read on a terminal of 80 columns: what a drop did, its rejected rows, progress while it goes in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.model import MergeReport, Reject

if TYPE_CHECKING:
    from crm_core.ingest import Progress as OnProgress

HEADING = "status       read accepted rejected changed unchanged    late +versions seconds"
REJECT_HEADING = "    line  reason                 row"
ROW_BEGINS = 46  # characters of a rejected row that are shown


def counts(report: MergeReport) -> str:
    """Answer what a drop did, as it stands under HEADING."""
    versions = report.entity_versions_added + report.detail_versions_added
    rows = f"{report.rows_read:>8} {report.rows_accepted:>8} {report.rows_rejected:>8}"
    changes = f"{report.rows_changed:>7} {report.rows_unchanged:>9} {report.rows_late:>7}"
    return f"{report.status:<8} {rows} {changes} {versions:>9} {report.seconds:>7.2f}"


def reject_lines(rejects: Iterable[Reject]) -> Iterator[str]:
    """Answer, under REJECT_HEADING, a line for each reason; the first of a row shows how the row begins."""
    for reject in rejects:
        begins = one_line(reject.raw)
        begins = begins if len(begins) <= ROW_BEGINS else f"{begins[: ROW_BEGINS - 1]}…"
        for number, reason in enumerate(reject.reasons):
            yield f"{reject.line:>8}  {reason:<21}  {begins}" if number == 0 else f"{'':>8}  {reason}"


def one_line(text: str) -> str:
    """Answer a text that is not ours as one line that no terminal takes for a command."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def mark(*, ok: bool) -> str:
    """Answer the sign of what is as it should be, or of what is not."""
    return click.style("✓", fg="green") if ok else click.style("✗", fg="red")


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show on a terminal's standard error what is done just now; yield what to tell it to."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status("") as status:
        yield lambda what: status.update(f"{what} …")


@contextmanager
def bytes_progress(path: Path) -> Iterator[OnProgress]:
    """Show on a terminal's standard error how much of a drop is read; yield what to call with it."""
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"reading {path.name}", total=None)

        def on_progress(phase: str, done: int, size: int | None) -> None:
            progress.update(task, description=f"{phase} {one_line(path.name)}", completed=done, total=size)

        yield on_progress
