"""`crm migrate`, `loaddata`, `types` and `exec`: the schema, the types, and programs of PostgreSQL."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from commands import FIXTURES, Run, a_drop, anna, on, rows_of
from samples import DELTA, INITIAL, LATE

from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import bundled_binaries
from crm_core.resources import DATA

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]

STEPS = len([*(DATA.parent / "sql" / "ddl").glob("*.up.sql")])


def in_its_own_process(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from crm_core.cli.main import main; main()", *arguments]


# migrate and loaddata


def test_migrate_names_each_step_there_and_back(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run = on(empty_database, monkeypatch)
    names = [path.name.removesuffix(".up.sql") for path in sorted((DATA.parent / "sql" / "ddl").glob("*.up.sql"))]
    head = names[-1][:4]
    routines = [f"routines/{path.stem}" for path in sorted((DATA.parent / "sql" / "routines").glob("*.sql"))]
    assert run("migrate").stdout.splitlines() == [*names, *routines, f"The schema is at revision {head}."]
    assert run("migrate").stdout.splitlines() == [f"The schema is at revision {head}."]
    assert run("migrate", "-1").stdout.splitlines() == [names[-1], f"The schema is at revision {names[-2][:4]}."]
    assert run("migrate", "2").stdout.splitlines()[-1] == "The schema is at revision 0002."
    assert run("migrate", "base").stdout.splitlines() == [names[1], names[0], "The schema was removed."]


def test_migrate_prints_what_it_would_run_as_a_script_for_psql(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on(empty_database, monkeypatch)
    for target in (("2",), ()):
        printed = run("migrate", "--sql", *target).stdout
        assert "create table entity_type" in printed or not target
        psql = [bundled_binaries() / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", empty_database.conninfo]
        subprocess.run([*map(str, psql)], input=printed, text=True, check=True, stdout=subprocess.DEVNULL)
        current = run("migrate", *target).stdout.splitlines()
        assert len(current) == 1, "there was nothing left to do"
    assert run("migrate", "--sql").stdout == "-- Nothing would be run: the schema is there already.\n"
    assert run("check").exit_code == 0


def test_migrate_tells_who_had_to_wait(run: Run) -> None:
    told = run("migrate", "9").stderr
    assert re.search(r"^ledger was locked for \d+\.\d\d s: readers and writers waited$", told, re.MULTILINE)


@pytest.mark.parametrize("target", ["base", "2", f"-{STEPS - 2}"])
def test_going_down_names_what_would_be_lost_and_needs_a_yes(run: Run, fresh_database: Database, target: str) -> None:
    run("ingest", INITIAL)
    held = rows_of(fresh_database, b"select count(*) from ledger")
    refused = run("migrate", target)
    assert refused.exit_code == 2
    assert "ledger (33 rows)" in refused.stderr
    assert "--yes" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert rows_of(fresh_database, b"select count(*) from ledger") == held
    assert run("check").exit_code == 0
    assert run("migrate", target, "--yes").exit_code == 0
    assert rows_of(fresh_database, b"select to_regclass('ledger')") == [(None,)]


def test_going_down_asks_for_nothing_when_nothing_is_lost(run: Run) -> None:
    assert run("migrate", "5").exit_code == 0, "the types stay, and there is nothing else"
    assert run("migrate").exit_code == 0
    assert run("migrate", "base").exit_code == 2, "the types would go"


@pytest.mark.parametrize(("answer", "status", "kept"), [(b"n\n", 1, True), (b"y\n", 0, False)], ids=["no", "yes"])
def test_on_a_terminal_going_down_asks_first(
    run: Run, fresh_database: Database, answer: bytes, status: int, *, kept: bool
) -> None:
    run("ingest", INITIAL)
    master, slave = pty.openpty()
    process = subprocess.Popen(in_its_own_process("migrate", "base"), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(master, 4096)
    os.write(master, answer)
    with suppress(OSError):  # the terminal's end
        while os.read(master, 4096):
            pass
    os.close(master)
    assert process.wait(60) == status
    assert b"ledger (33 rows)" in shown
    assert (rows_of(fresh_database, b"select to_regclass('entity')") != [(None,)]) is kept


def test_the_types_are_listed_with_how_they_compare(run: Run) -> None:
    heading, *rows = run("types").stdout.splitlines()
    assert heading.split() == ["code", "is", "a", "active", "compares", "name", "description"]
    assert [row.split()[0] for row in rows] == ["INSTITUTION", "PERSON", "address", "email", "phone", "website"]
    assert rows[3].split()[1:5] == ["detail", "type", "yes", "casefold"]
    listed = [json.loads(line) for line in run("types", "--json").stdout.splitlines()]
    assert [one["code"] for one in listed if one["kind"] == "entity_type"] == ["INSTITUTION", "PERSON"]


def test_without_types_the_cure_is_named(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run = on(fresh_database, monkeypatch)
    assert "001_entity_types.json" in run("types").stderr
    ingested = run("ingest", "--json", DELTA)
    assert "no entity types are loaded" in ingested.stderr
    (cure,) = re.findall(r"crm (loaddata [^`]*)`", ingested.stderr)
    assert run(*cure.split()).exit_code == 0
    assert "types" not in run("ingest", LATE).stderr


def test_the_audit_names_who_ran_a_command(
    run: Run, fresh_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    run("ingest", a_drop(tmp_path / "1.csv", anna()))
    monkeypatch.setenv("CRM_ACTOR", "nightly \x1b[2Jload")
    run("ingest", a_drop(tmp_path / "2.csv", anna("Anna Berg", "2024-02-01")))
    run("loaddata", *FIXTURES)
    actors = rows_of(fresh_database, b"select actor from batch order by batch_id")
    assert actors == [("ann",), ("nightly �[2Jload",), ("nightly �[2Jload",)]


# exec


def test_a_program_of_postgresql_finds_the_database(run: Run, fresh_database: Database, tmp_path: Path) -> None:
    run("ingest", INITIAL)
    dump = tmp_path / "crm.dump"
    ((name,),) = rows_of(fresh_database, b"select current_database()")
    assert run("exec", "pg_dump", "-Fc", "-f", dump).exit_code == 0
    assert dump.read_bytes().startswith(b"PGDMP")
    assert run("exec", "psql", "-c", "no such thing").exit_code == 1
    assert run("exec", "sh", "-c", f'test "$PGDATABASE" = {name}').exit_code == 0
    assert run("exec", "psqll").exit_code == 127


def test_loaddata_counts_objects_and_files(run: Run, fresh_database: Database) -> None:
    assert run("loaddata", *FIXTURES).stdout == "Installed 50 object(s) from 6 fixture(s)\n"
    before = rows_of(fresh_database, b"select e::text from entity e union all select d::text from entity_detail d")
    assert run("loaddata", *FIXTURES).exit_code == 0
    assert before == rows_of(
        fresh_database, b"select e::text from entity e union all select d::text from entity_detail d"
    )
    assert len(before) > 20


def test_loaddata_loads_all_files_or_none(run: Run, fresh_database: Database, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[{]")
    result = run("loaddata", *FIXTURES, broken)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {broken}: ")
    assert rows_of(fresh_database, b"select count(*) from entity") == [(0,)]
