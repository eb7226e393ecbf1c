"""Fixtures for commands of `crm`: a database, and no settings of the developer around."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import FIXTURES, Run, on
from servers import Server

from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database


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
