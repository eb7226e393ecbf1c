"""The definitions of the Dagster project, and where each comes from."""

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
    """Return the definitions of the project; the environment is read now, not at import."""
    return dg.Definitions(
        assets=ASSETS,
        jobs=JOBS,
        schedules=schedules(Settings.from_environment().time_zone.key),
        sensors=SENSORS,
        resources={"crm_database": CrmDatabase(), "drop_folder": DropFolder()},
        executor=dg.in_process_executor,  # one process per step would cost ten times the work of a small drop
    )
