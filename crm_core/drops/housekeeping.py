"""Housekeeping: what is kept for a time only is removed when the time is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_core.access.sessions import remove_ended_sessions
from crm_core.postgres.connection import Connection
from crm_core.resources import statement


@dataclass(frozen=True, slots=True)
class Removed:
    """How many of each were removed."""

    answers: int  # to requests with an Idempotency-Key, which are kept for a day
    sessions: int  # that have ended
    reject_texts: int  # of rejected rows; their lines and reasons stay
    declined: int  # drops that were declined and whose bytes were removed; their record stays


def clean(connection: Connection, *, now: datetime, keep_rejects_days: int) -> Removed:
    """Remove what is not kept any longer; with 0 days rejected rows and declined drops are kept whole for ever."""
    with connection.transaction():
        answers = connection.execute(statement("access/forget_answers"), {"now": now}).rowcount
        sessions = remove_ended_sessions(connection, now=now)
        texts = declined = 0
        if keep_rejects_days:
            before = now - timedelta(days=keep_rejects_days)
            texts = connection.execute(statement("drop/empty_rejects"), {"before": before}).rowcount
            ((declined,),) = connection.execute(statement("drop/forget_declined_parts"), {"before": before})
    return Removed(answers, sessions, texts, declined)
