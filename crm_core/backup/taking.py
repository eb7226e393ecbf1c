"""Take a backup: one snapshot of the whole database, while others read and write."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crm_core.backup.archive import DUMP, MANIFEST, Manifest, copied, written_beside
from crm_core.backup.programs import Program, program
from crm_core.backup.tables import NOT_KEPT, count_rows, hold, tables
from crm_core.errors import BackupFailed, BackupRefused, SchemaTooOld
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.fitness import EXTENSIONS
from crm_core.postgres.schema_version import current_revision, head_revision, too_new
from crm_core.postgres.spread import is_spread
from crm_core.resources import statement

Progress = Callable[[str, int, int | None], None]  # the phase, how many bytes are done, and of how many if known
UNBOUNDED = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"  # we wait for pg_dump meanwhile
DUMPING, COUNTING = "dumping", "counting"
_SEVERITY = re.compile(r"^pg_\w+: (error: )?")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot that pg_dump can use as long as the connection is in its transaction."""

    connection: Connection
    name: str
    taken_at: datetime


def back_up(
    database: Database,
    file: Path,
    *,
    is_replaced: bool = False,
    progress: Progress = lambda _phase, _done, _all: None,
) -> Manifest:
    """Write a backup of the database into a file, which appears when it is complete, and return what it holds.

    Others read and write meanwhile; migrations wait. Raises BackupRefused for a file that exists or cannot be written,
    DatabaseUnfit without a pg_dump that is new enough, and another DatabaseError.
    """
    try:
        with written_beside(file, is_replaced=is_replaced) as opened, zipfile.ZipFile(opened, "w") as archive:
            return _write(database, archive, progress)
    except OSError as error:
        fault = f"cannot be written ({error.strerror or error}); make room, or give another path"
        raise BackupRefused(file, fault) from error


def _write(database: Database, archive: zipfile.ZipFile, progress: Progress) -> Manifest:
    with _snapshot(database) as snapshot:
        connection = snapshot.connection
        revision = _revision(connection)
        server = connection.info.server_version // 10_000
        pg_dump = program("pg_dump", at_least=server, why="the server is")
        with archive.open(DUMP, "w", force_zip64=True) as dump, _dumping(pg_dump, database, snapshot.name) as dumped:
            digest = copied(dumped, dump.write, lambda done: progress(DUMPING, done, None))
        progress(COUNTING, 0, None)
        manifest = Manifest(
            version=version("crm-core"),
            revision=revision,
            taken_at=snapshot.taken_at,
            server=server,
            pg_dump=pg_dump.major,
            rows=count_rows(connection, tables(connection)),
            size=digest.bytes,
            sha256=digest.sha256,
        )
    archive.writestr(MANIFEST, manifest.text())
    return manifest


@contextmanager
def _snapshot(database: Database) -> Iterator[_Snapshot]:
    """Take a snapshot that has all batches up to a moment, and none of later: those who are committing are waited for.

    The tables are locked before, for what changes their form would fit neither side of the snapshot; so are migrations.
    A snapshot is of one machine: where the tables are distributed, no batch is committed until the backup is taken.
    """
    with (
        database.connect(autocommit=True, options=UNBOUNDED) as gate,
        database.connect(options=UNBOUNDED) as connection,
        ExitStack() as until_taken,
    ):
        gate.execute(statement("backup/hold_schema"))
        _revision(gate)
        connection.execute(statement("query/one_snapshot"))
        hold(connection, tables(gate))
        until_taken.enter_context(gate.transaction())
        gate.execute(statement("backup/hold_commits"))
        row = connection.execute(statement("backup/snapshot")).fetchone()
        assert row is not None
        if not is_spread(gate):
            until_taken.close()
        yield _Snapshot(connection, taken_at=row[0], name=str(row[1]))
        connection.rollback()


def _revision(connection: Connection) -> str:
    current = current_revision(connection)
    if current is None:
        cause = "the database has no schema of crm, so there is nothing to back up"
        raise SchemaTooOld(cause, "check CRM_HOME or CRM_DATABASE_URL")
    if current > head_revision():
        raise too_new(current, head_revision())
    return current


@contextmanager
def _dumping(pg_dump: Program, database: Database, snapshot: str) -> Iterator[IO[bytes]]:
    """Run pg_dump on a snapshot and yield its output; raise BackupFailed unless it ends well."""
    parts = conninfo_to_dict(database.conninfo)
    password = parts.pop("password", None)  # others can read a command line
    command = [
        str(pg_dump.path),
        "--format=custom",
        "--no-password",
        f"--snapshot={snapshot}",
        "--no-publications",
        "--no-subscriptions",
        *(f"--extension={name}" for name in EXTENSIONS),
        *(f"--exclude-table-data=*.{name}" for name in NOT_KEPT),
        f"--dbname={make_conninfo('', **parts)}",
    ]
    environ = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=environ)
        with ended(process):
            assert process.stdout is not None
            yield process.stdout
            if process.wait() != 0:
                cause = f"pg_dump failed: {last_words(said)}"
                raise BackupFailed(cause, "nothing was written; correct that, then try again")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process at the end of the block, unless it has ended."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


def last_words(said: IO[bytes]) -> str:
    """Return the first error that a program of PostgreSQL wrote, in one line."""
    said.seek(0)
    lines = said.read(1 << 16).decode(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line] or lines or ["it said nothing"]
    return _SEVERITY.sub("", errors[0])
