"""`crm up`: it starts all, says where, survives what may happen to it, and leaves nothing running."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from builders import an_entity, write_drop
from psycopg.conninfo import make_conninfo
from running import ASKING, COMMAND, Up, alive, clean_environment, free_ports, new_home, running_up, servers_of, until
from servers import Server
from sqlalchemy import create_engine, text

from crm_core.errors import AddressUnusable, AlreadyUp, MissingPrivilege, SettingsError
from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from crm_core.server.api import HOST, free_port, listen_from, port_of
from crm_core.server.up import PORT, dagster_url, only_one
from crm_core.timeline.invariants import check
from pipelines import pools

INITIAL = DATA / "drops" / "2020-01-01_initial.csv"
LATE = INITIAL.with_name("2022-02-15_late.csv")
STOP_SECONDS = 15
ROOT = Path(__file__).parents[2]
EVERY_DAY = re.compile(r"^## Every day\n\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
UV_RUN_CRM = f'uv() {{ shift 2; {shlex.quote(sys.executable)} -m crm_core "$@"; }}\n'


# Where Dagster keeps its runs


@pytest.mark.integration
def test_dagster_has_a_database_beside_the_products_and_a_driver_that_it_can_use(any_fresh_database: Database) -> None:
    url = dagster_url(any_fresh_database)
    assert dagster_url(any_fresh_database) == url, "it is made once"
    engine = create_engine(url)
    assert engine.dialect.driver == "psycopg2", "with psycopg 3 the first run would fail"
    with engine.connect() as connection:
        name = connection.execute(text("select current_database()")).scalar_one()
    engine.dispose()
    with any_fresh_database.connect() as connection:
        assert name == f"{connection.info.dbname}_dagster"


@pytest.mark.integration
def test_a_password_reaches_dagster_whatever_is_in_it(fresh_database: Database) -> None:
    password = "a b/c@d:e%f?g&h+i'j\\k"
    given = Database(make_conninfo(fresh_database.conninfo, password=password, application_name="an app"))
    url = create_engine(dagster_url(given)).url
    assert url.password == password
    assert url.query["application_name"] == "an app"


@pytest.mark.integration
def test_a_user_who_may_not_create_the_database_learns_what_a_superuser_has_to_run(
    server: Server, fresh_database: Database
) -> None:
    server.run("create role {} login", "without_createdb")
    limited = Database(make_conninfo(fresh_database.conninfo, user="without_createdb"))
    with pytest.raises(MissingPrivilege, match=r"create database test_\d+_dagster owner without_createdb;"):
        dagster_url(limited)


# One `crm up` a home, one server a port


@pytest.mark.unit
def test_a_second_one_over_a_home_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with only_one(tmp_path) as lock:
        print(os.getpid(), "http://127.0.0.1:3000", file=lock, flush=True)
        with pytest.raises(AlreadyUp, match=rf"at http://127.0.0.1:3000 \(process {os.getpid()}\)"), only_one(tmp_path):
            pass
    with only_one(tmp_path):
        assert (tmp_path / "up.lock").read_text() == "", "the words of an earlier one are gone"


@pytest.mark.unit
def test_a_home_that_cannot_be_written_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="CRM_HOME"), only_one(tmp_path / "file"):
        pass


@pytest.mark.unit
def test_a_lock_that_is_a_link_to_another_file_is_refused_and_leaves_that_one_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("words")
    (tmp_path / "up.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(SettingsError, match=r"up\.lock"), only_one(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "words"


@pytest.mark.unit
def test_a_port_that_was_asked_for_is_taken_or_an_error(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnusable, match=f"port {port} of {HOST}: Address already in use; give another"):
            free_port(HOST, port, PORT)
    assert free_port(HOST, port, PORT) == port


@pytest.mark.unit
def test_with_none_asked_for_the_first_free_port_is_taken() -> None:
    first = free_port(HOST, None, PORT)
    with socket.create_server((HOST, first)):
        assert first < free_port(HOST, None, PORT) < PORT + 100


@pytest.mark.unit
def test_two_who_start_in_the_same_moment_never_choose_one_port() -> None:
    with listen_from(HOST, None, PORT) as first, listen_from(HOST, None, PORT) as second:
        assert port_of(first) != port_of(second)
        with pytest.raises(AddressUnusable, match="already in use"):
            free_port(HOST, port_of(first), PORT)


@pytest.mark.unit
def test_text_in_the_lock_that_names_no_process_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "up.lock").write_text("nonsense here\n")
    with only_one(tmp_path):
        pass


@pytest.mark.unit
def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(AddressUnusable, match="nothing can be served on port 3000 of 192"):
        free_port("192.0.2.1", 3000, PORT)


# The whole, as it is used: one story over one home


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with new_home() as home, running_up(home) as up:
        yield up


@pytest.mark.integration
def test_it_says_what_it_started_and_dagster_answers_there(up: Up) -> None:
    assert f"✓ PostgreSQL: the embedded one in {up.home}\n✓ Schema: " in up.said()
    assert "✓ Types: there were none, so 6 were loaded" in up.said()
    assert f"CSV files into {up.home}/drops\n" in up.said()
    said = up.ask("{ sensorsOrError(repositorySelector: {repositoryLocationName: "
                  '"pipelines", repositoryName: "__repository__"}) '
                  "{ ... on Sensors { results { name sensorState { status } } } } }")  # fmt: skip
    states = {sensor["name"]: sensor["sensorState"]["status"] for sensor in said["sensorsOrError"]["results"]}
    assert states["drop_folder"] == "RUNNING"


@pytest.mark.integration
def test_a_second_one_ends_at_once(up: Up) -> None:
    second = subprocess.run(
        COMMAND,
        cwd=up.home,
        env=clean_environment(CRM_HOME=str(up.home)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"error: crm up is already running for {up.home} at {up.address} (process {up.process.pid});"
        " use it, or stop it first\n"
    )


@pytest.mark.integration
def test_the_ui_answers_no_page_of_another_site(up: Up) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        question = urllib.request.Request(
            f"{up.address}/graphql", b'{"query": "{ version }"}', {"Content-Type": "application/json", **headers}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(question, timeout=30)
        with refused.value as answer:
            assert answer.code in (400, 403)


@pytest.mark.integration
def test_the_logs_are_plain_text_for_their_owner_alone(up: Up) -> None:
    logs = sorted((up.home / "logs").iterdir())
    assert [log.name for log in logs] == ["api.log", "code-server.log", "daemon.log", "web-server.log"]
    for log in logs:
        assert b"\x1b" not in log.read_bytes(), log
        assert log.stat().st_mode & 0o077 == 0
    assert " - INFO - " not in (up.home / "logs" / "daemon.log").read_text(), "each tick would be a line"


@pytest.mark.integration
def test_a_run_killed_in_the_merge_leaves_nothing_half_done_and_the_next_one_succeeds_by_itself(up: Up) -> None:
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("lock table entity in share mode")  # the merge has filled the ledger when it comes to entities
        up.drop(INITIAL)
        until(lambda: observer.execute(WAITING, {"table": "entity"}).fetchall(), 60)
        worker_of(up).kill()
        until(lambda: not observer.execute(WAITING, {"table": "entity"}).fetchall(), 30)
        assert observer.execute(ROWS).fetchone() == (0,), "of the drop stands nothing but that it was seen"
        holder.rollback()
        until(lambda: up.runs(INITIAL.name)[0].status == "SUCCESS", 90, ASKING)
        assert [run.status for run in up.runs(INITIAL.name)] == ["SUCCESS", "FAILURE"]
        assert observer.execute("select count(*) from entity").fetchone() == (33,)
        assert [found for found in check(observer) if not found.holds] == []


@pytest.mark.integration
def test_a_file_overwritten_while_its_run_is_queued_loses_nothing_in_silence(up: Up, tmp_path: Path) -> None:
    first_file = write_drop(tmp_path / "v1.csv", [an_entity("Vera First", at=1)])
    second_file = write_drop(tmp_path / "v2.csv", [an_entity("Vera Second", at=1)])
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("lock table drop_file in share mode")
        up.drop(LATE, "busy.csv")
        until(lambda: observer.execute(WAITING, {"table": "drop_file"}).fetchall(), 60)
        up.drop(first_file, "daily.csv")
        until(lambda: [run.status for run in up.runs("daily.csv")] == ["QUEUED"], 60, ASKING)
        up.drop(second_file, "daily.csv")
        until(lambda: [run.status for run in up.runs("daily.csv")] == ["QUEUED", "QUEUED"], 60, ASKING)
        holder.rollback()
        until(lambda: {run.status for run in up.runs("daily.csv")} <= {"SUCCESS", "FAILURE"}, 90, ASKING)
        second, first = up.runs("daily.csv")
        assert (first.status, second.status) == ("FAILURE", "SUCCESS")
        merged = "select count(*) from drop_file where status = 'merged' and file_name = 'daily.csv'"
        assert observer.execute(merged).fetchone() == (1,)


@pytest.mark.integration
def test_drops_that_come_at_once_are_merged_in_turn_and_what_waits_says_for_what(up: Up, tmp_path: Path) -> None:
    for name, at in (("first.csv", 1), ("second.csv", 2)):
        write_drop(tmp_path / name, [an_entity("twice", at=at, name=name)])
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("select lock_buckets(array(select generate_series(0, 63)))")  # as another merge does
        up.drop(tmp_path / "first.csv")
        until(lambda: WAITS in logs_of(up, "first.csv"), 150)
        up.drop(tmp_path / "second.csv")
        until(lambda: [run.status for run in up.runs("second.csv")] == ["QUEUED"], 150)
        question = "query($id: ID!) { runOrError(runId: $id) { ... on Run { hasConcurrencyKeySlots allPools } } }"
        waiting = up.ask(question, id=up.runs("second.csv")[0].run_id)["runOrError"]
        assert waiting == {"hasConcurrencyKeySlots": False, "allPools": [pools.MERGE]}
        limit = 'mutation($limit: Int!) { setConcurrencyLimit(concurrencyKey: "merge", limit: $limit) }'
        up.ask(limit, limit=2)
        until(lambda: WAITS in logs_of(up, "second.csv"), 150)  # it is read while the other one waits
        assert observer.execute(ROWS_OF_TWICE).fetchall() == []
        holder.rollback()
        for name in ("first.csv", "second.csv"):
            until(lambda name=name: up.runs(name)[0].status == "SUCCESS", 150)  # type: ignore[misc]
            assert f"{name}: merging, after a wait of " in logs_of(up, name)
        up.ask(limit, limit=1)
        assert observer.execute(ROWS_OF_TWICE).fetchall() == [("first.csv",), ("second.csv",)]
        assert [found for found in check(observer) if not found.holds] == []


@pytest.mark.integration
def test_a_drop_that_is_sent_over_the_api_has_a_run_with_the_trace_of_its_request(up: Up, tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    file = write_drop(tmp_path / "sent.csv", [an_entity("sent", at=1)])
    api = next(line.split()[-1] for line in up.said().splitlines() if line.startswith("✓ The API: "))
    headers = {"Content-Type": "text/csv", "traceparent": trace}
    request = urllib.request.Request(f"{api}/api/v1/drops?file_name=sent.csv", file.read_bytes(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.status == 201
    until(lambda: [run.status for run in up.runs("sent.csv")] == ["SUCCESS"], 150)
    assert up.runs("sent.csv")[0].tags["traceparent"] == trace


@pytest.mark.integration
def test_a_run_that_is_terminated_is_rolled_back_and_retried_automatically(up: Up, tmp_path: Path) -> None:
    file = write_drop(tmp_path / "t.csv", [an_entity("t", at=1, name="Terminus")])
    known = "select count(*) from ledger where display_name = 'Terminus'"
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("lock table entity in share mode")
        up.drop(file, "t.csv")
        until(lambda: observer.execute(WAITING, {"table": "entity"}).fetchall(), 60)
        worker_of(up).terminate()
        until(lambda: not observer.execute(WAITING, {"table": "entity"}).fetchall(), 30)
        assert observer.execute(known).fetchone() == (0,)
        holder.rollback()
        until(lambda: up.runs("t.csv")[0].status == "SUCCESS", 150, ASKING)
        assert observer.execute(known).fetchone() == (1,)


@pytest.mark.integration
def test_an_embedded_server_that_is_killed_comes_back_and_the_next_file_is_taken_in(up: Up, tmp_path: Path) -> None:
    for server in servers_of(up.home):
        server.kill()
    up.drop(write_drop(tmp_path / "k.csv", [an_entity("k", at=1, name="Kilroy")]), "k.csv")
    until(lambda: is_merged(up, "k.csv"), 150)
    assert "is gone, and is being started again" in up.said()
    assert up.process.poll() is None

    def is_launched() -> bool:
        with suppress(urllib.error.HTTPError):  # Dagster's own connections were lost: its next request finds that out
            up.launch(INITIAL.name)
            return True
        return False

    until(is_launched, 60, ASKING)
    until(lambda: up.runs(INITIAL.name)[0].status == "SUCCESS", 60, ASKING)


@pytest.mark.integration
def test_killed_with_a_run_under_way_it_leaves_no_process_behind_and_the_next_one_goes_on(up: Up) -> None:
    with up.database() as database, database.connect() as holder, database.connect(autocommit=True) as observer:
        holder.execute("lock table drop_file in share mode")
        up.launch(INITIAL.name)
        until(lambda: observer.execute(WAITING, {"table": "drop_file"}).fetchall(), 60)
        dagster = [process for process in up.all_processes() if process not in servers_of(up.home)]
        assert len(dagster) >= 6, "itself, the watchman, the code server and its run, the web server, the daemon"
        up.process.kill()
        until(lambda: not alive(dagster), STOP_SECONDS)
    with running_up(up.home) as next_up:
        until(lambda: next_up.runs(INITIAL.name)[0].status == "SUCCESS", 90, ASKING)
        assert [run.status for run in next_up.runs(INITIAL.name)][:2] == ["SUCCESS", "FAILURE"], "that was under way"
        everything = next_up.all_processes()
        assert len(everything) > 6
        next_up.process.send_signal(signal.SIGINT)
        assert next_up.process.wait(STOP_SECONDS) == 0
        until(lambda: not alive(everything), 1)
        assert next_up.said().endswith("Stopping …\nStopped.\n")


@pytest.mark.integration
def test_an_address_that_others_reach_is_refused_without_a_token_before_anything_is_started() -> None:
    with new_home() as home:
        command = [*COMMAND, "--host", "0.0.0.0", *free_ports()]
        ended = subprocess.run(
            command, cwd=home, env=clean_environment(CRM_HOME=str(home)), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert servers_of(home) == []
        assert not (home / "logs").exists(), "no process of Dagster's ran, not even for a moment"
    assert ended.returncode == 1
    assert "there is no token and no account yet" in ended.stderr


@pytest.mark.integration
def test_a_process_that_dies_ends_it_all_and_shows_its_last_words() -> None:
    with new_home() as home:
        broken = clean_environment(CRM_HOME=str(home), DAGSTER_WEBSERVER_DB_POOL_RECYCLE="soon")
        command = [*COMMAND, *free_ports()]
        ended = subprocess.run(command, cwd=home, env=broken, capture_output=True, text=True, timeout=120, check=False)
        assert servers_of(home) == []
    assert ended.returncode == 1
    *words, error = ended.stderr.splitlines()
    assert "'soon' is not a valid integer" in words[-1]
    assert error == f"error: the web-server ended with exit status 2; its whole output is in {home}/logs/web-server.log"


@pytest.mark.integration
def test_sigterm_ends_any_command_as_ctrl_c_does_and_the_embedded_server_with_it() -> None:
    with new_home() as home, (home / "said").open("wb") as said:
        command = subprocess.Popen(
            [*COMMAND[:-1], "demo"], cwd=home, env=clean_environment(CRM_HOME=str(home)), stdout=said, stderr=said
        )
        until(lambda: "✓ PostgreSQL" in (home / "said").read_text(), 60)
        assert servers_of(home)
        command.terminate()
        assert command.wait(30) == 143, (home / "said").read_text()
        assert servers_of(home) == []
        assert (home / "said").read_text().endswith("interrupted: what was under way has been rolled back\n")


ROWS = (
    "select (select count(*) from ledger) + (select count(*) from entity) + (select count(*) from entity_detail)"
    " + (select count(*) from reject) + (select count(*) from batch)"
)
WAITS = "its rows are read; it merges when no other merge holds entities of it"
ROWS_OF_TWICE = "select display_name from entity where display_name in ('first.csv', 'second.csv') order by valid_from"
WAITING = "select from pg_locks join pg_class on pg_class.oid = relation where relname = %(table)s and not granted"


def is_merged(up: Up, file_name: str) -> bool:
    """Say whether a drop is in, over a connection of its own: the embedded server may be gone, and is not started."""
    server = f"host={up.home / 'postgres'} user=postgres dbname=crm"
    with suppress(psycopg.OperationalError), psycopg.connect(server) as connection:
        known = connection.execute("select from drop_file where file_name = %s and status = 'merged'", [file_name])
        return known.fetchone() is not None
    return False


def logs_of(up: Up, drop: str) -> str:
    """What the newest run of a drop has logged; nothing if it has none yet."""
    question = "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { ... on LogMessageEvent "
    question += "{ message } } } } }"
    for run in up.runs(drop)[:1]:
        events = up.ask(question, id=run.run_id)["logsForRun"]["events"]
        return "\n".join(event["message"] for event in events if event)
    return ""


def worker_of(up: Up) -> psutil.Process:
    """The process of the one run that runs."""
    (code_server,) = (
        child for child in psutil.Process(up.process.pid).children() if "pipelines.code_server" in child.cmdline()
    )
    workers = [forked for child in code_server.children() for forked in child.children()]
    assert len(workers) == 1, workers
    return workers[0]
