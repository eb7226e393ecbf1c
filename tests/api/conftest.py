"""A service over a database of the module; after its tests every invariant must hold."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from serving import served_with_types

from crm_core.postgres.connection import Database
from crm_core.timeline.invariants import check


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    with served_with_types(database) as client:
        yield client
    with database.connect() as connection:
        assert [found.invariant for found in check(connection) if not found.holds] == []
