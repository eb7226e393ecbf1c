"""`crm undo` as it is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Run, a_drop, anna

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]


def test_a_drop_is_undone_reinstated_and_ingested_again(run: Run, tmp_path: Path) -> None:
    drop = a_drop(tmp_path / "wrong.csv", anna("Wrong"))
    assert run("ingest", drop).exit_code == 0
    would = run("undo", "wrong.csv", "--reason", "a test", "--dry-run")
    assert "A dry run, nothing is changed: changes undone: 1" in would.stdout
    assert "display_name: Wrong → none" in would.stdout
    done = json.loads(run("undo", drop, "--reason", "a test", "--json").stdout)
    assert (done["kind"], done["changes"], done["entities"], done["dry_run"]) == ("undo", 1, 1, False)
    again = run("undo", drop, "--reason", "a test")
    assert again.exit_code == 1
    assert "undone already" in again.stderr
    assert run("undo", drop, "--reason", "a test", "--reinstate").exit_code == 0
    assert run("undo", drop, "--reason", "a test").exit_code == 0
    assert json.loads(run("ingest", "--json", drop).stdout)["status"] == "merged"
    assert run("check").exit_code == 0
    assert run("undo", "--reason", "x").exit_code == run("undo", drop).exit_code == 2
    assert run("undo", drop, "--reason", " ").exit_code == 2


def test_a_name_means_the_one_drop_of_that_name_that_can_be_undone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    assert run("ingest", a_drop(path, anna("First"))).exit_code == 0
    assert run("undo", "daily.csv", "--reason", "wrong").exit_code == 0
    assert run("ingest", a_drop(path, anna("Second"))).exit_code == 0
    path.unlink()  # a file that is there means itself
    done = run("undo", "daily.csv", "--reason", "wrong too")
    assert "display_name: Second → none" in done.stdout
    both = run("undo", "daily.csv", "--reason", "right", "--reinstate")
    assert (both.exit_code, "2 drops are named 'daily.csv'" in both.stderr) == (2, True)
