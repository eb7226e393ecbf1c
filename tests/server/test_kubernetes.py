"""The example for Kubernetes: Dagster takes the settings that its chart makes of the values, and the commands exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dagster._core.instance.config import dagster_instance_config
from dagster_postgres.utils import get_conn_string
from sqlalchemy import make_url
from sqlalchemy.engine.url import URL

from crm_core.cli.main import crm

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "dagster-values.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / "crm.yaml").read_text()))
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
DAEMON = VALUES["dagsterDaemon"]


def containers() -> list[dict[str, Any]]:
    pods = [one["spec"]["template"]["spec"] for one in OBJECTS if "template" in one["spec"]]
    return [container for pod in pods for container in pod["containers"]]


def test_dagster_takes_the_settings_that_the_chart_makes_of_the_values(tmp_path: Path) -> None:
    """As templates/configmap-instance.yaml of the chart does, but for the launcher, which needs a library more."""
    queue = {name: value for name, value in DAEMON["runCoordinator"]["config"]["queuedRunCoordinator"].items() if value}
    monitoring = DAEMON["runMonitoring"]
    made = {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            **({"config": {"max_concurrent_runs": -1, **queue}} if queue else {}),
        },
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "run_retries": {"enabled": DAEMON["runRetries"]["enabled"], "max_retries": DAEMON["runRetries"]["maxRetries"]},
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(made))
    taken, _ = dagster_instance_config(str(tmp_path))
    assert taken["concurrency"]["pools"] == {"default_limit": 2, "granularity": "run"}
    assert taken["concurrency"]["runs"]["max_concurrent_runs"] == 4


def test_dagster_reaches_its_database_with_a_driver_that_it_can_use() -> None:
    server = VALUES["postgresql"]
    url: URL = make_url(
        get_conn_string(
            server["postgresqlUsername"],
            "pass word",
            server["postgresqlHost"],
            server["postgresqlDatabase"],
            scheme=server["postgresqlScheme"],
        )
    )
    assert url.get_dialect().driver == "psycopg2"
    assert (url.host, url.database, url.password) == ("database", "crm_dagster", "pass word")
    assert VALUES["generatePostgresqlPasswordSecret"] is False, "its password would be known to everybody"


def test_one_image_runs_everything_and_is_of_this_release() -> None:
    images = [part["image"] for part in (CODE, VALUES["dagsterWebserver"], DAEMON)]
    names = {f"{image['repository']}:{image['tag']}" for image in images}
    names |= {container["image"] for container in containers()}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert names == {f"registry.example/crm:{version}"}
    assert re.search(rf"^    DAGSTER_HOME={VALUES['global']['dagsterHome']}$", DOCKERFILE, re.MULTILINE)


def test_drops_are_where_the_sensor_and_the_runs_look_for_them() -> None:
    (volume,), (mount,) = CODE["volumes"], CODE["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert {"name": "CRM_DROP_DIR", "value": mount["mountPath"]} in CODE["env"]
    (claim,) = (one["metadata"]["name"] for one in OBJECTS if one["kind"] == "PersistentVolumeClaim")
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert "ReadWriteMany" in OBJECTS[0]["spec"]["accessModes"]


def test_the_commands_exist_and_the_api_asks_for_tokens() -> None:
    for container in containers():
        program, *arguments = container["command"]
        assert program == "crm"
        told = CliRunner().invoke(crm, [arguments[0], "--help"], catch_exceptions=False)
        assert told.exit_code == 0
        assert all(option in told.stdout for option in arguments if option.startswith("--"))
    api = containers()[-1]
    assert {"name": "CRM_AUTH", "value": "on"} in api["env"]
    (hosts,) = (one["value"] for one in api["env"] if one["name"] == "CRM_ALLOWED_HOSTS")
    for probe in ("readinessProbe", "livenessProbe"):
        assert api[probe]["httpGet"]["httpHeaders"][0]["value"] in hosts.split(",")
