"""The house is as the style says: every SQL file has a caller, runs, and would distribute by entity_uid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from crm_core.postgres.connection import Connection
from crm_core.resources import SQL, statement

ROOT = Path(__file__).parent.parent
CODE = "\n".join(
    path.read_text() for folder in ("crm_core", "pipelines", "api") for path in (ROOT / folder).rglob("*.py")
)
STATEMENTS = sorted(
    str(path.relative_to(SQL).with_suffix(""))
    for path in SQL.rglob("*.sql")
    if path.parent.name not in ("ddl", "routines") and "spread" not in path.parts
)
MERGE = [name for name in STATEMENTS if name.startswith("merge/")]
SHARED = [f"routines/{path.stem}" for path in sorted((SQL / "routines").glob("[2-6]*.sql"))]  # what merges run
UTILITY = re.compile(
    r"^(copy|analyze|truncate|lock|set|drop|create (database|table|unlogged table|temporary table))\b"
)  # these cannot be prepared
REFERENCE_TABLES = {
    "entity_type",
    "detail_type",
    "source",
    "source_key",
    "stated_key",
    "batch",
    "retraction",
    "snapshot",
}


DIALECT = re.compile(
    r"""["']{3}Answer\b|; answer (the|how|whether|its)\b|\b(is|are) told\b|\bstands? over\b|\banew\b|\bwhat is none\b"""
    r"""|\bnone that is\b|\b(about|evenly|means) so many\b|\bwho asks\b|\blikewise\b"""
    r"""|\bwhoever\b|\bto be had\b|, for (it|they) (is|are)\b"""
)


@pytest.mark.unit
@pytest.mark.parametrize(
    "place", ["crm_core", "api", "pipelines", "sql", "docs", "tests", "README.md", "CHANGELOG.md", ".env.example"]
)
def test_people_read_plain_english(place: str) -> None:
    """The phrases of a private dialect that once was everywhere; CONTRIBUTING says how to write."""
    files = [path for path in (ROOT / place).rglob("*") if path.is_file()] or [ROOT / place]
    released = SQL / "ddl"
    assert [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        if path.suffix in (".py", ".sql", ".md", ".html", ".example", "")
        and released not in path.parents
        and path != Path(__file__)
        for line in path.read_text().splitlines()
        if DIALECT.search(line)
    ] == []


@pytest.mark.unit
def test_the_source_archive_has_all_that_the_wheel_is_built_from() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    packed = targets["sdist"]["only-include"]
    assert [name for name in packed if not (ROOT / name).exists()] == []
    needed = [*targets["wheel"]["packages"], *targets["wheel"]["force-include"]]
    assert [name for name in needed if not any(name == has or name.startswith(f"{has}/") for has in packed)] == []


@pytest.mark.unit
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_file_says_what_it_does_and_has_a_caller(name: str) -> None:
    lines = (SQL / f"{name}.sql").read_text().splitlines()
    comments = [line for line in lines if line.startswith("-- ")]
    assert lines[0].startswith("-- ")
    assert any("In" in line for line in comments), "the second comment says what goes in and what comes out"
    keywords = re.sub(r"'[^']*'|%\(\w+\)s", "", statement(name))
    assert ";" not in keywords, "one statement a file"
    assert not re.search(r"\b(SELECT|FROM|WHERE|INSERT|UPDATE|DELETE|JOIN)\b", keywords), "lower case"
    called = name.rpartition("/")[2].removesuffix("_with_details")  # a variant is chosen by its ending
    assert re.search(rf"[\"/]{called}\"", CODE)


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in STATEMENTS if not UTILITY.match(statement(name))])
def test_a_statement_is_one_that_every_supported_server_takes(any_connection: Connection, name: str) -> None:
    any_connection.execute("create extension if not exists amcheck")
    any_connection.execute(statement("merge/10_create_stage"))
    any_connection.execute(statement("merge/12_create_snapshot_stage"))
    any_connection.execute(statement("drop/create_noted_rows"))
    any_connection.execute(statement("undo/30_create_affected"))
    if name.startswith("server/"):
        any_connection.execute(statement("server/create_schema_routine"))
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, statement(name))
    any_connection.execute(f"prepare a_statement as {text if not names else text.replace('%%', '%')}".encode())


@pytest.mark.unit
@pytest.mark.parametrize("name", [*MERGE, *SHARED])
def test_a_merge_runs_on_tables_that_are_spread_over_machines(name: str) -> None:
    text = re.sub(r"--[^\n]*|\(format csv\)", "", statement(name))
    for forbidden in (
        "ctid",
        "full join",
        "full outer join",
        "merge into",
        "random()",
        "materialized",
    ):
        assert forbidden not in text, forbidden
    if name not in ("routines/40_recording", "routines/45_keys"):  # one row, of a table that is everywhere
        assert "clock_timestamp" not in text
    joins = re.findall(r"(?<!cross )join (\w+)(?: \w+)?\s+(?:on|using) ([^\n]*(?:\n\s+(?:and|on) [^\n]*)*)", text)
    for table, condition in joins:
        is_with_all = re.search(r"\b(c|s)\.row_no = (c|s)\.row_no", condition)  # of staged_change with stated_key
        assert table in REFERENCE_TABLES or "entity_uid" in condition or is_with_all, f"join {table} {condition}"
    for grouping in re.findall(r"(?:partition by|group by|distinct on \() ?\(?([\w.]+)", text):
        assert grouping.rpartition(".")[2] in ("entity_uid", "key_uid"), grouping  # keys are everywhere


@pytest.mark.integration
def test_every_key_of_a_spread_table_holds_the_uid_and_none_leads_to_what_a_merge_writes(
    connection: Connection,
) -> None:
    keys = connection.execute(
        "select conname, pg_get_constraintdef(oid), contype, confrelid::regclass::text from pg_constraint"
        " where conrelid in ('entity'::regclass, 'entity_detail'::regclass, 'ledger'::regclass)"
    ).fetchall()
    assert len(keys) > 10
    for name, definition, kind, referenced in keys:
        if kind in ("p", "u", "x"):
            assert "entity_uid" in definition, name
        if kind == "f":
            assert referenced in REFERENCE_TABLES or "FOREIGN KEY (entity_uid" in definition, name
    unique = connection.execute(
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indisunique"
        " and indrelid in ('entity'::regclass, 'entity_detail'::regclass, 'ledger'::regclass)"
    ).fetchall()
    assert all("entity_uid" in definition for _, definition in unique)
    triggers = (
        "select tgname from pg_trigger where not tgisinternal"
        " and tgrelid in ('entity'::regclass, 'entity_detail'::regclass, 'ledger'::regclass)"
    )
    assert connection.execute(triggers).fetchall() == []
    counted = connection.execute(
        "select attrelid::regclass::text from pg_attribute where attidentity <> '' and attnum > 0"
    ).fetchall()
    assert {table for (table,) in counted} <= {"batch", "entity_type", "detail_type", "source"}, (
        "no sequence in set-based inserts"
    )
