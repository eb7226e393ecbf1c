"""The Dagster project: what there is, and where it comes from."""

import dagster as dg

from crm_core.settings import Settings
from pipelines.assets import ASSETS
from pipelines.folder import DropFolder
from pipelines.jobs import JOBS
from pipelines.resources import CrmDatabase
from pipelines.schedules import schedules
from pipelines.sensors import SENSORS


@dg.definitions
def defs() -> dg.Definitions:
    """Define the project; the environment is read now, not at the import."""
    return dg.Definitions(
        assets=ASSETS,
        jobs=JOBS,
        schedules=schedules(Settings.from_environment().time_zone.key),
        sensors=SENSORS,
        resources={"crm_database": CrmDatabase(), "drop_folder": DropFolder()},
        executor=dg.in_process_executor,  # a process a step would cost ten times the work of a small drop
    )
