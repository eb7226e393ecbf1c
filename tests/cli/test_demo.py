"""`crm demo`: a newcomer sees the whole story, and a second run changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from click.testing import CliRunner
from psycopg.sql import SQL, Identifier
from running import clean_environment
from servers import Server

from crm_core.cli.console import REJECT_HEADING, this_command
from crm_core.cli.demo import DROP_HEADING, KINDS
from crm_core.cli.main import crm
from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from crm_core.timeline.invariants import check

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from crm_core.cli.main import main; main()"]
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
    answers: list[str]  # to what it proposes to try, while it served


@pytest.fixture(scope="module")
def told(database: Database, tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """Two runs one after the other, with --no-serve and without it."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in os.environ.keys() - clean_environment().keys():
            patch.delenv(name)
        patch.setenv("CRM_DATABASE_URL", database.conninfo)
        result = CliRunner().invoke(crm, ["demo", "--no-serve"], catch_exceptions=False)
        assert (result.exit_code, result.stderr) == (0, "")
        runs = [Told(result.stdout, stands(database), []), served(database)]
    assert list(folder.iterdir()) == [], "it leaves no files"
    return runs


def served(database: Database) -> Told:
    """Run the demo until it serves, try what it proposes, and stop it with Ctrl-C."""
    process = subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Stop "):
            break
    direct = build_opener(ProxyHandler({}))
    answers = [direct.open(url, timeout=30).read().decode() for url in re.findall(r"curl '(\S+)'", "".join(lines))]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return Told("".join(lines) + rest, stands(database), answers)


def stands(database: Database) -> list[tuple[object, ...]]:
    query = SQL(" union all ").join(
        SQL("select {}, t::text from {} t").format(table, Identifier(table))
        for table in ("entity_type", "detail_type", "entity", "entity_detail", "ledger", "drop_file", "reject")
    )
    with database.connect() as connection:
        return sorted(connection.execute(query).fetchall())


def paragraph(text: str, title: str) -> list[str]:
    """The lines behind one that ends with the title, up to an empty one."""
    lines = text.partition(f"{title}\n")[2].splitlines()
    return lines[: lines.index("")]


def test_it_tells_of_each_drop_what_it_did_and_of_each_kind_what_it_is(told: list[Told]) -> None:
    does = {line.split()[0]: line.split()[1:] for line in paragraph(told[0].text, DROP_HEADING)}
    assert list(does) == [path.stem for path in DROPS]
    assert does["2015-01-01_register"] == ["merged", "313", "0", "313", "0", "3", "1028"]
    assert does["2022-03-01_replay"] == ["replayed", "36", "0", "0", "36", "0", "0"]
    assert does["2022-02-15_late"][5] == "6"
    assert does["2022-06-01_dirty"][:4] == ["merged", "17", "13", "4"]
    kinds = paragraph(told[0].text, "How the name of a drop ends, and what it holds:")
    assert [line.split()[0] for line in kinds] == list(KINDS)
    assert {path.stem.rpartition("_")[2] for path in DROPS} == KINDS.keys()


def test_it_names_every_rejected_row_by_line_and_reason(told: list[Told]) -> None:
    lines = [line.split() for line in paragraph(told[0].text, REJECT_HEADING)]
    assert [words[0] for words in lines if words[0].isdigit()] == [str(line) for line in range(4, 17)]
    assert lines[0][:2] == ["4", "invalid_uid"]
    assert lines[4][:2] == ["8", "details_not_list"]
    assert [words[-1] for words in lines[13:]] == [
        "missing_display_name",
        "unknown_entity_type",
        "details_not_json",
        "invalid_change_ts",
        "unknown_op",
    ]


def test_it_shows_a_name_before_and_after_it_changed(told: list[Told]) -> None:
    assert paragraph(told[0].text, "changed its name on 2021-10-28. Ask for any instant:") == [
        "  as of 2021-10-27  Facebook, Inc., from 2015-01-01 until 2021-10-28",
        "                    address  Menlo Park, California",
        "                    head     Mark Zuckerberg",
        "                    website  https://www.facebook.com",
        "  as of 2021-10-28  Meta Platforms, Inc., from 2021-10-28 until further notice",
        "                    address  Menlo Park, California",
        "                    head     Mark Zuckerberg",
        "                    website  https://meta.com",
    ]


def test_it_shows_the_diff_over_that_day(told: list[Told]) -> None:
    assert paragraph(told[0].text, "What changed from 2021-10-27 to 2021-10-28:") == [
        "  changed  display_name     Facebook, Inc. → Meta Platforms, Inc.",
        "  changed  details.website  https://www.facebook.com → https://meta.com",
    ]


def test_it_shows_a_fact_that_was_learnt_late_between_two_that_were_known(told: list[Told]) -> None:
    assert paragraph(
        told[0].text, "Then a late one said: Anna Lindqvist-Berg, from 2020-09-12. All three are true:"
    ) == [
        "  as of 2020-01-01  Anna Lindqvist, from 2020-01-01 until 2020-09-12",
        "  as of 2020-09-12  Anna Lindqvist-Berg, from 2020-09-12 until 2022-01-01",
        "  as of 2022-01-01  Anna Lindqvist, from 2022-01-01 until further notice",
    ]


def test_what_it_proposes_next_are_commands_that_exist(told: list[Told]) -> None:
    next_steps = told[0].text.partition("To go on:\n")[2]
    proposed = re.findall(r"^  .*?\bcrm (\S+)", next_steps, re.MULTILINE)
    assert set(proposed) - {"--help"} <= set(crm.commands)
    assert len(proposed) > 2


@pytest.mark.unit
@pytest.mark.parametrize(
    ("environment", "called"),
    [
        ({"UV_RUN_RECURSION_DEPTH": "1", "PATH": "{folder}"}, "uv run crm"),
        ({"UV_RUN_RECURSION_DEPTH": "1", "UV": "{folder}/my tools/uv", "PATH": ""}, "'{folder}/my tools/uv' run crm"),
        ({"PATH": str(Path(sys.executable).parent)}, "crm"),
        ({"PATH": ""}, f"{Path(sys.executable).parent}/crm"),
    ],
    ids=["by uv", "by a uv outside PATH", "in an active environment", "outside one"],
)
def test_it_names_commands_as_they_can_be_called_here(
    environment: dict[str, str], called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv").touch(mode=0o755)
    for name in ("UV", "UV_RUN_RECURSION_DEPTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    monkeypatch.chdir("/usr")
    assert this_command() == called.format(folder=tmp_path)


def test_at_its_end_it_serves_and_proposes_what_to_ask(told: list[Told]) -> None:
    entities, changes = (json.loads(answer) for answer in told[1].answers)
    assert [entity["display_name"] for entity in entities["results"]] == ["Meta Platforms, Inc."]
    renamed = {"field": "display_name", "from": "Facebook, Inc.", "to": "Meta Platforms, Inc."}
    assert [result for result in changes["results"] if renamed in result["changes"]]
    assert "/docs" in told[1].text
    assert "/docs" not in told[0].text


@pytest.mark.idempotency
def test_a_second_run_replays_every_drop_and_changes_nothing(told: list[Told], database: Database) -> None:
    assert "a replay changes nothing" in told[1].text
    assert {line.split()[1] for line in paragraph(told[1].text, DROP_HEADING)} == {"replayed"}
    assert told[1].stands == told[0].stands
    assert len(told[0].stands) > 3000


def test_what_it_leaves_behind_keeps_every_invariant(told: list[Told], database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_a_run_of_the_job_that_waits_for_a_lock_ends_it_at_once(
    fresh_database: Database, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with fresh_database.connect() as holder, fresh_database.connect(autocommit=True) as observer:
        holder.execute("lock table drop_file in access exclusive mode")
        process = subprocess.Popen(
            [*COMMAND, "demo"],
            cwd=tmp_path,
            env=clean_environment(CRM_DATABASE_URL=fresh_database.conninfo),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not observer.execute(waiting).fetchall() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert observer.execute(waiting).fetchall() == [], "nor does the server wait any more"
    assert process.returncode == status
    assert stderr == "interrupted: what was under way has been rolled back\n"


def test_on_the_embedded_server_it_writes_to_its_home_alone(tmp_path: Path) -> None:
    here, user = tmp_path / "here", tmp_path / "user"
    here.mkdir()
    user.mkdir()
    done = subprocess.run(
        [*COMMAND, "demo", "--no-serve"],
        cwd=here,
        env=clean_environment(HOME=str(user)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all("can now be passed through, but not read" in line for line in done.stderr.splitlines()), "as root alone"
    assert "✓ PostgreSQL: the embedded one in .crm" in done.stdout
    assert [path.name for path in here.iterdir()] == [".crm"]
    assert list(user.iterdir()) == []
