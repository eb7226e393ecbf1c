"""Real servers for the tests: PostgreSQL 18 that ships with the product, and an older one where it is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crm_core.postgres.connection import Database
from crm_core.postgres.distribution import distribute
from crm_core.postgres.embedded import bundled_binaries, major_version, running_server
from crm_core.postgres.migrations import migrate

TEMPLATE = "migrated"


LOCALE = os.environ.get("CRM_TEST_LOCALE")
CITUS = os.environ.get("CRM_TEST_CITUS_URL")  # of a superuser at a coordinator that knows its workers
SHARDS = 4


CARELESS = {  # a test server need not survive a power cut
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
}


@dataclass(frozen=True)
class Server:
    """A running server with a migrated database to clone."""

    conninfo: str  # of a database that stays empty
    binaries: Path
    numbers: Iterator[int]

    def database(self, name: str) -> Database:
        return Database(make_conninfo(self.conninfo, dbname=name))

    @contextmanager
    def clone(self, template: str = TEMPLATE) -> Iterator[Database]:
        """Yield a new database like the template; it is dropped afterwards, even if others are still connected."""
        name = f"test_{next(self.numbers)}"
        if template in ("template0", "template1"):
            self.run(f"create database {{}} {self.made_with}", name)
        else:
            self.run(f"create database {{}} template {{}} {self.fast_copy}", name, template)
        try:
            yield self.database(name)
        finally:
            self.run("drop database {} with (force)", name)

    @cached_property
    def fast_copy(self) -> str:
        """How to clone a small database fastest; before 15 there was no choice."""
        return "strategy file_copy" if major_version(self.binaries) >= 15 else ""

    @cached_property
    def made_with(self) -> str:
        """How to make an empty database: with the locale of the server, unless CRM_TEST_LOCALE names another."""
        if LOCALE is None:
            return "template template1"
        provider, _, name = LOCALE.rpartition(":")
        if provider == "builtin" and major_version(self.binaries) < 17:
            return "template template1"
        made = f"template template0 encoding 'UTF8' lc_collate '{'C' if provider else name}'"
        made += f" lc_ctype '{'C.UTF-8' if provider else name}'"
        if not provider:
            return made + (" locale_provider libc" if major_version(self.binaries) >= 15 else "")
        named = "icu_locale" if provider == "icu" else "builtin_locale"
        return f"{made} locale_provider {provider} {named} '{name}'"

    def run(self, command: str, *names: str) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))


class Cluster(Server):
    """The machines of a Citus cluster, through its coordinator: each database is made on all of them."""

    @cached_property
    def machines(self) -> list[str]:
        """The addresses of all machines, the coordinator first."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            nodes = connection.execute("select nodename, nodeport from pg_dist_node where shouldhaveshards").fetchall()
        return [self.conninfo, *(make_conninfo(self.conninfo, host=host, port=port) for host, port in nodes)]

    def everywhere(self, command: str, *names: str) -> None:
        for conninfo in self.machines:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))

    @contextmanager
    def clone(self, template: str = TEMPLATE) -> Iterator[Database]:
        name = f"test_{os.getpid()}_{next(self.numbers)}"
        made_from = f"{template}_{os.getpid()}" if template == TEMPLATE else template
        self.everywhere("create database {} template {} strategy file_copy", name, made_from)
        try:
            yield self.database(name)
        finally:
            self.everywhere("drop database {} with (force)", name)

    @contextmanager
    def empty(self, name: str | None = None) -> Iterator[Database]:
        """Yield a new database whose machines know each other, without a schema; it is dropped afterwards."""
        name = name or f"test_{os.getpid()}_{next(self.numbers)}"
        self.everywhere("create database {}", name)
        try:
            for conninfo in self.machines:
                with psycopg.connect(make_conninfo(conninfo, dbname=name), autocommit=True) as connection:
                    connection.execute("create extension citus")
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                nodes = connection.execute(
                    "select nodename, nodeport, groupid from pg_dist_node order by groupid"
                ).fetchall()
            with psycopg.connect(make_conninfo(self.conninfo, dbname=name), autocommit=True) as connection:
                for host, port, group in nodes:
                    adding = "citus_set_coordinator_host(%s, %s)" if group == 0 else "citus_add_node(%s, %s)"
                    connection.execute(f"select {adding}".encode(), (host, port))
            yield self.database(name)
        finally:
            self.everywhere("drop database {} with (force)", name)

    @contextmanager
    def with_template(self) -> Iterator[Server]:
        """Make the database to clone: migrated and distributed."""
        with self.empty(f"{TEMPLATE}_{os.getpid()}") as database:
            migrate(database)
            for _ in distribute(database, SHARDS):
                pass
            name = str(conninfo_to_dict(database.conninfo)["dbname"])
            self.everywhere("alter database {} allow_connections false", name)
            for conninfo in self.machines:
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    others = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
                    connection.execute(others, (name,))
            yield self


class Servers:
    """The servers of a session, each started when the first test asks for it."""

    def __init__(self) -> None:
        self.started: dict[Path, Server] = {}
        self.stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="crm-tests-"))  # short, so that a socket's path fits
        self.stack.callback(shutil.rmtree, self.folder)

    def cluster(self) -> Server:
        """The cluster that CRM_TEST_CITUS_URL names."""
        assert CITUS is not None
        if Path() not in self.started:
            self.started[Path()] = self.stack.enter_context(
                Cluster(CITUS, bundled_binaries(), count(1)).with_template()
            )
        return self.started[Path()]

    def over(self, binaries: Path) -> Server:
        if LOCALE and LOCALE.startswith("icu:"):
            binaries = older_binaries() or binaries  # the bundled server has no ICU
        if binaries not in self.started:
            home = self.folder / str(len(self.started))
            conninfo = self.stack.enter_context(running_server(home, binaries=binaries, settings=CARELESS))
            server = Server(conninfo, binaries, count(1))
            server.run(f"create database {{}} {server.made_with}", TEMPLATE)
            migrate(server.database(TEMPLATE))
            self.started[binaries] = server
        return self.started[binaries]


def older_binaries() -> Path | None:
    """Return the bin folder of a PostgreSQL of the system, older than the bundled one."""
    if chosen := os.environ.get("CRM_TEST_PG_BIN"):
        return Path(chosen)
    bundled = major_version(bundled_binaries())
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max((path for path in found if major_version(path) < bundled), key=major_version, default=None)
