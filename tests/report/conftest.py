"""A connection for tests of the report."""

from __future__ import annotations

import pytest
from builders import reference_data

from crm_core.postgres.connection import Connection


@pytest.fixture
def crm_connection(connection: Connection) -> Connection:
    """A connection to a database that knows the types."""
    reference_data(connection)
    return connection
