"""Drops that were merged without Dagster get runs that show them, with the trace of the request that sent them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import httpx
import pytest
from builders import an_entity, write_drop
from project import Project, a_database, a_project
from servers import Server
from serving import V1, served

from crm_core.drops.ingest import Options, ingest
from crm_core.drops.undo import undo_drop
from crm_core.timeline.undo import Who
from pipelines.ingestion import ACTOR, DROP_TAG
from pipelines.partitions import drops
from pipelines.resources import CrmDatabase
from pipelines.sensors import drops_from_elsewhere

pytestmark = pytest.mark.integration

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[Project]:
    with a_database(server) as database, a_project(database, tmp_path) as project:
        yield project


class Ticks:
    """The daemon's part: it keeps the cursor and adds the partitions."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cursor: str | None = None

    def __call__(self) -> list[dg.RunRequest]:
        resources = {"crm_database": CrmDatabase()}
        with dg.build_sensor_context(self.project.instance, self.cursor, resources=resources) as context:
            result = drops_from_elsewhere(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for added in result.dynamic_partitions_requests or []:
            self.project.instance.add_dynamic_partitions(drops.name or "", list(added.partition_keys))
        return list(result.run_requests or [])


@pytest.fixture
def ticks(project: Project) -> Ticks:
    return Ticks(project)


def drop_of(folder: Path, name: str, *people: str) -> Path:
    folder.mkdir(exist_ok=True)
    return write_drop(folder / name, [an_entity(who, name=who) for who in people])


def send(client: httpx.Client, path: Path, **headers: str) -> str:
    answer = client.post(
        f"{V1}/drops", params={"file_name": path.name}, content=path.read_bytes(), headers=CSV | headers
    )
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["sha256"])


def test_a_drop_that_was_sent_gets_a_run_with_the_trace_of_its_request_which_shows_what_it_did(
    project: Project, ticks: Ticks, tmp_path: Path
) -> None:
    path = drop_of(tmp_path / "sent", "upload.csv", "Ada", "Bo")
    with served(project.database, auth="off") as client:
        sha256 = send(client, path, traceparent=TRACE)
        assert send(client, path, traceparent=OTHER) == sha256, "a replay, which changes nothing"
    (asked,) = ticks()
    assert (asked.partition_key, dict(asked.tags)) == (
        "upload.csv",
        {DROP_TAG: sha256, "crm/sent_by": "anonymous", "dagster/priority": "-1", "traceparent": TRACE},
    )
    assert ticks() == []
    outcome = project.run("ingest_drop", "upload.csv", dict(asked.tags))
    assert (outcome.failures, outcome.failed_checks) == ([], set())
    assert outcome.told["drop_file"]["sha256"] == sha256
    assert outcome.told["staged_changes"]["rows_changed"] == 2
    assert outcome.told["entity_versions"]["entity_versions_added"] == 2
    assert outcome.result.dagster_run.tags["traceparent"] == TRACE


def test_two_drops_of_one_name_are_each_shown_by_a_run_of_their_own(
    project: Project, ticks: Ticks, tmp_path: Path
) -> None:
    folder = tmp_path / "sent"
    ingest(project.database, drop_of(folder, "upload.csv", "Ada"), Options("ann"))
    ingest(project.database, drop_of(folder, "upload.csv", "Bo", "Cy"), Options("bob"))
    asked = ticks()
    assert [request.tags["crm/sent_by"] for request in asked] == ["ann", "bob"]
    assert not any("traceparent" in request.tags for request in asked)
    changed = [
        project.run("ingest_drop", request.partition_key, dict(request.tags)).told["staged_changes"]["rows_changed"]
        for request in asked
    ]
    assert changed == [1, 2]


def test_what_dagster_merged_itself_was_undone_or_came_long_before_gets_none(
    project: Project, ticks: Ticks, tmp_path: Path
) -> None:
    folder = tmp_path / "sent"
    ingest(project.database, drop_of(folder, "own.csv", "Ada"), Options(ACTOR))
    undone = ingest(project.database, drop_of(folder, "undone.csv", "Bo"), Options("ann"))
    with project.database.connect(autocommit=True) as connection:
        undo_drop(connection, undone.sha256 or "", "undo", Who("ann", "a test"))
    ingest(project.database, drop_of(folder, "before.csv", "Cy"), Options("ann"))
    project.execute("update drop_file set merged_at = merged_at - interval '25 hours' where file_name = 'before.csv'")
    assert ticks() == []
    ticks.cursor = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    assert [request.partition_key for request in ticks()] == ["before.csv"]


def test_the_run_for_a_drop_that_a_restored_database_has_lost_says_so(project: Project) -> None:
    key = project.know("lost.csv")
    outcome = project.run("ingest_drop", key, {DROP_TAG: "ab" * 32})
    assert outcome.failures == ["lost.csv: the database does not hold the drop abababababab any more; send it again"]


def test_an_approved_drop_has_the_trace_of_the_request_that_let_it_in(
    project: Project, ticks: Ticks, tmp_path: Path
) -> None:
    folder = tmp_path / "sent"
    ingest(project.database, drop_of(folder, "all.csv", "Ada", "Bo"), Options(ACTOR))
    path = drop_of(folder, "list.csv", "Ada")
    with served(project.database, auth="off") as client:
        scope = {"mode": "snapshot", "scope": "PERSON", "file_name": path.name}
        held = client.post(
            f"{V1}/drops", params=scope, content=path.read_bytes(), headers=CSV | {"traceparent": OTHER}
        ).json()
        assert held["status"] == "held"
        assert ticks() == []
        answer = client.post(f"{V1}/drops/{held['sha256']}/approve", headers={"traceparent": TRACE})
        assert answer.status_code == 201, answer.text
    (asked,) = ticks()
    assert (asked.partition_key, asked.tags["traceparent"]) == ("list.csv", TRACE)
