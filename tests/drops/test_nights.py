"""Nights of three sources, each by its profile, in any order: one version a real change, and nobody twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from nights import PROFILES, Outcome, outcome, require_truth, the_nights, with_types
from servers import Server

from crm_core.drops.ingest import Options, ingest
from crm_core.postgres.connection import Database
from crm_core.profiles import store

pytestmark = [pytest.mark.integration, pytest.mark.scd2]


def take(database: Database, files: list[Path]) -> Outcome:
    """Take files in, in this order; what is in the database then."""
    with_types(database)
    profiles = {name: store.load(PROFILES, name) for name in store.names(PROFILES)}
    for path in files:
        report = ingest(database, path, Options(profile=profiles[path.parent.name]))
        assert report.status == "merged", report
    return outcome(database)


@pytest.mark.parametrize("number", [15, pytest.param(30, marks=pytest.mark.slow)])
def test_the_nights_in_any_order_give_the_versions_that_they_tell_and_nobody_twice(
    server: Server, tmp_path: Path, number: int
) -> None:
    nights = the_nights(number, tmp_path)
    with server.clone() as one, server.clone() as other:
        found = take(one, nights.files)
        require_truth(nights, found)
        assert take(other, random.Random(1).sample(nights.files, len(nights.files))) == found
