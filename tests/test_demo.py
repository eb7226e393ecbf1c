"""`crm demo`: a newcomer sees the whole story, and a second run changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Server
from psycopg.sql import SQL, Identifier

from crm_core.cli import crm
from crm_core.database import Database
from crm_core.quality import check
from crm_core.resources import DATA

pytestmark = pytest.mark.integration

DROPS = [*sorted((DATA / "drops").glob("*.csv")), DATA / "sample_ingest.csv"]


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    """A database that was never migrated."""
    with server.clone("template0") as database:
        yield database


@dataclass(frozen=True, slots=True)
class Told:
    """What one run of the demo printed, and what stood in the database after it."""

    text: str
    stands: list[tuple[object, ...]]


@pytest.fixture(scope="module")
def told(database: Database, tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """Two runs one after the other, without --no-serve and with it."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CRM_DATABASE_URL", database.conninfo)
        patch.delenv("DAGSTER_HOME", raising=False)
        runs = []
        for more in ([], ["--no-serve"]):
            result = CliRunner().invoke(crm, ["demo", *more], catch_exceptions=False)
            assert (result.exit_code, result.stderr) == (0, "")
            runs.append(Told(result.stdout, stands(database)))
    assert list(folder.iterdir()) == [], "it leaves no files"
    return runs


def stands(database: Database) -> list[tuple[object, ...]]:
    query = SQL(" union all ").join(
        SQL("select {}, t::text from {} t").format(table, Identifier(table))
        for table in ("entity_type", "detail_type", "entity", "entity_detail", "ledger", "drop_file", "reject")
    )
    with database.connect() as connection:
        return sorted(connection.execute(query).fetchall())


def table(text: str, title: str) -> list[list[str]]:
    """The words of each row of a table, behind its heading."""
    lines = text.partition(title)[2].splitlines()[1:]
    return [line.split() for line in lines[: lines.index("") if "" in lines else None]]


def test_it_tells_of_each_drop_what_it_is_and_what_it_did(told: list[Told]) -> None:
    rows = table(told[0].text, "versions added")
    assert [row[0] for row in rows] == [path.name for path in DROPS]
    by_name = {row[0]: " ".join(row[1:]) for row in rows}
    assert "the first load merged 33 33 0" in by_name["2020-01-01_initial.csv"]
    assert "the same bytes again replayed 36 36 0 0 36 0 0" in by_name["2022-03-01_replay.csv"]
    assert "bad rows among good ones merged 17 4 13" in by_name["2022-06-01_dirty.csv"]


def test_it_names_every_rejected_row_by_line_and_reason(told: list[Told]) -> None:
    rows = table(told[0].text.partition("were refused")[2], "reasons")
    assert len(rows) == 13
    assert rows[0][:2] == ["4", "invalid_uid"]
    assert "Kaya Mensah" in " ".join(rows[0])
    assert rows[4][:2] == ["8", "details_not_list"]


def test_it_shows_a_name_before_and_after_it_changed(told: list[Told]) -> None:
    before, after = table(told[0].text.partition("changed its name on 2021-10-28")[2], "valid_from")
    assert " ".join(before).startswith("2021-10-27 Facebook, Inc. 2020-01-01 2021-10-28")
    assert "website https://www.facebook.com" in " ".join(before)
    assert " ".join(after).startswith("2021-10-28 Meta Platforms, Inc. 2021-10-28")
    assert "website https://meta.com" in " ".join(after)


def test_it_shows_the_diff_over_that_day(told: list[Told]) -> None:
    rows = [
        " ".join(row) for row in table(told[0].text.partition("The diff from 2021-10-27 to 2021-10-28")[2], "field")
    ]
    assert rows == [
        "changed display_name Facebook, Inc. Meta Platforms, Inc.",
        "changed details.website https://www.facebook.com https://meta.com",
    ]


def test_what_it_proposes_next_are_commands_that_exist(told: list[Told]) -> None:
    proposed = [line.split()[1] for line in told[0].text.splitlines() if line.startswith("  crm ")]
    assert set(proposed) - {"--help"} <= set(crm.commands)
    assert len(proposed) > 2


def test_it_says_plainly_that_nothing_is_served_yet(told: list[Told]) -> None:
    assert "serves nothing yet" in told[0].text
    assert "serves nothing yet" not in told[1].text


@pytest.mark.idempotency
def test_a_second_run_replays_every_drop_and_changes_nothing(told: list[Told], database: Database) -> None:
    assert "a replay changes nothing" in told[1].text
    assert {row[-9] for row in table(told[1].text, "versions added")} == {"replayed"}
    assert told[1].stands == told[0].stands
    assert len(told[0].stands) > 300


def test_what_it_leaves_behind_keeps_every_invariant(told: list[Told], database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []


@pytest.mark.slow
def test_on_the_embedded_server_it_writes_to_its_home_alone(tmp_path: Path) -> None:
    here, user = tmp_path / "here", tmp_path / "user"
    here.mkdir()
    user.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "POSTGRES_", "DAGSTER_"))}
    command = [sys.executable, "-c", "from crm_core.cli import main; main()", "demo", "--no-serve"]
    done = subprocess.run(
        command, cwd=here, env=kept | {"HOME": str(user)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "✓ PostgreSQL: the embedded one in .crm" in done.stdout
    assert [path.name for path in here.iterdir()] == [".crm"]
    assert list(user.iterdir()) == []
