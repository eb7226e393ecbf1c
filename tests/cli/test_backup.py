"""`crm backup`, `crm restore` and `crm clean`, as somebody at a terminal sees them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from commands import Run, a_drop, anna, on, rows_of
from samples import INITIAL

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]


def test_a_backup_says_what_it_holds_and_a_restore_that_all_invariants_hold(
    run: Run, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("ingest", INITIAL)
    taken = run("backup", "crm.backup")
    holds = re.fullmatch(
        r"crm\.backup: (everything recorded up to \S+Z, [\d,]+ rows in \d+ tables, .*)\n", taken.stdout
    )
    assert holds, taken.stdout
    assert run("restore", "--check", "crm.backup").stdout == f"crm.backup is whole: {holds[1]}\n"
    again = run("backup", "crm.backup")
    assert (again.exit_code, again.stderr) == (
        1,
        "error: crm.backup: exists already; give another name, or --force to replace it\n",
    )
    assert run("backup", "crm.backup", "--force").exit_code == 0
    there = run("restore", "crm.backup")
    assert there.exit_code == 1
    assert re.match(r"error: the database test_\d+ is not empty: it has ", there.stderr)
    elsewhere = on(empty_database, monkeypatch)
    restored = elsewhere("restore", "crm.backup")
    assert restored.exit_code == 0, restored.stderr
    assert re.fullmatch(
        r"Restored crm\.backup: .*\n✓ All \d+ invariants hold, as `crm check` says\.\n", restored.stdout
    )
    assert "accounts and tokens are as they were then" in restored.stderr
    assert elsewhere("check").exit_code == 0
    assert elsewhere("ingest", INITIAL).stdout.splitlines()[-1].startswith("replayed")


def test_a_breach_that_was_in_the_backup_is_told_and_the_data_are_there(
    run: Run, fresh_database: Database, empty_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("ingest", a_drop(tmp_path / "a.csv", anna()))
    with fresh_database.transaction() as connection:
        connection.execute("update entity set hashdiff = sha256('x')")
    run("backup", "crm.backup")
    restored = on(empty_database, monkeypatch)("restore", "crm.backup")
    assert restored.exit_code == 1
    assert "\n✗ " in restored.stdout
    assert rows_of(empty_database, b"select display_name from entity") == [("Anna",)]


def test_on_a_terminal_it_shows_how_far_it_is(run: Run) -> None:
    run("ingest", INITIAL)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "crm_core", "backup", "crm.backup"], stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the terminal's end
        while block := os.read(master, 4096):
            shown += block
    assert process.wait(60) == 0
    assert b"crm.backup: dumping" in shown
    assert b"everything recorded up to" in shown


def test_clean_says_what_it_removed(run: Run, fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        connection.execute(
            "insert into idempotency_key (actor, key, fingerprint, outcome, answered_at)"
            " values ('ann', 'key', 'x', 'done', now() - interval '2 days')"
        )
    removed = "kept answers, 0 ended sessions, the text of 0 rejected rows, 0 declined files\n"
    assert run("clean").stdout == f"Removed: 1 {removed}"
    assert run("clean").stdout == f"Removed: 0 {removed}"
