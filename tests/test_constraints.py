"""The database refuses what would make a timeline untrue, whoever writes it; each constraint by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import psycopg
import pytest
from builders import reference_data

from crm_core.database import Connection

pytestmark = [pytest.mark.integration, pytest.mark.constraints]

UID = "00000000-0000-0000-0000-00000000000a"
HASH = b"\x01" * 32
ENTITY = (
    "insert into entity"
    " (entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, next_from, is_current)"
    " values (%(uid)s, %(name)s, %(type)s, %(hash)s, %(from)s, %(to)s, %(next)s, %(current)s)"
)
DETAIL = (
    "insert into entity_detail"
    " (entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, next_from, is_current)"
    " values (%(uid)s, %(type)s, %(name)s, %(hash)s, %(from)s, %(to)s, %(next)s, %(current)s)"
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
    "next": None,
    "current": False,
}
OPEN = CLOSED | {"from": "2024-02-01", "to": None, "current": True}
ASSERTED = {"uid": UID, "from": "2024-01-01", "op": "upsert", "name": "Ada", "type": 1, "details": "{}"}


@pytest.fixture
def tables(any_connection: Connection) -> Connection:
    reference_data(any_connection)
    (entity_type,) = any_connection.execute("select min(entity_type_id) from entity_type").fetchone() or ()
    (detail_type,) = any_connection.execute("select min(detail_type_id) from detail_type").fetchone() or ()
    any_connection.execute("update entity_type set entity_type_id = 1 where entity_type_id = %s", (entity_type,))
    any_connection.execute("update detail_type set detail_type_id = 1 where detail_type_id = %s", (detail_type,))
    return any_connection


@pytest.mark.parametrize("insert", [ENTITY, DETAIL], ids=["entity", "entity_detail"])
def test_versions_that_meet_and_versions_with_a_gap_are_accepted(tables: Connection, insert: str) -> None:
    tables.execute(insert, CLOSED | {"next": OPEN["from"]})
    tables.execute(insert, CLOSED | {"from": "2023-01-01", "to": "2023-06-01", "next": CLOSED["from"]})
    tables.execute(insert, OPEN)
    tables.execute("set constraints all immediate")


@pytest.mark.parametrize(("insert", "table"), [(ENTITY, "entity"), (DETAIL, "entity_detail")])
@pytest.mark.parametrize(
    ("second", "constraint"),
    [
        (OPEN, "pkey"),
        (OPEN | {"from": "2024-03-01"}, "one_last"),
        (CLOSED | {"from": "2024-03-01", "to": "2024-04-01"}, "one_last"),
        (CLOSED | {"to": "2024-02-15", "next": OPEN["from"]}, "no_overlap"),
        (CLOSED | {"next": "2024-02-02"}, "next_exists"),
        (OPEN | {"from": "2024-01-01", "next": OPEN["from"]}, "no_overlap"),
    ],
)
def test_a_second_truth_at_one_instant_is_refused(
    tables: Connection, insert: str, table: str, second: dict[str, object], constraint: str
) -> None:
    tables.execute("set constraints all immediate")
    tables.execute(insert, OPEN)
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        tables.execute(insert, second)
    assert refusal.value.diag.constraint_name == f"{table}_{constraint}"


@pytest.mark.parametrize("insert", [ENTITY, DETAIL], ids=["entity", "entity_detail"])
def test_of_all_sets_of_up_to_three_versions_just_the_chains_are_accepted(tables: Connection, insert: str) -> None:
    """Accepted is what is sorted, does not overlap, and where each version names the next: all sets are tried."""
    days = ("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04")
    by_start = [
        [CLOSED | {"from": start, "to": end, "next": next_, "current": end is None} for end, next_ in ends]
        for start in days[:3]
        for ends in [list(product([*days[days.index(start) + 1 :], None], [*days[:3], None]))]
    ]
    accepted = 0
    for number in (1, 2, 3):
        for starts in combinations(by_start, number):
            for versions in product(*starts):
                followers = [*(version["from"] for version in versions[1:]), None]
                is_chain = all(
                    version["next"] == follower and (follower is None or (version["to"] or "9999") <= follower)
                    for version, follower in zip(versions, followers, strict=True)
                )
                assert is_accepted(tables, insert, versions) == is_chain, versions
                accepted += is_chain
    assert accepted > 10


def is_accepted(connection: Connection, insert: str, versions: Sequence[Mapping[str, object]]) -> bool:
    """Whether the constraints take these versions together; nothing of them stays."""
    try:
        with connection.transaction(force_rollback=True):
            for version in versions:
                connection.execute(insert, version)
            connection.execute("set constraints all immediate")
    except psycopg.errors.IntegrityError:
        return False
    return True


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


def test_no_long_value_overflows_an_index(tables: Connection) -> None:
    long = "".join(chr(0x4E00 + number % 20_000) for number in range(20_000))  # does not compress below 2,704 bytes
    tables.execute(ENTITY, OPEN | {"name": long})
    tables.execute(DETAIL, OPEN | {"name": long})


def test_every_constraint_and_index_has_a_name_of_its_own(tables: Connection) -> None:
    generated = tables.execute(
        "select conrelid::regclass, conname from pg_constraint join pg_class on pg_class.oid = conrelid"
        " where relnamespace = 'public'::regnamespace and contype <> 'n'"
        " and conname ~ '(_check\\d*|_fkey\\d*|_excl\\d*)$'"
    ).fetchall()
    assert generated == []
