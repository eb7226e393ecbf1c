"""Search as somebody types: by names and details, the best matches first, also for one letter or two."""

from __future__ import annotations

import pytest
from builders import an_entity, reference_data, uid

from crm_core.postgres.connection import Connection
from crm_core.reading.search import search
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration]


@pytest.fixture
def people(any_connection: Connection) -> Connection:
    reference_data(any_connection)
    types = reference_types(any_connection)
    changes = [
        an_entity("ann", name="Ann Smith", email="ann@Smith.example", phone="+1 555 0100"),
        an_entity("smith", name="Smith", type_="INSTITUTION", address="12 High Street"),
        an_entity("smithers", name="SMITHERS & Sons", email="info@sons.example"),
        an_entity("bo", name="Bo", note="smith", website="https://bo.example"),
        an_entity("bob", name="bob", note="x" * 250 + "hidden"),
        an_entity("eve", name="Émile 100%", email="smith@eve.example"),
        an_entity("gone", name="Smith the Late", email="smith@gone.example"),
        an_entity("gone", at=2, op="delete"),
        an_entity("renamed", name="Smith Before", phone="777"),
        an_entity("renamed", at=2, name="After", phone=None),
    ]
    record(any_connection, types, changes, Origin("tester", "fixture"))
    return any_connection


def found(connection: Connection, text: str, limit: int = 20) -> list[tuple[str, str, str]]:
    return [(hit.display_name, hit.field, hit.match) for hit in search(connection, text, limit)]


def test_equal_comes_before_beginning_and_inside_and_names_before_details(people: Connection) -> None:
    expected = [
        ("Smith", "display_name", "exact"),
        ("Bo", "details.note", "exact"),
        ("SMITHERS & Sons", "display_name", "prefix"),
        ("Émile 100%", "details.email", "prefix"),
        ("Ann Smith", "display_name", "part"),
    ]
    for text in ("smith", "SMITH", "  Smith "):
        assert found(people, text) == expected, text
    for limit in (1, 3):
        assert found(people, "smith", limit) == expected[:limit]


def test_the_best_of_one_type_are_found_behind_better_ones_of_others(people: Connection) -> None:
    for text, code, expected in (
        ("smith", "PERSON", [("Bo", "details.note", "exact")]),
        ("smith", "INSTITUTION", [("Smith", "display_name", "exact")]),
        ("high street", "INSTITUTION", [("Smith", "details.address", "part")]),
        ("high street", "PERSON", []),
        ("S", "PERSON", [("SMITHERS & Sons", "display_name", "prefix")]),
        ("bo", "INSTITUTION", []),
    ):
        hits = search(people, text, 1, entity_type=code)
        assert [(hit.display_name, hit.field, hit.match) for hit in hits] == expected, (text, code)


def test_a_hit_says_who_and_by_what(people: Connection) -> None:
    (hit,) = search(people, "555 01")
    assert (hit.entity_uid, hit.display_name, hit.entity_type) == (uid("ann"), "Ann Smith", "PERSON")
    assert (hit.field, hit.value, hit.match) == ("details.phone", "+1 555 0100", "part")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("high st", ["Smith"]),
        ("SONS.EX", ["SMITHERS & Sons"]),
        ("émile", ["Émile 100%"]),
        ("ÉMILE 100%", ["Émile 100%"]),
        ("https://bo", ["Bo"]),
        ("100%", ["Émile 100%"]),
        ("smi_h", []),
        ("smi%h", []),
        ("nobody", []),
        ("777", []),
        ("before", []),
        ("late", []),
        ("hidden", []),
        ("", []),
        ("   ", []),
        ("b", ["Bo", "bob"]),
        ("B", ["Bo", "bob"]),
        ("bo", ["Bo", "bob"]),
        ("é", ["Émile 100%"]),
        ("zz", []),
        ("%", []),
    ],
)
def test_texts_find_what_is_now_and_nothing_else(people: Connection, text: str, names: list[str]) -> None:
    assert [name for name, _, _ in found(people, text)] == names


def test_a_short_text_that_is_a_whole_name_comes_first(people: Connection) -> None:
    assert found(people, "bob") == [("bob", "display_name", "exact")]
    assert found(people, "bo") == [("Bo", "display_name", "exact"), ("bob", "display_name", "prefix")]


def test_the_index_of_parts_finds_the_same_as_the_tables_themselves(people: Connection) -> None:
    texts = ("smith", "example", "street", "555", "ann")
    each = []
    for setting in ("enable_seqscan", "enable_bitmapscan"):
        people.execute(f"set local {setting} = off".encode())
        each.append([found(people, text) for text in texts])
        people.execute(f"set local {setting} = on".encode())
    assert each[0] == each[1]
    assert all(each[0])
