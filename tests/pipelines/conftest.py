"""The sensor of the drop folder over a folder of its own, and the database that it asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from servers import Server
from ticks import Ticks

from crm_core.postgres.connection import Database


@pytest.fixture
def ticks(tmp_path: Path) -> Iterator[Ticks]:
    folder = tmp_path / "drops"
    folder.mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(folder, instance)


@pytest.fixture
def given(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database that the sensor asks, too."""
    with server.clone() as database:
        monkeypatch.setenv("CRM_DATABASE_URL", database.conninfo)
        yield database
