"""Sessions: whose they are, and when they end."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from crm_core.access.accounts import (
    accounts,
    change_account,
    create_account,
    set_password,
    verified_account,
)
from crm_core.access.principal import Principal
from crm_core.access.sessions import (
    IDLE,
    LONGEST,
    begin_session,
    end_other_sessions,
    end_session,
    mark_session_used,
    session_principal,
    sessions,
)
from crm_core.errors import (
    UnknownAccount,
    WeakPassword,
)
from crm_core.postgres.connection import Connection

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


def begun(connection: Connection, username: str = "ann", now: datetime = NOW) -> str:
    return begin_session(connection, username, now=now, address="127.0.0.1", user_agent="a\0 browser\n")


def test_a_session_is_of_its_account_until_it_ends(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "writer", now=NOW)
    text = begun(any_connection)
    session_id, secret = text.split(".")
    assert session_principal(any_connection, text, now=NOW) == Principal("ann", "writer", session_id=session_id)
    [session] = sessions(any_connection, "ann", now=NOW)
    assert (session.session_id, session.address, session.user_agent) == (session_id, "127.0.0.1", "a browser")
    assert accounts(any_connection)[0].last_login_at == NOW
    kept = any_connection.execute("select secret_sha256 from session").fetchall()
    assert kept == [(hashlib.sha256(secret.encode()).digest(),)]
    assert end_session(any_connection, "ann", session_id)
    assert not end_session(any_connection, "ann", session_id)
    assert session_principal(any_connection, text, now=NOW) is None


def test_a_session_that_is_not_used_ends_and_one_that_is_used_ends_later(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "writer", now=NOW)
    text = begun(any_connection)
    session_id = text.split(".")[0]
    assert session_principal(any_connection, text, now=NOW + IDLE) is None
    at = NOW
    while at + IDLE / 2 < NOW + LONGEST:
        at += IDLE / 2
        assert session_principal(any_connection, text, now=at) is not None
        mark_session_used(any_connection, session_id, now=at)
    assert session_principal(any_connection, text, now=NOW + LONGEST) is None
    begun(any_connection, now=NOW + LONGEST)
    assert any_connection.execute("select count(*) from session").fetchone() == (1,), "what has ended is removed"


def test_a_new_password_and_a_closed_account_end_the_sessions(any_connection: Connection) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    create_account(any_connection, "bob", PASSWORD, "admin", now=NOW)
    kept, other, of_bob = begun(any_connection), begun(any_connection), begun(any_connection, "bob")
    with any_connection.transaction():
        set_password(any_connection, "ann", "another good password", now=NOW, keep_session=kept.split(".")[0])
    assert verified_account(any_connection, "ann", PASSWORD) is None
    assert verified_account(any_connection, "ann", "another good password") is not None
    found = [session_principal(any_connection, text, now=NOW) is not None for text in (kept, other, of_bob)]
    assert found == [True, False, True]
    end_other_sessions(any_connection, "ann", None)
    with any_connection.transaction():
        change_account(any_connection, "bob", is_active=False)
    found = [session_principal(any_connection, text, now=NOW) is not None for text in (kept, other, of_bob)]
    assert found == [False, False, False]
    with pytest.raises(UnknownAccount):
        begun(any_connection, "bob")
    with pytest.raises(WeakPassword), any_connection.transaction():
        set_password(any_connection, "ann", "ann", now=NOW)


@pytest.mark.parametrize("presented", ["", ".", "a.b", "0" * 16 + "." + "a" * 43, "x" * 1_000_000, "\0", "\ud800"])
def test_what_is_no_session_is_nobody_s(any_connection: Connection, presented: str) -> None:
    create_account(any_connection, "ann", PASSWORD, "admin", now=NOW)
    text = begun(any_connection)
    for wrong in (presented, text + "a", text[:-1], text.upper(), " " + text):
        assert session_principal(any_connection, wrong, now=NOW) is None
