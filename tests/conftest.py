"""Real servers for the tests: PostgreSQL 18 that ships with the product, and an older one where it is installed.

`database` and `connection` are on the first; with `any_` before the name a test runs on both. All that a test
does through a connection is rolled back after it; `fresh_database` is for tests that have to commit.

CRM_TEST_LOCALE has the databases made with another locale: `C` or `de_DE.UTF-8` (of the C library), `icu:tr-TR`, or
`builtin:PG_UNICODE_FAST`. Where the bundled server knows no such provider the older one stands for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import CITUS, Server, Servers, older_binaries

from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.embedded import bundled_binaries

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts the tests in the background has it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # then to compile Dagster is most of what a process does
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode"))
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False

LONGEST = (
    "pipelines/test_browser",
    "server/test_up",
    "cli/test_demo",
    "timeline/test_properties",
    "reading/test_reads",
    "api/test_contract",
    "formats/test_fuzzed",
    "timeline/test_concurrency",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: one more than cores, for many tests wait; none for files one names.

    Nor for what is slow: it measures, and has the machine to itself.
    """
    is_part = any(".py" in Path(name).name for name in config.args) or config.option.markexpr == "slow"
    return 0 if is_part else min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first: none of them is then what all others wait for at the end."""
    here = Path(__file__).parent
    names = {item.path: item.path.relative_to(here).with_suffix("").as_posix() for item in items}
    items.sort(key=lambda item: LONGEST.index(name) if (name := names[item.path]) in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    with servers.stack:
        yield servers


@pytest.fixture(scope="session")
def server(servers: Servers) -> Server:
    """The server that ships with the product, or the cluster that CRM_TEST_CITUS_URL names."""
    return servers.cluster() if CITUS else servers.over(bundled_binaries())


@pytest.fixture(scope="session", params=["pg18", "pg15"])
def any_server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """Each server in turn: the bundled one and, where there is one, an older one of the system."""
    if CITUS:
        if request.param == "pg18":
            return servers.cluster()
        pytest.skip("with CRM_TEST_CITUS_URL there is one cluster")
    binaries = bundled_binaries() if request.param == "pg18" else older_binaries()
    if binaries is None:
        pytest.skip("no older PostgreSQL: install one, or set CRM_TEST_PG_BIN to its bin folder")
    return servers.over(binaries)


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    """A migrated database that the tests of a module share."""
    with server.clone() as database:
        yield database


@pytest.fixture(scope="module")
def any_database(any_server: Server) -> Iterator[Database]:
    with any_server.clone() as database:
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection whose work is rolled back after the test."""
    with database.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def any_connection(any_database: Database) -> Iterator[Connection]:
    with any_database.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def fresh_database(server: Server) -> Iterator[Database]:
    """A migrated database of the test's own, for what has to commit."""
    with server.clone() as database:
        yield database


@pytest.fixture
def any_fresh_database(any_server: Server) -> Iterator[Database]:
    with any_server.clone() as database:
        yield database
