"""The plans of the key queries, and the index that each must use: for `crm explain`, and for the tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import sql

from crm_core.postgres.connection import Connection
from crm_core.reading.known import as_known
from crm_core.reading.lists import Values, like_pattern
from crm_core.resources import statement

# The form into which the planner expands search_form().
_FOLDED = re.compile(r"CASE WHEN \(octet_length\((\S+?)\) = .*? END")
_OF_A_SHARD = re.compile(r"_\d{6,}$")  # with Citus the number of the shard follows the name of an index
SMALL = 2_000  # entity versions, or keys, below which PostgreSQL rightly reads whole tables


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A query in sql/query whose speed users notice, and the indexes that it must use."""

    name: str
    purpose: str
    must_use: tuple[str, ...]
    why: str  # these indexes serve it
    values: tuple[str, ...] = ()  # the fields of the sample that it filters by
    is_known: bool = False  # it runs with known_at
    is_of_keys: bool = False  # it reads keys of sources, of which there may be few


@dataclass(frozen=True, slots=True)
class Plan:
    """How PostgreSQL ran a key query on a sample of the data."""

    query: KeyQuery
    uses: tuple[str, ...]
    ok: bool  # it uses the indexes that it must, or the tables are too small for them
    text: str  # EXPLAIN (ANALYZE, BUFFERS)
    milliseconds: float  # of the execution
    rows: int  # that it found
    buffers: int  # blocks of 8 KiB that it read, in memory or not


ENTITY = "unique_current_entity|entity_pkey"  # each of them finds the few rows of one uid
DETAIL = "unique_current_entity_detail|entity_detail_pkey"
BY_TIME = ("entity_by_time", "entity_detail_by_time")
KEY_QUERIES = (
    KeyQuery(
        "entity_current",
        "one entity, current",
        (ENTITY, DETAIL),
        "a uid has one current row, and one for each detail type",
    ),
    KeyQuery(
        "entity_as_of", "one entity as of an instant", (ENTITY, DETAIL), "the versions of a uid are stored side by side"
    ),
    KeyQuery(
        "entities_current_unfiltered",
        "the list by name",
        ("entity_by_name",),
        "it is in the order of the list, so a page reads only its own rows",
        ("after",),
    ),
    KeyQuery(
        "entities_current",
        "the list by name, a deep page",
        ("entity_by_name",),
        "it is in the order of the list",
        ("offset",),
    ),
    KeyQuery(
        "entities_current",
        "the list of one type by name",
        ("entity_by_type_and_name",),
        "within a type it is in the order of the list",
        ("entity_type_id", "after"),
    ),
    KeyQuery(
        "entities_current",
        "search by a part of the name",
        ("entity_by_part_of_name",),
        "it finds names by every three letters of their search form",
        ("like",),
    ),
    KeyQuery(
        "entities_current_with_details",
        "search by a detail, such as email=",
        ("entity_detail_by_value", ENTITY),
        "equal values have equal hashes, and few entities have one value",
        ("hashdiffs",),
    ),
    KeyQuery(
        "entities_current",
        "search by a key of a source, source= and source_key=",
        ("source_key_pkey", ENTITY),
        "the uid of a key is derived from source and key, and a uid has one current row",
        ("key_uids",),
        is_of_keys=True,
    ),
    KeyQuery(
        "keys_of_entity",
        "the keys that name one entity",
        ("source_key_by_entity",),
        "it begins with the entity",
        is_of_keys=True,
    ),
    KeyQuery(
        "entities_as_of_unfiltered",
        "all entities as of an instant",
        ("entity_pkey",),
        "it is in the order of the list, and the versions of a uid side by side",
        ("after",),
    ),
    KeyQuery(
        "entities_as_of",
        "all entities as of an instant, a deep page",
        ("entity_pkey",),
        "it is in the order of the list",
        ("after",),
    ),
    KeyQuery(
        "entities_as_of_with_details",
        "search by a detail as of an instant",
        ("entity_detail_by_value", ENTITY),
        "it contains past values too",
        ("hashdiffs",),
    ),
    KeyQuery(
        "known_uids",
        "whom to recompute for a list with known_at",
        ("ledger_pkey",),
        "it is in order of uids, so a page recomputes only its own",
        is_known=True,
    ),
    KeyQuery(
        "known_entities",
        "some entities with known_at",
        ("ledger_pkey",),
        "the changes of a uid are stored side by side in the order of the fold",
        is_known=True,
    ),
    KeyQuery(
        "history", "every version of one entity", (ENTITY, DETAIL), "the versions of a uid are stored side by side"
    ),
    KeyQuery("audit", "the ledger of one entity", ("ledger_pkey",), "the changes of a uid are stored side by side"),
    KeyQuery(
        "audit_of_all",
        "the ledger of all entities",
        ("ledger_by_batch",),
        "a page of a large batch reads only itself",
        ("audit",),
    ),
    KeyQuery(
        "search",
        "search by a part of a name or detail",
        ("entity_by_part_of_name", "entity_detail_by_part_of_value"),
        "they contain every three letters of names, and of the beginnings of details",
        ("search",),
    ),
    KeyQuery(
        "diff_candidates",
        "what changed within a short window",
        BY_TIME,
        "drops come in order of time, so only a few blocks match",
    ),
    KeyQuery(
        "diff", "the net changes of some entities", (ENTITY, DETAIL), "the versions of a uid are stored side by side"
    ),
    KeyQuery("transition_candidates", "when something changed in a short window", BY_TIME, "only a few blocks match"),
    KeyQuery(
        "transitions",
        "what changed at some moments",
        (ENTITY, DETAIL, "ledger_pkey"),
        "the versions of a uid are stored side by side",
    ),
)


def explain(connection: Connection) -> Iterator[Plan]:
    """Run each key query on a sample of the data and yield its plan; nothing for an empty database."""
    sample = connection.execute(statement("query/sample")).fetchone()
    if sample is None:
        return
    entity_uid, display_name, entity_type_id, hashdiff, middle, recorded_at, versions, key_uid, keys = sample
    everything: Values = {
        "entity_uid": entity_uid,
        "entity_uids": [entity_uid],
        "as_of": middle,
        "from": recorded_at - timedelta(minutes=1),
        "to": recorded_at,
        "after_at": recorded_at - timedelta(minutes=1),
        "ats": [middle],
        "after_from": "infinity",
        "after_code": "",
        "since": None,
        "after_batch": None,
        "after_row": None,
        "limit": 21,
        "offset": 0,
    }
    chosen: dict[str, Values] = {
        "like": {"like": like_pattern(display_name)},
        "entity_type_id": {"entity_type_id": entity_type_id},
        "after": {"after_uid": entity_uid, "after_name": display_name},
        "hashdiffs": {"hashdiffs": [hashdiff]},
        "key_uids": {"key_uids": [key_uid]},
        "offset": {"offset": 1_000},
        "audit": dict.fromkeys(("actor", "from", "to", "batches", "op", "detail_type", "entity_uid", "after_at")),
        "search": {
            "text": display_name,
            "beginnings": [display_name],
            "part": like_pattern(display_name),
            "entity_type": None,
            "details_limit": 100,
        },
    }
    nothing: Values = {"like": None, "entity_type_id": None, "after_uid": None, "after_name": None, "hashdiffs": []}
    nothing |= {"source_id": None, "key_uids": None}
    for query in KEY_QUERIES:
        values = everything | nothing
        for part in query.values:
            values |= chosen[part]
        if query.name == "history":
            values["after_from"] = None
        if query.is_known:
            values |= {"from": "-infinity", "to": middle}
        with as_known(connection, recorded_at if query.is_known else None):
            text, run = _run(connection, query.name, values)
        uses = set(_indexes(run["Plan"]))
        is_small = versions < SMALL or (query.is_of_keys and keys < SMALL)
        ok = is_small or all(set(one_of.split("|")) & uses for one_of in query.must_use)
        plan = run["Plan"]
        buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        yield Plan(
            query, tuple(sorted(uses)), ok, text, float(run["Execution Time"]), int(plan["Actual Rows"]), buffers
        )


def _run(connection: Connection, name: str, values: Values) -> tuple[str, dict[str, Any]]:
    # One of two fixed words before the statement from its file.
    query = sql.SQL("explain (analyze, buffers, format {}) ")
    as_json, as_text = (
        connection.execute(query.format(sql.SQL(form)).as_string() + statement(f"query/{name}"), values, prepare=False)
        for form in ("json", "text")
    )
    ((document,),) = as_json.fetchall()
    (run,) = document if isinstance(document, list) else json.loads(document)
    return "\n".join(_FOLDED.sub(r"search_form(\1)", line) for (line,) in as_text), run


def _indexes(node: object) -> Iterator[str]:
    """Return every index that a plan names, at any depth."""
    if isinstance(node, dict):
        if "Index Name" in node:
            yield _OF_A_SHARD.sub("", str(node["Index Name"]))
        for part in node.values():
            yield from _indexes(part)
    elif isinstance(node, list):
        for part in node:
            yield from _indexes(part)
