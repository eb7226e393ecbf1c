"""The report's file: whole or as it was before."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import reference_data
from running import clean_environment
from servers import Server

from crm_core.postgres.connection import Database

pytestmark = pytest.mark.integration

REPORT = [sys.executable, "-m", "crm_core", "report", "--output"]


@pytest.fixture(scope="module")
def filled(server: Server) -> Iterator[Database]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        yield database


def report(database: Database, folder: Path, output: str, most: int | None = None) -> subprocess.CompletedProcess[str]:
    """Write a report; `most` bytes a file, as if the disk were full then."""

    def limit() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(
        [*REPORT, output],
        cwd=folder,
        env=clean_environment(CRM_DATABASE_URL=database.conninfo, PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_report_that_does_not_fit_leaves_the_one_before(filled: Database, tmp_path: Path) -> None:
    assert report(filled, tmp_path, "r.html").returncode == 0
    before = (tmp_path / "r.html").read_text()
    assert "</html>" in before
    failed = report(filled, tmp_path, "r.html", most=2_000)
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False), failed.stderr
    assert "r.html" in failed.stderr
    assert (tmp_path / "r.html").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"], "no part is left"


def test_a_report_goes_through_a_link_and_to_a_pipe(filled: Database, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "r.html").symlink_to(tmp_path / "real" / "r.html")
    assert report(filled, tmp_path, "r.html").returncode == 0
    assert (tmp_path / "r.html").is_symlink()
    piped = report(filled, tmp_path, "/dev/stdout")
    assert (piped.returncode, "</html>" in piped.stdout) == (0, True), piped.stderr
