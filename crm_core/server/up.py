"""`crm up`: PostgreSQL, the API, Dagster's UI and its daemon, for daily local use, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypedDict

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier
from rich.console import Console
from sqlalchemy import URL

from crm_core.errors import AlreadyUp, MissingPrivilege, SettingsError
from crm_core.fixtures.django_format import TYPES, read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database, open_database
from crm_core.postgres.embedded import SOCKET_PATH_BYTES
from crm_core.postgres.migrations import migrate
from crm_core.postgres.session import ENCODING
from crm_core.reference import reference_types
from crm_core.resources import statement
from crm_core.server.api import HOST, is_loopback, listen_from, port_of, require_closed, url_of
from crm_core.server.api import PORT as API_PORT
from crm_core.server.processes import GRACE_SECONDS, Processes
from crm_core.settings import Settings

PORT = 3000
START_SECONDS = 180  # that a process has to get ready
POLL_SECONDS = 0.2
INSTANCE = Path(__file__).parents[2] / "pipelines" / "dagster.yaml"  # in a checkout as in a wheel
API, CODE, WEB, DAEMON = "api", "code-server", "web-server", "daemon"
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
HEARTBEATS = "{ instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } } }"


class Part(TypedDict):
    """A part of Dagster's daemon, as the web server reports it."""

    required: bool
    lastHeartbeatTime: float | None  # seconds since 1970


def run_up(
    settings: Settings,
    host: str = HOST,
    port: int | None = None,
    api_port: int | None = None,
    *,
    dagster_host: str = HOST,
    browser: bool = False,
) -> None:
    """Start everything, print the addresses, wait for SIGINT or SIGTERM, and stop everything.

    `host` is the address of the API. If `port` (of Dagster's UI) or `api_port` is None, the first free one is used.
    Nothing that others can reach is started before it is known that they need a token. Raises AlreadyUp,
    AddressUnusable, OpenToAll, ServiceFailed, SettingsError or DatabaseError.
    """
    # A background job of a script ignores SIGINT, and its children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        lock = stack.enter_context(only_one(settings.home))
        web, api = _listen(stack, dagster_host, port, PORT), _listen(stack, host, api_port, API_PORT)
        address, api_address = url_of(dagster_host, port_of(web)), url_of(host, port_of(api))
        print(os.getpid(), address, file=lock, flush=True)
        status = stack.enter_context(console.status("Starting PostgreSQL …"))
        database = stack.enter_context(open_database(settings, is_kept=True))
        where = f"the embedded one in {settings.home}" if settings.database_url is None else "the given server"
        console.print(f"✓ PostgreSQL: {where}")
        status.update("Migrating …")
        _prepare(console, settings, database)
        require_closed(settings, database, host)
        location = stack.enter_context(_socket(_folder(settings.home / "dagster")))
        environ = _environment(settings, database)
        processes = stack.enter_context(Processes(_folder(settings.home / "logs"), environ, lock))
        status.update("Starting Dagster …")
        since = time.time()
        workspace = str(_workspace(location, settings.home / "dagster"))
        processes.start(CODE, "pipelines.code_server", str(location))
        if not _has_dagster_tables(database):  # two that make them at once would fail
            _wait(processes, CODE, lambda: _listens(location))
        _serve(processes, WEB, web, "pipelines.web_server", "--workspace", workspace)
        _serve(processes, API, api, "crm_core", "serve", "--host", host, "--port", str(port_of(api)))
        _wait(processes, API, lambda: _is_ready(api_address))
        console.print(f"✓ The API: {api_address}")
        _wait(processes, CODE, lambda: _listens(location))
        # After the code server: a retry of a run is lost if its definitions cannot be loaded.
        processes.start(DAEMON, "pipelines.daemon", "--workspace", workspace)
        _wait(processes, WEB, lambda: _loaded(address))
        console.print(f"✓ Dagster's web server: {address}")
        _wait(processes, DAEMON, lambda: _beats(address, since))
        console.print("✓ Dagster's daemon: it watches the drop folder and keeps the schedules")
        status.stop()
        _tell(console, settings, dagster_host, address, api_address)
        if browser and _has_display():
            webbrowser.open(address)
        try:
            while True:
                processes.require_all()
                processes.turn_over_all()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            console.print("Stopping …")
    console.print("Stopped.")


def prepare(settings: Settings) -> None:
    """Get the database ready but start nothing: something else starts the processes, as in compose.yaml."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with open_database(settings) as database:
        _prepare(console, settings, database)
        dagster_url(database)
        console.print("✓ Dagster: its database is ready")


@contextmanager
def only_one(home: Path) -> Iterator[IO[str]]:
    """Hold the lock of a home; after a `crm up` was killed, wait until its watchman has stopped the rest."""
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC  # a link could lead anywhere
        file = os.fdopen(os.open(_folder(home) / "up.lock", flags, 0o600), "a+", encoding="utf-8")
    except OSError as error:
        cure = f"choose a folder that you can write to ({error.filename}: {error.strerror})"
        raise SettingsError(name="CRM_HOME", value=str(home), cure=cure) from None
    with file:
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        while not _locks(file):
            file.seek(0)
            pid, _, address = file.read().strip().partition(" ")
            if (pid.isdecimal() and _is_alive(int(pid))) or time.monotonic() > deadline:
                raise AlreadyUp(home, pid, address)
            time.sleep(POLL_SECONDS)
        file.truncate(0)
        yield file


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _socket(folder: Path) -> Iterator[Path]:
    """Yield the path of the code server's socket, in a folder with a short name if the path would be too long."""
    path = folder / "code.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="crm-") as short:
        yield Path(short) / "code.sock"


def _listen(stack: ExitStack, host: str, port: int | None, first: int) -> socket.socket:
    """Take a port at once, so that nothing else that starts at the same time takes it."""
    return stack.enter_context(listen_from(host, port, first))


def _serve(processes: Processes, name: str, listening: socket.socket, *command: str) -> None:
    """Start a server on a socket and close our copy, so that requests after its end are refused at once."""
    processes.start(name, *command, "--fd", str(listening.fileno()), sockets=[listening])
    listening.close()


def _environment(settings: Settings, database: Database) -> dict[str, str]:
    """Return the environment of the processes: the same database and folders as ours, and Dagster's own."""
    dagster_home = _folder(settings.home / "dagster")
    _write(dagster_home / "dagster.yaml", INSTANCE.read_text(encoding="utf-8"))
    return {
        **os.environ,
        "CRM_HOME": str(settings.home),
        "CRM_DATABASE_URL": database.conninfo,
        "CRM_DROP_DIR": str(_folder(drops) if isinstance(drops := settings.drop_dir, Path) else drops),
        "CRM_PROFILE_DIR": str(settings.profile_dir),
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_PG_URL": dagster_url(database),
        "PYTHONUNBUFFERED": "1",  # so that the end of a log is written when a process dies
    }


def dagster_url(database: Database) -> str:
    """Create Dagster's database beside ours unless it exists, and return its address for SQLAlchemy.

    The address names the driver: with SQLAlchemy's default, psycopg 3, Dagster's first run would fail.
    """
    with database.connect(autocommit=True) as connection:
        name = f"{connection.info.dbname}_dagster"
        if connection.execute(statement("server/has_database"), {"name": name}).fetchone() == (False,):
            try:
                connection.execute(SQL(statement("server/create_dagster_database")).format(name=Identifier(name)))
            except psycopg.errors.InsufficientPrivilege as error:
                cure = f"let a superuser run: create database {name} owner {connection.info.user};"
                raise MissingPrivilege(str(error), cure) from None
    given = {key: str(value) for key, value in conninfo_to_dict(database.conninfo).items()}
    user, password = given.pop("user", None), given.pop("password", None)
    url = URL.create("postgresql+psycopg2", user, password, query=given | {"dbname": name, "client_encoding": ENCODING})
    return url.render_as_string(hide_password=False)


def _has_dagster_tables(database: Database) -> bool:
    """Return whether Dagster has made its tables already."""
    name = f"{conninfo_to_dict(database.conninfo)['dbname']}_dagster"
    with psycopg.connect(make_conninfo(database.conninfo, dbname=name), autocommit=True) as connection:
        return connection.execute(statement("server/has_dagster_tables")).fetchone() == (True,)


def _workspace(location: Path, folder: Path) -> Path:
    """Write the file that tells Dagster where the definitions are served; it also names the location."""
    server = {"location_name": "pipelines", "socket": str(location)}
    return _write(folder / "workspace.yaml", json.dumps({"load_from": [{"grpc_server": server}]}))  # JSON is YAML


def _prepare(console: Console, settings: Settings, database: Database) -> None:
    """Migrate the schema to this release; a database without types gets those of the fixtures."""
    steps = migrate(database)
    console.print(f"✓ Schema: {len(steps)} revisions applied" if steps else "✓ Schema: nothing to migrate")
    with database.transaction() as connection:
        if not reference_types(connection).entity_types:
            fixtures = read_fixtures(TYPES, settings.time_zone)
            load_fixtures(connection, fixtures)
            console.print(f"✓ Types: there were none, so {fixtures.objects} were loaded from {TYPES[0].parent}")


def _wait(processes: Processes, name: str, ready: Callable[[], bool]) -> None:
    """Wait until a process is ready; raise ServiceFailed if it does not become ready, or if any process ends."""
    deadline = time.monotonic() + START_SECONDS
    asking = ThreadPoolExecutor(1)  # a starting process may be slow to answer, and another one may end meanwhile
    try:
        answer = asking.submit(ready)
        while not (answer.done() and answer.result()):
            processes.require_all()
            if time.monotonic() > deadline:
                raise processes.failure(name, f"was not ready after {START_SECONDS} seconds")
            if answer.done():
                answer = asking.submit(ready)
            time.sleep(POLL_SECONDS)
    finally:
        asking.shutdown(wait=False, cancel_futures=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _is_ready(address: str) -> bool:
    """Return whether the API is ready."""
    return _fetch(urllib.request.Request(f"{address}/readyz")) is not None


def _loaded(address: str) -> bool:
    """Return whether the web server has loaded the definitions from the code server."""
    answer = _ask(address, LOCATIONS)
    return answer is not None and '"RepositoryLocation"' in answer


def _beats(address: str, since: float) -> bool:
    """Return whether every required part of the daemon has reported since an instant."""
    answer = _ask(address, HEARTBEATS)
    if answer is None:
        return False
    parts: list[Part] = json.loads(answer)["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all((part["lastHeartbeatTime"] or 0) >= since for part in parts if part["required"])


def _ask(address: str, question: str) -> str | None:
    """Return the web server's answer to a GraphQL query; None as long as it does not answer."""
    body = json.dumps({"query": question}).encode()
    return _fetch(urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"}))


def _fetch(request: urllib.request.Request) -> str | None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return None


def _tell(console: Console, settings: Settings, dagster_host: str, address: str, api_address: str) -> None:
    console.print(f"\nCockpit   {api_address}/", style="bold")
    console.print(f"Open      {address} (Dagster), {api_address}/docs (the API)", style="bold")
    console.print(f"Drop      CSV files into {settings.drop_dir}")
    console.print(f"Read      the logs in {settings.home / 'logs'}")
    if not is_loopback(dagster_host):
        console.print("Warning   Dagster's UI has no login: everybody who can reach it can run the jobs")
    console.print("Stop      with Ctrl-C\n")


def _has_display() -> bool:
    """Return whether a browser would open in a window rather than in this terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _write(path: Path, text: str) -> Path:
    """Replace a file, or a link in its place, by a new file."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return part.replace(path)
