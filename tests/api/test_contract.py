"""The API keeps what its OpenAPI document says, whatever Schemathesis makes up; no answer is an error of ours.

CRM_TEST_EXAMPLES=460 makes it some ten thousand calls.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from builders import reference_data
from serving import served

from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import check

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.fixture
def client(fresh_database: Database) -> Iterator[httpx.Client]:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    with served(fresh_database) as client:
        yield client


@pytest.mark.api
@pytest.mark.integration
def test_it_answers_as_its_document_says(client: httpx.Client, fresh_database: Database, tmp_path: Path) -> None:
    examples = os.environ.get("CRM_TEST_EXAMPLES", "1")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"),
            *("--max-examples", examples, "--checks", ",".join(CHECKS), "--continue-on-failure"),
            *("--suppress-health-check", "all", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]
    calls = re.search(r"(\d+) generated", run.stdout)
    assert calls
    assert int(calls[1]) > 30 * int(examples) / 3, run.stdout[-2_000:]
    with fresh_database.connect() as connection:
        assert [found.name for found in check(connection) if not found.holds] == []
