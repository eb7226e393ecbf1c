"""`crm token …` and `crm createsuperuser` as they are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from crm_core.access.accounts import verified_account
from crm_core.access.principal import ROLES, Principal
from crm_core.access.tokens import create_token, is_closed, principal, tokens
from crm_core.cli.access import create
from crm_core.cli.main import crm
from crm_core.postgres.connection import Database

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery staple"

Run = Callable[..., Result]


@pytest.fixture
def run(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in os.environ:
        if name.startswith(("CRM_", "DJANGO_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CRM_DATABASE_URL", fresh_database.conninfo)

    def run(*arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(crm, arguments, input=typed, catch_exceptions=False)

    return run


def whose(database: Database, text: str) -> Principal | None:
    with database.connect() as connection:
        return principal(connection, text, now=datetime.now(UTC))


def knows(database: Database, username: str, password: str = PASSWORD) -> bool:
    with database.connect() as connection:
        return verified_account(connection, username, password) is not None


# crm token


def test_a_token_alone_is_on_standard_output(run: Run, fresh_database: Database) -> None:
    result = run("token", "create", "etl", "--role", "writer")
    assert result.exit_code == 0
    text = result.stdout.removesuffix("\n")
    bearer = whose(fresh_database, text)
    assert bearer is not None
    assert (bearer.name, bearer.role) == ("etl", "writer")
    assert "cannot be shown again" in result.stderr
    assert text not in result.stderr


@pytest.mark.unit
def test_each_role_can_be_given() -> None:
    (choice,) = [parameter.type for parameter in create.params if parameter.name == "role"]
    assert tuple(getattr(choice, "choices", ())) == ROLES


@pytest.mark.parametrize(
    ("expires", "days"), [("90d", 90), ("48h", 2), ("2w", 14), ("2999-01-01", None), ("2999-01-01T12:00+02:00", None)]
)
def test_a_token_may_expire(run: Run, fresh_database: Database, expires: str, days: int | None) -> None:
    assert run("token", "create", "etl", "--role", "reader", "--expires", expires).exit_code == 0
    with fresh_database.connect() as connection:
        (token,) = tokens(connection)
    assert token.expires_at is not None
    if days is None:
        assert token.expires_at.year == 2999
    else:
        assert token.expires_at - token.created_at == timedelta(days=days)


@pytest.mark.parametrize("expires", ["2001-01-01", "0d", "soon", "", "90", "-1d", "2024-13-45", "999999d"])
def test_an_invalid_or_past_expiry_is_wrong_usage(run: Run, fresh_database: Database, expires: str) -> None:
    result = run("token", "create", "etl", "--role", "reader", "--expires", expires)
    assert result.exit_code == 2
    assert "--expires" in result.stderr
    with fresh_database.connect() as connection:
        assert not is_closed(connection)


@pytest.mark.parametrize(
    "arguments", [["create"], ["create", "etl"], ["create", "etl", "--role", "king"], ["revoke"], ["what"]]
)
def test_wrong_usage_ends_with_2(run: Run, arguments: list[str]) -> None:
    assert run("token", *arguments).exit_code == 2


def test_a_name_that_is_taken_or_cannot_be_used_is_one_line(run: Run) -> None:
    run("token", "create", "etl", "--role", "reader")
    for name, said in (("etl", "the token 'etl' exists already"), ("two words", "the name 'two words' cannot be used")):
        result = run("token", "create", name, "--role", "reader")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith(f"error: {said}")
        assert result.stderr.count("\n") == 1


def test_the_list_shows_every_token_and_no_secret(run: Run, fresh_database: Database) -> None:
    assert run("token", "list").stdout == ""
    texts = [run("token", "create", name, "--role", "reader").stdout.strip() for name in ("etl", "bi")]
    run("token", "revoke", "bi")
    with fresh_database.transaction() as connection:
        past = datetime(2020, 1, 1, 9, 30, tzinfo=UTC)
        create_token(connection, "old", "admin", now=past, expires_at=past + timedelta(days=1))
    shown = run("token", "list").stdout
    heading, *rows = [line.split("  ") for line in shown.splitlines()]
    assert [cell.strip() for cell in heading if cell] == [
        "id", "name", "role", "state", "created", "expires", "last used",
    ]  # fmt: skip
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert [row[1:4] for row in cells] == [
        ["old", "admin", "expired"], ["etl", "reader", "active"], ["bi", "reader", "revoked"],
    ]  # fmt: skip
    assert cells[0][4:] == ["2020-01-01 09:30Z", "2020-01-02 09:30Z", "never"]
    found = [json.loads(line) for line in run("token", "list", "--json").stdout.splitlines()]
    assert [(token["name"], token["state"]) for token in found] == [
        ("old", "expired"), ("etl", "active"), ("bi", "revoked"),
    ]  # fmt: skip
    assert found[0]["created_at"] == "2020-01-01T09:30:00Z"
    assert found[1]["expires_at"] is None
    for text in texts:
        assert text.split("_")[2] not in shown + json.dumps(found)


def test_a_token_is_revoked_by_name_id_or_its_own_text(run: Run, fresh_database: Database) -> None:
    for number in range(3):
        text = run("token", "create", f"t{number}", "--role", "reader").stdout.strip()
        result = run("token", "revoke", (f"t{number}", text.split("_")[1], text)[number])
        assert result.stdout == f"The token t{number} ({text.split('_')[1]}) is revoked.\n"
        assert whose(fresh_database, text) is None
    result = run("token", "revoke", "t9")
    assert result.exit_code == 1
    assert result.stderr == "error: no token has that name or id; see `crm token list`\n"


def test_a_shell_takes_the_token_from_a_pipe(run: Run, fresh_database: Database) -> None:
    crm_ = f"'{sys.executable}' -c 'from crm_core.cli.main import main; main()'"
    command = f'TOKEN=$({crm_} token create etl --role admin); printf %s "$TOKEN"'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert whose(fresh_database, done.stdout) is not None


# crm createsuperuser


def test_a_superuser_is_asked_for_name_and_password(run: Run, fresh_database: Database) -> None:
    result = run("createsuperuser", typed=f"ann\n{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0
    assert result.stdout.endswith("Superuser created successfully.\n")
    assert PASSWORD not in result.output
    assert knows(fresh_database, "ann")


def test_no_name_is_that_of_the_login(run: Run, fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carla")
    assert "Username [carla]" in run("createsuperuser", typed=f"\n{PASSWORD}\n{PASSWORD}\n").stdout
    assert knows(fresh_database, "carla")


def test_whatever_cannot_be_used_is_asked_for_again(run: Run, fresh_database: Database) -> None:
    run("createsuperuser", "--username", "ann", typed=f"{PASSWORD}\n{PASSWORD}\n")
    typed = ["ann", "two words", "bob", PASSWORD, "something else", "12345", "12345", PASSWORD, PASSWORD]
    result = run("createsuperuser", typed="".join(f"{line}\n" for line in typed))
    assert result.exit_code == 0
    for said in (
        "an account 'ann' exists",
        "the name 'two words' cannot be used",
        "do not match",
        "too short",
        "entirely numeric",
    ):
        assert said in result.output
    assert knows(fresh_database, "bob")


def test_no_answer_makes_no_superuser(run: Run, fresh_database: Database) -> None:
    result = run("createsuperuser", "--username", "ann", typed="12345\n12345\n")
    assert result.exit_code == 1
    assert result.stderr.endswith("Aborted!\n")
    assert not knows(fresh_database, "ann", "12345")


@pytest.mark.parametrize("prefix", ["CRM", "DJANGO"])
def test_without_a_terminal_the_environment_answers(
    run: Run, fresh_database: Database, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_USERNAME", "ann")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "ours wins over this")
    monkeypatch.setenv(f"{prefix}_SUPERUSER_PASSWORD", PASSWORD)
    result = run("createsuperuser", "--noinput")
    assert result.output == "Superuser created successfully.\n"
    assert knows(fresh_database, "ann")
    again = run("createsuperuser", "--noinput")
    assert again.exit_code == 1
    assert again.stderr == "error: an account 'ann' exists already; choose another name\n"


def test_without_a_terminal_a_missing_or_weak_password_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("createsuperuser", "--noinput", "--username", "ann")
    assert result.exit_code == 2
    assert "CRM_SUPERUSER_PASSWORD" in result.stderr
    monkeypatch.setenv("CRM_SUPERUSER_PASSWORD", "hunter2")
    result = run("createsuperuser", "--noinput", "--username", "ann")
    assert result.exit_code == 1
    assert "too short" in result.stderr
    assert "hunter2" not in result.output
