"""`crm check`, `explain` and `bench`: is the data right, how do key queries run, and how fast is it here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import mark, spinner
from crm_core.settings import Settings
from crm_core.values.text import json_line, one_line, printable

if TYPE_CHECKING:
    from crm_core.timeline.plans import Plan


@click.command(epilog="Example: crm explain --full | less")
@click.option("--full", is_flag=True, help="Show each plan as PostgreSQL writes it, too.")
def explain(*, full: bool) -> None:
    """Show how the key queries run, and which index each uses.

    Each query runs on a sample of the data under EXPLAIN (ANALYZE, BUFFERS). The exit status is 1 if a query does not
    use the index that it must use.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.timeline.plans import explain as run

    plans: list[Plan] = []
    is_small = False
    with open_migrated(Settings.from_environment()) as database, database.connect(autocommit=True) as connection:
        for plan in run(connection):
            if not plans:
                click.echo(_row("", "query", "ms", "rows", "buffers", "index"))
            plans.append(plan)
            query, figures = plan.query, (f"{plan.milliseconds:.2f}", str(plan.rows), str(plan.buffers))
            click.echo(_row(mark(ok=plan.ok), query.purpose, *figures, _listed(plan.uses)))
            unused = [index for index in query.must_use if not set(index.split("|")) & set(plan.uses)]
            is_small = is_small or (bool(unused) and plan.ok)
            if not plan.ok:
                click.echo(f"  it must use {_listed(unused)}: {query.why}")
            if full:
                click.echo(f"  {query.name} must use {_listed(query.must_use)}: {query.why}")
                click.echo("".join(f"    {printable(line)}\n" for line in plan.text.splitlines()))
    if is_small:
        click.echo(
            "The tables are too small for every index to be worth using; ingest more data to see all of them used."
        )
    if not plans:
        click.echo("There is nothing to explain yet; ingest a drop first, or run `crm demo`.")
    if not all(plan.ok for plan in plans):
        sys.exit(1)


@click.command(epilog="Example: crm bench --entities 200k")
@click.option("--entities", default="20k", show_default=True, help="How many entities: 1k to 5m.")
@click.option(
    "--grow", is_flag=True, help="Also measure how long one drop takes on a small table and on one five times as large."
)
@click.option("--pages", is_flag=True, help="Also measure each page of the cockpit, by the log of a service.")
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 60), help="How long each pgbench runs.")
@click.option("--compare", default="", metavar="TOOL,…", help="Also measure these: dlt, dlt-nested, dbt, sqlmesh.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def bench(entities: str, seconds: int, compare: str, *, grow: bool, pages: bool, as_json: bool) -> None:
    """Measure how fast crm is on this machine.

    Drops, reads and writes are measured in one run, on generated data and a server of their own. Each number is shown
    beside its limit: a plain COPY of the same rows, or pgbench with the same SQL. Run it on a machine that does nothing
    else.

    With --compare other tools load the same drops on the same server and are asked the same questions. uv installs each
    of them in an environment of its own, which is removed afterwards.
    """
    from crm_core.bench.compare import PEERS
    from crm_core.bench.measure import lines, run_bench

    number = re.fullmatch(r"(\d{1,7})([km]?)", entities.lower())
    count = int(number[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[number[2]] if number else 0
    if not 1_000 <= count <= 5_000_000:
        raise click.BadParameter(f"{entities!r} is not a number from 1k to 5m", param_hint="--entities")  # noqa: EM102
    peers = tuple(dict.fromkeys(filter(None, map(str.strip, compare.lower().split(",")))))
    if unknown := [name for name in peers if name not in PEERS]:
        message = f"not a known tool: {', '.join(unknown)}; choose from {', '.join(PEERS)}"
        raise click.BadParameter(message, param_hint="--compare")
    with spinner() as show:
        found = run_bench(count, grows=grow, with_pages=pages, pgbench_seconds=seconds, peers=peers, on_progress=show)
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    for line in lines(found):
        click.echo(line)


def _listed(indexes: Sequence[str]) -> str:
    return ", ".join(index.replace("|", " or ") for index in indexes) or "none"


def _row(state: str, query: str, milliseconds: str, rows: str, buffers: str, index: str) -> str:
    return f"{state:1} {query:46} {milliseconds:>8} {rows:>6} {buffers:>8}  {index}"


@click.command(epilog="Example: crm check")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each invariant.")
def check(*, as_json: bool) -> None:
    """Check that all data are consistent.

    The command recomputes every invariant from the tables. The exit status is 1 if one of them does not hold.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.timeline.invariants import check as recompute

    breached, settings = False, Settings.from_environment()
    with (
        open_migrated(settings, even_incomplete=True) as database,
        database.connect(autocommit=True) as connection,
    ):
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
