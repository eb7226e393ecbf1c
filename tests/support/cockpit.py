"""The cockpit over the sample data, served once for a module: a pytest plugin, with the fixtures `sampled`, `site`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from samples import ALL
from servers import Server
from serving import served

from crm_core.drops.ingest import ingest
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database
from crm_core.resources import DATA

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def sampled(server: Server) -> Iterator[Database]:
    """A database with all the sample data."""
    with server.clone() as database:
        with database.transaction() as connection:
            load_fixtures(connection, read_fixtures(sorted((DATA / "fixtures").glob("*.json"))))
        for path in ALL:
            assert ingest(database, path).status in ("merged", "replayed")
        yield database


@pytest.fixture(scope="module")
def site(sampled: Database) -> Iterator[httpx.Client]:
    """A client of the cockpit over it, to which everything is open."""
    with served(sampled) as client:
        client.headers.update(HTML)
        yield client
