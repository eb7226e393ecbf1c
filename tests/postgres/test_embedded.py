from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from running import until
from servers import CARELESS, LOCALE

from crm_core.errors import EmbeddedServerFailed
from crm_core.postgres.connection import Connection
from crm_core.postgres.embedded import binaries, running_server

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone runs a server as somebody else")

# A command: says which server it uses, waits for a line or Ctrl-C, and says it again if the server still answers.
COMMAND = """
import sys
from contextlib import suppress
from pathlib import Path
import psycopg
from crm_core.postgres.embedded import running_server

def started():
    with psycopg.connect(conninfo) as connection:
        return connection.execute("select pg_postmaster_start_time()").fetchone()[0]

with running_server(Path(sys.argv[1])) as conninfo:
    at = started()
    with suppress(KeyboardInterrupt):
        print(at, flush=True)
        sys.stdin.readline()
    print(started())
"""


class Command:
    """A `crm` command in a process of its own, with the terminal in the hands of the test."""

    def __init__(self, home: Path, umask: int = -1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=umask,
            start_new_session=True,
        )

    def says(self) -> str:
        """Return its next line: when the server was started."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ends(self) -> str:
        """Let it end, and return what it says last."""
        said, _ = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0
        return said.strip()

    def interrupt(self) -> None:
        """Press Ctrl-C at its terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A folder that is not there yet, short enough for a socket, whose server does not outlive the test."""
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        home = Path(folder, "home")
        yield home
        if postmaster(home):
            with running_server(home):
                pass  # the last user stops it


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """A home whose server has run before and is stopped; only to be copied."""
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        with settings_of(Path(folder)):
            pass
        yield Path(folder)


@pytest.fixture
def home(new_home: Path, used_home: Path) -> Path:
    """A home with data that is a test's own: a copy costs a fraction of initdb."""
    subprocess.run(["cp", "-a", used_home, new_home], check=True)
    return new_home


@pytest.fixture
def command(new_home: Path) -> Iterator[Callable[[], Command]]:
    """Starts commands over the home of the test, and kills those that it leaves when it fails."""
    started: list[Command] = []

    def start(umask: int = -1) -> Command:
        started.append(Command(new_home, umask))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def postmaster(home: Path) -> int | None:
    """Return the process id of the server of a home, or None."""
    file = home / "postgres" / "postmaster.pid"
    return int(file.read_text().split()[0]) if file.exists() else None


def query(conninfo: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(text).fetchall()


@contextmanager
def settings_of(home: Path, **settings: str) -> Iterator[str]:
    with running_server(home, settings={**CARELESS, **settings}) as conninfo:
        yield conninfo


@pytest.mark.skipif(LOCALE is not None, reason="it is the locale that the embedded server chooses by itself")
def test_letters_of_any_language_fold_and_order_is_that_of_code_points(any_connection: Connection) -> None:
    any_connection.execute(
        "create temporary table name (name text); insert into name values ('z'), ('É'), ('B'), ('a')"
    )
    found = any_connection.execute(
        "select 'ÉMİLE ŞAHİN' ilike '%é%' and 'Şahin' ilike 'ş%', cardinality(show_trgm('李')) > 0,"
        " (select array_agg(name order by name) from name), current_setting('server_encoding')"
    ).fetchone()
    assert found == (True, True, ["B", "a", "z", "É"], "UTF8")


def test_a_server_starts_stops_and_keeps_its_data(home: Path) -> None:
    with running_server(home) as conninfo:
        with psycopg.connect(conninfo) as connection:
            connection.execute("create table note as select 'kept' as text")
        assert postmaster(home) is not None
    assert postmaster(home) is None
    with running_server(home) as conninfo:
        assert query(conninfo, "table note") == [("kept",)]


def test_nothing_listens_on_the_network(home: Path) -> None:
    with running_server(home) as conninfo:
        assert query(conninfo, "select current_setting('listen_addresses')") == [("",)]
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700


def test_two_commands_that_start_at_once_share_one_server(new_home: Path, command: Callable[[], Command]) -> None:
    first, second = command(), command()
    started = first.says()
    assert started
    assert second.says() == started
    assert first.ends() == started
    assert second.ends() == started
    assert postmaster(new_home) is None


def test_a_server_that_a_killed_command_left_is_used_and_then_stopped(
    home: Path, command: Callable[[], Command]
) -> None:
    killed = command()
    started = killed.says()
    killed.kill()
    assert postmaster(home) is not None
    after = command()
    assert after.says() == started
    assert after.ends() == started
    assert postmaster(home) is None


def test_ctrl_c_at_the_terminal_does_not_reach_the_server(home: Path, command: Callable[[], Command]) -> None:
    interrupted = command()
    started = interrupted.says()
    interrupted.interrupt()
    assert interrupted.ends() == started
    assert postmaster(home) is None


def test_what_was_committed_survives_a_crash_of_the_server(home: Path) -> None:
    with running_server(home) as conninfo:
        with psycopg.connect(conninfo) as connection:
            connection.execute("create table note as select 'kept' as text")
        pid = postmaster(home)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    with running_server(home) as conninfo:
        assert query(conninfo, "table note") == [("kept",)]
        assert postmaster(home) != pid


def test_a_server_that_is_kept_is_started_again_when_it_is_killed_and_stops_with_its_last_user(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server(home, is_kept=True) as conninfo, running_server(home, is_kept=True) as same:
        assert same == conninfo
        for number in range(2):
            with psycopg.connect(conninfo) as connection:
                connection.execute(f"create table note_{number} ()".encode())
            before = postmaster(home)
            assert before is not None
            os.kill(before, signal.SIGKILL)
            until(lambda: answers(conninfo), 30)
            assert postmaster(home) not in (before, None)
        assert query(conninfo, "select count(*) from pg_class where relname ~ '^note_'") == [(2,)]
    assert postmaster(home) is None
    assert caplog.text.count("is gone, and is being started again") == 2, "one of the two that keep it does it"


def test_a_server_that_is_kept_and_cannot_be_started_is_tried_again(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    control, aside = home / "postgres" / "global" / "pg_control", home / "aside"
    with running_server(home, is_kept=True) as conninfo:
        pid = postmaster(home)
        assert pid is not None
        control.rename(aside)
        os.kill(pid, signal.SIGKILL)
        until(lambda: "did not start" in caplog.text, 30)
        aside.rename(control)
        until(lambda: answers(conninfo), 30)


def test_data_that_are_removed_under_a_server_that_is_kept_are_not_made_again(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody who serves is given an empty database for the one that there was."""
    with running_server(home, is_kept=True):
        pid = postmaster(home)
        assert pid is not None
        (home / "postgres").rename(home / "gone")
        os.kill(pid, signal.SIGKILL)
        until(lambda: "cannot be used" in caplog.text, 30)
        assert not (home / "postgres").exists()


def answers(conninfo: str) -> bool:
    with suppress(psycopg.OperationalError):
        return query(conninfo, "select 1") == [(1,)]
    return False


def test_a_dropped_database_is_made_again(home: Path) -> None:
    with running_server(home) as conninfo, psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        connection.execute("drop database crm")
    with running_server(home) as conninfo:
        assert query(conninfo, "select current_database()") == [("crm",)]


def test_a_database_that_a_killed_command_is_still_making_is_waited_for(
    home: Path, command: Callable[[], Command]
) -> None:
    making = (
        "select count(*) from pg_stat_activity where query like '%create database crm' and wait_event_type = 'Lock'"
    )
    with running_server(home) as conninfo, psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        connection.execute("drop database crm")
        with connection.transaction():  # nobody else can make a database meanwhile
            connection.execute("lock table pg_database in share row exclusive mode")
            killed = command()
            with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as onlooker:
                until(lambda: onlooker.execute(making).fetchone() == (1,), 30)
                killed.kill()
                waiting = command()
                until(lambda: onlooker.execute(making).fetchone() == (2,), 30)
        assert waiting.says()
        waiting.ends()


@pytest.mark.parametrize("text", ["", "{other}\n{data}\n1\n5432\n\n\n", "999999999\n{data}\n1\n5432\n\n\n"])
def test_a_pid_file_left_by_a_crash_does_not_block_the_start(home: Path, text: str) -> None:
    data = home / "postgres"
    with subprocess.Popen(["sleep", "60"], user=data.stat().st_uid if os.geteuid() == 0 else None) as other:
        try:
            (data / "postmaster.pid").write_text(text.format(other=other.pid, data=data))
            os.chown(data / "postmaster.pid", data.stat().st_uid, data.stat().st_gid)
            with settings_of(home) as conninfo:
                assert query(conninfo, "select 1") == [(1,)]
            assert other.poll() is None
        finally:
            other.kill()


def test_a_data_folder_that_a_killed_command_left_half_made_is_made_again(new_home: Path) -> None:
    (new_home / "postgres.new").mkdir(parents=True)
    (new_home / "postgres.new" / "PG_VERSION").write_text("18\n")
    with settings_of(new_home) as conninfo:
        assert query(conninfo, "select 1") == [(1,)]
    assert not (new_home / "postgres.new").exists()


def test_data_of_another_major_version_are_left_alone(home: Path) -> None:
    version = home / "postgres" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedServerFailed, match=r"was made by PostgreSQL 17, and this release runs 18; .*pg_dump"):
        running_server(home).__enter__()
    version.write_text("18\n")


def test_a_server_that_does_not_start_shows_the_end_of_its_log(home: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match='invalid value for parameter "work_mem"'):
        settings_of(home, work_mem="plenty").__enter__()


def test_the_callers_error_passes_and_the_server_stops(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), running_server(home):
        _ = 1 / 0
    assert postmaster(home) is None


def test_a_long_path_has_its_socket_elsewhere(new_home: Path) -> None:
    deep = new_home / ("long " * 20)
    with settings_of(deep) as conninfo:
        socket = Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"])  # type: ignore[arg-type]
        assert query(conninfo, "select 1") == [(1,)]
        assert socket.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        with settings_of(deep) as other:
            assert other == conninfo
    assert not socket.exists()


def test_a_socket_folder_that_others_may_write_is_refused(new_home: Path) -> None:
    deep = new_home / ("long " * 20)
    with settings_of(deep) as conninfo:
        socket = Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"])  # type: ignore[arg-type]
    socket.mkdir()
    socket.chmod(0o777)
    try:
        with pytest.raises(EmbeddedServerFailed, match="exists and is not private"):
            settings_of(deep).__enter__()
    finally:
        socket.rmdir()


@pytest.mark.parametrize("umask", [0o077, 0o777])
def test_any_umask_will_do(command: Callable[[int], Command], umask: int) -> None:
    if os.geteuid() != 0 and umask == 0o777:
        pytest.skip("a plain user cannot use what it makes under this umask")
    one = command(umask)
    assert one.says() == one.ends() != ""


@as_root
def test_root_lets_others_pass_to_the_data_and_not_look(home: Path) -> None:
    home.parent.chmod(0o700)
    with settings_of(home):
        assert (home / "postgres").stat().st_uid != 0
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o701


@as_root
def test_a_plain_user_has_a_server_of_its_own() -> None:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        Path(folder).chmod(0o777)
        code = COMMAND.replace("sys.argv[1]", repr(f"{folder}/home"))
        program = [sys.executable, "-c", code]
        user: dict[str, int | list[int]] = {"user": 65534, "group": 65534, "extra_groups": []}
        try:
            subprocess.run([sys.executable, "-c", "import crm_core"], check=True, capture_output=True, **user)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("the checkout cannot be read by other users")
        subprocess.run(program, check=True, stdin=subprocess.DEVNULL, **user)  # type: ignore[call-overload]
        assert (Path(folder) / "home" / "postgres").stat().st_uid == 65534
        with running_server(Path(folder, "home")) as conninfo:  # root after it
            assert query(conninfo, "select 1") == [(1,)]
        subprocess.run(program, check=True, stdin=subprocess.DEVNULL, **user)  # type: ignore[call-overload]


def test_without_binaries_the_cure_is_a_server_of_ones_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedServerFailed, match="set CRM_DATABASE_URL"):
        binaries.bundled_binaries()


def test_a_server_that_does_not_stop_when_it_is_asked_to_is_stopped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_core.postgres.embedded.server.STOP_SECONDS", 8)  # PostgreSQL kills its own after 5
    find = "select pid from pg_stat_activity where backend_type = 'checkpointer'"
    with running_server(tmp_path) as conninfo, psycopg.connect(conninfo) as connection:
        connection.execute("create table kept (n integer)")
        connection.commit()
        (checkpointer,) = connection.execute(find).fetchone() or ()
        os.kill(checkpointer, signal.SIGSTOP)
    with running_server(tmp_path) as conninfo, psycopg.connect(conninfo) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)
