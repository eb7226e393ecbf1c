"""The Dagster project over a database and a folder of drops of its own, on an instance that ends with the test."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from servers import Server

from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from pipelines.definitions import defs
from pipelines.partitions import drop_key, drops

Told = Mapping[str, Mapping[str, object]]  # asset → metadata
Version = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left in the event log."""

    result: dg.ExecuteInProcessResult

    @property
    def told(self) -> Told:
        """Of the last drop that was taken in."""
        return {asset: told for asset, _, told in self.materializations}

    @property
    def materializations(self) -> list[tuple[str, str | None, Mapping[str, object]]]:
        """Asset, partition and metadata."""
        return [
            (
                event.asset_key.to_user_string() if event.asset_key else "",
                event.partition,
                {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()},
            )
            for event in self.result.get_asset_materialization_events()
        ]

    @property
    def checks(self) -> list[dg.AssetCheckEvaluation]:
        return list(self.result.get_asset_check_evaluations())

    @property
    def failed_checks(self) -> set[str]:
        return {check.check_name for check in self.checks if not check.passed}

    @property
    def breaches(self) -> list[str]:
        """What the failed checks found first."""
        tables = [check.metadata["first"] for check in self.checks if "first" in check.metadata]
        return [str(row.data) for table in tables if isinstance(table, dg.TableMetadataValue) for row in table.records]

    @property
    def failures(self) -> list[str]:
        """What the failed steps say."""
        failures = [event.step_failure_data for event in self.result.all_events if event.is_step_failure]
        return [
            (failure.user_failure_data and failure.user_failure_data.description)
            or (failure.error.message if failure.error else "")
            for failure in failures
        ]

    @property
    def retries(self) -> int:
        return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in self.result.all_events)


@dataclass(frozen=True, slots=True)
class Project:
    """The project and what it stands on."""

    database: Database
    folder: Path
    instance: dg.DagsterInstance

    def arrive(self, path: Path, name: str | None = None) -> str:
        """Put a copy into the folder, and return its partition."""
        if path.parent != self.folder:
            shutil.copyfile(path, self.folder / (name or path.name))
        return self.know(name or path.name)

    def know(self, name: str) -> str:
        key = drop_key(name)
        self.instance.add_dynamic_partitions(drops.name or "", [key])
        return key

    def run(self, job: str, partition: str | None = None, tags: Mapping[str, str] | None = None) -> Outcome:
        quiet = dg.RunConfig(loggers={"console": {"config": {"log_level": "CRITICAL"}}})
        return Outcome(
            defs()
            .resolve_job_def(job)
            .execute_in_process(quiet, self.instance, partition_key=partition, tags=tags, raise_on_error=False)
        )

    def ingest(self, key: str) -> Outcome:
        return self.run("ingest_drop", key)

    def materialize(self, key: str) -> Told:
        outcome = self.ingest(key)
        assert not outcome.failures, (outcome.failures, outcome.breaches)
        return outcome.told

    def backfill(self, first: str, last: str) -> Outcome:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self.run("backfill_drops", tags=tags)

    def versions(self) -> list[Version]:
        with self.database.connect() as connection:
            return connection.execute(
                "select entity_uid, 'entity', display_name, valid_from, valid_to, hashdiff from entity"
                " union all select entity_uid, code, detail_value, valid_from, valid_to, hashdiff"
                " from entity_detail join detail_type using (detail_type_id) order by 1, 2, 4"
            ).fetchall()

    def execute(self, *commands: str) -> None:
        """Do to the database, by commands of no product, what must not happen to it."""
        with self.database.transaction() as connection:
            for command in commands:
                connection.execute(command.encode())


class Reports:
    """The daemon's part in what is made after drops."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.before: dg.EvaluateAutomationConditionsResult | None = None

    def requested(self, asset: str = "data_quality_report") -> bool:
        """Look at the conditions, and return whether they ask for the asset."""
        cursor = self.before.cursor if self.before else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # of what Dagster calls itself
            self.before = dg.evaluate_automation_conditions(defs(), self.instance, cursor=cursor)
        return self.before.get_num_requested(dg.AssetKey(asset)) == 1


@contextmanager
def a_database(server: Server) -> Iterator[Database]:
    """Open a database with all fixtures loaded."""
    with server.clone() as database:
        with database.transaction() as connection:
            load_fixtures(connection, read_fixtures(sorted((DATA / "fixtures").glob("*.json"))))
        yield database


@contextmanager
def a_project(database: Database, folder: Path) -> Iterator[Project]:
    """Open the project over a database and a folder, which the environment names meanwhile."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.chdir(folder)  # away from the .env of the developer
        patch.setenv("CRM_DATABASE_URL", database.conninfo)
        patch.setenv("CRM_DROP_DIR", str(folder))
        patch.setenv("CRM_HOME", str(folder / ".crm"))
        patch.setenv("CRM_PROFILE_DIR", os.environ.get("CRM_PROFILE_DIR", str(folder / "profiles")))
        yield Project(database, folder, instance)


def partitions(instance: dg.DagsterInstance, asset: str) -> Sequence[str]:
    """Return the materialized partitions of an asset, in order."""
    return sorted(instance.get_materialized_partitions(dg.AssetKey(asset)))
