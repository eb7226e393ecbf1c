"""Restore a backup into an empty database, in one transaction: all of it, brought up to date and checked, or nothing.

pg_restore turns the dump into SQL and rows, and they run over a connection of ours: only so can all be one transaction,
migrations and checks too, and only so can an older server take what a newer pg_restore writes.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg

from crm_core.backup.archive import Backup, Bytes, Manifest, copied, opened_backup
from crm_core.backup.programs import Program, program
from crm_core.backup.tables import count_rows, tables
from crm_core.backup.taking import UNBOUNDED, Progress, ended, last_words
from crm_core.errors import BackupFailed, DatabaseFault, DatabaseNotEmpty
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.distribution import gather
from crm_core.postgres.fitness import require_fit
from crm_core.postgres.migrations import migrate_on
from crm_core.postgres.schema_version import head_revision, too_new
from crm_core.postgres.sqlstates import domain_error
from crm_core.resources import statement
from crm_core.timeline.invariants import Check, check

READING, RESTORING, INDEXING, MIGRATING, CHECKING = "reading", "restoring", "indexing", "migrating", "checking"
END_OF_ROWS = b"\\.\n"
ROWS = 5_000  # that are sent at once
MAX_SHOWN = 3
NEW_DATABASE = "restore into a new one: set CRM_HOME to a new folder, or CRM_DATABASE_URL to a database just created"
# pg_restore writes for the newest server; what an older one does not know of these is not needed there.
_OF_NEWER_SERVERS = (b"SET transaction_timeout = 0;\n",)
_OF_PSQL = (b"\\restrict ", b"\\unrestrict ")
# What a server notes with its columns for itself, and others do not know (Debian's PostgreSQL 15.20).
_OF_ONE_SERVER = re.compile(rb"ALTER TABLE ONLY .* ALTER COLUMN .* SET \(pg_attver=\d+\);\n")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    manifest: Manifest
    steps: tuple[str, ...]  # of the schema, and files of routines, that brought it up to date
    checks: tuple[Check, ...]  # all invariants; the data are there even if one does not hold


def restore(database: Database, file: Path, progress: Progress = lambda _phase, _done, _all: None) -> Restored:
    """Restore a backup into an empty database, bring its schema up to date, and recompute all invariants.

    Raises BackupRefused for a file that is not a sound backup, SchemaTooNew for one of a later release,
    DatabaseNotEmpty, DatabaseUnfit without a pg_restore that is new enough, and another DatabaseError; the database is
    then as it was.
    """
    with opened_backup(file) as backup:
        manifest = _sound(backup, progress)
        pg_restore = program("pg_restore", at_least=manifest.pg_dump, why="the backup was written by pg_dump of")
        with database.connect(options=UNBOUNDED) as connection:
            connection.execute(statement("server/lock_schema"))
            _require_empty(connection)
            _restore(connection, pg_restore, backup, progress)
            database.pin(connection, UNBOUNDED)
            _require_same(manifest, connection)
            gather(connection)
            progress(MIGRATING, 0, None)
            steps = migrate_on(connection)
            connection.execute(statement("backup/analyze"))
            progress(CHECKING, 0, None)
            database.pin(connection, UNBOUNDED)  # a step may have made what the search path names
            return Restored(manifest, tuple(steps), tuple(check(connection)))


def inspect(file: Path, progress: Progress = lambda _phase, _done, _all: None) -> Manifest:
    """Return what a backup holds, after reading it whole; raises BackupRefused and SchemaTooNew as `restore` does."""
    with opened_backup(file) as backup:
        return _sound(backup, progress)


def _sound(backup: Backup, progress: Progress) -> Manifest:
    manifest = backup.manifest
    if manifest.revision > head_revision():
        raise too_new(manifest.revision, head_revision())
    backup.require_sound(lambda done: progress(READING, done, manifest.size))
    return manifest


def _require_empty(connection: Connection) -> None:
    there = [str(name) for (name,) in connection.execute(statement("backup/objects"))]
    if there:
        more = f" and {len(there) - MAX_SHOWN} more" if len(there) > MAX_SHOWN else ""
        cause = f"the database {connection.info.dbname} is not empty: it has {', '.join(there[:MAX_SHOWN])}{more}"
        raise DatabaseNotEmpty(cause, NEW_DATABASE)
    require_fit(connection, is_new=True)


def _require_same(manifest: Manifest, connection: Connection) -> None:
    """Raise BackupFailed unless each table has as many rows as the manifest says."""
    found = count_rows(connection, tables(connection))
    if found != dict(manifest.rows):
        differ = sorted(name for name in {*found, *manifest.rows} if found.get(name) != manifest.rows.get(name))
        cause = f"{', '.join(differ)} came back with another number of rows than the manifest says"
        raise BackupFailed(cause, "nothing was changed; restore another backup, and report this as a fault")


def _restore(connection: Connection, pg_restore: Program, backup: Backup, progress: Progress) -> None:
    """Run the three sections of the dump: what the rows need, the rows, and what is built over them."""
    total = backup.manifest.size
    ignored = _OF_NEWER_SERVERS if connection.info.server_version < 170_000 else ()
    try:
        with _script(pg_restore, backup, "pre-data") as script:
            _run(connection, script, ignored)
        with _script(pg_restore, backup, "data", lambda done: progress(RESTORING, done, total)) as script:
            _run(connection, script, ignored, has_rows=True)
        progress(INDEXING, 0, None)
        with _script(pg_restore, backup, "post-data") as script:
            _run(connection, script, ignored)
    except psycopg.Error as error:
        ours = domain_error(error)
        if ours is None or isinstance(ours, DatabaseFault):
            said = error.diag.message_primary or str(error)
            cause = f"the server refused a part of the backup: {said}"
            cure = "nothing was changed; correct that, or restore on a server like the one that the backup is from"
            raise BackupFailed(cause, cure) from error
        raise ours from error


def _run(connection: Connection, script: IO[bytes], ignored: tuple[bytes, ...], *, has_rows: bool = False) -> None:
    """Run a script of pg_restore's; only the section of the rows has COPY with its rows in the script."""
    text: list[bytes] = []
    for line in iter(script.readline, b""):
        if has_rows and line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
            connection.execute(b"".join(text))
            text = []
            _copy(connection, line, iter(script.readline, END_OF_ROWS))
        elif line not in ignored and not line.startswith(_OF_PSQL) and not _OF_ONE_SERVER.fullmatch(line):
            text.append(line)
    connection.execute(b"".join(text))


def _copy(connection: Connection, command: bytes, rows: Iterator[bytes]) -> None:
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        while block := b"".join(itertools.islice(rows, ROWS)):
            copy.write(block)


@contextmanager
def _script(pg_restore: Program, backup: Backup, section: str, on_bytes: Bytes = lambda _: None) -> Iterator[IO[bytes]]:
    """Run pg_restore over the dump and yield a section of it as SQL; raise BackupFailed unless it ends well."""
    command = [
        str(pg_restore.path),
        f"--section={section}",
        "--no-owner",  # the roles of the server that it is from may not exist here
        "--no-privileges",
        "--no-comments",  # on extensions, which belong to a superuser
        "--no-security-labels",
        "--no-tablespaces",
        "--file=-",
    ]
    with tempfile.TemporaryFile() as said:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said)
        feeder = threading.Thread(target=_feed, args=(process, backup, on_bytes), name="backup", daemon=True)
        with ended(process):
            assert process.stdout is not None
            feeder.start()
            yield process.stdout
            if process.wait() != 0:
                cause = f"pg_restore failed: {last_words(said)}"
                raise BackupFailed(cause, "nothing was changed; restore another backup")
        feeder.join()


def _feed(process: subprocess.Popen[bytes], backup: Backup, on_bytes: Bytes) -> None:
    """Give pg_restore the dump; it may end before it has read all, when it has what it needs."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ValueError), process.stdin, backup.dump() as dump:
        copied(dump, process.stdin.write, on_bytes)
