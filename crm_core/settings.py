"""The settings, read once at the edge from the environment and from `.env`; `.env.example` explains them all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from dotenv import dotenv_values

from crm_core.errors import SettingsError

MAX_PAGE_SIZE = 200
SECRET_KEY_LENGTH = 32
POSTGRES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
_TEN_YEARS = 315_360_000  # seconds
_SECRET = ("CRM_DATABASE_URL", "CRM_SECRET_KEY")  # errors do not show their values

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the surroundings decide."""

    home: Path  # absolute; the embedded server's data, and all else that the product writes
    database_url: str | None = field(repr=False)  # conninfo or URL; None: the embedded server
    drop_dir: Path  # absolute; where drops arrive
    time_zone: ZoneInfo  # naive timestamps are read in it
    language_code: str
    page_size: int  # of lists, unless a request says otherwise
    debug: bool
    secret_key: str | None = field(repr=False)  # signs sessions; None: one that lasts as long as the process
    allowed_hosts: tuple[str, ...]  # "*" is any, ".example.org" a domain and all below it
    csrf_trusted_origins: tuple[str, ...]  # with scheme
    secure: bool  # HTTPS alone: redirects to it, cookies are Secure
    hsts_seconds: int
    db_conn_max_age: int | None  # seconds that an idle connection is kept; None: for ever

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
    ) -> Settings:
        """Answer the settings; the environment wins over the file, and an empty value is a missing one.

        Raises SettingsError for a value that cannot be used; it never shows a password.
        """
        of_file = _present(dotenv_values(env_file)) if env_file else {}
        given = of_file | _present(os.environ if environ is None else environ)
        home = _read(given, "CRM_HOME", ".crm", _folder, "write the path of a folder")
        secure = _read(given, "CRM_SECURE", "0", _flag, "write 1 or 0")
        return cls(
            home=home,
            database_url=_database_url(given),
            drop_dir=_read(given, "CRM_DROP_DIR", str(home / "drops"), _folder, "write the path of a folder"),
            time_zone=_read(
                given, "CRM_TIME_ZONE", "UTC", ZoneInfo, "write a name of the IANA time zone database, as Europe/Berlin"
            ),
            language_code=_read(
                given, "CRM_LANGUAGE_CODE", "en-us", _language_code, "write a language tag, such as en-us or de"
            ),
            page_size=_whole_number(given, "CRM_PAGE_SIZE", 20, range(1, MAX_PAGE_SIZE + 1)),
            debug=_read(given, "CRM_DEBUG", "0", _flag, "write 1 or 0"),
            secret_key=_secret_key(given, required=secure),
            allowed_hosts=_read(
                given,
                "CRM_ALLOWED_HOSTS",
                LOOPBACK_HOSTS,
                _list_of(r"\*|\.?[\w.-]+|\[[0-9A-Fa-f:.]+\]"),
                "write host names without scheme, port and path, with commas between",
            ),
            csrf_trusted_origins=_read(
                given,
                "CRM_CSRF_TRUSTED_ORIGINS",
                "",
                _list_of(r"https?://[^/\s]+"),
                "write origins with scheme and without path, as https://crm.example.org, with commas between",
            ),
            secure=secure,
            hsts_seconds=_whole_number(given, "CRM_HSTS_SECONDS", 0, range(_TEN_YEARS + 1)),
            db_conn_max_age=(
                None
                if given.get("CRM_DB_CONN_MAX_AGE", "").lower() == "none"
                else _whole_number(given, "CRM_DB_CONN_MAX_AGE", 0, range(_TEN_YEARS + 1))
            ),
        )


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value and value.strip()}


def _read(given: Mapping[str, str], name: str, default: str, parse: Callable[[str], T], cure: str) -> T:
    """Answer a setting's value; what `parse` refuses becomes a SettingsError."""
    value = given.get(name, default).strip()
    try:
        return parse(value)
    except (ValueError, KeyError, OSError):
        raise SettingsError(name, "…" if name in _SECRET else value, cure) from None


def _database_url(given: Mapping[str, str]) -> str | None:
    if "CRM_DATABASE_URL" in given:
        cure = "write postgresql://user:password@host:port/database, special characters of the password as %XX"
        return _read(given, "CRM_DATABASE_URL", "", _conninfo, cure)
    if not any(name in given for name in POSTGRES):
        return None
    from psycopg.conninfo import make_conninfo  # here: it takes longer to import than `crm --help` may

    return make_conninfo(
        host=given.get("POSTGRES_HOST", "localhost"),
        port=_whole_number(given, "POSTGRES_PORT", 5432, range(1, 65536)),
        dbname=given.get("POSTGRES_DB", "crm"),
        user=given.get("POSTGRES_USER", "postgres"),
        password=given.get("POSTGRES_PASSWORD"),
    )


def _secret_key(given: Mapping[str, str], *, required: bool) -> str | None:
    if "CRM_SECRET_KEY" not in given and not required:
        return None
    cure = f"write at least {SECRET_KEY_LENGTH} random characters, as `openssl rand -base64 48` prints them"
    return _read(given, "CRM_SECRET_KEY", "", _long_key, f"{cure} (CRM_SECURE needs it)" if required else cure)


def _whole_number(given: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    def parse(value: str) -> int:
        return allowed[allowed.index(int(value))]

    return _read(given, name, str(default), parse, f"write a whole number from {allowed[0]} to {allowed[-1]}")


def _conninfo(value: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    url = re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", value)  # SQLAlchemy's spelling
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:  # its text quotes the value
        raise ValueError from None
    places = f"{parts.get('host', '')}{parts.get('dbname', '')}"
    if "@" in places or not re.fullmatch(r"[0-9,]*", str(parts.get("port", ""))):
        raise ValueError  # a bare @ or / in the password: what follows it would be shown as host, port or database
    return url


def _folder(value: str) -> Path:
    return Path(value).expanduser().absolute()


def _flag(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _language_code(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", value):
        raise ValueError
    return value


def _long_key(value: str) -> str:
    if len(value) < SECRET_KEY_LENGTH:
        raise ValueError
    return value


def _list_of(item: str) -> Callable[[str], tuple[str, ...]]:
    """Answer a parser of items with commas between, each of which matches the pattern."""

    def parse(value: str) -> tuple[str, ...]:
        items = tuple(part.strip() for part in value.split(",") if part.strip())
        if not all(re.fullmatch(item, part) for part in items):
            raise ValueError
        return items

    return parse
