"""`crm report`: it writes a page or JSON, about the last drops or those that are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import an_entity, as_row, reference_data, write_drop
from click.testing import CliRunner

from crm_core.cli.main import crm
from crm_core.drops.ingest import ingest
from crm_core.model import MergeReport
from crm_core.postgres.connection import Database

pytestmark = pytest.mark.integration


# the command


@pytest.fixture
def sampled(fresh_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[MergeReport]:
    """Two drops in the database of the settings, and an empty folder to run in."""
    with fresh_database.transaction() as connection:
        reference_data(connection)
    bad = as_row(an_entity(name="Ada Lovelace")) | {"op": "x"}
    paths = [
        write_drop(tmp_path / "a.csv", [an_entity(), bad]),
        write_drop(tmp_path / "b.csv", [an_entity(at=2, name="Ada King")]),
    ]
    merged = [ingest(fresh_database, path) for path in paths]
    monkeypatch.setenv("CRM_DATABASE_URL", fresh_database.conninfo)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return merged


def test_crm_report_writes_a_page_and_says_where(sampled: list[MergeReport]) -> None:
    result = CliRunner().invoke(crm, ["report"])
    assert (result.exit_code, result.stdout) == (0, "The report on 2 drop(s) is in crm-report.html\n")
    html = Path("crm-report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "b.csv" in html
    assert "Lovelace" not in html
    assert CliRunner().invoke(crm, ["report", "--show-values", "--output", "other.html"]).exit_code == 0
    assert "Lovelace" in Path("other.html").read_text(encoding="utf-8")


def test_crm_report_answers_json(sampled: list[MergeReport]) -> None:
    document = json.loads(CliRunner().invoke(crm, ["report", "--json", "--last", "1"]).stdout)
    assert [drop["file_name"] for drop in document["drops"]] == ["b.csv"]
    assert not list(Path().iterdir())
    assert CliRunner().invoke(crm, ["report", "--json", "--output", "r.json"]).exit_code == 0
    assert len(json.loads(Path("r.json").read_text(encoding="utf-8"))["drops"]) == 2


def test_crm_report_tells_of_the_drops_that_are_named(sampled: list[MergeReport]) -> None:
    for named in ("a.csv", "../a.csv", str(sampled[0].sha256)[:8]):
        document = json.loads(CliRunner().invoke(crm, ["report", named, "--json"]).stdout)
        assert [drop["file_name"] for drop in document["drops"]] == ["a.csv"]


@pytest.mark.parametrize("arguments", [["nothing.csv"], ["--output", "no/such/folder.html"]])
def test_crm_report_fails_in_one_line(sampled: list[MergeReport], arguments: list[str]) -> None:
    result = CliRunner().invoke(crm, ["report", *arguments])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
