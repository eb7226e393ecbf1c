"""Nights of three sources come in by folder, by command, by API and by the cockpit: the same data, whatever the way."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import pytest
from commands import on
from nights import PROFILES, outcome, require_truth, the_nights, with_types
from project import a_project
from servers import Server
from serving import V1, served
from visiting import form_token, send

from crm_core.postgres.connection import Database
from pipelines.folder import DropFolder
from pipelines.ingestion import FILE_TAG
from pipelines.resources import CrmDatabase
from pipelines.sensors import drop_folder

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.api]

AT_ONCE = 3  # files that arrive in the folder at the same time
Way = Callable[[Database, Sequence[Path], Path], None]


def by_folder(database: Database, files: Sequence[Path], home: Path) -> None:
    with a_project(database, home / "drops") as project:
        cursor = None
        for start in range(0, len(files), AT_ONCE):
            for path in files[start : start + AT_ONCE]:
                (project.folder / path.parent.name).mkdir(exist_ok=True)
                shutil.copyfile(path, project.folder / path.parent.name / path.name)
            asked: list[dg.RunRequest] = []
            for _ in range(2):  # a file is complete when it is the same in two ticks
                resources = {"drop_folder": DropFolder(), "crm_database": CrmDatabase()}
                with dg.build_sensor_context(project.instance, cursor, resources=resources) as context:
                    result = drop_folder(context)
                assert isinstance(result, dg.SensorResult)
                cursor, asked = result.cursor, [*asked, *(result.run_requests or [])]
                for added in result.dynamic_partitions_requests or []:
                    project.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
            assert len(asked) == len(files[start : start + AT_ONCE])
            for request in asked:
                ended = project.run("ingest_drop", request.partition_key, {FILE_TAG: request.tags[FILE_TAG]})
                assert (ended.failures, ended.told["staged_changes"]["status"]) == ([], "merged")


def by_command(database: Database, files: Sequence[Path], home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # away from the .env of the developer
        run = on(database, patch)
        for path in files:
            result = run("ingest", "--json", "--profile", path.parent.name, path)
            assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "merged"), result.output


def by_api(database: Database, files: Sequence[Path], home: Path) -> None:
    with served(database, home=home, profile_dir=PROFILES) as client:
        for path in files:
            params = {"profile": path.parent.name, "file_name": path.name}
            headers = {"Content-Type": "application/octet-stream"}
            answer = client.post(f"{V1}/drops", content=path.read_bytes(), params=params, headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (201, "merged"), answer.text


def by_cockpit(database: Database, files: Sequence[Path], home: Path) -> None:
    with served(database, home=home, profile_dir=PROFILES) as client:
        client.headers["Accept"] = "text/html"
        for path in files:
            fields = {"csrf": form_token(client), "profile": path.parent.name}
            page = client.post("/drops", data=fields, files={"file": (path.name, path.read_bytes())})
            assert page.status_code == 200, page.text
            filled = dict(re.findall(r'name="(sha256|profile|profile_toml)" value="([^"]*)"', page.text))
            sent = send(client, "/drops/send", **{name: html.unescape(value) for name, value in filled.items()})
            assert sent.status_code == 303, sent.text


WAYS: tuple[Way, ...] = (by_folder, by_command, by_api, by_cockpit)


@pytest.mark.parametrize("number", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_the_nights_by_folder_command_api_and_cockpit_are_the_same_in_any_order(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("CRM_PROFILE_DIR", str(PROFILES))
    nights, outcomes = the_nights(number, tmp_path / "nights"), []
    for seed, way in enumerate(WAYS):
        home = tmp_path / way.__name__
        home.mkdir()
        with server.clone() as database:
            with_types(database)
            way(database, random.Random(seed).sample(nights.files, len(nights.files)), home)
            outcomes.append(outcome(database))
        require_truth(nights, outcomes[-1])
    assert all(found == outcomes[0] for found in outcomes)
