"""`crm ingest s3://…`: a file in the cloud goes in as one of this machine does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import Bucket, a_bucket
from commands import Run, a_drop, anna, rows_of

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with a_bucket() as bucket:
        yield bucket


def test_a_file_in_the_cloud_is_the_same_drop_as_on_this_machine(
    run: Run, bucket: Bucket, tmp_path: Path, fresh_database: Database
) -> None:
    path = a_drop(tmp_path / "a.csv", anna(), anna(entity_type="NOBODY"))
    bucket.put("in/2024-01-31.csv", path.read_bytes())
    result = run("ingest", "--json", "s3://crm/in/2024-01-31.csv")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["rows_accepted"]) == (0, "merged", 1), result.output
    assert report["file"] == "s3://crm/in/2024-01-31.csv"
    assert rows_of(fresh_database, b"select file_name from drop_file") == [("2024-01-31.csv",)]
    assert json.loads(run("ingest", "--json", path).stdout)["status"] == "replayed"
    assert "NOBODY" in run("rejects", "2024-01-31.csv").stdout
    assert [entry for entry in (tmp_path / "home").iterdir() if entry.is_file()] == []


def test_a_profile_reads_the_instant_in_the_name_of_a_file_in_the_cloud(
    run: Run, bucket: Bucket, tmp_path: Path, fresh_database: Database
) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "erp.toml").write_text(
        '[columns]\ndisplay_name = "{Name}"\nentity_type = "PERSON"\nchange_ts = { file_name = "%Y-%m-%d" }\n'
    )
    bucket.put("2020-01-01/list_2024-01-31.csv", b"Name\nAda\n")
    result = run("ingest", "--profile", "erp", "s3://crm/2020-01-01/list_2024-01-31.csv")
    assert result.exit_code == 0, result.output
    assert rows_of(fresh_database, b"select valid_from::text from entity") == [("2024-01-31 00:00:00+00",)]


def test_what_cannot_be_read_is_refused_and_does_not_stop_the_others(run: Run, bucket: Bucket, tmp_path: Path) -> None:
    path = a_drop(tmp_path / "a.csv", anna())
    bucket.put("no-drop.csv", b"a,b\n1,2\n")
    result = run("ingest", "--json", "s3://nobody/a.csv", "s3://crm/b.csv", "s3://crm/no-drop.csv", path)
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [report["status"] for report in reports] == ["refused", "refused", "refused", "merged"]
    assert reports[0]["error"] == "s3://nobody/a.csv: there is no such bucket; check its name, or make it"
    assert reports[1]["error"] == "s3://crm/b.csv: does not exist; check how its name is spelled"
    assert reports[2]["error"].startswith("no-drop.csv: ")
    assert "/proc/" not in result.output
    wrong = run("ingest", "s3:/crm/a.csv")
    assert (wrong.exit_code, "write s3://bucket/file or gs://bucket/file" in wrong.output) == (2, True)


def test_a_profile_is_proposed_from_a_file_in_the_cloud_and_checked_with_it(
    run: Run, bucket: Bucket, tmp_path: Path
) -> None:
    content = b"Name;Kind;E-Mail\nAda;person;ada@x.org\nBo;person;bo@x.org\n"
    bucket.put("in/erp_2024-01-31.csv", content)
    proposed = run("profile", "infer", "s3://crm/in/erp_2024-01-31.csv", "--write", "erp")
    assert proposed.exit_code == 0, proposed.output
    assert "ada@x.org" in proposed.stderr
    (tmp_path / "erp_2024-01-31.csv").write_bytes(content)
    here = run("profile", "infer", "erp_2024-01-31.csv")
    assert run("profile", "show", "erp").stdout == here.stdout, "the name of the file says the same"
    checked = run("profile", "check", "erp", "s3://crm/in/erp_2024-01-31.csv")
    assert (checked.exit_code, "rows: 2 read, 2 good, 0 bad" in checked.stdout) == (0, True), checked.output
    bucket.put("in/empty_2024-01-31.csv", b"")
    refused = run("profile", "check", "erp", "s3://crm/in/empty_2024-01-31.csv")
    assert (refused.exit_code, "s3://crm/in/empty_2024-01-31.csv: is empty" in refused.stderr) == (1, True), (
        refused.output
    )
    assert [entry for entry in (tmp_path / "home").iterdir() if entry.name != "postgres"] == []
