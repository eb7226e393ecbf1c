"""What spread.py and written_out.py change for Citus by patterns and by names is still there to be changed.

This needs no cluster. Where a statement changed that has another form in sql/spread, its digest differs: change the
form too, run test_distribution.py on a cluster, and then write the new digests with CRM_TEST_WRITE_GOLDEN=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from crm_core.postgres import spread
from crm_core.postgres import written_out as writing
from crm_core.postgres.schema_version import routines
from crm_core.postgres.written_out import definitions, readers, written_out
from crm_core.resources import SQL, statement

pytestmark = pytest.mark.unit

DIGESTS = Path(__file__).parents[1] / "golden" / "forms_for_citus.json"
ROUTINES = {each.name: "\n".join(definitions(each.text)) for each in routines()}
ALL = "".join(ROUTINES.values())
BODIES = {name: reader.body for name, reader in readers().items()}
# Routines of which sql/spread/routines.sql has another form.
OTHER_ROUTINES = ("record_batch", "follow_keys")
# Statements whose other form, or one that is like it, has another name than they have.
OTHER_STATEMENTS = ("query/audit_of_all", "query/count_audit_of_all")


def statements(*names: str) -> dict[str, str]:
    return {name: statement(name) for name in names}


def bodies(*names: str) -> dict[str, str]:
    return {name: BODIES[name] for name in names}


# Each pattern, in how many places of a text it must match, and the texts.
PATTERNS: Mapping[str, tuple[re.Pattern[str], int, Mapping[str, str]]] = {
    "list": (
        spread._LIST,
        1,
        statements(*(f"query/{path.stem}" for path in (SQL / "query").glob("entities_*.sql"))),
    ),
    "beginnings": (spread._BEGINNINGS, 1, statements("query/search", "query/search_by_beginning")),
    "counted insert": (
        spread._COUNTED_INSERT,
        1,
        {"merge/30_classify": written_out(statement("merge/30_classify"), has_values=True)},
    ),
    "known at": (writing._KNOWN_AT, 1, statements("query/as_known")),
    "known at, in turn": (writing._KNOWN_AT, 2, {"82_lanes": ROUTINES["82_lanes"]}),
    "atomic": (spread._ATOMIC, ALL.count("begin atomic"), {"routines": ALL}),
    "temporary": (spread._TEMPORARY, 10, {"60_merge": ROUTINES["60_merge"]}),
    "differences": (spread._DIFFERENCES, 4, {"70_requests": ROUTINES["70_requests"]}),
    "fold of one": (spread._FOLD_OF_ONE, 2, {"70_requests": ROUTINES["70_requests"]}),
    "compared": (spread._COMPARED, 1, {"70_requests": ROUTINES["70_requests"]}),
    "listed nowhere": (writing._LISTED_NOWHERE, 1, bodies("compare_with_ledger", "last_instant")),
    "one row": (writing._ONE_ROW, 1, bodies("compare_with_ledger", "entity_splice")),
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_matches_what_it_is_for(name: str) -> None:
    pattern, places, texts = PATTERNS[name]
    assert texts
    assert {each: len(pattern.findall(text)) for each, text in texts.items()} == dict.fromkeys(texts, places)


@pytest.mark.parametrize("pattern", writing._OWN_ROW)
def test_a_part_that_reads_no_table_is_found_in_one_function(pattern: str) -> None:
    found = [name for name, body in BODIES.items() if re.search(pattern, body)]
    assert len(found) == 1
    assert found[0] in ("compare_with_ledger", "entity_splice", "detail_splice")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *((statement(name), part) for name, (part, _) in spread._PARTS.items()),
        (ROUTINES["82_lanes"], "function field_runs_as_known("),
        (ROUTINES["82_lanes"], "force_generic_plan"),
        (ROUTINES["60_merge"], "temporary table"),
        *((ROUTINES["20_fold"] + ROUTINES["30_known"], f"view {name} as") for name in spread._VIEWS),
        *((ALL, f"function {name}(") for name in OTHER_ROUTINES),
    ],
)
def test_a_text_that_is_replaced_is_there(text: str, part: str) -> None:
    assert part in text


TABLES = re.compile(
    r"\b(from|join) (entity|entity_detail|ledger|repeat|snapshot|stated_change|recorded_change|batch)\b"
)


def test_each_function_of_one_select_that_reads_tables_is_written_out() -> None:
    functions = [
        each for each in ALL.split("create or replace ") if re.search(r"^function.*?language sql\b", each, re.DOTALL)
    ]
    read = {each.split()[1].partition("(")[0] for each in functions if TABLES.search(each)}
    assert len(read) > 10
    assert read - readers().keys() - {*OTHER_ROUTINES} == set()


def test_each_statement_whose_rows_are_fetched_is_there_and_names_its_entities_as_the_condition_does() -> None:
    for name, which in spread._FETCHED.items():
        wanted = set(re.findall(r"%\((\w+)\)s", statement(which)))
        assert wanted <= set(re.findall(r"%\((\w+)\)s", statement(name))), name


def test_each_word_by_which_a_statement_waits_for_commits_is_in_a_name() -> None:
    names = [path.stem for path in (SQL / "query").glob("*.sql")]
    for word in re.findall(r"\w+", spread._SEVERAL.pattern.rpartition("?(")[2]):
        assert any(spread._SEVERAL.match(name) and word in name for name in names), word


def others() -> dict[str, str]:
    """What has another form in sql/spread, by name."""
    forms = [path for path in (SQL / "spread").glob("*/**/*.sql") if path.parent.name != "which"]
    names = [path.relative_to(SQL / "spread").with_suffix("").as_posix() for path in forms]
    texts = statements(*names, *OTHER_STATEMENTS)
    for definition in (each for file in routines() for each in definitions(file.text)):
        name = definition.split(maxsplit=5)[4].partition("(")[0]
        if name in (*OTHER_ROUTINES, *spread._VIEWS):
            texts[name] = definition
    return texts


def test_what_has_another_form_is_as_it_was_when_the_form_was_written() -> None:
    plain = {name: re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", text)).strip() for name, text in others().items()}
    digests = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in sorted(plain.items())}
    if os.environ.get("CRM_TEST_WRITE_GOLDEN"):
        DIGESTS.write_text(json.dumps(digests, indent=2) + "\n")
    expected = json.loads(DIGESTS.read_text())
    changed = sorted(name for name in digests.keys() | expected.keys() if digests.get(name) != expected.get(name))
    assert changed == [], "change the forms of these in sql/spread too; see the top of this file"


@pytest.mark.parametrize("name", sorted(name for name in others() if "/" in name and name not in OTHER_STATEMENTS))
def test_a_form_has_the_parameters_of_its_statement(name: str) -> None:
    both = [set(re.findall(r"%\((\w+)\)s", statement(each))) for each in (name, f"spread/{name}")]
    assert both[1] <= both[0]
