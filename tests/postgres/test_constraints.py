"""The database refuses any write that would make a timeline untrue; each constraint by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise, permutations
from threading import Barrier

import psycopg
import pytest
from builders import reference_data

from crm_core.postgres.connection import Connection, Database

pytestmark = [pytest.mark.integration, pytest.mark.constraints]

UID = "00000000-0000-0000-0000-00000000000a"
HASH = b"\x01" * 32
ENTITY = (
    "insert into entity"
    " (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, is_current)"
    " values (%(uid)s, %(name)s, %(type)s, %(hash)s, %(from)s, %(to)s, %(current)s)"
)
DETAIL = (
    "insert into entity_detail"
    " (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, is_current)"
    " values (%(uid)s, %(type)s, %(name)s, %(hash)s, %(from)s, %(to)s, %(current)s)"
)
LEDGER = (
    "insert into ledger (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details)"
    " values (%(uid)s, %(from)s, 1, 1, %(op)s, %(name)s, %(type)s, %(details)s)"
)
CLOSED = {
    "uid": UID,
    "name": "Ada",
    "type": 1,
    "hash": HASH,
    "from": "2024-01-01",
    "to": "2024-02-01",
    "current": False,
}
OPEN = CLOSED | {"from": "2024-02-01", "to": None, "current": True}
ASSERTED = {"uid": UID, "from": "2024-01-01", "op": "upsert", "name": "Ada", "type": 1, "details": "{}"}


def with_types_one(connection: Connection) -> Connection:
    """Load the types, one of each with the id 1."""
    reference_data(connection)
    connection.execute("update entity_type set entity_type_id = 1 where code = 'PERSON'")
    connection.execute("update detail_type set detail_type_id = 1 where code = 'email'")
    return connection


@pytest.fixture
def tables(any_connection: Connection) -> Connection:
    return with_types_one(any_connection)


NO_OVERLAP = {ENTITY: "exclude_overlapping_entities", DETAIL: "exclude_overlapping_details"}
ONE_CURRENT = {ENTITY: "unique_current_entity", DETAIL: "unique_current_entity_detail"}
BOTH = pytest.mark.parametrize("insert", [ENTITY, DETAIL], ids=["entity", "entity_detail"])


@BOTH
@pytest.mark.parametrize(
    "second",
    [
        CLOSED | {"from": "2023-01-01", "to": "2023-06-01"},
        CLOSED | {"from": "2023-01-01", "to": CLOSED["from"]},
        CLOSED | {"from": CLOSED["to"], "to": "2025-01-01"},
        CLOSED | {"from": "2024-06-01", "to": "2025-01-01"},
        OPEN,
    ],
    ids=["before", "meets", "met by", "after", "open, met by"],
)
def test_a_version_beside_another_is_accepted(tables: Connection, insert: str, second: dict[str, object]) -> None:
    tables.execute(insert, CLOSED)
    tables.execute(insert, second)


@BOTH
@pytest.mark.parametrize(
    "second",
    [
        CLOSED | {"from": "2023-12-01", "to": "2024-01-02"},
        CLOSED | {"from": "2023-12-01"},
        CLOSED | {"from": "2023-12-01", "to": "2025-01-01"},
        CLOSED | {"to": "2024-01-15"},
        CLOSED,
        CLOSED | {"to": "2025-01-01"},
        CLOSED | {"from": "2024-01-15", "to": "2024-01-20"},
        CLOSED | {"from": "2024-01-15"},
        CLOSED | {"from": "2024-01-15", "to": "2025-01-01"},
        OPEN | {"from": "2024-01-31"},
        OPEN | {"from": "2023-01-01"},
    ],
    ids=[
        "overlaps",
        "finished by",
        "contains",
        "starts",
        "equals",
        "started by",
        "during",
        "finishes",
        "overlapped by",
        "open from within",
        "open from before",
    ],
)
def test_a_version_that_overlaps_another_is_refused(tables: Connection, insert: str, second: dict[str, object]) -> None:
    table = "entity" if insert is ENTITY else "entity_detail"
    tables.execute(insert, CLOSED)
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        tables.execute(insert, second)
    expected = f"{table}_pkey" if second["from"] == CLOSED["from"] else NO_OVERLAP[insert]
    assert refusal.value.diag.constraint_name == expected


@BOTH
def test_a_second_current_version_is_refused(tables: Connection, insert: str) -> None:
    tables.execute(
        f"alter table {'entity' if insert is ENTITY else 'entity_detail'} drop constraint {NO_OVERLAP[insert]}"
    )
    tables.execute(insert, OPEN)
    with pytest.raises(psycopg.errors.UniqueViolation) as refusal:
        tables.execute(insert, OPEN | {"from": "2024-03-01"})
    assert refusal.value.diag.constraint_name == ONE_CURRENT[insert]


@BOTH
def test_of_all_sets_of_up_to_three_versions_just_those_that_do_not_overlap_are_accepted(
    tables: Connection, insert: str
) -> None:
    days = ("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04")
    intervals = [
        CLOSED | {"from": start, "to": end, "current": end is None}
        for place, start in enumerate(days[:3])
        for end in [*days[place + 1 :], None]
    ]
    accepted = 0
    for number in (1, 2, 3):
        for versions in combinations(intervals, number):
            is_apart = all(
                str(one["to"] or "9999") <= str(other["from"]) or str(other["to"] or "9999") <= str(one["from"])
                for one, other in combinations(versions, 2)
            )
            for order in permutations(versions):
                assert is_accepted(tables, insert, order) == is_apart, order
            accepted += is_apart
    assert accepted > 10


def is_accepted(connection: Connection, insert: str, versions: Sequence[Mapping[str, object]]) -> bool:
    """Return whether the constraints take these versions together; nothing of them stays."""
    try:
        with connection.transaction(force_rollback=True):
            for version in versions:
                connection.execute(insert, version)
    except psycopg.errors.IntegrityError:
        return False
    return True


@BOTH
def test_two_who_write_by_hand_at_once_cannot_overlap(any_fresh_database: Database, insert: str) -> None:
    with any_fresh_database.connect() as connection:
        with_types_one(connection)
    started = Barrier(8)

    def write(start: int) -> bool:
        with any_fresh_database.connect() as connection:
            started.wait(timeout=30)
            try:
                connection.execute(insert, CLOSED | {"from": f"2024-01-{start:02}", "to": f"2024-01-{start + 4:02}"})
                connection.commit()
            except psycopg.errors.IntegrityError:
                return False
            except psycopg.errors.DeadlockDetected:  # the server ends one of those who wait for each other
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(1, 9)))
    assert any(done)
    with any_fresh_database.connect() as connection:
        entities = connection.execute("select valid_from, valid_to from entity order by 1").fetchall()
        details = connection.execute("select valid_from, valid_to from entity_detail order by 1").fetchall()
    versions = entities or details
    assert len(versions) == sum(done)
    assert all(end <= start for (_, end), (start, _) in pairwise(versions))


@pytest.mark.parametrize("insert", [ENTITY, DETAIL], ids=["entity", "entity_detail"])
@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"current": True}, "current_is_open"),
        ({"to": None}, "current_is_open"),
        ({"to": "2024-01-01"}, "not_empty"),
        ({"to": "2023-01-01"}, "not_empty"),
        ({"from": "-infinity"}, "finite"),
        ({"to": "infinity"}, "finite"),
        ({"hash": b"\x01" * 31}, "hashed"),
        ({"type": 99}, "has_a_type"),
    ],
)
def test_a_version_that_cannot_be_is_refused(
    tables: Connection, insert: str, change: dict[str, object], constraint: str
) -> None:
    table = "entity" if insert is ENTITY else "entity_detail"
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        tables.execute(insert, CLOSED | change)
    assert refusal.value.diag.constraint_name == f"{table}_{constraint}"


@pytest.mark.parametrize(
    ("statement", "values", "constraint"),
    [
        (ENTITY, CLOSED | {"name": ""}, "entity_named"),
        (DETAIL, CLOSED | {"name": ""}, "entity_detail_valued"),
        (ENTITY, CLOSED | {"name": "x" * 501}, "entity_name_length"),
        (DETAIL, CLOSED | {"name": "x" * 100_001}, "entity_detail_value_length"),
        (LEDGER, ASSERTED | {"op": "merge"}, "ledger_op_known"),
        (LEDGER, ASSERTED | {"from": "infinity"}, "ledger_finite"),
        (LEDGER, ASSERTED | {"name": None}, "ledger_upsert_is_complete"),
        (LEDGER, ASSERTED | {"op": "delete"}, "ledger_delete_is_bare"),
        (LEDGER, ASSERTED | {"details": "[]"}, "ledger_details_are_an_object"),
        ("insert into entity_type (code, name) values ('person', 'x')", {}, "entity_type_code"),
        ("insert into entity_type (code, name) values ('a b', 'x')", {}, "entity_type_code_is_plain"),
        ("insert into detail_type (code, name) values ('EMAIL', 'x')", {}, "detail_type_code"),
        ("insert into detail_type (code, name) values ('', 'x')", {}, "detail_type_code_is_plain"),
        (
            "insert into detail_type (code, name, compares) values ('x', 'x', 'lower')",
            {},
            "detail_type_compares_known",
        ),
        ("insert into reject values (repeat('a', 64), 1, '{x}', '')", {}, "reject_of_a_drop"),
        (
            "insert into batch (recorded_at, actor, source) values (now(), 'x', 'drop')",
            {},
            "batch_from_a_drop",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_each_other_constraint_refuses_what_it_names(
    tables: Connection, statement: str, values: dict[str, object], constraint: str
) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        tables.execute(statement, values)
    assert refusal.value.diag.constraint_name == constraint


def test_the_books_of_a_merged_drop_must_balance(tables: Connection) -> None:
    unbalanced = (
        "insert into drop_file (sha256, file_name, bytes, first_seen_at, status, merged_at, batch_id, rows_read,"
        " rows_accepted, rows_changed) values (repeat('a', 64), 'x.csv', 1, now(), 'merged', now(), 1, 2, 1, 1)"
    )
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        tables.execute(unbalanced)
    assert refusal.value.diag.constraint_name == "drop_file_read_balances"


def test_the_longest_name_and_value_fit_into_every_index(tables: Connection) -> None:
    tables.execute(ENTITY, OPEN | {"name": "".join(chr(0x20000 + number) for number in range(500))})
    tables.execute(DETAIL, OPEN | {"name": "".join(chr(0x4E00 + number % 20_000) for number in range(33_333))})


def test_every_constraint_and_index_has_a_name_of_its_own(tables: Connection) -> None:
    generated = tables.execute(
        "select conrelid::regclass, conname from pg_constraint join pg_class on pg_class.oid = conrelid"
        " where relnamespace = 'public'::regnamespace and contype <> 'n'"
        " and conname ~ '(_check\\d*|_fkey\\d*|_excl\\d*)$'"
    ).fetchall()
    assert generated == []
