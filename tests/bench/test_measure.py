"""`crm bench` measures what it says, in one run, and leaves nothing behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from crm_core.cli.main import crm

pytestmark = pytest.mark.integration


def test_it_measures_drops_reads_and_writes_beside_their_limits() -> None:
    before = set(Path(tempfile.gettempdir()).glob("crm-bench-*"))
    ran = CliRunner().invoke(crm, ["bench", "--entities", "2k", "--seconds", "1", "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    figures = {figure["what"]: figure for figure in found["figures"]}
    assert [figures[what]["rows"] for what in ("first load", "delta: 30 % news", "late rows")] == [2_000, 2_000, 100]
    for what in ("first load", "replay, the same rows", "one entity", "list of 20", "one PATCH, committed"):
        figure = figures[what]
        assert figure["seconds"] > 0
        assert figure["ratio"] == pytest.approx(figure["seconds"] / figure["limit"])
    assert figures["as-of, all of it streamed"]["rows"] > 2_000
    formats = ("CSV", "CSV by a profile", "CSV in gzip", "CSV in Zstandard", "JSON lines", "Parquet", "Excel")
    assert {figures[f"read and validate: {each}"]["rows"] for each in formats} == {2_000}
    assert figures["read and validate: Excel"]["limited_by"] == "CSV"
    assert figures["undo of the late rows"]["rows"] == figures["reinstatement of them"]["rows"] == 100
    assert figures["undo of the late rows"]["limit"] == figures["late rows"]["seconds"]
    assert figures["feed, all in pages of 1,000"]["rows"] > 4_000
    assert figures["snapshot, nothing ends"]["rows"] == 2_000
    assert figures["snapshot, nothing ends"]["limit"] == figures["replay, the same rows"]["seconds"]
    assert found["entities"] == 2_000
    assert found["peak_mib"] > 50
    assert set(Path(tempfile.gettempdir()).glob("crm-bench-*")) == before


@pytest.mark.parametrize("entities", ["", "9", "many", "6m", "-1k"])
def test_an_invalid_size_is_refused(entities: str) -> None:
    ran = CliRunner().invoke(crm, ["bench", "--entities", entities])
    assert ran.exit_code == 2
    assert "1k to 5m" in ran.output
