"""Drops over REST in every format and by a profile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import V1, a_problem, served_with_types
from tables import FORMATS, write_table

from crm_core.postgres.connection import Database
from crm_core.profiles import store

pytestmark = [pytest.mark.integration, pytest.mark.api]

DROPS = f"{V1}/drops"
PROFILE = """
[columns]
display_name = "{First} {Last}"
entity_type = "PERSON"
[details]
email = "{Mail}"
"""


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    store.save(folder, "shop", PROFILE)
    (folder / "broken.toml").write_text("[columns]\nname = 1\n")
    return folder


@pytest.fixture(scope="module")
def client(database: Database, profiles: Path) -> Iterator[httpx.Client]:
    with served_with_types(database, profile_dir=profiles) as client:
        yield client


@pytest.mark.parametrize("ends", FORMATS)
def test_a_drop_may_be_sent_in_any_format(client: httpx.Client, tmp_path: Path, ends: str) -> None:
    rows = [{"display_name": f"Ada {ends}", "entity_type": "PERSON", "email": "a@x.org"}]
    path = write_table(tmp_path / f"drop.{ends}", rows)
    answer = client.post(DROPS, content=path.read_bytes(), headers={"Content-Type": "application/octet-stream"})
    assert (answer.status_code, answer.json()["rows_changed"]) == (201, 1), answer.text
    again = client.post(DROPS, files={"file": (path.name, path.read_bytes())})
    assert (again.status_code, again.json()["status"]) == (200, "replayed"), again.text


def test_a_drop_is_read_by_the_profile_that_is_named(client: httpx.Client, tmp_path: Path) -> None:
    rows = [{"First": "Bo", "Last": "Quill", "Mail": "b@x.org"}, {"First": "", "Last": "", "Mail": "c@x.org"}]
    content = write_table(tmp_path / "shop.ndjson", rows).read_bytes()
    headers = {"Content-Type": "application/x-ndjson"}
    sent = client.post(DROPS, content=content, headers=headers, params={"profile": "shop", "file_name": "shop.ndjson"})
    assert (sent.status_code, sent.json()["rows_accepted"], sent.json()["rows_rejected"]) == (201, 1, 1), sent.text
    drop = client.get(sent.headers["Location"]).json()
    assert (drop["profile"], drop["file"], drop["bytes"]) == ("shop", "shop.ndjson", len(content))
    rejects = client.get(f"{sent.headers['Location']}/rejects", params={"format": "csv"})
    assert rejects.headers["Content-Type"] == "application/x-ndjson"
    assert rejects.headers["Content-Disposition"].endswith('.ndjson"')
    line = '{"reject_line": 2, "reject_reasons": "missing_display_name", "First": "", "Last": "", "Mail": "c@x.org"}\n'
    assert rejects.text == line
    corrected = rejects.text.replace('"First": ""', '"First": "Cy"')
    again = client.post(DROPS, content=corrected, headers=headers, params={"profile": "shop"})
    assert (again.json()["rows_accepted"], again.json()["rows_rejected"]) == (1, 0), again.text
    found = client.get(f"{V1}/entities", params={"email": "c@x.org"}).json()["results"]
    assert [one["display_name"] for one in found] == ["Cy"]


def test_without_its_profile_the_file_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    content = write_table(tmp_path / "shop.csv", [{"First": "Bo", "Last": "Quill", "Mail": ""}]).read_bytes()
    a_problem(client.post(DROPS, content=content, headers={"Content-Type": "text/csv"}), 400, "has no header row")


def test_a_profile_that_is_unknown_or_broken_is_named(client: httpx.Client) -> None:
    for name, said in (
        ("erp", "no profile 'erp' is in"),
        ("../shop", "no profile '../shop' is in"),
        ("broken", "broken.toml:2: columns.name is neither a text nor a table"),
    ):
        answer = client.post(DROPS, content=b"x", headers={"Content-Type": "text/csv"}, params={"profile": name})
        a_problem(answer, 400, said)
