# ruff: noqa: RUF001  # the names are of many languages, and so are their letters
"""A part of a name is found in any case: by the same answers under every locale, with the index and without it."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

import psycopg
import pytest
from builders import an_entity, day, reference_data
from servers import Server

from crm_core.drops.undo import undo_batch
from crm_core.postgres.connection import Connection
from crm_core.postgres.migrations import migrate
from crm_core.reading import known, reads
from crm_core.reading.lists import Filter
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record
from crm_core.timeline.undo import Who

pytestmark = [pytest.mark.integration]

NAMES = (
    "İSTANBUL ŞTİ", "ISPARTA", "ışık", "Émile Zola", "STRASSE", "Straße", "ΣΊΣΥΦΟΣ", "Σίσυφος", "ЖУКОВ", "Nguyễn Thị",
    "佐藤 花子", "100% Juice", "Snake_case", "ǅungla", "ᲛᲗᲐᲕᲠᲣᲚᲘ",
    "\u212aelvin \u017fmith", "Rq\u0307o", "GRO\u1e9e",
)  # fmt: skip
ANSWERS = {
    "istanbul": {"İSTANBUL ŞTİ"}, "ISTANBUL": {"İSTANBUL ŞTİ"}, "İstanbul": {"İSTANBUL ŞTİ"},
    "i\u0307stanbul": {"İSTANBUL ŞTİ"}, "şt": {"İSTANBUL ŞTİ"}, "ŞT": {"İSTANBUL ŞTİ"},
    "isparta": {"ISPARTA"}, "ısparta": {"ISPARTA"}, "IŞIK": {"ışık"}, "ışık": {"ışık"},
    "émile": {"Émile Zola"}, "ÉMILE": {"Émile Zola"}, "E\u0301MILE": {"Émile Zola"}, "emile": set(),
    "STRAßE": {"STRASSE", "Straße"}, "strasse": {"STRASSE", "Straße"},
    "σίσυφος": {"ΣΊΣΥΦΟΣ", "Σίσυφος"}, "ΣΊΣΥΦΟΣ": {"ΣΊΣΥΦΟΣ", "Σίσυφος"}, "жук": {"ЖУКОВ"}, "Жук": {"ЖУКОВ"},
    "NGUYỄN": {"Nguyễn Thị"}, "thị": {"Nguyễn Thị"}, "佐藤": {"佐藤 花子"}, "花": {"佐藤 花子"}, "0%": {"100% Juice"},
    "e_c": {"Snake_case"}, "ǆUN": {"ǅungla"}, "მთავ": {"ᲛᲗᲐᲕᲠᲣᲚᲘ"}, "  zola ": {"Émile Zola"},
    "le\u00a0 zo": {"Émile Zola"}, "kelvin smith": {"\u212aelvin \u017fmith"}, "RQO": {"Rq\u0307o"},
    "gross": {"GRO\u1e9e"},
}  # fmt: skip
LOCALES = {
    "C": "lc_collate 'C' lc_ctype 'C'",
    "C.UTF-8": "lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8'",
    "Turkish": "lc_collate 'C' lc_ctype 'C' locale_provider icu icu_locale 'tr-TR'",
    "builtin": "locale_provider builtin builtin_locale 'C.UTF-8'",
}
numbers = count(1)


@pytest.fixture(scope="module", params=LOCALES)
def named(any_server: Server, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A database of a locale in which there are some names."""
    database = f"locale_{next(numbers)}"
    try:
        any_server.run(f"create database {{}} template template0 encoding 'UTF8' {LOCALES[request.param]}", database)
    except psycopg.Error as error:
        pytest.skip(f"this server has no such locale: {error}")
    try:
        migrate(any_server.database(database))
        with any_server.database(database).connect() as connection:
            reference_data(connection)
            types = reference_types(connection)
            changes = [an_entity(name, at=1, name=name) for name in NAMES]
            changes += [an_entity(f"one of many {n}", at=1, name=f"Nobody {n}") for n in range(2_000)]
            record(connection, types, changes, Origin("tester", "fixture"))
            connection.commit()
            connection.execute("analyze entity")
            yield connection
    finally:
        any_server.run("drop database {} with (force)", database)


def found(connection: Connection, part: str, **at: Any) -> set[str]:
    page = reads.entities(connection, reference_types(connection), Filter(name_contains=part), limit=50, **at)
    return {json.loads(document)["display_name"] for document in page.documents}


@pytest.mark.parametrize("way", ["enable_seqscan", "enable_bitmapscan"])
def test_any_case_finds_a_name_under_every_locale(named: Connection, way: str) -> None:
    named.execute(f"set {way} = off".encode())
    try:
        assert {part: found(named, part) for part in ANSWERS} == ANSWERS
    finally:
        named.execute(f"reset {way}".encode())


def test_the_past_is_searched_in_the_same_way(named: Connection) -> None:
    assert {part: found(named, part, as_of=day(2)) for part in ANSWERS} == ANSWERS


@pytest.mark.parametrize("few", [0, 1_000])
def test_what_was_known_is_searched_in_the_same_way_however_many_have_such_a_name(
    named: Connection, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MOST_CALLED", few)
    assert {part: found(named, part, as_of=day(2), known_at=day(99_999)) for part in ANSWERS} == ANSWERS


@pytest.mark.parametrize("few", [0, 1_000])
def test_a_name_that_was_corrected_or_undone_since_is_found_as_it_was_known(
    any_connection: Connection, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MOST_CALLED", few)
    connection, origin = any_connection, Origin("tester", "fixture")
    reference_data(connection)
    types, moments = reference_types(connection), list[datetime]()

    def remember() -> None:
        moments.extend(at for (at,) in connection.execute("select max(recorded_at) from batch"))

    for change in (
        an_entity("a", at=1, name="Wrong"),
        an_entity("a", at=1, name="Right"),
        an_entity("b", at=1, name="Wrong too"),
    ):
        last = record(connection, types, [change], origin)
        remember()
    undo_batch(connection, last.batch_id, "undo", Who("tester", "it was wrong"))
    remember()
    known_then = [found(connection, "wrong", as_of=day(2), known_at=at) for at in moments]
    assert known_then == [{"Wrong"}, set(), {"Wrong too"}, set()]


def test_names_are_in_the_order_of_their_code_points_under_every_locale(named: Connection) -> None:
    types = reference_types(named)
    documents = reads.entities(named, types, limit=3_000).documents
    names = [json.loads(document)["display_name"] for document in documents]
    assert names == sorted(names)
    walked: list[str] = []
    after = None
    while True:
        page = reads.entities(named, types, after=after, limit=200)
        walked += page.documents
        if (after := page.next) is None:
            break
    assert tuple(walked) == documents


def test_the_search_form_knows_every_letter_that_python_folds(named: Connection) -> None:
    letters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000 and code]
    cased = [
        (letter, other)
        for letter in letters
        if unicodedata.category(letter) != "Cn"
        for other in {letter.lower(), letter.upper()}
        if other != letter and len(other) == 1 and unicodedata.normalize("NFC", other) == other
    ]
    rows = named.execute(
        "select letter, other from unnest(%s::text[], %s::text[]) as pair (letter, other)"
        " where search_form(letter) <> search_form(other)",
        ([letter for letter, _ in cased], [other for _, other in cased]),
    ).fetchall()
    assert len(cased) > 2_000
    assert rows == []


def test_names_of_emoji_and_typographic_marks_are_searched_as_fast_as_others(connection: Connection) -> None:
    for name in ("😀" * 500, "O’Neil – “x” " * 35):
        started = time.monotonic()
        connection.execute("select search_form(%s || n) from generate_series(1, 500) n", [name])
        assert time.monotonic() - started < 1, name
