"""The settings, read once at the start from the environment and from `.env`; `.env.example` explains them all."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeVar, get_args
from zoneinfo import ZoneInfo

from dotenv import dotenv_values

from crm_core.errors import SettingsError

MAX_PAGE_SIZE = 200
SECRET_KEY_LENGTH = 32
POSTGRES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
ALIASES = {  # names that Django deployments use; ours take precedence
    "CRM_DEBUG": "DJANGO_DEBUG",
    "CRM_LANGUAGE_CODE": "DJANGO_LANGUAGE_CODE",
    "CRM_TIME_ZONE": "DJANGO_TIME_ZONE",
    "CRM_ALLOWED_HOSTS": "DJANGO_ALLOWED_HOSTS",
    "CRM_CSRF_TRUSTED_ORIGINS": "DJANGO_CSRF_TRUSTED_ORIGINS",
    "CRM_PAGE_SIZE": "DRF_PAGE_SIZE",
    "CRM_SECRET_KEY": "DJANGO_SECRET_KEY",
    "CRM_SECURE": "DJANGO_SECURE",
    "CRM_HSTS_SECONDS": "DJANGO_HSTS_SECONDS",
    "CRM_DB_CONN_MAX_AGE": "DJANGO_DB_CONN_MAX_AGE",
}
OF_COMPOSE = ("CRM_UI_ADDRESS", "CRM_API_ADDRESS")  # only compose.yaml reads them
_OURS = re.compile(r"(CRM|POSTGRES|DJANGO|DRF)_(?!TEST_)")
_WARNED_OF: set[str] = set()  # settings are read more than once
_TEN_YEARS = 315_360_000  # seconds
_ORIGIN = r"https?://[^/\s]+"
_RATE = r"[1-9]\d* ?(/|per) ?([1-9]\d* ?)?(second|minute|hour|day)s?"
_SECRET = ("CRM_DATABASE_URL", "CRM_SECRET_KEY")  # errors do not show their values

Auth = Literal["auto", "on", "off"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides."""

    home: Path  # absolute; the embedded server's data, and everything else that crm writes
    database_url: str | None = field(repr=False)  # conninfo or URL; None: the embedded server
    drop_dir: Path  # absolute; where drops arrive
    time_zone: ZoneInfo  # naive timestamps are read in it
    language_code: str
    page_size: int  # of lists, unless a request says otherwise
    debug: bool
    secret_key: str | None = field(repr=False)  # signs sessions; None: a new key for each process
    allowed_hosts: tuple[str, ...]  # "*" means any, ".example.org" a domain and all below it
    csrf_trusted_origins: tuple[str, ...]  # with scheme
    secure: bool  # HTTPS only: redirects, Secure cookies
    hsts_seconds: int
    db_conn_max_age: int | None  # seconds that an idle connection is kept; None: for ever
    auth: Auth  # auto: the API is open on loopback until the first token is created, and closed otherwise
    public_read: bool  # reading needs no token
    rate_limit: str | None  # in the notation of the library limits, such as 100/minute; None: no limit
    cors_origins: tuple[str, ...]  # with scheme, or "*"
    max_body_bytes: int  # of a request
    max_drop_bytes: int  # of a request that brings a drop
    statement_timeout: int  # seconds that a request may keep the database busy
    idle_timeout: int  # seconds that a transaction may be idle before the server ends it
    merge_timeout: int  # seconds that one statement of a merge, a check or a report may take; 0: no limit
    pool_size: int  # connections of each API process: this many for reading, and as many for writing
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks whose X-Forwarded-* is believed; "*" means any
    client_timeout: int = 30  # seconds that a client may take for the head of a request, and for each part of its body
    actor: str | None = None  # shown in the audit for what a command records; None: the user's login

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
    ) -> Settings:
        """Return the settings; the environment wins over the file, and an empty value counts as missing.

        Raises SettingsError for a value that cannot be used, without ever showing a password.
        """
        of_file = _present(dotenv_values(env_file)) if env_file else {}
        of_environment = _present(os.environ if environ is None else environ)
        _warn_of_unknown(of_file, of_environment)
        given = _over(of_file, of_environment)
        home = _read(given, "CRM_HOME", ".crm", _folder, "write the path of a folder")
        secure = _read(given, "CRM_SECURE", "0", _flag, "write 1 or 0")
        return cls(
            home=home,
            database_url=_database_url(given),
            drop_dir=_read(given, "CRM_DROP_DIR", str(home / "drops"), _folder, "write the path of a folder"),
            time_zone=_read(
                given,
                "CRM_TIME_ZONE",
                "UTC",
                ZoneInfo,
                "write a name of the IANA time zone database, such as Europe/Berlin",
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
                "write host names without scheme, port and path, separated by commas",
            ),
            csrf_trusted_origins=_read(
                given,
                "CRM_CSRF_TRUSTED_ORIGINS",
                "",
                _list_of(_ORIGIN),
                "write origins with scheme and without path, such as https://crm.example.org, separated by commas",
            ),
            secure=secure,
            hsts_seconds=_whole_number(given, "CRM_HSTS_SECONDS", 0, range(_TEN_YEARS + 1)),
            db_conn_max_age=(
                None
                if given.get(_name(given, "CRM_DB_CONN_MAX_AGE"), "").strip().lower() == "none"
                else _whole_number(given, "CRM_DB_CONN_MAX_AGE", 600, range(_TEN_YEARS + 1))
            ),
            auth=_read(given, "CRM_AUTH", "auto", _auth, "write auto, on or off"),
            public_read=_read(given, "CRM_PUBLIC_READ", "0", _flag, "write 1 or 0"),
            rate_limit=_read(
                given,
                "CRM_RATE_LIMIT",
                "",
                _rate_limit,
                "write a rate such as 100/minute, or several, separated by commas",
            ),
            cors_origins=_read(
                given,
                "CRM_CORS_ORIGINS",
                "",
                _list_of(rf"\*|{_ORIGIN}"),
                "write origins with scheme and without path, such as https://crm.example.org, separated by "
                "commas, or *",
            ),
            max_body_bytes=_whole_number(given, "CRM_MAX_BODY_BYTES", 1 << 20, range(1 << 10, (1 << 30) + 1)),
            max_drop_bytes=_whole_number(given, "CRM_MAX_DROP_BYTES", 2 << 30, range(1 << 10, (1 << 40) + 1)),
            statement_timeout=_whole_number(given, "CRM_STATEMENT_TIMEOUT", 10, range(1, 3601)),
            idle_timeout=_whole_number(given, "CRM_IDLE_TIMEOUT", 60, range(1, 86_401)),
            merge_timeout=_whole_number(given, "CRM_MERGE_TIMEOUT", 3600, range(604_801)),
            pool_size=_whole_number(given, "CRM_POOL_SIZE", 4, range(1, 1001)),
            trusted_proxies=_read(
                given,
                "CRM_TRUSTED_PROXIES",
                "",
                _proxies,
                "write IP addresses or networks, such as 10.0.0.7 or 10.0.0.0/8, separated by commas, or *",
            ),
            client_timeout=_whole_number(given, "CRM_CLIENT_TIMEOUT", 30, range(1, 3601)),
            actor=given.get("CRM_ACTOR", "").strip() or None,
        )


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value and value.strip()}


def _warn_of_unknown(of_file: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Warn once of each unknown name: all in the file, and probable misspellings in the environment."""
    known = {*("_".join(("CRM", field.name.upper())) for field in fields(Settings)), *POSTGRES, *OF_COMPOSE}
    known |= {*ALIASES.values()}
    for name in sorted({*of_file, *environ} - known - _WARNED_OF):
        ours = _OURS.match(name)
        near = next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None)
        if ours and (near or (name in of_file and ours[1] == "CRM")):
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


def _read(given: Mapping[str, str], name: str, default: str, parse: Callable[[str], T], cure: str) -> T:
    """Return a setting's value; raise SettingsError, under the name that was given, if `parse` refuses it."""
    value = given.get(_name(given, name), default).strip()
    try:
        return parse(value)
    except (ValueError, KeyError, OSError):
        raise SettingsError(_name(given, name), "…" if name in _SECRET else value, cure) from None


def _database_url(given: Mapping[str, str]) -> str | None:
    if "CRM_DATABASE_URL" in given:
        cure = "write postgresql://user:password@host:port/database, special characters of the password as %XX"
        return _read(given, "CRM_DATABASE_URL", "", _conninfo, cure)
    if not any(name in given for name in POSTGRES):
        return None
    from psycopg.conninfo import make_conninfo  # imported here: it takes longer to import than `crm --help` may take

    return make_conninfo(
        host=given.get("POSTGRES_HOST", "localhost"),
        port=_whole_number(given, "POSTGRES_PORT", 5432, range(1, 65536)),
        dbname=given.get("POSTGRES_DB", "crm"),
        user=given.get("POSTGRES_USER", "postgres"),
        password=given.get("POSTGRES_PASSWORD"),
    )


def _secret_key(given: Mapping[str, str], *, required: bool) -> str | None:
    if _name(given, "CRM_SECRET_KEY") not in given and not required:
        return None
    cure = f"write at least {SECRET_KEY_LENGTH} random characters, as `openssl rand -base64 48` prints them"
    why = f" ({_name(given, 'CRM_SECURE')} needs it)" if required else ""
    return _read(given, "CRM_SECRET_KEY", "", _long_key, cure + why)


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
    except ProgrammingError:  # its text would show the value
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


def _auth(value: str) -> Auth:
    found: dict[str, Auth] = {auth: auth for auth in get_args(Auth)}
    return found[value.lower()]


def _rate_limit(value: str) -> str | None:
    return ",".join(_list_of(_RATE)(value.lower())) or None


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
