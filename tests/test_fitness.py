"""A database is looked at before it is used: what is not fit, or not whole, is told in one line with its cure."""

from __future__ import annotations

import os

import pytest

from crm_core.database import Connection
from crm_core.fitness import OBJECTS, present_objects

pytestmark = pytest.mark.integration


def test_the_list_of_objects_is_what_the_migrations_make(any_connection: Connection) -> None:
    found = present_objects(any_connection)
    if os.environ.get("CRM_TEST_WRITE_OBJECTS"):
        OBJECTS.write_text("\n".join(found) + "\n")
    assert OBJECTS.read_text().splitlines() == found, "run this test once with CRM_TEST_WRITE_OBJECTS=1"
