"""The sensor of alerts: it looks what is wrong, and sends what is new by webhook and e-mail."""

# No `from __future__ import annotations`: Dagster needs the annotations of a sensor's arguments as types, not as text.

from datetime import UTC, datetime, timedelta

import dagster as dg

from crm_core.alerts.delivery import channels
from crm_core.errors import CrmError
from crm_core.settings import Settings
from pipelines.faults import Faults, is_forgotten
from pipelines.outbox import Outbox
from pipelines.resources import CrmDatabase, one_line


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends what went wrong to CRM_ALERT_WEBHOOK and CRM_ALERT_MAIL_TO: a failed run, a refused or held "
    "drop, a failed check, no drop for CRM_ALERT_FRESH_HOURS. Each fault is reported once, and once more when it is "
    "mended.",
)
def alerts(context: dg.SensorEvaluationContext, crm_database: CrmDatabase) -> dg.SensorResult:
    """Tell what is wrong since the last tick, and what is mended since; request no runs."""
    settings = Settings.from_environment()
    ways = channels(settings)
    if not ways:
        said = "Nobody gets alerts: set CRM_ALERT_WEBHOOK or CRM_ALERT_MAIL_TO."
        return dg.SensorResult(skip_reason=said, cursor=None)
    now = datetime.now(UTC)
    outbox = Outbox.read(context.cursor, now.timestamp())
    said = ""
    try:
        with crm_database.ask() as connection:
            since = datetime.fromtimestamp(outbox.since, UTC)
            fresh = timedelta(hours=settings.alert_fresh_hours)
            found = Faults(context.instance, connection, since, settings.alert_link, fresh).find(outbox.told)
        forgotten = {key for key, fault in outbox.told.items() if is_forgotten(fault, now)}
        outbox.compare(found, ways, forgotten=forgotten)
    except CrmError as error:
        said = f"The database cannot be asked what is wrong: {one_line(error)} "
    failures = outbox.send(ways, now)
    for failure in failures:
        context.log.warning(one_line(failure))
    waiting = sum(len(queue.messages) for queue in outbox.queues.values())
    said += f"{len(outbox.told):,} known to be wrong; {waiting:,} messages wait to be sent."
    return dg.SensorResult(skip_reason=said, cursor=outbox.write())
