"""A database of each release is upgraded to this one: it is sound, and answers as the release itself did.

`make.py` made the databases and the answers.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from endurance import backends, breaches, ended, run, soon, start, under_way
from servers import Server
from serving import V1, create, served

from crm_core.backup.restoring import restore
from crm_core.postgres.connection import Database
from crm_core.postgres.embedded import bundled_binaries
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import current_revision, head_revision

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
WHO_LIVES = (
    "select count(*), min(display_name), max(detail_value)"
    " from entity e join entity_detail d using (entity_uid) where e.is_current and d.is_current"
)
RELEASES = sorted(path.name.removesuffix(".backup") for path in HERE.glob("*.backup"))


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def before(server: Server, release: str, tmp_path: Path) -> Iterator[Database]:
    """The database as the release left it."""
    if server.binaries != bundled_binaries():
        pytest.skip("the databases are of the bundled server, and another one stands for it with CRM_TEST_LOCALE")
    with zipfile.ZipFile(HERE / f"{release}.backup") as archive:
        archive.extract("crm.dump", tmp_path)
    with server.clone("template0") as database:
        restoring = [str(bundled_binaries() / "pg_restore"), "--exit-on-error", "--no-owner", "-d", database.conninfo]
        subprocess.run([*restoring, tmp_path / "crm.dump"], check=True)
        yield database


def test_there_is_a_database_of_each_release() -> None:
    assert {"0.2.0", "0011", "0017"} <= {*RELEASES}


def test_a_database_of_the_release_answers_as_it_did(before: Database, release: str) -> None:
    assert migrate(before) != []
    assert breaches(before) == []
    assert_same_answers(before, release)


def test_a_backup_of_the_release_is_brought_up_to_date(any_server: Server, release: str) -> None:
    with any_server.clone("template0") as database:
        restored = restore(database, HERE / f"{release}.backup")
        assert restored.manifest.revision < head_revision()
        assert restored.steps[0][:4] == f"{int(restored.manifest.revision) + 1:04}"
        assert [found.name for found in restored.checks if not found.holds] == []
        assert_same_answers(database, release)
        with served(database, auth="off") as client:
            made = create(client, "New Here")
            assert client.get(f"{V1}/entities/{made['entity_uid']}").json() == made
        assert breaches(database) == []


def assert_same_answers(database: Database, release: str) -> None:
    answers = json.loads(gzip.decompress((HERE / f"{release}.answers.json.gz").read_bytes()))
    assert len(answers) > 50
    with served(database, auth="off") as client:
        for path, text in answers.items():
            found, said = without_address(client.get(V1 + path)), json.loads(text)
            assert known(found, said) == without_address(said), path


def without_address(answer: httpx.Response | Any) -> Any:
    """What an answer says, without the links, which have the address of the server in them."""
    said = answer.json() if isinstance(answer, httpx.Response) else answer
    return {name: value for name, value in said.items() if name not in ("next", "previous")}


def known(found: Any, said: Any) -> Any:
    """What is found without the members that the release did not know yet."""
    if isinstance(said, dict):
        return {name: known(value, said[name]) for name, value in found.items() if name in said}
    if isinstance(said, list) and len(said) == len(found):
        return [known(*pair) for pair in zip(found, said, strict=True)]
    return found


def test_an_upgrade_that_is_killed_changed_nothing_and_the_next_one_works(before: Database, release: str) -> None:
    with before.connect() as connection:
        was = current_revision(connection)
        connection.execute("lock table ledger, drop_file in access share mode")  # so that it waits in the middle
        command = start("migrate", CRM_DATABASE_URL=before.conninfo)
        under_way(command, partial(waits, before))
        command.kill()
        assert ended(command).status < 0
        connection.rollback()
    soon(lambda: backends(before) == 0)
    with before.connect() as connection:
        assert current_revision(connection) == was
    told = run("migrate", CRM_DATABASE_URL=before.conninfo)
    assert told.status == 0, told.error
    assert told.said.splitlines()[-1] == f"The schema is at revision {head_revision()}."
    assert breaches(before) == []
    assert_same_answers(before, release)


def test_readers_go_on_while_it_is_upgraded_and_the_locks_are_told(before: Database) -> None:
    seen: list[tuple[object, ...] | None] = []
    stop = threading.Event()

    def read() -> None:
        with before.connect(autocommit=True) as connection:
            connection.execute("set statement_timeout = '60s'")
            while not stop.is_set():
                seen.append(connection.execute(WHO_LIVES).fetchone())

    with ThreadPoolExecutor(1) as readers:
        reading = readers.submit(read)
        soon(lambda: seen or reading.done())
        told = run("migrate", CRM_DATABASE_URL=before.conninfo)
        stop.set()
        reading.result(90)
    assert told.status == 0, told.error
    assert len(seen) > 1
    assert {*seen} == {seen[0]}
    assert re.search(r"^drop_file was locked for \d+\.\d\d s: ", told.error, re.MULTILINE), told.error


def waits(database: Database) -> bool:
    with database.connect() as connection:
        return connection.execute("select exists (select from pg_locks where not granted)").fetchone() == (True,)
