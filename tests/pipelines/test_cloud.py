"""The drop folder may be in a bucket: its files get runs, and go in, as those of a folder of this machine do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from buckets import Bucket, a_bucket
from commands import a_drop, anna
from project import Outcome, Project, a_database, a_project
from servers import Server

from crm_core.drops import registry
from crm_core.profiles import store
from pipelines.folder import DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.partitions import drop_key
from pipelines.resources import CrmDatabase
from pipelines.sensors import drop_folder

pytestmark = pytest.mark.integration

PROFILE = """
separator = ";"
[columns]
display_name = "{Name}"
entity_type = "PERSON"
change_ts = { file_name = "%Y-%m-%d" }
[details]
email = "{Mail}"
"""
NEW = "select display_name, valid_from::date::text from entity where is_current and display_name = any(%s) order by 1"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with a_bucket() as bucket:
        yield bucket


@pytest.fixture
def project(server: Server, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over a bucket, with the profile of an ERP."""
    monkeypatch.setenv("CRM_PROFILE_DIR", str(tmp_path / "profiles"))
    store.save(tmp_path / "profiles", "erp", PROFILE)
    with a_database(server) as database, a_project(database, tmp_path / "here") as project:
        monkeypatch.setenv("CRM_DROP_DIR", f"{bucket.address}/in")
        yield project


class Watch:
    """The daemon's part: ticks of the sensor, and the runs that they request."""

    def __init__(self, project: Project) -> None:
        self.project, self.cursor, self.said, self.reason = project, None, list[str](), ""

    def tick(self) -> list[dg.RunRequest]:
        resources = {"drop_folder": DropFolder(), "crm_database": CrmDatabase()}
        with dg.build_sensor_context(self.project.instance, self.cursor, resources=resources) as context:
            context.log.warning = self.said.append  # type: ignore[method-assign, assignment]
            result = drop_folder(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor  # type: ignore[assignment]
        self.reason = (result.skip_reason and result.skip_reason.skip_message) or ""
        for added in result.dynamic_partitions_requests or []:
            self.project.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        return list(result.run_requests or [])

    def requested(self) -> list[dg.RunRequest]:
        return [request for _ in range(2) for request in self.tick()]

    def run(self, request: dg.RunRequest) -> Outcome:
        return self.project.run("ingest_drop", request.partition_key, {FILE_TAG: request.tags[FILE_TAG]})


def test_files_in_a_bucket_go_in_and_those_of_a_profile_by_it(project: Project, bucket: Bucket, tmp_path: Path) -> None:
    watch = Watch(project)
    assert watch.requested() == []
    assert watch.reason.startswith("There is no drop in s3://crm/in: put one there.")
    bucket.put("in/a.csv", a_drop(tmp_path / "a.csv", anna(), anna(entity_type="NOBODY")).read_bytes())
    bucket.put("in/erp/2024-01-31.txt", b"Name;Mail\nBo;bo@example.org\n;no@example.org\n")
    bucket.put("in/other/b.csv", b"x")
    bucket.put("in/notes.doc", b"x")
    bucket.put("in/.hidden.csv", b"x")
    bucket.put("in/later.csv.part", b"x")
    bucket.put("elsewhere/c.csv", b"x")
    plain, by_profile = watch.requested()
    assert (plain.partition_key, by_profile.partition_key) == ("a.csv", drop_key("erp/2024-01-31.txt"))
    assert sorted(line.split(":")[0] for line in watch.said) == ["notes.doc is skipped", "other is skipped"]
    told = watch.run(plain).told
    assert (told["staged_changes"]["rows_accepted"], told["rejected_rows"]["rows_rejected"]) == (1, 1)
    assert told["drop_file"]["path"] == "s3://crm/in/a.csv"
    told = watch.run(by_profile).told
    assert (told["staged_changes"]["rows_accepted"], told["drop_file"]["profile"]) == (1, "erp")
    with project.database.connect() as connection:
        assert connection.execute(NEW, [["Anna", "Bo"]]).fetchall() == [("Anna", "2024-01-01"), ("Bo", "2024-01-31")]
        rejects = b"".join(registry.rejects_file(connection, str(told["drop_file"]["sha256"]))).decode()
    assert rejects == "\ufeffreject_line;reject_reasons;Name;Mail\n3;missing_display_name;;no@example.org\n"
    assert watch.requested() == []
    assert "Nothing new: each of the 2 files in s3://crm/in" in watch.reason
    assert [entry for entry in (project.folder / ".crm").iterdir() if entry.is_file()] == []


def test_other_bytes_under_the_same_name_are_another_drop_and_the_same_bytes_under_another_are_none(
    project: Project, bucket: Bucket, tmp_path: Path
) -> None:
    watch, path = Watch(project), tmp_path / "a.csv"
    first, second, third = (a_drop(path, anna(name)).read_bytes() for name in ("Anna", "Hana", "Jana"))
    assert len(first) == len(second) == len(third)
    bucket.put("in/a.csv", first)
    (request,) = watch.requested()
    assert watch.run(request).told["staged_changes"]["status"] == "merged"
    bucket.put("in/b.csv", first)
    (request,) = watch.requested()
    assert watch.run(request).told["drop_file"]["same_bytes_as"] == "a.csv"
    bucket.put("in/a.csv", second)  # within the same second, and as long
    (stale,) = watch.requested()
    bucket.put("in/a.csv", first)
    (said,) = watch.run(stale).failures
    assert said.startswith("a.csv has changed since this run was requested")
    bucket.put("in/a.csv", third)
    (request,) = watch.requested()
    assert watch.run(request).told["staged_changes"]["rows_changed"] == 1
    with project.database.connect() as connection:
        assert connection.execute(NEW, [["Anna", "Hana", "Jana"]]).fetchall() == [("Jana", "2024-01-01")]


def test_a_bucket_that_cannot_be_read_is_said_on_the_sensor_and_by_the_run(
    project: Project, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(project)
    bucket.put("in/a.csv", a_drop(tmp_path / "a.csv", anna()).read_bytes())
    (request,) = watch.requested()
    with bucket.locked():
        assert watch.tick() == []
        said = "s3://crm/in: the credentials do not allow it; check them"
        assert watch.reason.startswith(f"The folder cannot be listed: {said}")
        (failure,) = watch.run(request).failures
        assert failure.startswith(said)
    assert watch.run(request).told["staged_changes"]["status"] == "merged"
    monkeypatch.setenv("CRM_DROP_DIR", "s3://nobody")
    assert watch.tick() == []
    assert watch.reason.startswith("The folder cannot be listed: s3://nobody: there is no such bucket")
