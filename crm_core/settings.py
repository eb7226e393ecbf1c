"""The settings, read once at the start from the environment and from `.env`; `.env.example` explains them all."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from crm_core.errors import SettingsError
from crm_core.model import CloudPath

MAX_PAGE_SIZE = 200
SECRET_KEY_LENGTH = 32
POSTGRES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
OF_COMPOSE = ("CRM_UI_ADDRESS", "CRM_API_ADDRESS")  # only compose.yaml reads them
_OURS = re.compile(r"(CRM|POSTGRES|DJANGO|DRF)_(?!TEST_)")
_WARNED_OF: set[str] = set()  # settings are read more than once
_TEN_YEARS = 315_360_000  # seconds
_HOST = r"\*|\.?[\w.-]+|\[[0-9A-Fa-f:.]+\]"
_ORIGIN = r"https?://[^/\s]+"
_RATE = r"[1-9]\d* ?(/|per) ?([1-9]\d* ?)?(second|minute|hour|day)s?"
_MAIL = r"[^@\s,<>]+@[^@\s,<>]+"
_MAILS = "write e-mail addresses, separated by commas"
_ORIGINS = "write origins with scheme and without path, such as https://crm.example.org, separated by commas"

Auth = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one variable is read."""

    default: str | None  # as it would be written; None: a missing setting is None
    parse: Callable[[str], object]
    cure: str  # what to write instead of a value that `parse` refuses
    alias: str | None = None  # a name that Django deployments use; ours takes precedence


def _conninfo(value: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    url = re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", value)  # SQLAlchemy's spelling
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:  # its text would show the value
        raise ValueError from None
    places = f"{parts.get('host', '')}{parts.get('dbname', '')}"
    if "@" in places or not re.fullmatch(r"[0-9,]*", str(parts.get("port", ""))):
        raise ValueError  # a bare @ or / in the password: what follows it would be shown as host, port or database
    return url


def _folder(value: str) -> Path:
    return Path(value).expanduser().absolute()


def _folder_of_drops(value: str) -> Path | CloudPath:
    return CloudPath.parse(value) or _folder(value)


def _flag(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _auth(value: str) -> Auth:
    found: dict[str, Auth] = {auth: auth for auth in get_args(Auth)}
    return found[value.lower()]


def _rate_limit(value: str) -> str | None:
    return ",".join(_list_of(_RATE)(value.lower())) or None


def _percent(value: str) -> float:
    share = float(value.removesuffix("%").strip()) / 100
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _language_code(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", value):
        raise ValueError
    return value


def _long_key(value: str) -> str:
    if len(value) < SECRET_KEY_LENGTH:
        raise ValueError
    return value


def _proxies(value: str) -> tuple[str, ...]:
    """Parse the addresses of proxies strictly: a misspelt one would silently not be trusted."""
    from ipaddress import ip_address, ip_network

    def parsed(proxy: str) -> str:
        if proxy == "*":
            return proxy
        return str(ip_network(proxy, strict=False) if "/" in proxy else ip_address(proxy))

    return tuple(map(parsed, _list_of(r".+")(value)))


def _list_of(item: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser for comma-separated items that each match the pattern."""

    def parse(value: str) -> tuple[str, ...]:
        items = tuple(part.strip() for part in value.split(",") if part.strip())
        if not all(re.fullmatch(item, part) for part in items):
            raise ValueError
        return items

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    """Return a parser for an address with one of the schemes and a host."""
    from urllib.parse import urlsplit

    def parse(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname or (parts.port or 1) < 1 or not value.isascii():
            raise ValueError
        return value.rstrip("/")

    return parse


def _mail(value: str) -> str:
    (one,) = _list_of(_MAIL)(value)
    return one


def _as(
    default: str | None, parse: Callable[[str], object], cure: str, alias: str | None = None
) -> Mapping[str, Setting]:
    """Return the metadata of a field of Settings."""
    return {"setting": Setting(default, parse, cure, alias)}


def _yes_or_no(alias: str | None = None) -> Mapping[str, Setting]:
    return _as("0", _flag, "write 1 or 0", alias)


def _number(default: int, allowed: range, alias: str | None = None) -> Mapping[str, Setting]:
    return {"setting": _whole_number(default, allowed, alias)}


def _whole_number(default: int, allowed: range, alias: str | None = None) -> Setting:
    def parse(value: str) -> int:
        return allowed[allowed.index(int(value))]

    return Setting(str(default), parse, f"write a whole number from {allowed[0]} to {allowed[-1]}", alias)


def _number_or_none(default: int, allowed: range, alias: str) -> Mapping[str, Setting]:
    number = _whole_number(default, allowed)

    def parse(value: str) -> object:
        return None if value.lower() == "none" else number.parse(value)

    return _as(number.default, parse, number.cure, alias)


_PORT = _whole_number(5432, range(1, 65536))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides: each field is the variable CRM_ and its name in capitals.

    The errors about a field without `repr` do not show its value.
    """

    # absolute; the embedded server's data, and everything else that crm writes
    home: Path = field(metadata=_as(".crm", _folder, "write the path of a folder"))
    # conninfo or URL; None: the embedded server
    database_url: str | None = field(
        repr=False,
        metadata=_as(
            None,
            _conninfo,
            "write postgresql://user:password@host:port/database, special characters of the password as %XX",
        ),
    )
    # absolute; where drops arrive
    drop_dir: Path | CloudPath = field(
        metadata=_as(None, _folder_of_drops, "write the path of a folder, or an address such as s3://bucket/folder")
    )
    # absolute; the profiles of sources
    profile_dir: Path = field(metadata=_as("profiles", _folder, "write the path of a folder"))
    # naive timestamps are read in it
    time_zone: ZoneInfo = field(
        metadata=_as(
            "UTC",
            ZoneInfo,
            "write a name of the IANA time zone database, such as Europe/Berlin",
            "DJANGO_TIME_ZONE",
        )
    )
    language_code: str = field(
        metadata=_as("en-us", _language_code, "write a language tag, such as en-us or de", "DJANGO_LANGUAGE_CODE")
    )
    # the share of its scope that a snapshot may end before it waits for somebody to decide
    snapshot_limit: float = field(metadata=_as("5", _percent, "write a percentage from 0 to 100, such as 5"))
    # of lists, unless a request says otherwise
    page_size: int = field(metadata=_number(20, range(1, MAX_PAGE_SIZE + 1), "DRF_PAGE_SIZE"))
    debug: bool = field(metadata=_yes_or_no("DJANGO_DEBUG"))
    # signs sessions; None: a new key for each process
    secret_key: str | None = field(
        repr=False,
        metadata=_as(
            None,
            _long_key,
            f"write at least {SECRET_KEY_LENGTH} random characters, as `openssl rand -base64 48` prints them",
            "DJANGO_SECRET_KEY",
        ),
    )
    # "*" means any, ".example.org" a domain and all below it
    allowed_hosts: tuple[str, ...] = field(
        metadata=_as(
            LOOPBACK_HOSTS,
            _list_of(_HOST),
            "write host names without scheme, port and path, separated by commas",
            "DJANGO_ALLOWED_HOSTS",
        )
    )
    # with scheme
    csrf_trusted_origins: tuple[str, ...] = field(
        metadata=_as("", _list_of(_ORIGIN), _ORIGINS, "DJANGO_CSRF_TRUSTED_ORIGINS")
    )
    # HTTPS only: redirects, Secure cookies
    secure: bool = field(metadata=_yes_or_no("DJANGO_SECURE"))
    hsts_seconds: int = field(metadata=_number(0, range(_TEN_YEARS + 1), "DJANGO_HSTS_SECONDS"))
    # seconds that an idle connection is kept; None: for ever
    db_conn_max_age: int | None = field(metadata=_number_or_none(600, range(_TEN_YEARS + 1), "DJANGO_DB_CONN_MAX_AGE"))
    # auto: the API is open on loopback until the first token is created, and closed otherwise
    auth: Auth = field(metadata=_as("auto", _auth, "write auto, on or off"))
    # reading needs no token
    public_read: bool = field(metadata=_yes_or_no())
    # in the notation of the library limits, such as 100/minute; None: no limit
    rate_limit: str | None = field(
        metadata=_as("", _rate_limit, "write a rate such as 100/minute, or several, separated by commas")
    )
    # with scheme, or "*"
    cors_origins: tuple[str, ...] = field(metadata=_as("", _list_of(rf"\*|{_ORIGIN}"), f"{_ORIGINS}, or *"))
    # of a request
    max_body_bytes: int = field(metadata=_number(1 << 20, range(1 << 10, (1 << 30) + 1)))
    # of a request that brings a drop
    max_drop_bytes: int = field(metadata=_number(2 << 30, range(1 << 10, (1 << 40) + 1)))
    # seconds that a request may keep the database busy
    statement_timeout: int = field(metadata=_number(10, range(1, 3601)))
    # seconds that a transaction may be idle before the server ends it
    idle_timeout: int = field(metadata=_number(60, range(1, 86_401)))
    # seconds that one statement of a merge, a check or a report may take; 0: no limit
    merge_timeout: int = field(metadata=_number(3600, range(604_801)))
    # connections of each API process: this many for reading, and as many for writing
    pool_size: int = field(metadata=_number(4, range(1, 1001)))
    # addresses and networks whose X-Forwarded-* is believed; "*" means any
    trusted_proxies: tuple[str, ...] = field(
        metadata=_as(
            "",
            _proxies,
            "write IP addresses or networks, such as 10.0.0.7 or 10.0.0.0/8, separated by commas, or *",
        )
    )
    # seconds that a client may take for the head of a request, and for each part of its body
    client_timeout: int = field(metadata=_number(30, range(1, 3601)))
    # shown in the audit for what a command records; None: the user's login
    actor: str | None = field(metadata=_as(None, str, "write a name"))
    # days that the text of rejected rows is kept; 0: for ever
    keep_rejects_days: int = field(metadata=_number(0, range(36_501)))
    # where alerts are sent by POST; None: nowhere
    alert_webhook: str | None = field(
        repr=False, metadata=_as(None, _url("https", "http"), "write an address that begins with https:// or http://")
    )
    # signs what is sent there; None: it is not signed
    alert_secret: str | None = field(repr=False, metadata=_as(None, str, "write a secret"))
    # who gets alerts by e-mail; empty: nobody
    alert_mail_to: tuple[str, ...] = field(metadata=_as("", _list_of(_MAIL), _MAILS))
    # from whom; None: the first who gets them
    alert_mail_from: str | None = field(metadata=_as(None, _mail, "write an e-mail address"))
    # the server that takes the mail
    alert_mail_server: str = field(
        repr=False,
        metadata=_as(
            "smtp://localhost",
            _url("smtps", "smtp"),
            "write smtps://user:password@host:port or smtp://host:port, special characters of the password as %XX",
        ),
    )
    # Dagster's UI, as those reach it who get alerts
    alert_link: str = field(metadata=_as("http://127.0.0.1:3000", _url("https", "http"), "write an address"))
    # hours without a drop after which an alert is sent; 0: never
    alert_fresh_hours: int = field(metadata=_number(36, range(8_785)))

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
    ) -> Settings:
        """Return the settings; the environment wins over the file, and an empty value counts as missing.

        Raises SettingsError for a value that cannot be used, without ever showing a password.
        """
        from dotenv import dotenv_values  # imported here, as it is not needed for `crm --help`

        of_file = _present(dotenv_values(env_file)) if env_file else {}
        of_environment = _present(os.environ if environ is None else environ)
        _warn_of_unknown(of_file, of_environment)
        given = _over(of_file, of_environment)
        values: dict[str, Any] = {
            name.removeprefix("CRM_").lower(): _read(given, name, setting, is_secret=name in _SECRETS)
            for name, setting in SETTINGS.items()
        }
        values["drop_dir"] = values["drop_dir"] or values["home"] / "drops"
        values["database_url"] = values["database_url"] or _database_url(given)
        if values["secure"] and values["secret_key"] is None:
            name = "CRM_SECRET_KEY"
            raise SettingsError(name, "…", f"{SETTINGS[name].cure} ({_name(given, 'CRM_SECURE')} needs it)")
        return cls(**values)


SETTINGS: Mapping[str, Setting] = {f"CRM_{each.name.upper()}": each.metadata["setting"] for each in fields(Settings)}
ALIASES = {name: setting.alias for name, setting in SETTINGS.items() if setting.alias}
_SECRETS = {f"CRM_{each.name.upper()}" for each in fields(Settings) if not each.repr}


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value and value.strip()}


def _warn_of_unknown(of_file: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Warn once of each unknown name: all in the file, and probable misspellings in the environment."""
    from difflib import get_close_matches

    known = {*SETTINGS, *ALIASES.values(), *POSTGRES, *OF_COMPOSE}
    for name in sorted({*of_file, *environ} - known - _WARNED_OF):
        if (ours := _OURS.match(name)) is None:
            continue
        near = next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None)
        if near or (name in of_file and ours[1] == "CRM"):
            _WARNED_OF.add(name)
            cure = f"did you mean {near}?" if near else "see .env.example for all settings"
            logging.getLogger("crm").warning("%s is not a setting, so it has no effect; %s", name, cure)


def _over(of_file: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Merge the file and the environment, which wins; an alias there also wins over the name in the file."""
    hidden = {name for name, alias in ALIASES.items() if alias in environ}
    return {name: value for name, value in of_file.items() if name not in hidden} | dict(environ)


def _name(given: Mapping[str, str], name: str) -> str:
    """Return the name under which a setting was given: its own, unless only the alias is set."""
    alias = ALIASES.get(name, name)
    return alias if name not in given and alias in given else name


def _read(given: Mapping[str, str], name: str, setting: Setting, *, is_secret: bool) -> object:
    """Return a setting's value; raise SettingsError, under the name that was given, if `parse` refuses it."""
    given_as = _name(given, name)
    value = given.get(given_as, setting.default)
    if value is None:
        return None
    try:
        return setting.parse(value.strip())
    except (ValueError, KeyError, OSError):
        raise SettingsError(given_as, "…" if is_secret else value.strip(), setting.cure) from None


def _database_url(given: Mapping[str, str]) -> str | None:
    """Return the conninfo that the five variables of PostgreSQL's container image make; None if none is given."""
    if not any(name in given for name in POSTGRES):
        return None
    from psycopg.conninfo import make_conninfo  # imported here: it takes longer to import than `crm --help` may take

    return make_conninfo(
        host=given.get("POSTGRES_HOST", "localhost"),
        port=str(_read(given, "POSTGRES_PORT", _PORT, is_secret=False)),
        dbname=given.get("POSTGRES_DB", "crm"),
        user=given.get("POSTGRES_USER", "postgres"),
        password=given.get("POSTGRES_PASSWORD"),
    )
