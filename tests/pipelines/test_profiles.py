"""A subfolder of the drop folder takes files by the profile of its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from project import Project, a_database, a_project
from servers import Server
from tables import write_table
from ticks import Ticks

from crm_core.drops import registry
from crm_core.drops.held import approve
from crm_core.drops.ingest import Options, ingest
from crm_core.profiles import store
from crm_core.timeline.undo import Who
from pipelines.folder import DropFolder
from pipelines.partitions import drop_key
from pipelines.resources import CrmDatabase
from pipelines.sensors import drops_from_elsewhere

PROFILE = """
separator = ";"
encoding = "cp1252"
[columns]
display_name = "{Name}"
entity_type = { from = "{Art}", values = { P = "PERSON" } }
change_ts = { file_name = "%Y-%m-%d" }
[details]
email = "{Mail}"
"""
ROWS = [
    {"Name": "Zoë", "Art": "P", "Mail": "zoe@example.org"},
    {"Name": "Bo", "Art": "?", "Mail": ""},
]


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the profiles, with that of an ERP."""
    folder = tmp_path / "profiles"
    monkeypatch.setenv("CRM_PROFILE_DIR", str(folder))
    store.save(folder, "erp", PROFILE)
    return folder


@pytest.fixture
def project(server: Server, tmp_path: Path, profiles: Path) -> Iterator[Project]:
    with a_database(server) as database, a_project(database, tmp_path / "drops") as project:
        (project.folder / "erp").mkdir()
        yield project


def deliver(folder: Path, name: str) -> str:
    """Put a file into the subfolder of the ERP, and answer its partition."""
    write_table(folder / "erp" / f"{name}.csv", ROWS, ";", "cp1252").rename(folder / "erp" / name)
    return drop_key(f"erp/{name}")


@pytest.mark.unit
def test_files_in_the_subfolder_of_a_profile_are_requested(tmp_path: Path, profiles: Path) -> None:
    folder = tmp_path / "drops"
    (folder / "erp").mkdir(parents=True)
    (folder / "other").mkdir()
    (folder / "a.csv").touch()
    (folder / "other" / "a.csv").touch()
    key = deliver(folder, "2024-01-31.txt")
    (folder / "erp" / "~$book.xlsx").touch()
    (folder / "erp" / "notes.doc").touch()
    (folder / "erp" / "inner").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(folder, instance)
        assert ticks.ticks(2) == ["a.csv", key]
    assert key.startswith("erp_2024-01-31.txt_")
    assert sorted(line.split(":")[0] for line in ticks.said) == [
        "erp/inner is skipped",
        "erp/notes.doc is skipped",
        "other is skipped",
    ]
    found = DropFolder(folder=str(folder)).find(key)
    assert found is not None
    assert (found.path, found.profile, found.name) == (
        folder / "erp" / "2024-01-31.txt",
        "erp",
        "erp/2024-01-31.txt",
    )


@pytest.mark.integration
def test_a_file_of_a_subfolder_goes_in_by_its_profile_and_its_rejects_come_back_in_its_columns(
    project: Project,
) -> None:
    key = project.know("erp/2024-01-31.txt")
    assert deliver(project.folder, "2024-01-31.txt") == key
    found = project.materialize(key)
    assert (found["drop_file"]["profile"], found["staged_changes"]["rows_accepted"]) == ("erp", 1)
    assert found["rejected_rows"]["rows_rejected"] == 1
    again = project.materialize(key)
    assert again["staged_changes"]["status"] == "replayed"
    assert "same_bytes_as" not in again["drop_file"]
    with project.database.connect() as connection:
        (document,) = registry.drops(connection).documents
        assert '"file":"erp/2024-01-31.txt"' in document
        assert '"profile":"erp"' in document
        sha256 = str(found["drop_file"]["sha256"])
        assert b"".join(registry.rejects_file(connection, sha256)).decode() == (
            "\ufeffreject_line;reject_reasons;Name;Art;Mail\n3;unknown_entity_type;Bo;?;\n"
        )
    by_hand = ingest(
        project.database,
        project.folder / "erp" / "2024-01-31.txt",
        Options(profile=store.load(project.folder.parent / "profiles", "erp")),
    )
    assert (by_hand.status, by_hand.sha256) == ("replayed", sha256), "the same drop by command"


@pytest.mark.integration
def test_a_profile_that_is_broken_fails_the_run_with_its_line(project: Project, profiles: Path) -> None:
    key = project.know("erp/2024-01-31.txt")
    deliver(project.folder, "2024-01-31.txt")
    (profiles / "erp.toml").write_text(PROFILE.replace("cp1252", "klingon"))
    (said,) = project.ingest(key).failures
    assert f"{profiles / 'erp.toml'}:3: encoding is 'klingon'" in said
    (profiles / "erp.toml").write_text(PROFILE)
    assert project.materialize(key)["staged_changes"]["rows_accepted"] == 1


@pytest.mark.integration
def test_a_profile_whose_scope_is_no_type_fails_the_run_with_the_choice(project: Project, profiles: Path) -> None:
    (profiles / "erp.toml").write_text(f'mode = "snapshot"\nscope = ["NOBODY"]\n{PROFILE}')
    key = project.know("erp/2024-01-31.txt")
    deliver(project.folder, "2024-01-31.txt")
    (said,) = project.ingest(key).failures
    assert "'NOBODY' in the scope is not an entity type, choose from: " in said


@pytest.mark.integration
def test_a_held_snapshot_warns_on_its_partition_until_it_is_approved(project: Project, profiles: Path) -> None:
    (profiles / "erp.toml").write_text(f'mode = "snapshot"\nscope = ["PERSON"]\n{PROFILE}')
    key = project.know("erp/2024-01-31.txt")
    deliver(project.folder, "2024-01-31.txt")
    outcome = project.ingest(key)
    assert (outcome.failures, outcome.told) == ([], {})
    (warned,) = [check for check in outcome.checks if not check.passed]
    assert (warned.check_name, warned.partition, warned.severity) == (
        "nothing_to_decide", key, dg.AssetCheckSeverity.WARN,
    )  # fmt: skip
    assert "held, 3 of 3 entities would end; approve or decline it" in (warned.description or "")
    cursor = None

    def asked() -> list[str | None]:
        nonlocal cursor
        resources = {"crm_database": CrmDatabase()}
        with dg.build_sensor_context(project.instance, cursor, resources=resources) as context:
            result = drops_from_elsewhere(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        return [request.partition_key for request in result.run_requests or []]

    assert asked() == []
    with project.database.connect(autocommit=True) as connection:
        (document,) = registry.drops(connection).documents
        sha256 = str(json.loads(document)["sha256"])
        assert approve(connection, sha256, Who("ann", "so it is")).entities_ended == 3
    assert asked() == [key]
    assert asked() == []
    outcome = project.ingest(key)
    assert "nothing_to_decide" not in outcome.failed_checks
    assert outcome.told["staged_changes"]["entities_ended"] == 3
