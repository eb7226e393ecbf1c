"""The plans of the key queries, and the index that each must use: for `crm explain`, and for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from crm_core.database import Connection, statement
from crm_core.lists import Values

SMALL = 2_000  # entity versions below which PostgreSQL rightly reads whole tables


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A query of sql/query whose speed users feel, and the indexes that promise it."""

    name: str
    purpose: str
    must_use: tuple[str, ...]
    values: tuple[str, ...] = ()  # what of the sample it filters by


@dataclass(frozen=True, slots=True)
class Plan:
    """How PostgreSQL ran a key query on a sample of the data."""

    name: str
    purpose: str
    must_use: tuple[str, ...]
    uses: tuple[str, ...]
    ok: bool  # it uses what it must, or the tables are too small for an index to pay
    text: str  # EXPLAIN (ANALYZE, BUFFERS)
    milliseconds: float  # of the execution


ENTITY = "entity_one_last|entity_pkey"  # any of them finds the few rows of one uid
DETAIL = "entity_detail_one_last|entity_detail_pkey"
KEY_QUERIES = (
    KeyQuery("entity_current", "one entity as it is", (ENTITY, DETAIL)),
    KeyQuery("entity_as_of", "one entity as it was", (ENTITY, DETAIL)),
    KeyQuery("entities_current_unfiltered", "the list by name", ("entity_by_name",), ("after",)),
    KeyQuery("entities_current", "the list by name, deep in it", ("entity_by_name",), ("offset",)),
    KeyQuery(
        "entities_current", "the list of one type by name", ("entity_by_type_and_name",), ("entity_type_id", "after")
    ),
    KeyQuery("entities_current", "search by a part of the name", ("entity_by_part_of_name",), ("like",)),
    KeyQuery(
        "entities_current_with_details",
        "search by a detail, such as email=",
        ("entity_detail_by_value", ENTITY),
        ("hashdiffs",),
    ),
    KeyQuery("entities_as_of_unfiltered", "all entities as they were", ("entity_pkey",), ("after",)),
    KeyQuery("entities_as_of", "all entities as they were, deep in the list", ("entity_pkey",), ("after",)),
    KeyQuery(
        "entities_as_of_with_details",
        "search by a detail as it was",
        ("entity_detail_by_value", ENTITY),
        ("hashdiffs",),
    ),
    KeyQuery("history", "every version of one entity", (ENTITY, DETAIL)),
    KeyQuery("audit", "the ledger of one entity", ("ledger_pkey",)),
    KeyQuery("diff_candidates", "what changed within a short window", ("entity_by_time", "entity_detail_by_time")),
    KeyQuery("diff", "the net changes of some entities", (ENTITY, DETAIL)),
    KeyQuery(
        "transition_candidates", "when something changed in a short window", ("entity_by_time", "entity_detail_by_time")
    ),
    KeyQuery("transitions", "what changed at some moments", (ENTITY, DETAIL, "ledger_pkey")),
)


def explain(connection: Connection) -> Iterator[Plan]:
    """Run each key query with a sample of the data and answer its plan; nothing for an empty database."""
    sample = connection.execute(statement("query/sample")).fetchone()
    if sample is None:
        return
    entity_uid, display_name, entity_type_id, hashdiff, middle, recorded_at, versions = sample
    everything: Values = {
        "entity_uid": entity_uid,
        "entity_uids": [entity_uid],
        "as_of": middle,
        "from": recorded_at - timedelta(minutes=1),
        "to": recorded_at,
        "after_at": recorded_at - timedelta(minutes=1),
        "ats": [middle],
        "after_from": "infinity",
        "limit": 21,
        "offset": 0,
    }
    chosen: dict[str, Values] = {
        "like": {"like": f"%{display_name[:8]}%"},
        "entity_type_id": {"entity_type_id": entity_type_id},
        "after": {"after_uid": entity_uid, "after_name": display_name},
        "hashdiffs": {"hashdiffs": [hashdiff]},
        "offset": {"offset": 1_000},
    }
    nothing: Values = {"like": None, "entity_type_id": None, "after_uid": None, "after_name": None, "hashdiffs": []}
    for query in KEY_QUERIES:
        values = everything | nothing
        for part in query.values:
            values |= chosen[part]
        text, uses, milliseconds = _run(connection, query.name, values)
        ok = versions < SMALL or all(set(one_of.split("|")) & uses for one_of in query.must_use)
        yield Plan(query.name, query.purpose, query.must_use, tuple(sorted(uses)), ok, text, milliseconds)


def _run(connection: Connection, name: str, values: Values) -> tuple[str, set[str], float]:
    query = sql.SQL("explain (analyze, buffers, format {}) ")  # a choice of two words before a statement of its file
    as_json, as_text = (
        connection.execute(query.format(sql.SQL(form)).as_string() + statement(f"query/{name}"), values)
        for form in ("json", "text")
    )
    ((document,),) = as_json.fetchall()
    (plan,) = document if isinstance(document, list) else json.loads(document)
    return "\n".join(line for (line,) in as_text), set(_indexes(plan["Plan"])), float(plan["Execution Time"])


def _indexes(node: object) -> Iterator[str]:
    """Find every index that a plan names, at any depth."""
    if isinstance(node, dict):
        if "Index Name" in node:
            yield str(node["Index Name"])
        for part in node.values():
            yield from _indexes(part)
    elif isinstance(node, list):
        for part in node:
            yield from _indexes(part)
