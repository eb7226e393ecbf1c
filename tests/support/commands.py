"""Commands of `crm` in this process, on a migrated database and without the developer's settings: a pytest plugin."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from servers import Server

from crm_core.cli.main import crm
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database
from crm_core.resources import DATA

FIXTURES = sorted((DATA / "fixtures").glob("*.json"))
HEADER = ["entity_uid", "display_name", "entity_type", "details", "change_ts", "op"]
ANNA = "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01"

Run = Callable[..., Result]


@pytest.fixture
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run where no .env and no setting of the developer reaches."""
    for name in os.environ:
        if name.startswith(("CRM_", "DJANGO_", "DRF_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CRM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A database that was never migrated."""
    with server.clone("template0") as database:
        yield database


@pytest.fixture
def run(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a migrated database that knows the types."""
    with fresh_database.transaction() as connection:
        load_fixtures(connection, read_fixtures(FIXTURES[:2]))
    return on(fresh_database, monkeypatch)


def on(database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CRM_DATABASE_URL", database.conninfo)

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(crm, list(map(str, arguments)), catch_exceptions=False)

    return run


def a_drop(path: Path, *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path


def anna(name: str = "Anna", change_ts: str = "2024-01-01", entity_type: str = "PERSON") -> list[str]:
    return [ANNA, name, entity_type, "[]", change_ts, ""]


def rows_of(database: Database, query: bytes) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(query).fetchall()
