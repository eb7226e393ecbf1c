"""The schedules, in the time zone of CRM_TIME_ZONE."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from pipelines.jobs import data_quality, housekeeping, integrity


def schedules(time_zone: str) -> Sequence[dg.ScheduleDefinition]:
    """Return the schedules: the invariants at five, so that the report at six includes them; before, housekeeping."""
    return [
        dg.ScheduleDefinition(
            job=job,
            cron_schedule=cron,
            execution_timezone=time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for job, cron in ((housekeeping, "30 4 * * *"), (integrity, "0 5 * * *"), (data_quality, "0 6 * * *"))
    ]
