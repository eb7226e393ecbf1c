"""`crm token …` and `crm createsuperuser`: secrets are shown only to their owner or written to a pipe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from crm_core.cli.console import login, table_lines
from crm_core.errors import AccountExists, NameRefused
from crm_core.settings import Settings
from crm_core.utc import utc_text
from crm_core.values.text import json_line

if TYPE_CHECKING:
    from crm_core.access.principal import Role
    from crm_core.access.tokens import Token
    from crm_core.postgres.connection import Connection

_AGE = re.compile(r"(\d{1,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_HEADING = ("id", "name", "role", "state", "created", "expires", "last used")


@click.group(epilog="Example: crm token create nightly-load --role writer")
def token() -> None:
    """Create, list and revoke tokens for the API."""


@token.command(epilog="Example: TOKEN=$(crm token create nightly-load --role writer --expires 90d)")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("reader", "writer", "admin")),
    required=True,
    help="A reader reads, a writer also writes, an admin also manages.",
)
@click.option("--expires", metavar="WHEN", help="90d, 12h, 8w, or an instant such as 2027-01-01; default: never.")
def create(name: str, role: Role, *, expires: str | None) -> None:
    """Create a token and write it to standard output.

    The token is shown only this once, because only its hash is kept. The audit shows NAME as the actor of every change
    that is made with it.
    """
    from crm_core.access.tokens import create_token

    now = datetime.now(UTC)
    expires_at = None if expires is None else _instant(expires, now, Settings.from_environment())
    with _connection() as connection, connection.transaction():
        made, text = create_token(connection, name, role, now=now, expires_at=expires_at)
    click.echo(text)
    until = f"until {_minute(made.expires_at)}" if made.expires_at else "until it is revoked"
    click.echo(
        f"The token {made.name} ({role}) is valid {until}. Copy it now: it cannot be shown again.\n"
        "Send it with each request as the header `Authorization: Bearer …`.",
        err=True,
    )


@token.command("list", epilog="Example: crm token list --json")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each token.")
def list_(*, as_json: bool) -> None:
    """List all tokens, the oldest first; revoked and expired ones too."""
    from crm_core.access.tokens import tokens

    now = datetime.now(UTC)
    with _connection() as connection:
        found = tokens(connection)
    if as_json:
        for one in found:
            instants = {name: utc_text(value) for name, value in asdict(one).items() if isinstance(value, datetime)}
            click.echo(json_line({**asdict(one), **instants, "state": one.state(now)}))
    elif found:
        _show(found, now)
    else:
        click.echo("There is no token yet; create one with `crm token create NAME --role reader`.", err=True)


@token.command(epilog="Example: crm token revoke nightly-load")
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke a token for good.

    NAME is the token's name or its id. Requests with this token are refused from then on, at the latest after a second.
    """
    from crm_core.access.tokens import revoke_token

    with _connection() as connection:
        revoked = revoke_token(connection, name, now=datetime.now(UTC))
    click.echo(f"The token {revoked.name} ({revoked.token_id}) is revoked.")


@click.command(epilog="Example: crm createsuperuser --username ann")
@click.option("--username", help="The name to log in with.")
@click.option("--noinput", "--no-input", is_flag=True, help="Ask nothing; take name and password from the environment.")
def createsuperuser(username: str | None, *, noinput: bool) -> None:
    """Create an account with the role admin.

    Sign in with it to the cockpit and the admin panel. Without a terminal, give --noinput and the variables
    CRM_SUPERUSER_USERNAME and CRM_SUPERUSER_PASSWORD, or Django's: DJANGO_SUPERUSER_USERNAME and
    DJANGO_SUPERUSER_PASSWORD.
    """
    from crm_core.access.accounts import available_username, create_account

    given = (username or _variable("USERNAME"), _variable("PASSWORD")) if noinput else None
    with _connection() as connection:
        if given:
            name, password = given
        else:
            name = available_username(connection, username) if username else _ask_username(connection)
            password = _ask_password(name)
        create_account(connection, name, password, "admin", now=datetime.now(UTC))
    click.echo("Superuser created successfully.")


@contextmanager
def _connection() -> Iterator[Connection]:
    """Open a connection in autocommit to the migrated database of the settings."""
    from crm_core.postgres.connection import open_migrated

    with open_migrated(Settings.from_environment()) as database, database.connect(autocommit=True) as connection:
        yield connection


def _instant(expires: str, now: datetime, settings: Settings) -> datetime:
    """Return when a token expires: an age counted from now, or an instant."""
    from crm_core.values.instants import parse_instant

    try:
        age = _AGE.fullmatch(expires)
        found = now + int(age[1]) * _UNITS[age[2]] if age else parse_instant(expires, settings.time_zone)
    except ValueError:
        message = f"{expires!r} is neither an age such as 90d nor an instant such as 2027-01-01"
        raise click.BadParameter(message, param_hint="--expires") from None
    if found <= now:
        message = f"{expires!r} is in the past; give a later time"
        raise click.BadParameter(message, param_hint="--expires")
    return found


def _show(found: Sequence[Token], now: datetime) -> None:
    rows: list[Sequence[str]] = [_HEADING]
    for one in found:
        when = (_minute(one.created_at), _minute(one.expires_at), _minute(one.last_used_at))
        rows.append((one.token_id, one.name, one.role, one.state(now), *when))
    for line in table_lines(rows):
        click.echo(line)


def _minute(instant: datetime | None) -> str:
    return "never" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%MZ}"


def _variable(what: str) -> str:
    """Return a variable of the environment; .env is not read, because a password should not be kept in a file."""
    names = [f"CRM_SUPERUSER_{what}", f"DJANGO_SUPERUSER_{what}"]
    given = [value for name in names if (value := os.environ.get(name))]
    if not given:
        message = f"--noinput needs the variable {names[0]} in the environment"
        raise click.UsageError(message)
    return given[0]


def _ask_username(connection: Connection) -> str:
    """Ask for a username until one is given that can be used."""
    from crm_core.access.accounts import available_username

    def checked(answer: str) -> str:
        try:
            return available_username(connection, answer)
        except (NameRefused, AccountExists) as error:
            raise click.UsageError(str(error)) from None

    return str(click.prompt("Username", default=login(), value_proc=checked))


def _ask_password(username: str) -> str:
    """Ask for a password, twice each time, until it is strong enough."""
    from crm_core.access.accounts import password_faults

    while True:
        answer = str(click.prompt("Password", hide_input=True, confirmation_prompt="Password (again)"))
        faults = password_faults(username, answer)
        if not faults:
            return answer
        for fault in faults:
            click.echo(fault, err=True)
