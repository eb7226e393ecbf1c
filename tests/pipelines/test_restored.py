"""After a restore the drop folder is looked at again: what the database has is recognised, what it lost is taken in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from builders import an_entity, reference_data, write_drop
from project import Project, a_project
from servers import Server

from crm_core.backup.restoring import restore
from crm_core.backup.taking import back_up
from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import check
from pipelines.folder import DropFolder
from pipelines.resources import CrmDatabase
from pipelines.sensors import drop_folder

pytestmark = pytest.mark.integration


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[Project]:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        with a_project(database, tmp_path / "drops") as project:
            yield project


def asked(project: Project, cursor: str | None = None) -> list[str | None]:
    """The partitions that the sensor asks for in two ticks, the second of which sees that the files are complete."""
    requests: list[str | None] = []
    for _ in range(2):
        resources = {"drop_folder": DropFolder(), "crm_database": CrmDatabase()}
        with dg.build_sensor_context(project.instance, cursor, resources=resources) as context:
            result = drop_folder(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        requests += [request.partition_key for request in result.run_requests or []]
    return requests


def test_only_what_came_after_the_backup_is_taken_in_again(
    project: Project, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_drop(project.folder / "before.csv", [an_entity("ada")])
    project.materialize(project.know("before.csv"))
    back_up(project.database, tmp_path / "crm.backup")
    write_drop(project.folder / "after.csv", [an_entity("bob", at=2)])
    project.materialize(project.know("after.csv"))
    assert asked(project) == [], "both are in"
    versions = project.versions()
    with server.clone("template0") as restored:
        restore(restored, tmp_path / "crm.backup")
        monkeypatch.setenv("CRM_DATABASE_URL", restored.conninfo)
        there = Project(restored, project.folder, project.instance)
        assert len(there.versions()) < len(versions)
        assert asked(there) == ["after.csv"]
        there.materialize("after.csv")
        assert asked(there) == []
        told = there.materialize("before.csv")
        assert told["staged_changes"]["status"] == "replayed"
        assert there.versions() == versions
        assert breaches(restored) == []


def breaches(database: Database) -> list[str]:
    with database.connect() as connection:
        return [found.name for found in check(connection) if not found.holds]


def test_housekeeping_runs(project: Project) -> None:
    project.execute(
        "insert into idempotency_key (actor, key, fingerprint, outcome, answered_at)"
        " values ('ann', 'key', 'x', 'done', now() - interval '2 days')"
    )
    outcome = project.run("housekeeping")
    assert outcome.failures == []
    with project.database.connect() as connection:
        assert connection.execute("select count(*) from idempotency_key").fetchone() == (0,)
