"""A service with an account of each role: ann is an admin, rita a reader, walt a writer."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from builders import reference_data
from servers import Server
from serving import served
from visiting import ROLES, a_browser, an_account

from crm_core.postgres.connection import Database
from crm_core.reference import put_source


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[Database]:
    """A database with an account of each role."""
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
            put_source(connection, code="erp", name="ERP")
        for username, role in ROLES.items():
            an_account(database, username, role)
        yield database


@pytest.fixture(scope="module")
def client(world: Database) -> Iterator[httpx.Client]:
    """A client of the service, not signed in."""
    with served(world) as client:
        yield client


@pytest.fixture(scope="module")
def ann(client: httpx.Client) -> Iterator[httpx.Client]:
    """The browser of an admin."""
    with a_browser(client, "ann") as browser:
        yield browser
