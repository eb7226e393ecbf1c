"""Accounts of people: their passwords, roles, and which of them stays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest

from crm_core.access.accounts import (
    Account,
    accounts,
    available_username,
    change_account,
    create_account,
    password_faults,
    verified_account,
)
from crm_core.access.tokens import (
    is_closed,
)
from crm_core.errors import (
    AccountExists,
    CrmError,
    LastAdmin,
    NameRefused,
    TokenExists,
    UnknownAccount,
    UnknownToken,
    WeakPassword,
)
from crm_core.postgres.connection import Connection, Database

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


def test_an_account_is_known_by_the_password_alone(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    assert verified_account(any_connection, "ann", PASSWORD)
    for username, password in [
        ("ann", PASSWORD + " "), ("ann", ""), ("ann", PASSWORD.title()), ("Ann", PASSWORD), ("bob", PASSWORD),
        ("", PASSWORD), ("ann\0", PASSWORD), ("\ud800", PASSWORD), ("ann", "\ud800\0"), ("x" * 1_000_000, PASSWORD),
    ]:  # fmt: skip
        assert not verified_account(any_connection, username, password)


def test_a_password_is_kept_as_a_salted_hash(connection: Connection) -> None:
    create_account(connection, "ann", PASSWORD, "admin", now=NOW)
    create_account(connection, "bob", PASSWORD, "admin", now=NOW)
    hashes = [kept for (kept,) in connection.execute("select password_hash from account")]
    assert all(kept.startswith("$argon2id$") for kept in hashes)
    assert len(set(hashes)) == 2


def test_a_password_may_hold_anything_and_accents_however_they_are_composed(connection: Connection) -> None:
    create_account(connection, "zoë", "Käse\0\ud800 und Brötchen", "admin", now=NOW)
    assert verified_account(connection, "zoe\u0308", "Ka\u0308se\0\ud800 und Bro\u0308tchen")


def test_a_username_is_of_one_account(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    with pytest.raises(AccountExists, match="'ann'"):
        available_username(any_connection, "ann")
    with pytest.raises(AccountExists, match="'ann'"):
        create_account(any_connection, "ann", "another good password", "admin", now=NOW)
    assert verified_account(any_connection, "ann", PASSWORD)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", "too short"),
        ("9 letters", "too short"),
        ("annabel.lee", "too similar"),
        ("Annabel.Lee1234", "too similar"),
        ("annabel.leeannabel.lee", "too similar"),
        ("31415926535", "entirely numeric"),
        ("٣١٤١٥٩٢٦٥٣٥", "entirely numeric"),
        ("abababababab", "too few"),
    ],
)
def test_a_password_that_can_be_guessed_is_refused(connection: Connection, password: str, fault: str) -> None:
    with pytest.raises(WeakPassword, match=fault) as caught:
        create_account(connection, "annabel.lee", password, "admin", now=NOW)
    assert not password or password not in str(caught.value)
    assert caught.value.faults
    assert available_username(connection, "annabel.lee") == "annabel.lee"


@pytest.mark.unit
def test_all_faults_of_a_password_are_shown_at_once() -> None:
    assert len(password_faults("ann", "111")) == 4
    assert password_faults("a", "abracadabra abracadabra") == []


def test_one_of_two_that_make_an_account_at_once_is_it(any_fresh_database: Database) -> None:
    at_once = Barrier(2)

    def create(password: str) -> str | None:
        with any_fresh_database.transaction() as connection:
            at_once.wait(10)
            try:
                create_account(connection, "ann", password, "admin", now=NOW)
            except AccountExists:
                return None
            return password

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(create, ("first good password", "second good password")))
    assert made.count(None) == 1
    with any_fresh_database.connect() as connection:
        assert verified_account(connection, "ann", next(filter(None, made)))


def test_an_unknown_account_takes_as_long_as_a_wrong_password(connection: Connection) -> None:
    create_account(connection, "ann", PASSWORD, "admin", now=NOW)

    def seconds(username: str) -> float:
        took = []
        for _ in range(5):
            started = time.perf_counter()
            assert not verified_account(connection, username, "wrong")
            took.append(time.perf_counter() - started)
        return statistics.median(took)

    seconds("nobody")  # whatever is made once is made
    known, unknown, impossible = seconds("ann"), seconds("nobody"), seconds("\0")
    assert 0.3 < unknown / known < 3
    assert 0.3 < impossible / known < 3


@pytest.mark.unit
@pytest.mark.parametrize("error", [NameRefused, TokenExists, UnknownToken, AccountExists])
def test_an_error_says_what_to_do(error: Callable[[str], CrmError]) -> None:
    assert len(str(error("etl")).split("; ")) == 2


def test_a_role_and_whether_an_account_may_sign_in_can_change(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    bob = create_account(any_connection, "bob", PASSWORD, "reader", now=NOW)
    assert bob == Account("bob", "reader", True, NOW, NOW, None)
    with any_connection.transaction():
        assert change_account(any_connection, "bob", role="writer").role == "writer"
        assert not change_account(any_connection, "bob", is_active=False).is_active
    assert verified_account(any_connection, "bob", PASSWORD) is None
    assert [(one.username, one.role, one.is_active) for one in accounts(any_connection)] == [
        ("ann", "admin", True),
        ("bob", "writer", False),
    ]


def test_the_last_admin_stays(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    for change in ({"role": "writer"}, {"is_active": False}):
        with pytest.raises(LastAdmin, match="'ann'"), any_connection.transaction():
            change_account(any_connection, "ann", **change)
    create_account(any_connection, "bob", PASSWORD, "admin", now=NOW)
    with any_connection.transaction():
        change_account(any_connection, "ann", role="reader")
    with pytest.raises(LastAdmin, match="'bob'"), any_connection.transaction():
        change_account(any_connection, "bob", is_active=False)
    with pytest.raises(UnknownAccount), any_connection.transaction():
        change_account(any_connection, "carla", role="reader")


def test_an_account_closes_the_api_as_a_token_does(any_connection: Connection) -> None:
    assert not is_closed(any_connection)
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    assert is_closed(any_connection)
