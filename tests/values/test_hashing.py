from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_args
from uuid import RFC_4122

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.model import Compares
from crm_core.postgres.connection import Database
from crm_core.values.hashing import (
    case_folding,
    compared_form,
    derived_uid,
    derived_uids,
    detail_hashdiff,
    entity_hashdiff,
    folded_forms,
    hashdiff,
    key_uid,
    key_uids,
    normal_form,
    normal_forms,
    stored_form,
)

PERSIAN = "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"  # a name that needs what is between its letters
EVERY_CHARACTER = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]


@dataclass(frozen=True, slots=True)
class EntityVector:
    display_name: str  # as it comes in
    entity_type: str
    stored: str
    hashdiff: str


@dataclass(frozen=True, slots=True)
class DetailVector:
    detail_type: str
    detail_value: str  # as it comes in
    compares: Compares
    stored: str
    hashdiff: str


VECTORS = json.loads((Path(__file__).parent / "hash_vectors.json").read_text())
ENTITIES = [EntityVector(**vector) for vector in VECTORS["entities"]]
DETAILS = [DetailVector(**vector) for vector in VECTORS["details"]]


@pytest.mark.unit
@pytest.mark.parametrize("vector", ENTITIES)
def test_one_row_gives_the_published_entity_hash(vector: EntityVector) -> None:
    assert normal_form(vector.display_name) == vector.stored
    assert entity_hashdiff(vector.stored, vector.entity_type).hex() == vector.hashdiff


@pytest.mark.unit
@pytest.mark.parametrize("vector", DETAILS)
def test_one_row_gives_the_published_detail_hash(vector: DetailVector) -> None:
    assert stored_form(vector.detail_value, vector.compares) == vector.stored
    assert detail_hashdiff(vector.detail_type, vector.stored, vector.compares).hex() == vector.hashdiff


@pytest.mark.unit
def test_whole_columns_give_the_published_entity_hashes() -> None:
    frame = pl.DataFrame(ENTITIES)
    assert normal_forms(frame["display_name"]).to_list() == frame["stored"].to_list()
    assert (
        frame.select(hashdiff(pl.col("stored"), pl.col("entity_type"))).to_series().to_list()
        == frame["hashdiff"].to_list()
    )


@pytest.mark.unit
@pytest.mark.parametrize("compares", get_args(Compares))
def test_whole_columns_give_the_published_detail_hashes(compares: Compares) -> None:
    frame = pl.DataFrame([vector for vector in DETAILS if vector.compares == compares])
    compared = folded_forms(frame["stored"]) if compares == "casefold" else frame["stored"]
    found = frame.select(hashdiff(pl.col("detail_type"), pl.lit(compared))).to_series()
    assert found.to_list() == frame["hashdiff"].to_list()


@pytest.mark.unit
def test_one_row_and_whole_columns_give_the_published_uids() -> None:
    for vector in VECTORS["uids"]:
        uid = derived_uid(bytes.fromhex(vector["entity"]), [bytes.fromhex(digest) for digest in vector["details"]])
        assert str(uid) == vector["entity_uid"]
        assert (uid.version, uid.variant) == (8, RFC_4122)
    frame = pl.DataFrame({"hashdiffs": [vector["entity"] + "".join(vector["details"]) for vector in VECTORS["uids"]]})
    assert frame.select(derived_uids(pl.col("hashdiffs"))).to_series().to_list() == [
        vector["entity_uid"] for vector in VECTORS["uids"]
    ]


@pytest.mark.unit
def test_one_row_and_whole_columns_give_the_published_uids_of_keys() -> None:
    for vector in VECTORS["keys"]:
        assert normal_form(vector["source_key"]) == vector["stored"]
        uid = key_uid(vector["source"], vector["stored"])
        assert str(uid) == vector["uid"]
        assert (uid.version, uid.variant) == (8, RFC_4122)
    frame = pl.DataFrame(VECTORS["keys"])
    found = frame.select(key_uids(pl.col("source"), pl.col("stored"))).to_series()
    assert found.to_list() == frame["uid"].to_list()
    nothing = pl.DataFrame({"source": ["erp", None], "stored": [None, "1"]}, {"source": pl.String, "stored": pl.String})
    assert nothing.select(key_uids(pl.col("source"), pl.col("stored"))).to_series().to_list() == [None, None]


@pytest.mark.integration
def test_sql_gives_the_published_uids_of_keys(any_database: Database) -> None:
    with any_database.connect() as connection:
        for vector in VECTORS["keys"]:
            row = connection.execute("select key_uid(%s, %s)::text", (vector["source"], vector["stored"])).fetchone()
            assert row == (vector["uid"],)


@pytest.mark.integration
def test_sql_gives_the_published_hashes(any_database: Database) -> None:
    with any_database.connect() as connection:
        for entity in ENTITIES:
            row = connection.execute(
                "select encode(entity_hashdiff(%s, %s), 'hex')", (entity.stored, entity.entity_type)
            ).fetchone()
            assert row == (entity.hashdiff,)
        for detail in DETAILS:
            row = connection.execute(
                "select encode(detail_hashdiff(%s, %s, %s), 'hex')",
                (detail.detail_type, detail.stored, detail.compares),
            ).fetchone()
            assert row == (detail.hashdiff,)


@pytest.mark.integration
def test_sql_folds_every_character_as_python_does(any_database: Database) -> None:
    with any_database.connect() as connection:
        row = connection.execute(
            "select array_agg(case_folded(character) order by ordinal)"
            " from unnest(%s::text[]) with ordinality as given(character, ordinal)",
            (EVERY_CHARACTER,),
        ).fetchone()
    assert row is not None
    assert row[0] == [compared_form(character, "casefold") for character in EVERY_CHARACTER]


@pytest.mark.integration
def test_sql_may_hash_in_indexes_and_parallel_plans(any_database: Database) -> None:
    with any_database.connect() as connection:
        functions = connection.execute(
            "select proname, provolatile, proparallel from pg_proc"
            " where proname in ('hashdiff', 'entity_hashdiff', 'detail_hashdiff', 'case_folded') order by 1"
        ).fetchall()
    assert [name for name, _, _ in functions] == ["case_folded", "detail_hashdiff", "entity_hashdiff", "hashdiff"]
    assert {(volatile, parallel) for _, volatile, parallel in functions} == {("i", "s")}


@pytest.mark.unit
def test_polars_treats_every_character_as_python_does() -> None:
    column = pl.Series(EVERY_CHARACTER)
    assert normal_forms(column).to_list() == [normal_form(character) for character in EVERY_CHARACTER]
    assert folded_forms(column).to_list() == [compared_form(character, "casefold") for character in EVERY_CHARACTER]


@pytest.mark.unit
def test_the_folding_is_frozen() -> None:
    """A digest of the table: a Python that folds otherwise would part old hashes from new ones."""
    assert sha256(repr(sorted(case_folding().items())).encode()).hexdigest() == (
        "f6778300bd2b6d6f4d18aa5d326f4e79b7427a0a4a914307e605f5a40b2b8418"
    )


@pytest.mark.unit
def test_folding_twice_is_folding_once() -> None:
    assert not {ord(folded_to) for folded_to in case_folding().values()} & case_folding().keys()


composing = st.sampled_from(" \t\u00a0\u0301\u0308eE\u0130\u0131\u00df\u1e9e\u03a3\u03c2\u1100\u1161\u11a8\u0345")
unseen = st.sampled_from(
    "\u200b\u200c\u200d\ufe0f\ufe0e\ufeff\xad\u034f\u3164\u2060\U000e0067\U000e007f\U000e0100"  # never seen
    "\u2764\U0001f469\U0001f3fd\U0001f3f4\u20e31<\u0338\u09b0\u09cd\u093c\u0628"  # what they may belong to
)
awkward = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), composing, unseen, unseen))


@pytest.mark.unit
def test_a_hashdiff_is_the_sha_256_of_length_prefixed_fields() -> None:
    assert entity_hashdiff("Zoë", "PERSON") == sha256("4:Zoë6:PERSON".encode()).digest()
    assert (
        detail_hashdiff("email", "Zoë@example.ORG", "casefold") == sha256("5:email16:zoë@example.org".encode()).digest()
    )


@pytest.mark.unit
@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), awkward)))
def test_python_and_polars_agree_on_any_text(values: list[str | None]) -> None:
    frame = pl.DataFrame({"value": values}, schema={"value": pl.String})
    normal = normal_forms(frame["value"])
    assert normal.to_list() == [None if value is None else normal_form(value) for value in values]
    hashes = normal.to_frame().select(hashdiff(pl.lit("email"), pl.lit(folded_forms(normal))), pl.col("value"))
    for digest, value in hashes.iter_rows():
        if value is not None:
            assert digest == detail_hashdiff("email", value, "casefold").hex()


@pytest.mark.unit
@given(awkward)
def test_the_normal_form_of_a_normal_form_is_itself(value: str) -> None:
    normal = normal_form(value)
    assert normal is None or normal_form(normal) == normal


@pytest.mark.unit
@pytest.mark.parametrize("value", VECTORS["missing"])
def test_nothing_that_is_seen_is_missing(value: str) -> None:
    assert normal_form(value) is None
    assert normal_forms(pl.Series([value, "x"])).to_list() == [None, "x"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("\ufeffBea Zwei", "Bea Zwei"),
        ("Vera\u200b Voll\u200b", "Vera Voll"),
        ("Ve\xadra \u2060 Voll", "Vera Voll"),
        ("Jose\u034f\u0301", "José"),
        ("\u202eevil\u202c", "evil"),
        (f"{PERSIAN}\u200c", PERSIAN),
        (PERSIAN.replace("\u200c", "\u200c\u200c"), PERSIAN),
        (
            "\u0d05\u0d35\u0d28\u0d4d\u200d\u0d2e \u200d",
            "\u0d05\u0d35\u0d28\u0d4d\u200d\u0d2e",
        ),  # after a mark of its letter
        ("5\u200d\u200c5", "55"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("a\ufe0f", "a"),
        ("1\ufe0f\u20e3 5\ufe0f", "1\ufe0f\u20e3 5"),
        ("👩\u200d👩\u200d👧\u200d", "👩\u200d👩\u200d👧"),
        ("👩🏽\u200d⚕\ufe0f", "👩🏽\u200d⚕\ufe0f"),
        ("🏳\ufe0f\u200d🌈", "🏳\ufe0f\u200d🌈"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("🏴\U000e0067\U000e0062", "🏴"),
        ("x\U000e0067\U000e007f", "x"),
        ("渡\U000e0100", "渡"),
        ("a\u200d👩", "a👩"),
    ],
)
def test_what_is_never_seen_goes_unless_letters_or_emoji_need_it(given: str, stored: str) -> None:
    assert normal_form(given) == stored
    assert normal_forms(pl.Series([given])).to_list() == [stored]
    assert stored_form(given, "exact") == given


@pytest.mark.unit
@given(st.tuples(awkward, awkward), st.tuples(awkward, awkward))
def test_different_fields_have_different_hashes(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (entity_hashdiff(*one) == entity_hashdiff(*other)) == (one == other)
