"""`crm explain` and `crm bench`: how the key queries run, and how fast it is here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence

import click

from crm_core.console import mark, printable, spinner
from crm_core.settings import Settings


@click.command(epilog="Example: crm explain, or crm explain --full | less")
@click.option("--full", is_flag=True, help="Show whole plans, and not only how each table is read.")
def explain(*, full: bool) -> None:
    """Show which indexes the key queries use.

    Each query runs on a sample of the data under EXPLAIN (ANALYZE, BUFFERS). The exit status is 1 if a query does not
    use the index that it must use.
    """
    from crm_core.database import open_migrated
    from crm_core.explain import explain as run

    plans = []
    with open_migrated(Settings.from_environment()) as database, database.connect() as connection:
        for plan in run(connection):
            plans.append(plan)
            unused = [index for index in plan.must_use if not set(index.split("|")) & set(plan.uses)]
            click.echo(f"{mark(ok=plan.ok)} {plan.purpose} ({plan.name}, {plan.milliseconds:.2f} ms)")
            click.echo(f"  it must use {_listed(plan.must_use)}")
            if unused:
                why = ": the tables are too small for that" if plan.ok else f"; it uses {_listed(plan.uses)}"
                click.echo(f"  it does not use {_listed(unused)}{why}")
            for line in plan.text.splitlines() if full else _how_tables_are_read(plan.text):
                click.echo(f"    {printable(line)}")
            click.echo()
    if not plans:
        click.echo("There is nothing to explain yet; take in a drop first, or run `crm demo`.")
    if not all(plan.ok for plan in plans):
        sys.exit(1)


@click.command(epilog="Example: crm bench --entities 200k")
@click.option("--entities", default="20k", show_default=True, help="How many entities: 1k to 5m.")
@click.option("--grow", is_flag=True, help="Also measure one drop on a table and on one five times as large.")
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 60), help="How long each pgbench runs.")
@click.option("--compare", default="", metavar="TOOL,…", help="Also measure these: dlt, dlt-nested, dbt, sqlmesh.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def bench(entities: str, seconds: int, compare: str, *, grow: bool, as_json: bool) -> None:
    """Measure how fast it is on this machine.

    Drops, reads and writes are measured in one run, on generated data and a server of their own. Each number is shown
    beside its limit: a plain COPY of the same rows, or pgbench with the same SQL. Run it on a machine that does nothing
    else.

    With --compare other tools load the same drops on the same server and are asked the same questions. uv installs each
    of them in an environment of its own, which is removed afterwards.
    """
    from crm_core.bench import lines, run_bench
    from crm_core.compare import PEERS

    number = re.fullmatch(r"(\d{1,7})([km]?)", entities.lower())
    count = int(number[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[number[2]] if number else 0
    if not 1_000 <= count <= 5_000_000:
        raise click.BadParameter(f"{entities!r} is not a number from 1k to 5m", param_hint="--entities")  # noqa: EM102
    peers = tuple(dict.fromkeys(filter(None, map(str.strip, compare.lower().split(",")))))
    if unknown := [name for name in peers if name not in PEERS]:
        message = f"{', '.join(unknown)}: unknown; there are: {', '.join(PEERS)}"
        raise click.BadParameter(message, param_hint="--compare")
    with spinner() as tell:
        found = run_bench(count, grows=grow, pgbench_seconds=seconds, peers=peers, tell=tell)
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    for line in lines(found):
        click.echo(line)


def _how_tables_are_read(plan: str) -> Iterator[str]:
    """Yield from a plan which scan reads each table, without costs, and how many blocks the query touched."""
    scans = dict.fromkeys(line.strip().removeprefix("->  ").partition("  (")[0] for line in plan.splitlines())
    yield from (scan for scan in scans if re.match(r"(?!Subquery|CTE|Function)[\w ]*Scan\b.* on ", scan))
    yield from [line.strip() for line in plan.splitlines() if line.strip().startswith("Buffers:")][:1]


def _listed(indexes: Sequence[str]) -> str:
    return ", ".join(index.replace("|", " or ") for index in indexes) or "none"
