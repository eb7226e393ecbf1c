"""What the product writes is for its user alone, and nobody leads it elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from running import clean_environment
from servers import CARELESS

from crm_core.errors import EmbeddedServerFailed, ServerFull
from crm_core.postgres.embedded import running_server

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be led astray by another user")
OTHER = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, open to all."""
    with tempfile.TemporaryDirectory(prefix="crm-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A home with data, only to be copied."""
    with tempfile.TemporaryDirectory(prefix="crm-") as name:
        with running_server(Path(name, "home"), settings=CARELESS):
            pass
        yield Path(name, "home")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def use(home: Path) -> None:
    """Start the server of a home, ask it, and stop it."""
    with running_server(home, settings=CARELESS) as conninfo, psycopg.connect(conninfo) as connection:
        assert connection.execute("select current_database()").fetchone() == ("crm",)


def copy(made: Path, home: Path) -> Path:
    subprocess.run(["cp", "-a", made, home], check=True)
    return home


@pytest.mark.parametrize(
    "name",
    [
        "pound$HOME",
        'double"quote',
        "back\\slash",
        "com,ma",
        "a space",
        "a'quote",
        "`id`",
        "$(id)",
        "#hash",
        "ümläut",
        "a;b&c|d",
    ],
)
def test_a_home_may_have_any_name_that_can_be_written(made: Path, folder: Path, name: str) -> None:
    use(copy(made, folder / name))


def test_data_are_made_in_a_home_with_marks_of_every_kind(folder: Path) -> None:
    use(folder / "a $HOME \"b\" 'c' \\d, `e`")


def test_a_home_whose_name_cannot_be_written_down_is_refused_in_one_line(folder: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match="cannot be printed; set CRM_HOME to another folder"):
        use(folder / "two\nlines")
    assert not (folder / "two\nlines").exists()


def test_a_new_home_is_for_its_user_alone(folder: Path) -> None:
    use(folder / "home")
    assert mode(folder / "home") & 0o027 == 0, "the group may pass at most, and then it is the server's own"
    for path in (folder / "home").iterdir():
        assert mode(path) & 0o077 == 0, path


def test_a_home_that_was_open_is_closed_and_it_is_said(
    made: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = copy(made, folder / "home")
    home.chmod(0o755)
    for name in ("postgres.lock", "postgres.users"):
        (home / name).chmod(0o644)
    use(home)
    assert mode(home) & 0o027 == 0
    assert mode(home / "postgres.lock") == mode(home / "postgres.users") == 0o600
    assert f"{home} was open to other users" in caplog.text


def test_a_home_that_serves_others_too_is_left_as_it_is_and_it_is_said(
    made: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = copy(made, folder / "home")
    (home / "index.html").touch()
    home.chmod(0o755)
    use(home)
    assert mode(home) == 0o755
    assert "holds personal data; close it with chmod" in caplog.text


def test_what_the_command_line_writes_is_for_its_user_alone(folder: Path) -> None:
    command = [sys.executable, "-c", "from crm_core.cli.main import main; main()", "report", "--output", "report.html"]
    environment = clean_environment(CRM_HOME=str(folder / "home"))
    subprocess.run([*command[:-3], "migrate"], cwd=folder, env=environment, check=True, umask=0o022, timeout=120)
    subprocess.run(command, cwd=folder, env=environment, check=True, umask=0o022, timeout=120)
    assert mode(folder / "report.html") == 0o600


@as_root
@pytest.mark.parametrize(
    "name", ["postgres.lock", "postgres.users", "postgres/postgresql.conf", "postgres/postmaster.pid"]
)
@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_root_follows_no_link_in_the_home_of_another(made: Path, folder: Path, name: str, link: str) -> None:
    home = copy(made, folder / "home")
    secret = folder / "secret"
    secret.write_text("1 of root\n")
    secret.chmod(0o600)
    for path in (home, *home.rglob("*")):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    (home / name).unlink(missing_ok=True)
    if link == "symbolic":
        (home / name).symlink_to(secret)
    else:
        (home / name).hardlink_to(secret)
    with pytest.raises(EmbeddedServerFailed) as caught:
        use(home)
    assert "of root" not in str(caught.value)
    assert (secret.read_text(), secret.stat().st_uid, mode(secret)) == ("1 of root\n", 0, 0o600)


@as_root
def test_root_does_not_take_a_link_for_the_data_of_another(made: Path, folder: Path) -> None:
    home = copy(made, folder / "home")
    shutil.move(home / "postgres", folder / "elsewhere")
    (home / "postgres").symlink_to(folder / "elsewhere")
    with pytest.raises(EmbeddedServerFailed):
        use(home)


@as_root
def test_root_makes_new_data_for_the_owner_of_the_home(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    os.chown(home, OTHER, OTHER)
    use(home)
    assert {path.stat().st_uid for path in home.iterdir()} == {OTHER}


@as_root
def test_a_folder_that_has_to_be_passed_through_is_named(
    made: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inner = folder / "inner"
    inner.mkdir(mode=0o700)
    use(copy(made, inner / "home"))
    assert mode(inner) == 0o701
    assert f"{inner} can now be passed through" in caplog.text


def test_a_server_with_no_connection_left_says_so_at_once(made: Path, folder: Path) -> None:
    home = copy(made, folder / "home")
    settings = {**CARELESS, "max_connections": "6", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    settings |= {"reserved_connections": "0"}
    with running_server(home, settings=settings) as conninfo, ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(psycopg.connect(conninfo))
        started = time.monotonic()
        with pytest.raises(ServerFull, match=r"too many clients|connection slots"):
            use(home)
        assert time.monotonic() - started < 5
