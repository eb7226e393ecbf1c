"""`crm bench --compare` asks each tool the same questions, grades all alike, and goes on if one cannot be installed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from crm_core.bench.compare import OURS, PACKAGES_OF, PEERS, Compared, Step, compare, lines
from crm_core.bench.generator import write_drops
from crm_core.bench.scenario import (
    ALSO_GOOD,
    BAD_LINES,
    GOOD,
    IN_ORDER,
    NO_UUID,
    OUT_OF_ORDER,
    PASSED,
    RETURNED,
    TWICE,
    Answers,
    Histories,
    Verdict,
    Version,
    grade,
    write_story,
)
from crm_core.cli.main import crm
from crm_core.postgres.embedded import running_server

ROOT = Path(__file__).parents[2]
RIGHT_ABOUT_ALL = {
    "late row: A, B, C": "day 2 B, now C",
    "late row: A, B, A": "A, B, A, now A",
    "a row twice in a file is one": "A, then A",
    "two changes in a file": "noon A, now B",
    "the same, out of order": "noon A, now B",
    "good rows beside bad ones are loaded": "2 of 2",
    "bad rows stay out": "0 of 4 were loaded",
    "bad rows are listed, with reasons": "4 of 4",
}


def a_history(*names_and_hours: tuple[str, int, int | None]) -> Sequence[Version]:
    """Versions of one entity: name, from and to; hours count from the midnight that begins day 1."""

    def instant(hours: int) -> datetime:
        return datetime(2024, 1, 1 + hours // 24, hours % 24, tzinfo=UTC)

    return [
        Version(name, "PERSON", "[]", instant(start), None if end is None else instant(end))
        for name, start, end in names_and_hours
    ]


TRUE: Histories = {
    PASSED: a_history(("A", 8, 32), ("B", 32, 56), ("C", 56, None)),
    RETURNED: a_history(("A", 8, 32), ("B", 32, 56), ("A", 56, None)),
    TWICE: a_history(("A", 8, None)),
    IN_ORDER: a_history(("A", 8, 16), ("B", 16, None)),
    OUT_OF_ORDER: a_history(("A", 8, 16), ("B", 16, None)),
}
GOOD_ONES: Histories = {GOOD: a_history(("A", 80, None)), ALSO_GOOD: a_history(("A", 80, None))}
ALL_RIGHT = Answers(TRUE, TRUE, {**TRUE, **GOOD_ONES}, frozenset(BAD_LINES.values()))


def verdicts(answers: Answers) -> Mapping[str, Verdict]:
    return {verdict.question: verdict for verdict in grade(answers)}


@pytest.mark.unit
def test_a_true_history_is_right_about_every_question() -> None:
    found = verdicts(ALL_RIGHT)
    assert {question: verdict.found for question, verdict in found.items()} == RIGHT_ABOUT_ALL
    assert all(verdict.is_right for verdict in found.values())


@pytest.mark.unit
@pytest.mark.parametrize(
    ("uid", "history", "question", "says"),
    [
        (  # the late row is made current, and what it displaced ends before it began
            PASSED,
            a_history(("A", 8, 56), ("C", 56, 32), ("B", 32, None)),
            "late row: A, B, C",
            "day 2 A+B, now B",
        ),
        (PASSED, a_history(("A", 8, 56), ("C", 56, None)), "late row: A, B, C", "day 2 A, now C"),
        (RETURNED, a_history(("A", 8, 32), ("B", 32, None)), "late row: A, B, A", "A, B, B, now B"),
        (TWICE, a_history(("A", 8, None), ("A", 8, None)), "a row twice in a file is one", "A, then A+A"),
        (IN_ORDER, a_history(("A", 8, None), ("B", 16, None)), "two changes in a file", "noon A, now A+B"),
        (IN_ORDER, a_history(("B", 16, None)), "two changes in a file", "noon nothing, now B"),
        (OUT_OF_ORDER, a_history(("B", 16, 8), ("A", 8, None)), "the same, out of order", "noon A, now A"),
    ],
)
def test_a_wrong_history_is_wrong_about_its_question_alone(
    uid: str, history: Sequence[Version], question: str, says: str
) -> None:
    found = verdicts(replace(ALL_RIGHT, after_late={**TRUE, uid: history}))
    assert found[question].found == says
    assert [name for name, verdict in found.items() if not verdict.is_right] == [question]


@pytest.mark.unit
def test_a_tool_that_takes_everything_in_and_one_that_refuses_the_file_are_both_wrong_about_bad_rows() -> None:
    takes_all = {**TRUE, **GOOD_ONES, NO_UUID: a_history(("A", 80, None))}
    found = verdicts(replace(ALL_RIGHT, after_bad=takes_all, refused_lines=frozenset()))
    assert not found["bad rows stay out"].is_right
    assert not found["bad rows are listed, with reasons"].is_right
    found = verdicts(replace(ALL_RIGHT, after_bad=TRUE, refused_lines=frozenset()))
    assert found["bad rows stay out"].is_right
    assert found["good rows beside bad ones are loaded"].found == "0 of 2"


@pytest.mark.unit
def test_a_good_row_that_is_reported_as_bad_counts_as_wrong() -> None:
    found = verdicts(replace(ALL_RIGHT, refused_lines=ALL_RIGHT.refused_lines | {2}))
    assert not found["bad rows are listed, with reasons"].is_right


@pytest.mark.unit
def test_the_lines_of_the_bad_rows_are_those_in_the_file(tmp_path: Path) -> None:
    text = write_story(tmp_path / "story").bad.read_text().splitlines()
    assert [text[line - 1].partition(",")[0] for line in BAD_LINES.values()] == [*BAD_LINES]


@pytest.mark.unit
def test_a_table_has_a_column_for_each_tool_and_says_what_failed() -> None:
    ours = Compared(
        "crm", "1.0", None, (Step("late rows", 1.25, None),), (Verdict("Is it?", is_right=True, found="A"),)
    )
    other = Compared(
        "b", "2", None, (Step("late rows", 9, "given up"),), (Verdict("Is it?", is_right=False, found="B"),)
    )
    absent = Compared("c", None, "uv is not installed", (), ())
    assert list(lines([ours, other, absent])) == [
        "           crm 1.0  b 2",
        "late rows  1.2 s    failed",
        "Is it?     ✓ A      ✗ B",
        "b: given up",
        "c: uv is not installed",
    ]


@pytest.mark.unit
def test_an_unknown_tool_is_wrong_usage_and_the_known_ones_are_named() -> None:
    ran = CliRunner().invoke(crm, ["bench", "--compare", "dlt,fivetran"])
    assert ran.exit_code == 2
    assert "fivetran" in ran.output
    assert "choose from dbt, dlt, dlt-exclusion, dlt-nested, sqlmesh" in ran.output


@pytest.mark.unit
def test_peers_are_installed_as_of_the_same_day_as_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["exclude-newer"] == PACKAGES_OF
    for peer in PEERS:
        for line in (ROOT / "data" / "peers" / peer / "requirements.txt").read_text().splitlines():
            assert re.fullmatch(r"[\w\[\]-]+>=[\d.]+,<[\d.]+", line), f"{peer}: {line} has no bounds"


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"PATH": "/nowhere"}, "uv is not installed"),
        ({"UV_OFFLINE": "1", "UV_CACHE_DIR": "empty"}, "it could not be installed"),
    ],
)
def test_a_peer_that_cannot_be_installed_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], error: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    drops = write_drops(tmp_path / "drops", 100)
    with running_server(tmp_path / "server") as conninfo:
        ours, dlt = compare(conninfo, drops, 100, ["dlt"], tmp_path / "compared", lambda _: None)
    assert dlt.tool == "dlt"
    assert error in (dlt.error or "")
    assert (dlt.steps, dlt.verdicts) == ((), ())
    assert ours.error is None
    assert [step.error for step in ours.steps] == [None] * 4
    assert all(verdict.is_right for verdict in ours.verdicts)


@pytest.mark.integration
@pytest.mark.slow
def test_a_peer_takes_the_same_drops_in_and_is_asked_the_same() -> None:
    ran = CliRunner().invoke(crm, ["bench", "--entities", "2k", "--seconds", "1", "--compare", "dlt", "--json"])
    assert ran.exit_code == 0, ran.output
    ours, dlt = json.loads(ran.stdout)["compared"]
    assert (ours["tool"], dlt["tool"]) == (OURS, "dlt")
    for tool in (ours, dlt):
        assert tool["error"] is None
        assert [step["what"] for step in tool["steps"]] == [
            "first load",
            "delta: 30 % news",
            "replay, the same rows",
            "late rows",
        ]
        assert all(step["seconds"] > 0 and step["error"] is None for step in tool["steps"])
    questions = ["a replay adds nothing", "the current state after late rows", *RIGHT_ABOUT_ALL]
    assert {verdict["question"]: verdict["is_right"] for verdict in ours["verdicts"]} == dict.fromkeys(questions, True)
    found = {verdict["question"]: verdict for verdict in dlt["verdicts"]}
    assert found["a replay adds nothing"]["is_right"]
    assert not found["late row: A, B, A"]["is_right"]
    assert found["bad rows stay out"]["found"] == "4 of 4 were loaded"
