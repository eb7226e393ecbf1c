"""Cached answers are right until something is recorded, are read again in the background, and are never too old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from builders import an_entity, reference_data

from api.cockpit import answer_cache
from api.cockpit.answer_cache import AnswerCache
from api.state import State
from crm_core.postgres.connection import Connection, Database
from crm_core.reference import reference_types
from crm_core.settings import Settings
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.api]


def entities(connection: Connection) -> int:
    row = connection.execute("select count(*) from entity").fetchone()
    assert row is not None
    return int(row[0])


def take(database: Database, who: str) -> None:
    with database.transaction() as connection:
        record(connection, reference_types(connection), [an_entity(who)], Origin("tester", "fixture"))


def run(database: Database, work: Callable[[AnswerCache], Awaitable[None]]) -> None:
    """Run some work with the cache over a database with one entity."""
    with database.transaction() as connection:
        reference_data(connection)
    take(database, "ada")

    async def with_state() -> None:
        state = State(Settings.from_environment({}, None), database)
        state.open()
        try:
            await work(AnswerCache(state))
        finally:
            state.close()

    asyncio.run(with_state())


def test_an_answer_is_shown_while_a_newer_one_is_read(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(answer_cache, "RENEW_SECONDS", 0.0)

    async def work(answers: AnswerCache) -> None:
        assert await answers.get("entities", entities) == 1
        take(fresh_database, "bob")
        assert await answers.get("entities", entities) == 1  # and is read again
        async with asyncio.timeout(30):
            while await answers.get("entities", entities) == 1:
                await asyncio.sleep(0.01)
        assert await answers.get("entities", entities) == 2

    run(fresh_database, work)


def test_an_answer_from_before_the_last_recording_is_waited_for_when_it_is_stale(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(answer_cache, "STALE_SECONDS", 0.0)
    monkeypatch.setattr(answer_cache, "RENEW_SECONDS", 0.0)

    async def work(answers: AnswerCache) -> None:
        assert await answers.get("entities", entities) == 1
        take(fresh_database, "bob")
        assert await answers.get("entities", entities) == 2

    run(fresh_database, work)


def test_an_answer_is_not_read_again_while_nothing_is_recorded(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(answer_cache, "STALE_SECONDS", 0.0)
    times = 0

    def counted(connection: Connection) -> int:
        nonlocal times
        times += 1
        return entities(connection)

    async def work(answers: AnswerCache) -> None:
        for _ in range(5):
            assert await answers.get("entities", counted) == 1
        assert times == 1

    run(fresh_database, work)


def test_after_a_write_the_page_waits_but_the_last_answer_is_there_for_what_may_be_old(
    fresh_database: Database,
) -> None:
    async def work(answers: AnswerCache) -> None:
        assert await answers.last("entities", entities, 30) == 1
        take(fresh_database, "bob")
        answers.forget()
        assert await answers.last("entities", entities, 0) == 1
        assert await answers.get("entities", entities) == 2

    run(fresh_database, work)


def test_what_is_not_there_in_time_is_read_on_for_who_asks_again(fresh_database: Database) -> None:
    async def work(answers: AnswerCache) -> None:
        assert await answers.soon("entities", entities, 0) is None
        assert await answers.soon("entities", entities, 30) == 1

    run(fresh_database, work)
