"""Several machines: what is sent to Citus, and that a cluster gives the tables and answers of one server.

With CRM_TEST_CITUS_URL, the address of a superuser at a coordinator that knows its workers, every other test runs there
too, as far as it does not need one server.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import psycopg
import pytest
from builders import COLUMNS, a_request, an_entity, as_row, day, reference_data, uid, write_drop
from click.testing import CliRunner
from servers import CITUS, SHARDS, Cluster, Server, Servers
from serving import ENTITIES, NDJSON, V1, served

from crm_core.backup.restoring import restore
from crm_core.backup.taking import back_up
from crm_core.cli.main import crm
from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.drops.undo import undo_drop
from crm_core.errors import DatabaseError, DatabaseUnfit, SchemaTooOld
from crm_core.model import Change
from crm_core.postgres import spread
from crm_core.postgres.connection import Connection, Database
from crm_core.postgres.distribution import BY_ENTITY, WHOLE, distribute
from crm_core.postgres.embedded import bundled_binaries
from crm_core.postgres.migrations import migrate
from crm_core.postgres.schema_version import require_schema, routines
from crm_core.postgres.spread import spread_routines
from crm_core.postgres.written_out import readers, written_out
from crm_core.reading import reads
from crm_core.reading.audit import audit_of_all
from crm_core.reading.compare import totals
from crm_core.reading.feed import feed, parse_cursor
from crm_core.reading.lanes import beliefs, past
from crm_core.reading.search import search
from crm_core.reference import put_source, reference_types
from crm_core.resources import SQL, statement
from crm_core.timeline.invariants import check
from crm_core.timeline.single_change import apply_change
from crm_core.timeline.undo import Who

pytestmark = pytest.mark.integration
on_citus = pytest.mark.skipif(CITUS is None, reason="CRM_TEST_CITUS_URL names no Citus coordinator")


@pytest.fixture
def one_server(servers: Servers) -> Iterator[Database]:
    """A database of one server, also where the other tests run on a cluster."""
    with servers.over(bundled_binaries()).clone() as database:
        yield database


def test_a_database_without_citus_says_what_to_do(one_server: Database) -> None:
    with pytest.raises(DatabaseUnfit, match="citus_add_node"):
        list(distribute(one_server, SHARDS))
    said = CliRunner().invoke(crm, ["distribute"], env={"CRM_DATABASE_URL": one_server.conninfo})
    assert said.exit_code == 1
    assert "no extension citus" in said.stderr


def test_a_function_that_reads_tables_is_replaced_by_its_body() -> None:
    text = written_out("select * from late_facts(%(uid)s) f where f.row_no = 1", has_values=True)
    assert "late_facts" not in text
    assert "(%(uid)s)::uuid" in text
    assert text.endswith(") as f (change_ts, batch_id, row_no) where f.row_no = 1")


def test_what_is_in_quotes_is_no_parameter_of_a_function() -> None:
    text = written_out("select said_of_field(%(field)s, l.name, l.type, l.details) from ledger l", has_values=True)
    assert "when 'display_name' then (l.name)::text" in text


SENT = [path for path in sorted(SQL.rglob("*.sql")) if path.parent.name != "ddl"]


@pytest.mark.unit
@pytest.mark.parametrize("path", SENT, ids=lambda path: path.relative_to(SQL).as_posix())
def test_nothing_that_is_sent_to_citus_calls_a_function_that_reads_tables(path: Path) -> None:
    text = written_out(re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8")))
    assert not re.search(rf"(?<!function )\b({'|'.join(readers())})\(", text)
    assert not re.search(r"\bselect\s+from\b", text), "Citus takes it for a function without columns"


@pytest.mark.unit
@pytest.mark.parametrize("path", SENT, ids=lambda path: path.relative_to(SQL).as_posix())
def test_no_lock_is_taken_by_a_statement_that_reads_what_is_distributed(path: Path) -> None:
    """Another process would take it, and let it go before all machines have committed. Citus locks no rows of many."""
    text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
    reads_many = re.compile(rf"\b(from|join|update|into) ({'|'.join(BY_ENTITY)})\b")
    for part in text.split(";"):
        if reads_many.search(part):
            assert not re.search(r"\bpg_\w*advisory\w*\(|\bfor (no key update|update|share|key share)\b", part), part


@pytest.mark.unit
@pytest.mark.parametrize("path", SENT, ids=lambda path: path.relative_to(SQL).as_posix())
def test_an_argument_of_what_is_written_out_says_whose_column_it_is(path: Path) -> None:
    """In the body of the function another table may have a column of that name."""
    if path.parent.name == "routines":
        pytest.skip("there it is a parameter of the caller")
    text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
    calls = re.findall(rf"\b(?:{'|'.join(readers())})\(([^()]*)", text)
    bare = [each.strip() for call in calls for each in call.split(",") if re.fullmatch(r"\s*[a-z]\w*\s*", each)]
    assert set(bare) <= {"null", "true", "false"}


def test_each_form_for_citus_is_of_a_statement_of_one_server() -> None:
    code = "".join(path.read_text() for path in Path(spread.__file__).parent.glob("*.py"))
    for path in (SQL / "spread").rglob("*.sql"):
        name = path.relative_to(SQL / "spread").with_suffix("").as_posix()
        assert (SQL / f"{name}.sql").is_file() or f'"spread/{name}"' in code, name
        assert path.read_text().startswith("-- "), name
    text = "".join(spread_routines(each.text) for each in routines())
    assert "temporary" not in text
    assert text.count("own.row_no") == 0  # rows of a drop are read by statements alone


def live(database: Database, folder: Path) -> None:
    """Give a database drops (late ones, ties, repeats, deletions), requests, a snapshot and an undo."""
    people = range(40)
    with database.transaction() as connection:
        reference_data(connection)
    with database.connect(autocommit=True) as connection:
        types = reference_types(connection)

        def drop(name: str, *changes: Change, options: Options = Options()) -> str:  # noqa: B008
            with connection.transaction():
                report = ingest_on(connection, write_drop(folder / f"{name}.csv", changes), options)
            assert report.status == "merged", report
            return report.sha256 or ""

        def ask(change: Change) -> None:
            apply_change(connection, types, a_request(change), now=day(1000), time_zone=UTC)

        first = [an_entity(f"p {n}", at=2, name=f"n {n}", email=f"{n}@x.org", phone="1") for n in people]
        drop("initial", *first)
        delta = [an_entity(f"p {n}", at=4, name=f"m {n % 7}", email=f"{n % 5}@x.org") for n in people if n % 2]
        wrong = drop("delta", *delta, an_entity("p 0", at=4, op="delete"))
        drop("replay", *first[::-1][:30], an_entity("p 39", at=2, name="n 39", phone=None))
        drop("late", *(an_entity(f"p {n}", at=1 + n % 3, name="late", email=None) for n in people if n % 3 == 0))
        several = [
            an_entity(f"p {n}", at=at, name=f"s {at}", email=f"{at}@y.org") for n in (1, 2, 3) for at in (6, 5, 6, 7)
        ]
        drop("several", *several, an_entity("new", at=5, name="New"), an_entity("p 5", at=6, op="delete"))
        ask(an_entity("p 1", at=8, op="patch", name="asked", type_=None, phone="2"))
        ask(an_entity("posted", at=8, name="Posted", email="posted@x.org"))
        ask(an_entity("p 2", at=3, op="patch", name=None, type_=None, email="patched@x.org"))
        ask(an_entity("p 3", at=6, op="patch", name="tied", type_=None))
        ask(an_entity("p 7", at=9, op="delete"))
        scope = Options(snapshot=SnapshotOptions("PERSON", day(10)), snapshot_limit=1.0)
        drop("snapshot", *(an_entity(f"p {n}", at=10, name=f"m {n % 7}") for n in people if n < 30), options=scope)
        drop("late for the snapshot", an_entity("p 35", at=9, name="too late"))
        undo_drop(connection, wrong, "undo", Who("ann", "it was wrong"))
        for source in ("erp", "shop"):
            put_source(connection, code=source, name=source)
        keyed = [an_entity(f"k {n}", at=11, name=f"K {n}", email=f"{n}@k.org") for n in range(9)]

        def by(source: str, *changes: Change) -> list[dict[str, str]]:
            return [as_row(each) | {"source": source, "source_key": str(each.entity_uid)} for each in changes]

        with_keys = (*COLUMNS, "source", "source_key")
        for name, rows, options in (
            ("keys", by("erp", *keyed), Options()),
            ("repeats that give keys", by("shop", *keyed[:5]), Options()),
            (
                "of a source",
                by("erp", *(an_entity(f"k {n}", at=12, name=f"K {n}") for n in range(4))),
                Options(snapshot=SnapshotOptions("source=erp", day(12)), snapshot_limit=1.0),
            ),
        ):
            with connection.transaction():
                report = ingest_on(connection, write_drop(folder / f"{name}.csv", rows, with_keys), options)
            assert report.status == "merged", report


TABLES = {  # all but when rows were written
    "entity": "select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current from entity",
    "entity_detail": "select entity_uid, detail_type_id, detail_value, valid_from, valid_to from entity_detail",
    "ledger": "select * from ledger",
    "repeat": "select * from repeat",
    "retraction": "select * from retraction",
    "snapshot": "select * from snapshot",
    "source_key": "select * from source_key",
    "key_link": "select key_uid, batch_id, row_no, entity_uid from key_link",
    "snapshot_effect": "select * from snapshot_effect",
    "batch": "select batch_id, actor, source, drop_sha256 from batch",
    "drop_file": "select sha256, status, batch_id, rows_accepted, rows_changed, rows_unchanged, rows_late,"
    " rows_superseded, entities_ended, entity_versions_added, detail_versions_added from drop_file",
}


def tables(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables."""
    return {name: sorted(connection.execute(query.encode()), key=str) for name, query in TABLES.items()}


def answers(connection: Connection) -> dict[str, object]:
    """What the reads answer, without the moments of recording."""
    types = reference_types(connection)

    def without_moments(answer: object) -> str:
        text = "\n".join(map(str, answer)) if isinstance(answer, list | tuple) else str(answer)
        text = re.sub(r"recorded_at=datetime\.datetime\((?:[^()]|\([^()]*\))*\)", "", text)
        # A key is given when it is recorded; all changes are of 2024.
        return re.sub(r'"recorded_at":"[^"]*"|"since":"(?!2024)[^"]*"', "", text)

    (middle,) = connection.execute("select recorded_at from batch where batch_id = 4").fetchone() or ()
    found: dict[str, object] = {}
    for known_at in (None, middle):
        found |= {
            f"as of {known_at is None}": reads.entities(
                connection, types, as_of=day(5), limit=200, known_at=known_at
            ).documents,
            f"diff {known_at is None}": reads.diff(connection, day(1), day(20), limit=200, known_at=known_at).documents,
            f"changes {known_at is None}": reads.transitions(
                connection, day(0), day(20), limit=200, known_at=known_at
            ).documents,
            f"count {known_at is None}": reads.count_entities(connection, types, as_of=day(5), known_at=known_at),
            f"history {known_at is None}": [*reads.history(connection, uid("p 1"), known_at=known_at)],
            f"audit {known_at is None}": [*reads.audit(connection, uid("p 1"), known_at=known_at)],
            f"streamed {known_at is None}": b"".join(
                reads.stream_diff(connection, day(1), day(20), known_at=known_at)
            ).decode(),
            f"past {known_at is None}": past(connection, uid("p 1"), day(20), known_at=known_at),
            f"totals {known_at is None}": sorted(totals(connection, day(1), day(20), known_at=known_at).fields.items()),
        }
    found["beliefs"] = [
        beliefs(connection, uid("p 1"), field) for field in ("display_name", "entity_type", "details.email")
    ]
    found["search"] = [search(connection, text, limit=50) for text in ("late", "k", "y.org")]
    found["audit of all"] = audit_of_all(connection, limit=500).documents
    found["list"] = reads.entities(connection, types, limit=200).documents
    found["one"] = reads.snapshot(connection, uid("p 1"))
    found["feed"] = feed(connection, parse_cursor(""), limit=500, with_entities=True).documents
    return {name: without_moments(answer) for name, answer in found.items()}


@on_citus
@pytest.mark.citus
def test_drops_requests_a_snapshot_and_an_undo_give_the_tables_and_answers_of_one_server(
    fresh_database: Database, one_server: Database, tmp_path: Path
) -> None:
    live(fresh_database, tmp_path)
    live(one_server, tmp_path)
    with fresh_database.connect(autocommit=True) as many, one_server.connect(autocommit=True) as one:
        expected, found = tables(one), tables(many)
        for name, rows in expected.items():
            assert found[name] == rows, name
        assert all(len(rows) > 0 for rows in expected.values())
        asked, answered = answers(one), answers(many)
        for name, answer in asked.items():
            assert answered[name] == answer, name
        assert [(c.name, c.examples) for c in check(many) if not c.holds] == []


WRITES = (
    "31_keep_repeats", "32_discard_repeats", "34_name_unlisted", "40_append_ledger", "fast/insert_new_entities",
    "fast/insert_new_details", "50_splice_entities", "51_splice_details", "60_reopen_changes", "62_fold_entities",
    "63_fold_details", "70_delete_entities", "71_end_entities", "72_insert_entities", "73_delete_details",
    "74_end_details", "75_insert_details", "81_keep_effects",
)  # fmt: skip


@on_citus
@pytest.mark.citus
@pytest.mark.parametrize("name", WRITES)
def test_what_a_merge_writes_is_written_where_the_entities_are(connection: Connection, name: str) -> None:
    connection.execute(statement("merge/10_create_stage"))
    connection.execute(statement("merge/12_create_snapshot_stage"))
    values = {"batch_id": 1, "recorded_at": day(1), "drops_repeats": True}
    text = psycopg.ClientCursor(connection).mogrify(
        written_out(statement(f"merge/{name}"), has_values="%(" in statement(f"merge/{name}")), values
    )
    plan = "\n".join(str(line) for (line,) in connection.execute("explain (costs off) " + text.replace("%", "%%"), ()))
    assert f"Task Count: {SHARDS}" in plan, plan
    assert "Distributed Subplan" not in plan, plan
    assert "INSERT/SELECT method" not in plan, plan


@on_citus
@pytest.mark.citus
@pytest.mark.parametrize("name", ["entity_current", "entity_as_of", "history", "audit"])
def test_one_entity_is_read_on_the_machine_where_it_is(connection: Connection, name: str) -> None:
    values = {"entity_uid": uid("ada"), "as_of": day(1), "after_from": None, "after_code": "", "since": None}
    values |= {"after_batch": None, "after_row": None, "limit": 10, "offset": 0}
    asked = "explain (costs off) " + statement(f"query/{name}")
    plan = "\n".join(str(line) for (line,) in connection.execute(asked, values, prepare=False))
    assert re.findall(r"Task Count: (\d+)", plan) == ["1"], plan
    assert "Subplan" not in plan, plan


PEOPLE = 60
ASKED = 170  # times by each reader: more than 500 in all


def every_drop(database: Database, folder: Path, done: threading.Event) -> None:
    """Merge drops that rename everybody and give everybody a new address, one after the other, at most 400."""
    for number in range(400):
        if done.is_set():
            return
        name, email = f"drop{number}", f"drop{number}@x.org"
        rows = [an_entity(f"p {n}", at=number + 1, name=name, email=email) for n in range(PEOPLE)]
        with database.transaction() as connection:
            ingest_on(connection, write_drop(folder / f"{number}.csv", rows), Options())


@contextmanager
def drops_meanwhile(database: Database, folder: Path) -> Iterator[None]:
    """Merge one drop, and others as long as the block runs."""
    with database.transaction() as connection:
        reference_data(connection)
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(every_drop, database, folder, done)
        try:
            while not writer.done():
                with database.transaction() as connection:
                    if connection.execute("select count(*) from entity").fetchone() == (PEOPLE,):
                        break
                time.sleep(0.05)
            yield
        finally:
            done.set()
        writer.result(timeout=120)


@on_citus
@pytest.mark.citus
def test_of_five_hundred_reads_during_merges_none_sees_a_part_of_a_drop(
    fresh_database: Database, tmp_path: Path
) -> None:
    def listed(connection: Connection) -> Sequence[str]:
        return reads.entities(connection, reference_types(connection), limit=200).documents

    def as_of(connection: Connection) -> Sequence[str]:
        return reads.entities(connection, reference_types(connection), as_of=day(900), limit=200).documents

    def searched(connection: Connection) -> Sequence[str]:
        return [f"{hit.display_name} {hit.value}" for hit in search(connection, "drop", limit=200)]

    def ask(read: Callable[[Connection], Sequence[str]]) -> list[tuple[int, frozenset[str]]]:
        """How many answers there were each time, and of which drops."""
        with fresh_database.connect(autocommit=True) as connection:
            answers = [read(connection) for _ in range(ASKED)]
        return [(len(each), frozenset(re.findall(r"drop(\d+)", " ".join(each)))) for each in answers]

    with drops_meanwhile(fresh_database, tmp_path), ThreadPoolExecutor() as pool:
        seen = list(pool.map(ask, (listed, as_of, searched), timeout=400))
    for reads_of_one in seen:
        assert [(count, drops) for count, drops in reads_of_one if count != PEOPLE or len(drops) != 1] == []
        assert len({drops for _, drops in reads_of_one}) > 2, "it has read between the drops"


@on_citus
@pytest.mark.citus
def test_a_backup_taken_during_merges_is_restored_on_one_server_and_distributed_again(
    fresh_database: Database, servers: Servers, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "all.crm"
    with drops_meanwhile(fresh_database, tmp_path):
        taken = back_up(fresh_database, file)
    with servers.over(bundled_binaries()).clone("template1") as database:
        restored = restore(database, file)
        assert [(c.name, c.examples) for c in restored.checks if not c.holds] == []
        last = f"drop{taken.rows['public.batch'] - 1}"
        with database.connect(autocommit=True) as connection:
            names = connection.execute("select distinct display_name from entity where is_current").fetchall()
            assert names == [(last,)]
            assert connection.execute("select count(*) from ledger").fetchone() == (
                taken.rows["public.batch"] * PEOPLE,
            )
            before = connection.execute("select max(recorded_at) from batch").fetchone()
            with connection.transaction():
                rows = [an_entity("p 0", at=1000, name="of one server")]
                assert ingest_on(connection, write_drop(tmp_path / "next.csv", rows), Options()).status == "merged"
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("select from batch_to_stamp")
            expected = tables(connection)
        back_up(database, tmp_path / "one.crm")
    assert before
    assert isinstance(server, Cluster)
    with server.empty() as database:
        restore(database, tmp_path / "one.crm")
        *_, last = distribute(database, SHARDS)
        assert "distributed over" in last
        with database.connect(autocommit=True) as connection:
            assert tables(connection) == expected
            with connection.transaction():
                rows = [an_entity("p 0", at=1001, name="of several again")]
                assert ingest_on(connection, write_drop(tmp_path / "last.csv", rows), Options()).status == "merged"
            assert [(c.name, c.examples) for c in check(connection) if not c.holds] == []


@on_citus
@pytest.mark.citus
def test_the_commands_work_on_several_machines(fresh_database: Database, tmp_path: Path) -> None:
    def run(*words: str, exits: int = 0) -> str:
        said = CliRunner().invoke(crm, [*words], env={"CRM_DATABASE_URL": fresh_database.conninfo, "CRM_ACTOR": "ann"})
        assert said.exit_code == exits, (words, said.output, said.exception)
        return said.output

    live(fresh_database, tmp_path)
    few = write_drop(tmp_path / "few.csv", [an_entity("p 1", at=20, name="alone")])
    as_snapshot = ("--mode", "snapshot", "--scope", "PERSON", "--at", day(20).isoformat())
    assert "held" in run("ingest", "--json", *as_snapshot, str(few), exits=1)
    assert '"merged"' in run("approve", "--json", "few.csv")
    with fresh_database.connect(autocommit=True) as connection:
        types = reference_types(connection)
        assert reads.count_entities(connection, types) == 1
        assert '"undo"' in run("undo", "--json", "--reason", "wrong", "few.csv")
        assert reads.count_entities(connection, types) > 30
    assert "dry run" in run("undo", "--reinstate", "--dry-run", "--reason", "right", "few.csv")
    assert "held" in run("ingest", "--json", *as_snapshot, str(few), exits=1)
    assert "declined" in run("approve", "--decline", "--reason", "no", "few.csv")
    assert "✗" not in run("check")
    assert "entity_pkey" in run("explain")
    assert "revision" in run("migrate")
    run("migrate", "--sql")
    run("report", "--output", str(tmp_path / "report.html"))
    run("clean")
    assert "crm_" in run("token", "create", "loader", "--role", "writer")


@on_citus
@pytest.mark.citus
def test_the_api_works_on_several_machines(fresh_database: Database) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    with served(fresh_database) as client:
        whom = {
            "display_name": "Ada",
            "entity_type": "PERSON",
            "details": [{"detail_type": "email", "detail_value": "a@x"}],
        }
        made = client.post(ENTITIES, json=whom | {"change_ts": day(1).isoformat()})
        assert made.status_code == 201, made.text
        where = made.headers["Location"]
        etag = client.get(where).headers["ETag"]
        assert client.patch(where, json={"display_name": "Lovelace"}, headers={"If-Match": etag}).status_code == 200
        assert client.patch(where, json={"display_name": "Again"}, headers={"If-Match": etag}).status_code == 412
        preview = client.patch(
            where, params={"dry_run": "true"}, json={"display_name": "B", "change_ts": day(2).isoformat()}
        )
        assert preview.status_code == 200, preview.text
        lines = "".join(f'{{"op": "upsert", "display_name": "N{n}", "entity_type": "PERSON"}}\n' for n in range(3))
        many = client.post(f"{V1}/changes", content=lines, headers={"Content-Type": NDJSON})
        assert many.status_code in (200, 201), many.text
        assert client.get(ENTITIES, params={"q": "n"}).json()["count"] == 3
        assert client.delete(where).status_code == 204
        events = client.get(f"{V1}/changes", params={"after": ""}).json()["results"]
        of_ada = [event["op"] for event in events if event["entity_uid"] == where.rpartition("/")[2]]
        assert of_ada == ["upsert", "patch", "delete"]
        assert len(client.get(f"{where}/audit").json()["results"]) == 3


@on_citus
@pytest.mark.citus
def test_to_distribute_again_changes_nothing_and_a_migration_leaves_the_tables_where_they_are(
    fresh_database: Database,
) -> None:
    query = "select table_name::text, citus_table_type, colocation_id from citus_tables order by 1"
    with fresh_database.connect() as connection:
        before = connection.execute(query).fetchall()
    *_, last = distribute(fresh_database, SHARDS)
    assert "distributed over" in last
    assert migrate(fresh_database) == []
    with fresh_database.connect() as connection:
        connection.execute("update schema_routine set sha256 = ''")
        connection.commit()
    assert "routines/40_recording" in migrate(fresh_database)
    with fresh_database.connect() as connection:
        connection.execute("update schema_routine set sha256 = '' where name = 'spread/routines'")
        connection.commit()
        with pytest.raises(SchemaTooOld):
            require_schema(connection)
    assert "spread/routines" in migrate(fresh_database)
    assert migrate(fresh_database) == []
    with fresh_database.connect() as connection:
        assert connection.execute(query).fetchall() == before
        assert [(c.name, c.examples) for c in check(connection) if not c.holds] == []
    kinds = {str(name): str(kind) for name, kind, _ in before}
    assert {name for name, kind in kinds.items() if kind == "reference"} == {*WHOLE}
    assert {name for name, kind in kinds.items() if kind == "distributed"} == {*BY_ENTITY}


@on_citus
@pytest.mark.citus
def test_the_schema_of_several_machines_does_not_go_down(fresh_database: Database) -> None:
    with pytest.raises(DatabaseError, match="only goes up"):
        migrate(fresh_database, "-1")
