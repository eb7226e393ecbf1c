"""`crm migrate`, `loaddata`, `types` and `exec`: the schema, the reference data, and access by hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import actor, say_error, table_lines
from crm_core.settings import Settings
from crm_core.values.text import json_line, one_line

if TYPE_CHECKING:
    from crm_core.model import DetailType, EntityType, Source
    from crm_core.postgres.connection import Connection, Database
    from crm_core.postgres.schema_version import Revision

USAGE = 2  # the exit status for wrong usage
NOT_FOUND = 127  # the exit status of a shell for a program that does not exist
_DROPPED_TABLES = re.compile(r"(?im)^\s*drop table (?:if exists )?([\w, ]+?)(?: cascade| restrict)?\s*;")
_DROPPED_COLUMN = re.compile(r"(?im)^\s*alter table (\w+)\s+drop column (?:if exists )?(\w+)")


@click.command(
    epilog="Example: crm migrate; crm migrate 0004 goes to that revision, crm migrate -1 one step back",
    context_settings={"ignore_unknown_options": True},  # -1 is not an option
)
@click.argument("revision", default="head")
@click.option("--yes", is_flag=True, help="Do not ask before dropping tables that hold data.")
@click.option("--sql", "only_sql", is_flag=True, help="Print the SQL that would be run, and run nothing.")
def migrate(revision: str, *, yes: bool, only_sql: bool) -> None:
    """Bring the schema up to date.

    REVISION is the revision to go to: head (the newest, which is the default), base (before the first), the number of a
    step in sql/ddl, or a number of steps with a sign, such as -1. Going back drops tables. If they hold data, the
    command names them and asks first; without a terminal it needs --yes.

    Everything happens in one transaction. At its end the command names the tables that were locked until then, who had
    to wait, and for how long.
    """
    if not re.fullmatch(r"head|base|\d{1,4}|[+-]\d+", revision):
        message = f"{revision!r} is not a revision; use head, base, a number such as 0004, or steps such as -1"
        raise click.BadParameter(message, param_hint="REVISION")
    from crm_core.postgres.connection import open_database
    from crm_core.postgres.lock_watch import LockWatch
    from crm_core.postgres.migrations import migrate as migrate_to
    from crm_core.postgres.schema_version import current_revision, revisions

    target = revision.zfill(4) if revision.isdigit() else revision
    watch = LockWatch()
    with open_database(Settings.from_environment()) as database:
        if only_sql:
            _show_plan(database, target)
            return
        with database.connect(autocommit=True) as connection:
            lost = {} if yes else _lost(connection, _way_down(revisions(), current_revision(connection), revision))
        if lost:
            _ask_before_losing(lost)
        steps = migrate_to(database, target, watch=watch)
        held = watch.held()
        with database.connect() as connection:
            current = current_revision(connection)
    for step in steps:
        click.echo(step)
    for lock in held:
        click.echo(f"{lock.table} was locked for {lock.seconds:.2f} s: {lock.waiting} waited", err=True)
    click.echo(f"The schema is at revision {current}." if current else "The schema was removed.")


@click.command(epilog="Example: crm loaddata data/fixtures/001_entity_types.json data/fixtures/002_detail_types.json")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
def loaddata(files: Sequence[Path]) -> None:
    """Load fixtures in Django's format.

    A fixture is a JSON file with entity types, detail types, sources, entities or details. Either all of the files are
    loaded, or none. Loading them again changes nothing.

    Of the fixtures that ship in data/fixtures, 001 and 002 hold the types, which every database needs; 003 and 004 hold
    sample entities for trying things out, and 005 more types that the sample drops use.
    """
    from crm_core.fixtures.django_format import read_fixtures
    from crm_core.fixtures.load import load_fixtures
    from crm_core.postgres.connection import open_migrated

    settings = Settings.from_environment()
    with open_migrated(settings) as database:
        fixtures = read_fixtures(files, settings.time_zone)
        with database.transaction() as connection:
            load_fixtures(connection, fixtures, actor(settings.actor))
    click.echo(f"Installed {fixtures.objects} object(s) from {len(files)} fixture(s)")


@click.command(epilog="Example: crm types --json")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each type.")
def types(*, as_json: bool) -> None:
    """List the entity types, the detail types and the sources.

    A drop names them by their codes, in upper or lower case. To add one, to rename it or to retire it, write it into a
    fixture like data/fixtures/002_detail_types.json and load that with `crm loaddata`; or send it to the API, to
    /api/v1/detail-types, /api/v1/entity-types or /api/v1/sources.
    """
    from crm_core.postgres.connection import open_migrated
    from crm_core.reference import reference_types

    with open_migrated(Settings.from_environment()) as database, database.connect() as connection:
        known = reference_types(connection)
    if as_json:
        kinds: Mapping[str, Sequence[EntityType | DetailType | Source]] = {
            "entity_type": known.entity_types,
            "detail_type": known.detail_types,
            "source": known.sources,
        }
        for kind, found in kinds.items():
            for one in found:
                fields = {name: value for name, value in asdict(one).items() if not name.endswith("_id")}
                click.echo(json_line({"kind": kind, **fields}))
        return
    rows = [("code", "is a", "active", "compares", "name", "description")]
    for entity in known.entity_types:
        rows.append((entity.code, "entity type", _yes(entity.is_active), "", entity.name, entity.description))
    for detail in known.detail_types:
        rows.append(
            (detail.code, "detail type", _yes(detail.is_active), detail.compares, detail.name, detail.description)
        )
    for source in known.sources:
        rows.append((source.code, "source", _yes(source.is_active), "", source.name, source.description))
    if len(rows) > 1:
        for line in table_lines([tuple(map(one_line, row)) for row in rows]):
            click.echo(line)
    else:
        click.echo(f"There are no types yet; {how_to_load_types()}.", err=True)


@click.command(
    "exec",
    epilog="Example: crm exec psql, or crm exec pg_dump -Fc -f crm.dump",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exec_(program: str, arguments: Sequence[str]) -> None:
    """Run psql, pg_dump or another program on the database.

    The variables PGHOST, PGDATABASE and so on tell the program where the database is. The embedded server runs at least
    as long as the program. PostgreSQL's own programs ship with it; any other PROGRAM is searched for in PATH. The exit
    status is that of the program.
    """
    from crm_core.postgres.connection import open_database

    with open_database(Settings.from_environment()) as database:
        found = _program(program)
        if found is None:
            say_error(f"{program}: not found, neither among the programs of PostgreSQL nor in PATH; check the spelling")
            sys.exit(NOT_FOUND)
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)  # Ctrl-C is for the program
        try:
            done = subprocess.run([found, *arguments], env=os.environ | database.environment(), check=False)
        finally:
            signal.signal(signal.SIGINT, before)
    sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def how_to_load_types() -> str:
    """Return the sentence that says how to load the types that ship with crm."""
    from crm_core.cli.console import shown_path, this_command
    from crm_core.fixtures.django_format import TYPES

    return f"load them with `{this_command()} loaddata {' '.join(map(shown_path, TYPES))}`"


def _show_plan(database: Database, target: str) -> None:
    """Print what a migration would run, as a script for psql."""
    from crm_core.postgres.migrations import plan
    from crm_core.resources import statement

    with database.connect() as connection:
        parts = plan(connection, target)
    if not parts:
        click.echo("-- Nothing would be run: the schema is there already.")
        return
    lines = ["begin;", f"{statement('server/lock_schema')};"]
    for part in parts:
        lines += [f"\n-- {part.name}"] if part.name else []
        lines.append(f"{part.text.rstrip().removesuffix(';')};")
    click.echo("\n".join([*lines, "commit;"]))


def _way_down(steps: Sequence[Revision], current: str | None, target: str) -> Sequence[Revision]:
    """Return the steps that would be undone; none on the way up or if the target is unknown."""
    done = [step for step in steps if current and step.number <= current]
    if target == "base":
        return done
    if target.startswith("-"):
        return done[-int(target[1:]) :] if int(target[1:]) else []
    return [step for step in done if target.isdigit() and step.number > target.zfill(4)]


def _lost(connection: Connection, way_down: Iterable[Revision]) -> Mapping[str, int]:
    """Return what would be lost by undoing the steps: each table or column that holds data, with its row count."""
    from psycopg.errors import UndefinedColumn, UndefinedTable
    from psycopg.sql import SQL, Identifier

    from crm_core.resources import statement

    dropped: dict[tuple[str, str], SQL | Identifier] = {}
    for step in way_down:
        text = step.down.read_text(encoding="utf-8")
        for names in _DROPPED_TABLES.findall(text):
            dropped |= {(table.strip(), ""): SQL("*") for table in names.split(",")}
        dropped |= {found: Identifier(found[1]) for found in _DROPPED_COLUMN.findall(text)}
    lost = {}
    for (table, column), counted in dropped.items():
        count = SQL(statement("server/count_rows")).format(column=counted, table=Identifier(table))
        try:
            with connection.cursor() as cursor, cursor.copy(count) as copy:
                held = int(b"".join(copy))
        except (UndefinedTable, UndefinedColumn):  # it was removed by hand
            continue
        if held:
            lost[f"{table}.{column}" if column else table] = held
    return lost


def _ask_before_losing(lost: Mapping[str, int]) -> None:
    named = ", ".join(f"{name} ({held:,} {'row' if held == 1 else 'rows'})" for name, held in lost.items())
    if not sys.stdin.isatty():
        say_error(f"this would drop data for good: {named}; nothing was changed; add --yes if that is what you want")
        sys.exit(USAGE)
    click.confirm(f"This drops data for good: {named}. Go on?", abort=True, err=True)


def _program(name: str) -> str | None:
    """Return the path of a program: the one that ships with the embedded server, or the one in PATH."""
    from crm_core.postgres.embedded import bundled_binaries

    bundled = bundled_binaries() / name
    return str(bundled) if Path(name).name == name and bundled.is_file() else shutil.which(name)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
