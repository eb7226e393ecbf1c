"""`crm ingest` and `crm rejects`: what they print, what they keep, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from commands import HEADER, Run, a_drop, anna, rows_of
from samples import DELTA, DIRTY, INITIAL, LATE, REPLAY

from crm_core.bench.generator import write_drops
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]
KEYS = [
    "file", "sha256", "status", "rows_read", "rows_accepted", "rows_rejected", "rows_changed", "rows_unchanged",
    "rows_late", "rows_superseded", "entities_ended", "entity_versions_added", "detail_versions_added", "seconds",
    "error", "rows_ending_nobody", "rows_fallen_together", "notes", "dry_run",
]  # fmt: skip


def in_its_own_process(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from crm_core.cli.main import main; main()", *arguments]


# ingest


def test_ingest_as_json_writes_one_line_a_file_in_the_order_given(run: Run) -> None:
    result = run("ingest", "--json", LATE, INITIAL)
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [list(report)[: len(KEYS)] for report in reports] == [KEYS] * 2
    assert [report["file"] for report in reports] == [str(LATE), str(INITIAL)]
    for report in reports:
        assert report["status"] == "merged"
        assert report["rows_read"] == report["rows_accepted"] + report["rows_rejected"]
        assert report["rows_accepted"] == report["rows_changed"] + report["rows_unchanged"]
        assert report["error"] is None


@pytest.mark.idempotency
def test_ingesting_a_file_again_is_a_replay(run: Run, fresh_database: Database) -> None:
    run("ingest", DELTA)
    before = rows_of(fresh_database, b"select e::text from entity e order by 1")
    result = run("ingest", "--json", REPLAY)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["status"], report["rows_changed"]) == ("replayed", 0)
    assert rows_of(fresh_database, b"select e::text from entity e order by 1") == before


def test_the_table_tells_what_each_file_did(run: Run, tmp_path: Path) -> None:
    first = a_drop(tmp_path / "first.csv", anna("Anna"), anna("Anna Berg", "2024-02-01"))
    late = a_drop(tmp_path / "late.csv", anna("Anna", "2023-01-01"), anna("Ann", "2024-01-15"))
    heading, *rows = run("ingest", first, late, first).stdout.splitlines()
    columns = ["status", "read", "accepted", "rejected", "changed", "unchanged", "late", "+versions", "seconds"]
    assert heading.split() == columns
    assert [len(row) for row in rows[1::2]] == [len(heading)] * 3
    assert len(heading) < 80
    assert rows[0::2] == [str(first), str(late), str(first)]
    assert [row.split()[:-1] for row in rows[1::2]] == [
        ["merged", "2", "2", "0", "2", "0", "0", "2"],
        ["merged", "2", "2", "0", "2", "0", "2", "2"],
        ["replayed", "2", "2", "0", "0", "2", "0", "0"],
    ]


def test_rejected_rows_are_named_by_line_and_reason(run: Run) -> None:
    result = run("ingest", DIRTY)
    assert result.exit_code == 0, "bad rows do not refuse the file"
    shown = result.stdout.splitlines()[3:]
    assert shown[0].split() == ["line", "reason", "row"]
    assert [line.split()[:2] for line in shown[1:6]] == [
        ["4", "invalid_uid"],
        ["5", "missing_display_name"],
        ["6", "unknown_entity_type"],
        ["7", "details_not_json"],
        ["8", "details_not_list"],
    ]
    assert shown[-1].split() == ["…", "3", "more", "rejected", "rows"]
    assert len(shown) == 12


def test_rejected_rows_come_back_as_a_file_to_correct(run: Run, tmp_path: Path) -> None:
    dirty = a_drop(tmp_path / "dirty.csv", anna(), *(anna(f"Bo {n}", entity_type="ROBOT") for n in range(12)))
    ingested = run("ingest", dirty)
    assert "2 more rejected rows" in ingested.stdout
    (command,) = re.findall(r"crm (rejects \w+) > ", ingested.stderr)
    written = run(*command.split()).stdout
    assert written == run("rejects", "dirty.csv").stdout == run("rejects", "--csv", dirty).stdout
    assert written.splitlines()[0] == f"reject_line,reject_reasons,{','.join(HEADER)}"
    assert len(written.splitlines()) == 13
    corrected = tmp_path / "corrected.csv"
    corrected.write_text(written.replace("ROBOT", "PERSON"))
    again = json.loads(run("ingest", "--json", corrected).stdout)
    assert (again["rows_rejected"], again["rows_accepted"]) == (0, 12)


def test_rejects_of_a_drop_without_any_or_of_no_drop_or_of_several(run: Run, tmp_path: Path) -> None:
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        run("ingest", a_drop(tmp_path / folder / "people.csv", anna(folder)))
    nothing = run("rejects", tmp_path / "monday" / "people.csv")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "no row of this drop was rejected" in nothing.stderr
    assert run("rejects", "never.csv").exit_code == 1
    several = run("rejects", "people.csv")
    assert several.exit_code == 2
    assert len(re.findall(r"\b[0-9a-f]{12}\b", several.stderr)) == 2


def test_a_file_of_which_all_rows_were_rejected_is_a_warning(run: Run, tmp_path: Path) -> None:
    bad = a_drop(tmp_path / "bad.csv", anna(entity_type="ROBOT"), anna(entity_type="CYBORG"))
    for arguments in (["ingest", bad], ["ingest", "--json", bad], ["ingest", "--dry-run", bad]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "bad.csv: nothing was changed: every row was rejected (2)" in result.stderr
    assert "warning" not in run("ingest", a_drop(tmp_path / "half.csv", anna(), anna(entity_type="ROBOT"))).stderr


def test_a_rejected_row_cannot_command_the_terminal(run: Run, tmp_path: Path) -> None:
    result = run("ingest", a_drop(tmp_path / "drop.csv", ["\x1b[2J\x07\u202e", "Anna", "PERSON", "", "", ""]))
    assert "�[2J��,Anna,PERSON" in result.stdout
    assert "\x1b" not in result.stdout


NAMES = ["\x1b]0;pwned\x07", "\x9b2J", "a\u202eb", "two\nlines", "\x7f"]


@pytest.mark.parametrize("name", NAMES, ids=map(ascii, NAMES))
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--dry-run"], ["--strict"]], ids=" ".join)
def test_the_name_of_a_file_cannot_command_the_terminal(
    run: Run, tmp_path: Path, name: str, arguments: list[str]
) -> None:
    good = a_drop(tmp_path / f"{name}.csv", anna())
    dirty = a_drop(tmp_path / f"dirty{name}.csv", anna(entity_type="ROBOT"))
    missing = tmp_path / f"missing{name}.csv"
    result = run("ingest", *arguments, good, dirty, missing)
    reported = run("report", "--output", tmp_path / f"{name}.html")
    named = run("rejects", f"none{name}.csv")
    for written in (result.stdout, result.stderr, reported.stdout, reported.stderr, named.stderr):
        assert all(line.isprintable() for line in written.split("\n")), ascii(written)
    if "--json" in arguments:
        assert json.loads(result.stdout.splitlines()[0])["file"] == str(good)


def test_a_refused_file_does_not_keep_the_others_out(run: Run, fresh_database: Database, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    missing = tmp_path / "missing.csv"
    good = a_drop(tmp_path / "good.csv", anna())
    result = run("ingest", "--json", empty, missing, tmp_path, good)
    assert result.exit_code == 1
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["status"] for report in reports] == ["refused", "refused", "refused", "merged"]
    for report, path in zip(reports, (empty, missing, tmp_path), strict=False):
        assert report["error"].startswith(f"{path}: ")
        assert "\n" not in report["error"]
    assert rows_of(fresh_database, b"select display_name from entity") == [("Anna",)]


def test_a_refusal_is_one_line_on_standard_error(run: Run, tmp_path: Path) -> None:
    result = run("ingest", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path}: ")
    assert result.stderr.count("\n") == 1


def test_a_dry_run_says_what_would_happen_and_keeps_nothing(run: Run, fresh_database: Database) -> None:
    result = run("ingest", "--dry-run", "--json", INITIAL, DIRTY)
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["status"] for report in reports] == ["merged", "merged"]
    assert [report["dry_run"] for report in reports] == [True, True]
    assert reports[0]["entity_versions_added"] > 20
    for table in (b"entity", b"entity_detail", b"ledger", b"drop_file", b"reject"):
        assert rows_of(fresh_database, b"select count(*) from " + table) == [(0,)], table
    shown = run("ingest", "--dry-run", DIRTY).stdout
    assert "nothing is changed" in shown
    assert "future_change_ts" in shown
    assert "3 more rejected rows" in shown


def test_strict_lets_nothing_in_beside_a_bad_row(run: Run, fresh_database: Database, tmp_path: Path) -> None:
    bad = a_drop(tmp_path / "bad.csv", anna(), anna("Bo", entity_type="ROBOT"))
    result = run("ingest", "--strict", bad)
    assert result.exit_code == 1
    assert "line 3: unknown_entity_type" in result.stderr
    assert rows_of(fresh_database, b"select count(*) from entity") == [(0,)]
    assert run("ingest", "--strict", a_drop(tmp_path / "good.csv", anna())).exit_code == 0


def test_naive_timestamps_are_read_in_the_time_zone_of_the_settings(
    run: Run, fresh_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CRM_TIME_ZONE", "Europe/Berlin")
    run("ingest", a_drop(tmp_path / "drop.csv", anna(change_ts="2024-06-01T12:00")))
    (started,) = rows_of(fresh_database, b"select valid_from at time zone 'UTC' from entity")
    assert str(started[0]) == "2024-06-01 10:00:00"


@pytest.mark.parametrize("on_terminal", [True, False])
def test_progress_is_for_a_terminal_alone(
    run: Run, fresh_database: Database, tmp_path: Path, *, on_terminal: bool
) -> None:
    drops = write_drops(tmp_path, 5_000)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        in_its_own_process("ingest", "--json", str(drops.initial)),
        stdout=subprocess.PIPE,
        stderr=slave if on_terminal else subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the terminal's end
        while on_terminal and (part := os.read(master, 4096)):
            shown += part
    os.close(master)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(stdout)["rows_read"] == 5_000
    if on_terminal:
        assert drops.initial.name.encode() in shown
        assert b"append ledger" in shown
    else:
        assert stderr == b""


def test_ctrl_c_ends_a_merge_cleanly_and_keeps_nothing_of_it(
    run: Run, fresh_database: Database, tmp_path: Path
) -> None:
    drops = write_drops(tmp_path, 60_000)
    process = subprocess.Popen(
        in_its_own_process("ingest", str(drops.initial)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    under_way = b"select from pg_stat_activity where datname = current_database() and query like '%staged_change%'"
    while not rows_of(fresh_database, under_way + b" and pid <> pg_backend_pid()") and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr == "interrupted: what was under way has been rolled back\n"
    assert rows_of(fresh_database, b"select count(*) from entity") == [(0,)]


@pytest.mark.unit
@pytest.mark.parametrize("module", ["connection", "transaction"])
def test_a_rollback_that_failed_because_the_connection_is_busy_is_not_reported(module: str) -> None:
    """Ctrl-C may come while a statement is sent: the server rolls back by itself when the connection ends."""
    code = (
        f"import sys; from psycopg.{module} import logger; from crm_core.cli.main import main\n"
        "sys.argv = ['crm', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "logger.warning('error ignored in rollback of a transaction: another command is already in progress')\n"
        "logger.warning('something else')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == "something else\n"


@pytest.mark.unit
def test_the_clock_goes_on_in_every_phase() -> None:
    """The last phase is reported once, at its start, and takes longest: the display goes on meanwhile."""
    master, slave = pty.openpty()
    code = (
        "import sys, time; from pathlib import Path; from crm_core.cli.console import drop_progress\n"
        "with drop_progress(Path(sys.argv[1])) as tell:\n"
        "    tell('reading', 500_000, 1_000_000); time.sleep(0.2)\n"
        "    tell('reading', 1_000_000, 1_000_000); time.sleep(0.2)\n"
        "    tell('merging', 20, 20); time.sleep(2.5)\n"
    )
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", code, "big\x1b[2J.csv"], stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the terminal's end
        while part := os.read(master, 4096):
            shown += part
    os.close(master)
    assert process.wait(60) == 0
    for expected in (b": reading", b"500.0 kB of 1.0 MB", b": merging", b"20 of 20"):
        assert expected in shown
    assert {b"0:00:01", b"0:00:02"} <= set(re.findall(rb"\d:\d\d:\d\d", shown))
    assert b"\x1b[2J" not in shown
