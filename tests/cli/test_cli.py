"""`crm` as it is used: what it prints, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import FIXTURES, Run, on
from psycopg.conninfo import make_conninfo
from samples import INITIAL

from crm_core.cli.main import crm
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]

HEAVY = {
    "dagster", "polars", "pandera", "sqlalchemy", "alembic", "numpy", "psycopg", "rich", "fastapi", "pwdlib", "dotenv",
}  # fmt: skip
COMMANDS = [
    "demo", "up", "serve", "migrate", "distribute", "loaddata", "types", "createsuperuser", "ingest", "rejects",
    "profile", "approve", "undo", "token", "check", "backup", "restore", "clean", "report", "exec", "explain", "bench",
]  # fmt: skip

SUBCOMMANDS = [(group, command) for group in ("token", "profile") for command in crm.commands[group].commands]  # type: ignore[attr-defined]


def in_its_own_process(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from crm_core.cli.main import main; main()", *arguments]


# help and usage


@pytest.mark.unit
def test_help_imports_nothing_heavy() -> None:
    calls = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    code = (
        "import sys\n"
        "from crm_core.cli.main import main\n"
        f"for arguments in {calls!r}:\n"
        "    sys.argv = ['crm', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert not ended.code, arguments\n"
        f"    loaded = {HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}\n"
        "    assert not loaded, (arguments, loaded)\n"
        "    print('seen:', *arguments)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("seen: ") == len(calls)


@pytest.mark.unit
def test_help_lists_the_commands_as_a_newcomer_needs_them() -> None:
    listed = CliRunner().invoke(crm, ["--help"]).stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == COMMANDS
    for group in ("", "token", "profile"):
        listed = CliRunner().invoke(crm, [*group.split(), "--help"]).stdout.partition("Commands:")[2]
        assert "..." not in listed, "a summary is cut off"


@pytest.mark.unit
@pytest.mark.parametrize("command", [*COMMANDS, *(f"{group} {command}" for group, command in SUBCOMMANDS)])
def test_the_help_of_a_command_has_an_example(command: str) -> None:
    said = CliRunner().invoke(crm, [*command.split(), "--help"]).stdout
    assert re.search(rf"Example: .*crm {command}", said)


@pytest.mark.unit
@pytest.mark.parametrize("arguments", [["ingest"], ["loaddata"], ["migrate", "soon"], ["migrate", "--up"], ["what"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(crm, arguments).exit_code == 2


# errors


@pytest.mark.unit
def test_a_setting_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TIME_ZONE", "Mars/Olympus")
    result = CliRunner().invoke(crm, ["check"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: CRM_TIME_ZONE='Mars/Olympus'")
    assert result.stderr.count("\n") == 1


@pytest.mark.unit
def test_an_error_keeps_the_password_and_the_traceback_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_DATABASE_URL", "postgresql://crm:open-sesame@127.0.0.1:1/crm")
    done = subprocess.run(in_its_own_process("check"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "open-sesame" not in done.stderr + done.stdout


@pytest.mark.unit
def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_DATABASE_URL", "postgresql://crm@127.0.0.1:1/crm")
    monkeypatch.setenv("CRM_DEBUG", "1")
    done = subprocess.run(in_its_own_process("check"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["ingest", INITIAL], ["ingest", "--dry-run", INITIAL], ["check"], ["explain"], ["loaddata", *FIXTURES]],
)
def test_a_database_without_schema_is_sent_to_migrate(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch, arguments: list[str | Path]
) -> None:
    result = on(empty_database, monkeypatch)(*arguments)
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "run `crm migrate`" in result.stderr


# check and explain


def test_check_marks_every_invariant(run: Run) -> None:
    run("loaddata", *FIXTURES)
    result = run("check")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) >= 10
    assert all(line.startswith("✓ ") for line in result.stdout.splitlines())


def test_check_shows_a_breach_and_ends_with_1(run: Run, fresh_database: Database) -> None:
    run("loaddata", *FIXTURES)
    with fresh_database.transaction() as connection:
        connection.execute("update entity set display_name = 'Pear' where display_name = 'Apple Inc.'")
    result = run("check")
    assert result.exit_code == 1
    assert "✗ Every entity hashdiff is the hash of the values in its row.\n    entity 5de05894" in result.stdout
    found = [json.loads(line) for line in run("check", "--json").stdout.splitlines()]
    assert {check["name"] for check in found if not check["holds"]} == {"entity_hashdiffs", "entities_are_the_fold"}


def test_explain_shows_a_short_table_and_each_plan_if_it_is_asked_for(run: Run) -> None:
    assert "nothing to explain yet" in run("explain").stdout
    run("loaddata", *FIXTURES)
    result = run("explain")
    assert result.exit_code == 0
    assert re.search(r"^✓ one entity, current +\d+\.\d\d +1 +\d+  ", result.stdout, re.MULTILINE)
    assert "Index Scan using" not in result.stdout
    assert len(result.stdout.splitlines()) < 25
    full = run("explain", "--full").stdout
    assert "  entity_current must use unique_current_entity or entity_pkey" in full
    assert "Index Scan using" in full


def test_a_file_whose_name_is_not_valid_text_is_merged(run: Run, tmp_path: Path) -> None:
    drop = tmp_path / os.fsdecode(b"caf\xe9.csv")
    drop.write_bytes(INITIAL.read_bytes())
    assert json.loads(run("ingest", "--json", drop).stdout)["status"] == "merged"


def test_what_the_database_says_in_mid_command_is_one_line(
    run: Run, fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database.transaction() as connection:
        connection.execute("create role reader_only login")
        connection.execute("grant usage on schema public to reader_only")
    monkeypatch.setenv("CRM_DATABASE_URL", make_conninfo(fresh_database.conninfo, user="reader_only"))
    result = run("ingest", INITIAL)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: permission denied")
    assert "Traceback" not in result.stderr
