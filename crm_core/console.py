"""What people read on a terminal: tables of what drops did, their rejected rows, and progress while they go in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from crm_core.model import MergeReport, Reject

if TYPE_CHECKING:
    from crm_core.ingest import Progress as OnProgress

WIDE = 1_000  # columns where nobody looks: a pipe or a file gets every row whole
NUMBERS = {  # column → field of the report
    "read": "rows_read",
    "accepted": "rows_accepted",
    "rejected": "rows_rejected",
    "changed": "rows_changed",
    "unchanged": "rows_unchanged",
    "late": "rows_late",
}


def output() -> Console:
    """Answer the console of standard output; text is printed as it is, without markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDE)


def reports_table(reports: Iterable[MergeReport], kinds: Mapping[str, str] | None = None) -> Table:
    """Answer a table of drops and what each did; `kinds` says of a file what kind of drop it is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    if kinds is not None:
        table.add_column("what it is", overflow="fold")
    table.add_column("status")
    for heading in (*NUMBERS, "versions added", "seconds"):
        table.add_column(heading, justify="right")
    for report in reports:
        values = report.as_json()
        versions = report.entity_versions_added + report.detail_versions_added
        refused = report.status == "refused"
        table.add_row(
            report.file if kinds is None else Path(report.file).name,
            *([] if kinds is None else [kinds[report.file]]),
            Text(report.status, style={"merged": "green", "replayed": "cyan", "refused": "red"}[report.status]),
            *("" if refused else f"{values[field]:,}" for field in NUMBERS.values()),
            "" if refused else f"{versions:,}",
            f"{report.seconds:.2f}",
        )
    return table


def rejects_table(rejects: Iterable[Reject]) -> Table:
    """Answer a table of rejected rows: line, reasons, and how the row begins."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("line", justify="right")
    table.add_column("reasons", overflow="fold", style="yellow")
    table.add_column("row", overflow="ellipsis", no_wrap=True, max_width=60)
    for reject in rejects:
        table.add_row(str(reject.line), ", ".join(reject.reasons), Text(" ".join(reject.raw.split())))
    return table


@contextmanager
def bytes_progress(path: Path) -> Iterator[OnProgress]:
    """Show on a terminal's standard error how much of a drop is read; yield what to call with it."""
    console = Console(stderr=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"reading {path.name}", total=None)

        def on_progress(done: int, size: int) -> None:
            doing = "merging" if done >= size else "reading"
            progress.update(task, completed=done, total=size, description=f"{doing} {path.name}")

        yield on_progress
