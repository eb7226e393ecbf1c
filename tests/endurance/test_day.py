"""A day in the life: upgrade, drops, requests, a wrong drop undone, a snapshot approved, backup, crash, restore."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import a_request, an_entity, day, uid, write_drop
from endurance import Ended, a_home, crash, ended, run, start, under_way
from running import servers_of
from timeline_model import Model, Snapshot

from crm_core.model import Change
from crm_core.postgres.connection import open_database
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.settings import Settings
from crm_core.timeline.single_change import apply_change

pytestmark = [pytest.mark.integration, pytest.mark.scd2, pytest.mark.slow]

RELEASE = Path(__file__).parents[1] / "releases" / "0.2.0.backup"
PEOPLE = [f"person {number}" for number in range(2_000)]
LISTED = PEOPLE[::2]


def people(names: list[str], at: float, what: str) -> list[Change]:
    return [an_entity(name, at=at, name=f"{name} {what}", email=f"{uid(name)}@{what}.org") for name in names]


class Day:
    """What is done to a home by commands, and to the model beside it."""

    def __init__(self, home: Path, folder: Path, model: Model) -> None:
        self.home, self.folder, self.model = home, folder, model

    def crm(self, *arguments: str | Path, status: int = 0) -> Ended:
        done = run(*arguments, CRM_HOME=str(self.home), seconds=300)
        assert done.status == status, done.error
        return done

    def drop(self, name: str, changes: list[Change]) -> Path:
        return write_drop(self.folder / name, changes)

    def ingest(self, name: str, changes: list[Change]) -> int:
        """Take a drop in, and return its place in the model."""
        self.crm("ingest", self.drop(name, changes))
        self.model.record(*changes)
        return len(self.model.batches) - 1

    def ask(self, change: Change) -> None:
        with (
            open_database(Settings.from_environment({"CRM_HOME": str(self.home)}, None)) as database,
            database.transaction() as connection,
        ):
            types = reference_types(connection)
            apply_change(connection, types, a_request(change), now=datetime.now(UTC), time_zone=UTC)
        self.model.request(change)

    def assert_true(self) -> None:
        """Assert that the home holds what the model says, and is sound."""
        self.crm("check")
        with (
            open_database(Settings.from_environment({"CRM_HOME": str(self.home)}, None)) as database,
            database.connect() as connection,
        ):
            for name in PEOPLE[:200]:
                history = [json.loads(version) for version in reads.history(connection, uid(name))]
                assert versions(history) == self.model.entity_versions(uid(name)), name
                assert details(history) == self.model.detail_versions(uid(name), "email"), name


def versions(history: list[dict[str, str]]) -> list[tuple[object, ...]]:
    return [
        (one["display_name"], one["entity_type"], instant(one["valid_from"]), instant(one["valid_to"]))
        for one in history
        if one["kind"] == "entity"
    ]


def details(history: list[dict[str, str]]) -> list[tuple[object, ...]]:
    return [
        (one["detail_value"], instant(one["valid_from"]), instant(one["valid_to"]))
        for one in history
        if one["kind"] == "detail" and one["detail_type"] == "email"
    ]


def instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def test_in_the_evening_everything_is_as_the_model_says(tmp_path: Path) -> None:
    model, backup = Model(), tmp_path / "noon.backup"
    with a_home() as home, a_home() as new_home:
        morning = Day(home, tmp_path, model)
        assert "0008_accounts" in morning.crm("restore", RELEASE).said, "the upgrade"
        morning.ingest("first.csv", people(PEOPLE, 1, "first"))
        morning.ask(an_entity(PEOPLE[0], at=3, op="patch", name="By Request", type_=None))
        morning.ask(an_entity(PEOPLE[1], at=3, op="delete"))
        wrong = morning.ingest("wrong.csv", people(PEOPLE, 2, "wrong"))
        morning.crm("undo", "wrong.csv", "--reason", "prices of another year")
        model.undo(wrong)
        listed = people(LISTED, 5, "snapshot")
        snapshot = morning.drop("snapshot.csv", listed)
        morning.crm("ingest", "--mode", "snapshot", "--scope", "PERSON", "--at", str(day(5)), snapshot, status=1)
        morning.assert_true()
        morning.crm("approve", "snapshot.csv", "--reason", "the branch was closed")
        model.record(*listed, snapshot=Snapshot(day(5), frozenset({"PERSON"}), frozenset(map(uid, LISTED))))
        morning.crm("backup", backup)
        lost = morning.drop("afternoon.csv", people(PEOPLE, 4, "late"))
        taking_in = start("ingest", lost, CRM_HOME=str(home))
        under_way(taking_in, lambda: servers_of(home))
        time.sleep(0.5)
        assert crash(home), "the drop was still being taken in"
        assert ended(taking_in).is_clear
        evening = Day(new_home, tmp_path, model)
        evening.crm("restore", backup)
        evening.assert_true()
        evening.ingest("afternoon.csv", people(PEOPLE, 4, "late"))
        evening.ask(an_entity(PEOPLE[1], at=6, name="Back Again"))
        evening.assert_true()
