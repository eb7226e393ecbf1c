"""API tokens: who presents one, what is kept of it, and what is taken for one."""

from __future__ import annotations

import hashlib
import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_core.access.accounts import (
    create_account,
)
from crm_core.access.principal import ROLES, Principal, Role
from crm_core.access.tokens import (
    Token,
    create_token,
    has_active_token,
    is_closed,
    mark_used,
    principal,
    revoke_token,
    tokens,
)
from crm_core.errors import (
    NameRefused,
    TokenExists,
    UnknownToken,
)
from crm_core.postgres.connection import Connection, Database

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PASSWORD = "correct horse battery staple"


def test_a_token_names_its_bearer_and_role(any_connection: Connection) -> None:
    token, text = create_token(any_connection, "etl", "writer", now=NOW)
    assert token == Token(token.token_id, "etl", "writer", NOW, None, None, None)
    assert principal(any_connection, text, now=NOW) == Principal("etl", "writer", token.token_id)
    assert tokens(any_connection) == [token]


def test_the_text_of_a_token_is_kept_nowhere(any_connection: Connection) -> None:
    token, text = create_token(any_connection, "etl", "writer", now=NOW)
    prefix, token_id, secret = text.split("_")
    assert (prefix, token_id) == ("crm", token.token_id)
    assert len(token_id) >= 12
    assert set(token_id) <= set(string.ascii_lowercase + string.digits)
    assert len(secret) >= 32
    kept = any_connection.execute("select t::text, secret_sha256 from access_token t").fetchall()
    assert secret not in str(kept)
    assert kept[0][1] == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(token) + repr(principal(any_connection, text, now=NOW))


def test_no_two_tokens_are_alike(connection: Connection) -> None:
    texts = [create_token(connection, f"t{number}", "reader", now=NOW)[1] for number in range(20)]
    for part in (1, 2):
        assert len({text.split("_")[part] for text in texts}) == 20


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("reader", ("reader",)), ("writer", ("reader", "writer")), ("admin", ("reader", "writer", "admin"))],
)
@pytest.mark.unit
def test_each_role_may_what_those_before_it_may(role: Role, allowed: tuple[Role, ...]) -> None:
    assert tuple(asked for asked in ROLES if Principal("ann", role).may(asked)) == allowed


def test_a_revoked_token_is_taken_no_more(any_connection: Connection) -> None:
    token, text = create_token(any_connection, "etl", "writer", now=NOW)
    _, other = create_token(any_connection, "other", "reader", now=NOW)
    revoked = revoke_token(any_connection, "etl", now=NOW + MINUTE)
    assert revoked == replace(token, revoked_at=NOW + MINUTE)
    assert principal(any_connection, text, now=NOW + MINUTE) is None
    assert principal(any_connection, text, now=NOW) is None, "not even for a clock that is behind"
    assert principal(any_connection, other, now=NOW + MINUTE) is not None
    assert revoked in tokens(any_connection)


def test_revoking_again_changes_nothing(any_connection: Connection) -> None:
    token, text = create_token(any_connection, "etl", "writer", now=NOW)
    first = revoke_token(any_connection, token.token_id, now=NOW + MINUTE)
    for name in ("etl", token.token_id, text, f" {text}\n"):
        assert revoke_token(any_connection, name, now=NOW + 2 * MINUTE) == first


def test_a_name_means_the_token_that_is_in_use(any_connection: Connection) -> None:
    first, _ = create_token(any_connection, "etl", "writer", now=NOW)
    revoke_token(any_connection, "etl", now=NOW)
    second, text = create_token(any_connection, "etl", "reader", now=NOW + MINUTE)
    assert second.token_id != first.token_id
    assert revoke_token(any_connection, "etl", now=NOW + 2 * MINUTE).token_id == second.token_id
    assert principal(any_connection, text, now=NOW + 2 * MINUTE) is None


@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "é" * 200, "x" * 1_000_000, f"crm_{'a' * 12}_{'b' * 43}"])
def test_a_token_that_is_unknown_cannot_be_revoked(any_connection: Connection, name: str) -> None:
    create_token(any_connection, "etl", "writer", now=NOW)
    with pytest.raises(UnknownToken) as caught:
        revoke_token(any_connection, name, now=NOW)
    assert len(str(caught.value)) < 100
    assert "bbb" not in str(caught.value), "it may have been a secret"


def test_a_token_is_taken_until_it_expires(any_connection: Connection) -> None:
    token, text = create_token(any_connection, "etl", "writer", now=NOW, expires_at=NOW + MINUTE)
    assert token.expires_at == NOW + MINUTE
    assert principal(any_connection, text, now=NOW + MINUTE - timedelta(microseconds=1)) is not None
    assert principal(any_connection, text, now=NOW + MINUTE) is None


def test_a_name_is_of_one_token_at_a_time(any_connection: Connection) -> None:
    create_token(any_connection, "etl", "writer", now=NOW, expires_at=NOW + MINUTE)
    with pytest.raises(TokenExists, match="'etl'"):
        create_token(any_connection, "etl", "reader", now=NOW)
    second, text = create_token(any_connection, "etl", "reader", now=NOW + MINUTE)  # the first has expired
    assert principal(any_connection, text, now=NOW + MINUTE) == Principal("etl", "reader", second.token_id)
    assert [token.revoked_at for token in tokens(any_connection)] == [NOW + MINUTE, None]


@pytest.mark.parametrize("name", ["", " ", "two words", "a\0b", "a\nb", "-rf", "x" * 101, "crm\u202e", "\ud800", "a/b"])
def test_a_name_that_would_confuse_the_ledger_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(NameRefused) as caught:
        create_token(connection, name, "reader", now=NOW)
    assert str(caught.value).isprintable()
    with pytest.raises(NameRefused):
        create_account(connection, name, PASSWORD, "admin", now=NOW)
    assert tokens(connection) == []


def test_one_of_two_that_make_a_token_of_one_name_at_once_gets_it(any_fresh_database: Database) -> None:
    at_once = Barrier(2)

    def create(role: Role) -> str | None:
        with any_fresh_database.transaction() as connection:
            at_once.wait(10)
            try:
                return create_token(connection, "etl", role, now=NOW)[1]
            except TokenExists:
                return None

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(create, ("reader", "writer")))
    assert made.count(None) == 1
    with any_fresh_database.connect() as connection:
        assert len(tokens(connection)) == 1
        assert principal(connection, next(filter(None, made)), now=NOW) is not None


def test_who_once_asked_for_tokens_goes_on_asking(any_connection: Connection) -> None:
    assert (is_closed(any_connection), has_active_token(any_connection, now=NOW)) == (False, False)
    create_token(any_connection, "short", "reader", now=NOW, expires_at=NOW + MINUTE)
    assert (is_closed(any_connection), has_active_token(any_connection, now=NOW)) == (True, True)
    assert has_active_token(any_connection, now=NOW + MINUTE) is False
    create_token(any_connection, "long", "reader", now=NOW)
    assert has_active_token(any_connection, now=NOW + MINUTE) is True
    revoke_token(any_connection, "long", now=NOW)
    assert (is_closed(any_connection), has_active_token(any_connection, now=NOW + MINUTE)) == (True, False)


def test_the_last_use_is_written_once_a_minute(any_connection: Connection) -> None:
    token, _ = create_token(any_connection, "etl", "writer", now=NOW)

    def used(at: datetime) -> datetime | None:
        mark_used(any_connection, token.token_id, now=at)
        return tokens(any_connection)[0].last_used_at

    assert used(NOW) == NOW
    assert used(NOW + MINUTE) == NOW
    assert used(NOW + MINUTE + timedelta(seconds=1)) == NOW + MINUTE + timedelta(seconds=1)
    assert used(NOW) == NOW + MINUTE + timedelta(seconds=1), "it never goes back"


# whatever is presented


def tampered(text: str) -> list[str]:
    _, token_id, secret = text.split("_")
    return [
        "", " ", "crm", "crm__", "crm_", "Bearer " + text, text + " ", " " + text, text + "\n", text + "\0",
        text[:-1], text + "a", text.upper(), text.replace("crm", "CRM"), text.replace("_", "-"),
        f"crm_{token_id}_{secret[::-1]}", f"crm_{token_id}_{secret.swapcase()}", f"crm_{token_id[::-1]}_{secret}",
        f"crm_{token_id}_", f"crm__{secret}", f"crm_{token_id}_{secret}_{secret}", f"crm_{token_id}_{'é' * 43}",
        f"crm_{token_id}_{'٣' * 43}", f"crm_{'%' * 12}_{secret}", f"crm_' or 1=1 --_{secret}", "\ud800" * 60,
        "\0" + text, text.replace("_", "%5F"), text.encode().decode("utf-16-le", "replace"), "x" * 10_000_000,
        text * 1000, f"crm_{token_id}_{'a' * 1_000_000}",
    ]  # fmt: skip


def test_what_is_not_the_token_to_the_letter_is_nobody_s(any_connection: Connection) -> None:
    _, text = create_token(any_connection, "etl", "admin", now=NOW)
    for presented in tampered(text):
        assert principal(any_connection, presented, now=NOW) is None, presented[:80]
    assert principal(any_connection, text, now=NOW) is not None, "the connection is as it was"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters())
    | st.from_regex(r"crm_[a-z0-9]{12}_[A-Za-z0-9]{43}", fullmatch=True)
    | st.binary().map(lambda presented: presented.decode("latin-1"))
)
def test_no_text_whatever_is_an_error(connection: Connection, presented: str) -> None:
    assert principal(connection, presented, now=NOW) is None


def test_hashed_secrets_alone_can_be_stored(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="access_token_secret_is_hashed"):
        connection.execute(
            "insert into access_token values ('aaaaaaaaaaaa', 'etl', 'reader', 'secret', now(), null, null, null)"
        )
    connection.rollback()
    with pytest.raises(psycopg.errors.CheckViolation, match="account_password_is_hashed"):
        connection.execute("insert into account values ('ann', 'secret', 'admin', true, now(), now())")
