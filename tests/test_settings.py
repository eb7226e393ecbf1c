from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from psycopg.conninfo import conninfo_to_dict

from crm_core.errors import SettingsError
from crm_core.settings import ALIASES, OF_COMPOSE, POSTGRES, SETTINGS, Settings

pytestmark = pytest.mark.unit

KEY = "k" * 40


def settings(**environ: str) -> Settings:
    return Settings.from_environment(environ, env_file=None)


def test_without_any_setting_the_embedded_server_and_loopback_are_used() -> None:
    assert settings() == Settings(
        home=Path.cwd() / ".crm",
        database_url=None,
        drop_dir=Path.cwd() / ".crm" / "drops",
        profile_dir=Path.cwd() / "profiles",
        time_zone=ZoneInfo("UTC"),
        snapshot_limit=0.05,
        language_code="en-us",
        page_size=20,
        debug=False,
        secret_key=None,
        allowed_hosts=("localhost", "127.0.0.1", "[::1]"),
        csrf_trusted_origins=(),
        secure=False,
        hsts_seconds=0,
        db_conn_max_age=600,
        auth="auto",
        public_read=False,
        rate_limit=None,
        cors_origins=(),
        max_body_bytes=1024**2,
        max_drop_bytes=2 * 1024**3,
        statement_timeout=10,
        idle_timeout=60,
        merge_timeout=3600,
        pool_size=4,
        trusted_proxies=(),
        client_timeout=30,
        actor=None,
        keep_rejects_days=0,
        alert_webhook=None,
        alert_secret=None,
        alert_mail_to=(),
        alert_mail_from=None,
        alert_mail_server="smtp://localhost",
        alert_link="http://127.0.0.1:3000",
        alert_fresh_hours=36,
    )


def test_every_setting_is_read() -> None:
    assert settings(
        CRM_HOME="/srv/crm",
        CRM_DATABASE_URL="postgresql://ann@db/crm",
        CRM_DROP_DIR="/srv/in",
        CRM_PROFILE_DIR="/srv/profiles",
        CRM_TIME_ZONE="Europe/Berlin",
        CRM_SNAPSHOT_LIMIT="12.5 %",
        CRM_LANGUAGE_CODE="de",
        CRM_PAGE_SIZE="200",
        CRM_DEBUG="on",
        CRM_SECRET_KEY=KEY,
        CRM_ALLOWED_HOSTS="crm.example.org, .example.net,[::1],*",
        CRM_CSRF_TRUSTED_ORIGINS="https://crm.example.org,http://localhost:8000",
        CRM_SECURE="True",
        CRM_HSTS_SECONDS="31536000",
        CRM_DB_CONN_MAX_AGE="60",
        CRM_AUTH="On",
        CRM_PUBLIC_READ="1",
        CRM_RATE_LIMIT="10/second, 1000 per 2 Hours",
        CRM_CORS_ORIGINS="https://app.example.org,http://localhost:5173",
        CRM_MAX_BODY_BYTES="2048",
        CRM_MAX_DROP_BYTES="4096",
        CRM_STATEMENT_TIMEOUT="30",
        CRM_IDLE_TIMEOUT="40",
        CRM_MERGE_TIMEOUT="0",
        CRM_POOL_SIZE="9",
        CRM_TRUSTED_PROXIES="10.0.0.0/8,127.0.0.1",
        CRM_CLIENT_TIMEOUT="50",
        CRM_ACTOR="Ann",
        CRM_KEEP_REJECTS_DAYS="90",
        CRM_ALERT_WEBHOOK="https://chat.example.org/hook?token=x",
        CRM_ALERT_SECRET="a secret",
        CRM_ALERT_MAIL_TO="ann@example.org, bob@example.org",
        CRM_ALERT_MAIL_FROM="crm@example.org",
        CRM_ALERT_MAIL_SERVER="smtps://crm:p%40ss@mail.example.org:465",
        CRM_ALERT_LINK="https://dagster.example.org/",
        CRM_ALERT_FRESH_HOURS="84",
    ) == Settings(
        home=Path("/srv/crm"),
        database_url="postgresql://ann@db/crm",
        drop_dir=Path("/srv/in"),
        profile_dir=Path("/srv/profiles"),
        time_zone=ZoneInfo("Europe/Berlin"),
        snapshot_limit=0.125,
        language_code="de",
        page_size=200,
        debug=True,
        secret_key=KEY,
        allowed_hosts=("crm.example.org", ".example.net", "[::1]", "*"),
        csrf_trusted_origins=("https://crm.example.org", "http://localhost:8000"),
        secure=True,
        hsts_seconds=31_536_000,
        db_conn_max_age=60,
        auth="on",
        public_read=True,
        rate_limit="10/second,1000 per 2 hours",
        cors_origins=("https://app.example.org", "http://localhost:5173"),
        max_body_bytes=2048,
        max_drop_bytes=4096,
        statement_timeout=30,
        idle_timeout=40,
        merge_timeout=0,
        pool_size=9,
        trusted_proxies=("10.0.0.0/8", "127.0.0.1"),
        client_timeout=50,
        actor="Ann",
        keep_rejects_days=90,
        alert_webhook="https://chat.example.org/hook?token=x",
        alert_secret="a secret",
        alert_mail_to=("ann@example.org", "bob@example.org"),
        alert_mail_from="crm@example.org",
        alert_mail_server="smtps://crm:p%40ss@mail.example.org:465",
        alert_link="https://dagster.example.org",
        alert_fresh_hours=84,
    )


def test_the_environment_wins_over_the_file_unless_it_is_empty(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("CRM_PAGE_SIZE=50\nCRM_LANGUAGE_CODE=de\nCRM_DEBUG=1\n")
    found = Settings.from_environment({"CRM_PAGE_SIZE": "60", "CRM_LANGUAGE_CODE": " "}, env_file)
    assert (found.page_size, found.language_code, found.debug) == (60, "de", True)


@pytest.mark.parametrize(
    ("alias", "value", "same_as"),
    [
        ("DJANGO_DEBUG", "True", {"CRM_DEBUG": "1"}),
        ("DJANGO_LANGUAGE_CODE", "de", {"CRM_LANGUAGE_CODE": "de"}),
        ("DJANGO_TIME_ZONE", "Europe/Berlin", {"CRM_TIME_ZONE": "Europe/Berlin"}),
        ("DJANGO_ALLOWED_HOSTS", "a.example.org", {"CRM_ALLOWED_HOSTS": "a.example.org"}),
        ("DJANGO_CSRF_TRUSTED_ORIGINS", "https://a.org", {"CRM_CSRF_TRUSTED_ORIGINS": "https://a.org"}),
        ("DJANGO_SECRET_KEY", KEY, {"CRM_SECRET_KEY": KEY}),
        ("DJANGO_HSTS_SECONDS", "60", {"CRM_HSTS_SECONDS": "60"}),
        ("DJANGO_DB_CONN_MAX_AGE", "60", {"CRM_DB_CONN_MAX_AGE": "60"}),
        ("DJANGO_DB_CONN_MAX_AGE", "none", {"CRM_DB_CONN_MAX_AGE": "None"}),
        ("DRF_PAGE_SIZE", "50", {"CRM_PAGE_SIZE": "50"}),
    ],
)
def test_names_of_a_django_deployment_are_understood(alias: str, value: str, same_as: dict[str, str]) -> None:
    assert settings(**{alias: value}) == settings(**same_as) != settings()


def test_https_alone_may_be_asked_for_in_django_s_words() -> None:
    assert settings(DJANGO_SECURE="1", DJANGO_SECRET_KEY=KEY) == settings(CRM_SECURE="1", CRM_SECRET_KEY=KEY)
    with pytest.raises(SettingsError, match=r"DJANGO_SECURE needs it"):
        settings(DJANGO_SECURE="1")


def test_our_name_wins_over_that_of_django_and_the_environment_over_the_file(tmp_path: Path) -> None:
    assert settings(CRM_PAGE_SIZE="60", DRF_PAGE_SIZE="50").page_size == 60
    env_file = tmp_path / ".env"
    env_file.write_text("CRM_PAGE_SIZE=20\n")
    assert Settings.from_environment({"DRF_PAGE_SIZE": "50"}, env_file).page_size == 50


def test_an_error_names_the_variable_that_was_given() -> None:
    with pytest.raises(SettingsError, match=r"^DRF_PAGE_SIZE='many'"):
        settings(DRF_PAGE_SIZE="many")
    with pytest.raises(SettingsError, match=r"^DJANGO_SECRET_KEY='…'"):
        settings(DJANGO_SECRET_KEY="short")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CRM_ALERT_WEBHOOK", "chat.example.org/hook"),
        ("CRM_ALERT_WEBHOOK", "ftp://chat.example.org"),
        ("CRM_ALERT_WEBHOOK", "https://chat.example.org:99999/"),
        ("CRM_ALERT_MAIL_SERVER", "mail.example.org"),
    ],
)
def test_an_address_that_may_hold_a_secret_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}='…': write "):
        settings(**{name: value})


def test_the_example_file_says_the_defaults() -> None:
    example = Path(__file__).parent.parent / ".env.example"
    assert Settings.from_environment({}, example) == settings()


def test_the_example_file_names_every_setting() -> None:
    example = (Path(__file__).parent.parent / ".env.example").read_text()
    assert len(SETTINGS) > 25
    assert [name for name in (*SETTINGS, *POSTGRES, *OF_COMPOSE) if f"{name}=" not in example] == []
    assert [name for name in ALIASES.values() if name not in example] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CRM_DEBUG", "maybe"),
        ("CRM_ALERT_MAIL_TO", "ann"),
        ("CRM_ALERT_MAIL_FROM", "a@b.c,d@e.f"),
        ("CRM_ALERT_LINK", "https://"),
        ("CRM_KEEP_REJECTS_DAYS", "-1"),
        ("CRM_SECURE", "2"),
        ("CRM_PAGE_SIZE", "0"),
        ("CRM_PAGE_SIZE", "201"),
        ("CRM_PAGE_SIZE", "many"),
        ("CRM_HSTS_SECONDS", "-1"),
        ("CRM_DB_CONN_MAX_AGE", "forever"),
        ("CRM_TIME_ZONE", "Mars/Olympus"),
        ("CRM_TIME_ZONE", "../../etc/passwd"),
        ("CRM_TIME_ZONE", "Europe"),
        ("CRM_LANGUAGE_CODE", "english please"),
        ("CRM_ALLOWED_HOSTS", "https://crm.example.org"),
        ("CRM_CSRF_TRUSTED_ORIGINS", "crm.example.org"),
        ("POSTGRES_PORT", "70000"),
        ("CRM_AUTH", "maybe"),
        ("CRM_PUBLIC_READ", "maybe"),
        ("CRM_RATE_LIMIT", "many"),
        ("CRM_RATE_LIMIT", "0/minute"),
        ("CRM_RATE_LIMIT", "10/fortnight"),
        ("CRM_CORS_ORIGINS", "app.example.org"),
        ("CRM_MAX_BODY_BYTES", "0"),
        ("CRM_MAX_DROP_BYTES", "2 GiB"),
        ("CRM_STATEMENT_TIMEOUT", "0"),
        ("CRM_POOL_SIZE", "0"),
        ("CRM_TRUSTED_PROXIES", "proxy.example.org"),
        ("CRM_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("CRM_CLIENT_TIMEOUT", "0"),
        ("CRM_IDLE_TIMEOUT", "never"),
        ("CRM_MERGE_TIMEOUT", "-1"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_cure(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{name: value})
    assert (caught.value.name, caught.value.value) == (name, value)
    assert caught.value.cure.startswith("write ")


def test_a_connection_may_be_kept_for_ever() -> None:
    assert settings(CRM_DB_CONN_MAX_AGE="None").db_conn_max_age is None


def test_https_alone_needs_a_secret_key() -> None:
    with pytest.raises(SettingsError, match=r"CRM_SECRET_KEY.*CRM_SECURE needs it"):
        settings(CRM_SECURE="1")


@pytest.mark.parametrize(
    "name", ["POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"]
)
def test_any_of_the_five_chooses_a_server(name: str) -> None:
    expected = {"host": "localhost", "port": "5432", "dbname": "crm", "user": "postgres"}
    part = {"POSTGRES_DB": "dbname"}.get(name, name.removeprefix("POSTGRES_").lower())
    url = settings(**{name: "5433"}).database_url
    assert url is not None
    assert conninfo_to_dict(url) == {**expected, part: "5433"}


def test_other_variables_of_the_container_image_choose_no_server() -> None:
    assert settings(POSTGRES_INITDB_ARGS="--data-checksums").database_url is None


def test_a_password_may_hold_anything() -> None:
    url = settings(POSTGRES_PASSWORD=" it's a \\ 'secret' @/: ").database_url
    assert url is not None
    assert conninfo_to_dict(url)["password"] == " it's a \\ 'secret' @/: "


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgres+psycopg2"])
def test_urls_of_sqlalchemy_are_understood(scheme: str) -> None:
    url = settings(CRM_DATABASE_URL=f"{scheme}://ann:pw@db:5433/crm", POSTGRES_HOST="other").database_url
    assert url is not None
    assert conninfo_to_dict(url) == {"user": "ann", "password": "pw", "host": "db", "port": "5433", "dbname": "crm"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hun@ter2@db/crm",
        "postgresql://ann:hun/ter2@db/crm",
        "postgresql://ann:1234/hunter2@db/crm",
        "postgresql://ann:hunter2@db/crm?color=red",
        "hunter2",
        "mysql://ann:hunter2@db/crm",
    ],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(CRM_DATABASE_URL=url)
    assert caught.value.name == "CRM_DATABASE_URL"
    assert "ter2" not in str(caught.value)


def test_secrets_are_not_in_the_representation() -> None:
    found = settings(POSTGRES_PASSWORD="hunter2", CRM_SECRET_KEY=KEY)
    assert "hunter2" not in repr(found)
    assert KEY not in repr(found)


def test_reading_the_settings_imports_no_database_driver() -> None:
    code = (
        "import sys; from crm_core.settings import Settings; Settings.from_environment({}, None); "
        "sys.exit(sum(name in sys.modules for name in ('psycopg', 'sqlalchemy', 'alembic', 'polars')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CRM_DROPDIR", "CRM_DROP_DIR"),
        ("CRM_DATABASEURL", "CRM_DATABASE_URL"),
        ("POSTGRES_USERNAME", "POSTGRES_USER"),
        ("DJANGO_ALLOWED_HOST", "DJANGO_ALLOWED_HOSTS"),
    ],
)
@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_misspelt_setting_is_reported_once_with_the_nearest_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, near: str, place: str
) -> None:
    monkeypatch.setattr("crm_core.settings._WARNED_OF", set())
    env_file = tmp_path / ".env"
    env_file.write_text(f"{name}=x\n" if place == "file" else "")
    for _ in range(2):
        Settings.from_environment({name: "x"} if place == "environment" else {}, env_file)
    assert caplog.messages == [f"{name} is not a setting, so it has no effect; did you mean {near}?"]


def test_what_others_have_in_the_environment_is_not_told_and_every_setting_is_known(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    example = Path(__file__).parent.parent / ".env.example"
    filled = tmp_path / ".env"
    filled.write_text(re.sub(r"(?m)^(\w+)=$", "", example.read_text()))
    Settings.from_environment({"CRM_ZEBRA": "1", "POSTGRES_INITDB_ARGS": "x", "CRM_TEST_LOCALE": "C"}, filled)
    assert caplog.messages == []
    Settings.from_environment({}, tmp_path / "none")
    (tmp_path / "other").write_text("CRM_ZEBRA=1\n")
    Settings.from_environment({}, tmp_path / "other")
    assert caplog.messages == ["CRM_ZEBRA is not a setting, so it has no effect; see .env.example for all settings"]
