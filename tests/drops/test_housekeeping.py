"""What is kept for a time only goes when the time is over, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import an_entity, reference_data, write_drop
from desk import Desk

from crm_core.access.accounts import create_account
from crm_core.access.sessions import IDLE, begin_session
from crm_core.drops.held import approve, decline
from crm_core.drops.housekeeping import Removed, clean
from crm_core.drops.ingest import Options, ingest_on
from crm_core.errors import BytesGone
from crm_core.postgres.connection import Connection
from crm_core.timeline.invariants import check
from crm_core.timeline.undo import Who

pytestmark = pytest.mark.integration

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def texts(connection: Connection) -> list[tuple[int, list[str], str]]:
    return connection.execute("select line, reasons, raw from reject order by 1").fetchall()


def test_kept_answers_and_ended_sessions_go(connection: Connection) -> None:
    create_account(connection, "ann", "a long and unusual pass", "admin", now=NOW)
    begin_session(connection, "ann", now=NOW, address="", user_agent="")
    begin_session(connection, "ann", now=NOW + IDLE / 2, address="", user_agent="")
    for key, hours in (("old", 25), ("new", 23)):
        values = ("ann", key, b"print", "done", NOW + IDLE - timedelta(hours=hours))
        connection.execute(
            "insert into idempotency_key (actor, key, fingerprint, outcome, answered_at) values (%s, %s, %s, %s, %s)",
            values,
        )
    assert clean(connection, now=NOW + IDLE, keep_rejects_days=0) == Removed(
        answers=1, sessions=1, reject_texts=0, declined=0
    )
    assert connection.execute("select key from idempotency_key").fetchall() == [("new",)]
    assert connection.execute("select count(*) from session").fetchone() == (1,)
    assert clean(connection, now=NOW + IDLE, keep_rejects_days=0) == Removed(0, 0, 0, 0)


def test_the_text_of_old_rejected_rows_goes_and_the_books_still_balance(connection: Connection, tmp_path: Path) -> None:
    reference_data(connection)
    bad = {"display_name": "Secret", "entity_type": "NONE", "details": "[]"}
    drop = write_drop(tmp_path / "a.csv", [an_entity(), bad])
    ingest_on(connection, drop, Options())
    (before,) = texts(connection)
    assert "Secret" in before[2]
    soon, later = datetime.now(UTC) + timedelta(days=29), datetime.now(UTC) + timedelta(days=31)
    assert clean(connection, now=later, keep_rejects_days=0).reject_texts == 0
    assert clean(connection, now=soon, keep_rejects_days=30).reject_texts == 0
    assert texts(connection) == [before]
    assert clean(connection, now=later, keep_rejects_days=30).reject_texts == 1
    assert texts(connection) == [(before[0], before[1], "")]
    assert [found.name for found in check(connection) if not found.holds] == []
    connection.execute("insert into entity_type (code, name) values ('NONE', 'None')")
    again = ingest_on(connection, drop, Options())
    assert (again.rows_rejected, again.rows_changed) == (0, 1), (
        "the file itself is judged again, and so the row goes in"
    )


def test_the_bytes_of_a_declined_file_go_after_the_same_time_and_it_is_held_again_if_it_comes_again(
    connection: Connection, tmp_path: Path
) -> None:
    reference_data(connection)
    desk, who = Desk(connection, tmp_path), Who("steward", "it is incomplete")
    desk.take("all", an_entity(at=1), an_entity("bob", at=1))
    names = ("declined", "waiting")
    declined, waiting = (
        desk.snapshot(name, at, an_entity("bob", at=at), limit=0.1) for at, name in enumerate(names, 5)
    )
    decline(connection, declined.sha256 or "", who)
    soon, later = datetime.now(UTC) + timedelta(days=29), datetime.now(UTC) + timedelta(days=31)
    assert [clean(connection, now=now, keep_rejects_days=days).declined for now, days in ((later, 0), (soon, 30))] == [
        0,
        0,
    ]
    assert desk.snapshot("declined", 5, an_entity("bob", at=5), limit=0.1).status == "declined"
    assert clean(connection, now=later, keep_rejects_days=30).declined == 1
    assert clean(connection, now=later, keep_rejects_days=30).declined == 0
    with pytest.raises(BytesGone, match="send its file again"):
        approve(connection, declined.sha256 or "", who)
    assert approve(connection, waiting.sha256 or "", who).entities_ended == 1, "what waits is kept"
    desk.take("again", an_entity(at=7))
    held = desk.snapshot("declined", 5, an_entity("bob", at=5), limit=0.0)
    assert (held.status, held.sha256) == ("held", declined.sha256)
    assert approve(connection, held.sha256 or "", who).status == "merged"
    assert [found.name for found in check(connection) if not found.holds] == []
