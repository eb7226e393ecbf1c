"""One server over the data of a home: started, stopped, and made."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from crm_core.errors import EmbeddedServerFailed
from crm_core.postgres.embedded import private
from crm_core.postgres.embedded.binaries import OTHER_SERVER, major_version
from crm_core.postgres.embedded.tuning import as_configuration, server_settings
from crm_core.postgres.session import PINNED, Bounds, as_options
from crm_core.postgres.sqlstates import connection_error, is_starting
from crm_core.resources import statement

DATABASE = "crm"
SUPERUSER = "postgres"
LOG = "server.log"
PORT = 5432  # TCP is off: the number is only a part of the socket's name
SOCKET_PATH_BYTES = 100  # the kernels' limits are 104 to 108
LAST_BYTES = 8 << 10  # bytes at the end of the log from which errors quote
LOG_BYTES = 16 << 20  # a log that is longer is set aside, once
STOP_SECONDS = 60  # after that it is stopped without a checkpoint, and recovers at its next start
START_SECONDS = 600  # recovery after a crash may have 8 GB of WAL to read
UNFINISHED = "postgres.new"  # the beginning of the name of a data folder that is being created
MAX_STARTS = 2  # the first start after a crash may fail over files that the second one removes
# What a killed server leaves: backends on their way out; and the file of an unlogged table whose end was not yet in the
# WAL, over which recovery stumbles when it makes the table again (PostgreSQL's bug #17731, seen on 18).
_STILL_THERE = b"pre-existing shared memory block"
_LEFT_BEHIND = re.compile(rb'could not create file "base/[^"]+": File exists')
_DISK_FULL = b"No space left on device"
MAKE_ROOM = "make room on its disk, then run the command again"


@dataclass(frozen=True, slots=True)
class Server:
    """The server for the data of one home; call start and stop only while holding the lock."""

    home: Path  # absolute, without symbolic links
    binaries: Path
    settings: Mapping[str, str]
    account: pwd.struct_passwd | None  # the account that the server runs as; None: our own

    @classmethod
    def at(cls, home: Path, binaries: Path, settings: Mapping[str, str]) -> Server:
        """Return the server of a home, which is made if it is missing; raise EmbeddedServerFailed."""
        if not str(home).isprintable():
            cause = f"the path {str(home)!r} has a character that cannot be printed"
            raise EmbeddedServerFailed(cause, "set CRM_HOME to another folder")
        home = private.private_folder(home).resolve()
        data = home / "postgres"
        owner = data.lstat().st_uid if data.exists() else home.stat().st_uid
        if os.geteuid() == 0:
            account = _account_of(owner)
            private.tighten(home, account.pw_gid)
            return cls(home, binaries, settings, account)
        if data.exists() and owner != os.geteuid():
            cause = f"{data} belongs to user {owner}, and you are user {os.geteuid()}"
            raise EmbeddedServerFailed(cause, "run the command as that user, or set CRM_HOME to a new folder")
        private.tighten(home)
        return cls(home, binaries, settings, None)

    @property
    def data(self) -> Path:
        """Return the data folder."""
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        """Return the path of the log that the server writes."""
        return self.data / LOG

    @property
    def owner(self) -> tuple[int, int] | None:
        """Return the user and the group that the data belong to; None: our own."""
        return (self.account.pw_uid, self.account.pw_gid) if self.account else None

    @property
    def owners(self) -> set[int]:
        """Return the users whose files are trusted."""
        return {os.geteuid(), self.account.pw_uid} if self.account else {os.geteuid()}

    def open(self, name: str) -> IO[str]:
        """Open a lock file; it belongs to the owner of the home, so that its owner can use it after root did."""
        with private.directory(self.home, {*self.owners, self.home.stat().st_uid}) as folder:
            found = os.fstat(folder)
            opened = private.open_private(folder, name, os.O_RDWR | os.O_CREAT, {*self.owners, found.st_uid})
            if self.account:
                os.fchown(opened, found.st_uid, found.st_gid)
        return os.fdopen(opened, "r+")  # closed on exec: the server does not inherit the lock

    def start(self) -> str:
        """Return the conninfo of the running server, once it accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        self._open_ways()
        if not self.data.exists():
            self._initialize()
        self._require_same_version()
        while True:
            socket = self._socket()
            if socket is None:
                self._launch(deadline)
            elif self._answers(socket):
                return self._conninfo(socket, DATABASE)
            elif time.monotonic() > deadline:
                cause = f"the server in {self.data} runs but takes no connections{self._last_words()}"
                raise EmbeddedServerFailed(cause, "if it recovers from a crash, give it time and run the command again")
            else:
                time.sleep(0.05)

    def revive(self) -> None:
        """Start the server again if it is gone, over the data that it had; new connections wait for its recovery."""
        if self._socket() is None:
            private.LOG.warning("the server over %s is gone, and is being started again", self.data)
            self._launch(time.monotonic() + START_SECONDS)

    def stop(self) -> None:
        """Stop the server if it runs, even in a recovery that a full disk blocks; transactions are rolled back."""
        socket = self._socket()
        if socket is None:
            return
        for mode in ("fast", "immediate"):
            if self._socket() is not None:
                self._run("pg_ctl", "stop", "-D", self.data, "-m", mode, "-w", "-t", str(STOP_SECONDS))
        if self._socket() is not None:
            cause = f"the server in {self.data} did not stop{self._last_words()}"
            raise EmbeddedServerFailed(cause, f"stop the process named in {self.data / 'postmaster.pid'}")
        if socket != self.data:
            with suppress(OSError):
                socket.rmdir()

    def _initialize(self) -> None:
        """Make the data folder under another name and rename it, so that a killed command leaves no half of it.

        The other name is unique, because the initdb of a killed command may still be at work in its own.
        """
        for left in self.home.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.home))
        with private.directory(fresh, {os.geteuid()}) as folder:
            os.fchmod(folder, 0o700)  # whatever the umask
            if self.owner:
                os.fchown(folder, *self.owner)
        # C.UTF-8 sorts by code point and knows Unicode's letters: ILIKE folds É and Ş, trigrams see 李.
        locale = ["--locale=C", "--lc-ctype=C.UTF-8"]
        if major_version(self.binaries) >= 17:  # older versions have it from the C library only
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = self._run("initdb", "-D", fresh, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", *locale)
        if made.returncode != 0:
            cause = "\n".join([f"initdb failed in {fresh}:", *made.stdout.strip().splitlines()[-10:]])
            raise EmbeddedServerFailed(cause, MAKE_ROOM if _DISK_FULL.decode() in made.stdout else OTHER_SERVER)
        fresh.rename(self.data)

    def _launch(self, deadline: float) -> None:
        """Start the server in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        socket = self._make_socket_folder()
        (socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)  # no server runs, so a crash left it behind
        values = server_settings(self.data) | {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": '"{}"'.format(str(socket).replace('"', '""')),  # it is a list
            "unix_socket_permissions": "0700",
        }
        written = os.fsencode(as_configuration({**values, **self.settings}))
        private.write_private(self.data, "postgresql.conf", written, self.owner)
        log_before = private.turn_over(self.data, LOG, LOG_BYTES, self.owners)
        # pg_ctl starts it through a shell, so its options must hold nothing that is special to a shell.
        where = "-D " + shlex.quote(str(self.data))
        for _ in range(MAX_STARTS):
            started = self._run("pg_ctl", "start", "-o", where, "-l", LOG, "-w", "-t", "60", within=self.data)
            if started.returncode == 0 or self._socket() is not None:
                return
            said = self._read(LOG, log_before)
            if _LEFT_BEHIND.search(said) is None:
                break
        if _STILL_THERE in said and time.monotonic() < deadline:
            time.sleep(0.2)
            return
        cause = f"the server in {self.data} did not start{self._last_words()}"
        raise EmbeddedServerFailed(cause, MAKE_ROOM if _DISK_FULL in said else OTHER_SERVER)

    def _socket(self) -> Path | None:
        """Return the folder of the live server's socket, or None if no server runs.

        A pid file that a crash left behind is removed: its number may belong to another process now, and PostgreSQL
        would then refuse to start. PostgreSQL detects backends that a killed server left behind without this file.
        """
        said = private.read_private(self.data, "postmaster.pid", self.owners)
        if said is None:
            return None
        lines = os.fsdecode(said).splitlines()
        if lines and lines[0].isdecimal() and _is_postmaster(int(lines[0]), self.data):
            return Path(lines[4]) if len(lines) > 4 and lines[4] else self.data
        with private.directory(self.data, self.owners) as folder:
            os.unlink("postmaster.pid", dir_fd=folder)
        return None

    def _read(self, name: str, since: int = 0) -> bytes:
        """Read a file of the data folder; a missing file counts as empty."""
        return private.read_private(self.data, name, self.owners, since=since) or b""

    def _answers(self, socket: Path) -> bool:
        """Return whether the server accepts connections, and make sure that it has our database.

        Raises ServerFull, or the server's own error if waiting for its start cannot help.
        """
        pinned = make_conninfo(
            self._conninfo(socket, "postgres"),
            options=as_options({**PINNED, **Bounds().settings()}),
            connect_timeout=10,
        )
        try:
            connection = psycopg.connect(pinned, autocommit=True)
        except psycopg.OperationalError as error:
            if is_starting(error):
                return False
            raise connection_error(error) from None
        with closing(connection), suppress(errors.DuplicateDatabase, errors.UniqueViolation):  # for a killed command
            if connection.execute(statement("server/has_database"), {"name": DATABASE}).fetchone() == (False,):
                connection.execute(statement("server/create_database"))
            return True
        return False

    def _conninfo(self, socket: Path, database: str) -> str:
        return make_conninfo(host=str(socket), port=PORT, user=SUPERUSER, dbname=database)

    def _make_socket_folder(self) -> Path:
        """Return the data folder, or one with a short name if the path of the socket would be too long."""
        fits = len(os.fsencode(self.data / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES
        if fits and "," not in str(self.data):  # libpq would take it for two
            return self.data
        return private.short_folder(f"crm-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}", self.owner)

    def _require_same_version(self) -> None:
        made_by = self._read("PG_VERSION").decode(errors="replace").strip()
        ours = str(major_version(self.binaries))
        if made_by != ours:
            cause = f"{self.data} was made by PostgreSQL {made_by}, and this release runs {ours}"
            cure = f"carry the data over with pg_dump of {made_by}, or set CRM_HOME to a new folder"
            raise EmbeddedServerFailed(cause, cure)

    def _last_words(self) -> str:
        """Return the last lines of the server's log, to be appended to a cause."""
        lines = self._read(LOG, -LAST_BYTES).decode(errors="replace").splitlines()[-10:]
        if not lines:
            return ""
        return "\n".join([f"; the end of {self.log}:", *lines, ""])

    def _open_ways(self) -> None:
        """Let the server's account reach the data and the binaries."""
        if self.account is None:
            return
        for place in (self.data, self.binaries / "postgres"):
            for parent in reversed(place.parents):
                private.let_pass(parent, self.account.pw_uid, self.account.pw_gid)
        if not (self.binaries / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under a umask such as 077
            package = self.binaries.parent
            for path in (*package.rglob("*"), *package.parent.with_suffix(".libs").rglob("*")):
                private.permit(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))

    def _run(
        self, program: str, *arguments: str | Path, within: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL to its end, without our terminal and our environment."""
        return subprocess.run(
            [self.binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            cwd=within or "/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGDATA": str(self.data)},
            user=self.account.pw_uid if self.account else None,
            group=self.account.pw_gid if self.account else None,
            extra_groups=[] if self.account else None,
            umask=0o077,
            start_new_session=True,
        )


def _account_of(uid: int) -> pwd.struct_passwd:
    """Return the account as which root runs the server: the given user, or else an unprivileged system user."""
    with suppress(KeyError):
        if uid:
            return pwd.getpwuid(uid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    cause = "PostgreSQL refuses to run as root, and there is no system user postgres or nobody"
    raise EmbeddedServerFailed(cause, f"run the command as another user, or {OTHER_SERVER}")


def _is_postmaster(pid: int, data: Path) -> bool:
    """Return whether a process runs PostgreSQL on `data`; without /proc any live process of ours counts."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists() and _is_alive(pid)
    return os.fsencode(data) in command.split(b"\0")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
