"""Several machines (Citus): what is sent where the tables are distributed.

Most SQL is the same as for one server, with functions written out (see `written_out`). What Citus does not take has
another form in sql/spread. The cursors here choose it, so that no caller knows on how many machines the tables are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from crm_core.postgres.written_out import definitions, readers, written_out
from crm_core.resources import SQL, statement

# Statements about few entities whose rows are fetched first, and which.
_FETCHED: Mapping[str, str] = {
    "query/audit_walk": "spread/which/some",
    "query/audit_entries": "spread/which/some",
    "query/diff": "spread/which/some",
    "query/compared": "spread/which/some",
    "query/last_names": "spread/which/some",
    "query/known_entities": "spread/which/some",
    "query/transitions": "spread/which/some",
    "query/entity_past": "spread/which/one",
    "query/stream_transitions": "spread/which/within",
}
_VIEWS: Mapping[str, str] = {
    "said_by_source": "spread/said_by_source",
    "named_by_source": "spread/named_by_source",
}
_SEVERAL = re.compile(r"(stream_|count_)?(entities_|diff|transition|compare|search|sample|by_type)")
_LIST = re.compile(
    r"from \(\n(    select (?:entity\.)?\*\n.*limit %\(limit\)s offset %\(offset\)s)\n\) e\n"
    r"(join entity_type .*)\n(order by .*)",
    re.DOTALL,
)
_BEGINNINGS = re.compile(
    r"from unnest\(%\(beginnings\)s::text\[\]\) as wanted \(beginning\)\s+cross join lateral \(\s+"
    r"select ([^()]*?)\s+from entity\s+where is_current\s+and (display_name >= [^\n]*)\n(.*?)\n\s+order by ([^()]*?)\n"
    r"\s+limit %\(limit\)s\s+\) e",
    re.DOTALL,
)
# Citus does not return, under an alias, what an INSERT of several shards returns: the rows are counted where they went.
_COUNTED_INSERT = re.compile(
    r"with (\w+) as \(\s*(?P<insert>insert into (?P<table>\w+) .*)\s+returning [^()]*\n\)\n"
    r"(?P<select>select .*?)\s+from \1",
    re.DOTALL,
)
_ATOMIC = re.compile(r"begin atomic\n(.*?);\s*end;", re.DOTALL)
_TEMPORARY = re.compile(r"\btemporary (?=view)|(?<=\)) on commit drop")
_DIFFERENCES = re.compile(r"(of_entity|of_details) := array\((.*?)\);\n", re.DOTALL)
_FOLD_OF_ONE = re.compile(r"select d from single\.(entity|detail)_difference d")
_COMPARED = re.compile(r"select \* into known from compare_with_ledger\(")
_EXPLAIN = re.compile(r"explain \([^()]*\) ")
# Parts of statements in another form: the most types that there can be; what keeps a function at the coordinator.
_PARTS: Mapping[str, tuple[str, str]] = {
    "query/count_transitions": ("(select count(*) from detail_type)", "32767"),
    "query/beliefs": (
        "from field_runs_as_known(",
        "from (select 1 from pg_class where oid = 'pg_class'::regclass) here (there)"
        " cross join lateral field_runs_as_known(",
    ),
}


def write_out(connection: psycopg.Connection[TupleRow]) -> None:
    """Let a connection send what a distributed database takes."""
    connection.cursor_factory = SpreadCursor
    connection.server_cursor_factory = SpreadServerCursor


def is_spread(connection: psycopg.Connection[TupleRow]) -> bool:
    """Return whether the database of a connection is distributed."""
    return connection.cursor_factory is SpreadCursor


def look(connection: psycopg.Connection[TupleRow]) -> None:
    """Find out whether the tables of a database that has Citus are distributed."""
    row = connection.execute(statement("spread/is_spread")).fetchone()
    if row and row[0]:
        write_out(connection)


def spread_routines(text: str) -> str:
    """Return a file of routines as a distributed database gets it.

    Names in a view are resolved when it is made, so those of another schema are made with that in force. Functions that
    are written out are there too, but nothing calls them.
    """
    made = []
    for definition in definitions(text):
        kind, name = definition.split(maxsplit=5)[3:5]
        name = name.partition("(")[0]
        if kind == "function" and name in readers():
            made.append(_ATOMIC.sub(r"as $$\1\n$$;", definition))
            continue
        if name in _VIEWS:
            definition = f"create or replace view {name} as\n{statement(_VIEWS[name])};\n"
        definition = _DIFFERENCES.sub(r"select array_agg(each) into \1 from (\2) as found (each);\n", definition)
        definition = _FOLD_OF_ONE.sub(_fold_of_one, definition)
        definition = _COMPARED.sub(lambda match: statement("spread/of_one") + "\n" + match[0], definition)
        if name == "field_runs_as_known":  # what is written out has columns of the same names
            definition = definition.replace("as $$\n", "as $$\n#variable_conflict use_column\n", 1)
            definition = definition.replace("force_generic_plan", "force_custom_plan")
        schema = name.rpartition(".")[0]
        made.append(f"{_path(schema)}\n{definition}\n{_path(None)}" if schema else definition)
    return _TEMPORARY.sub("", written_out("\n".join(made))).replace("temporary table", "unlogged table")


def _fold_of_one(match: re.Match[str]) -> str:
    fold = statement("spread/fold_of_one").replace("{kind}", match[1])
    return statement("spread/of_one") + ",\n" + fold


def _path(schema: str | None) -> str:
    name = "spread/search_in" if schema else "spread/search_no_more_in"
    return f"{statement(name).replace('{schema}', schema or '')};"


@cache
def _instead() -> dict[str, str]:
    """Return the statements that a distributed database gets in another form, and that form."""
    names = [
        path.relative_to(SQL / "spread").with_suffix("").as_posix() for path in (SQL / "spread").glob("*/**/*.sql")
    ]
    instead = {statement(name): statement(f"spread/{name}") for name in names if not name.startswith("which/")}
    for name, which in _FETCHED.items():
        instead[statement(name)] = _fetching(statement(which), statement(name))
    for path in (SQL / "query").glob("entities_*.sql"):
        text = statement(f"query/{path.stem}")
        instead[text] = _LIST.sub(_page("spread/which/then" if "as_of" in path.stem else "spread/which/now"), text)
    found = _as_pattern("spread/beginning", columns=1, wanted=2, further=3, order=4)
    for name in ("query/search", "query/search_by_beginning"):
        instead[statement(name)] = _BEGINNINGS.sub(found, statement(name))
    for name in ("audit_of", "count_audit_of"):
        instead[statement(f"query/{name}_all")] = statement(f"spread/query/{name}_few")
    for name, (part, other) in _PARTS.items():
        instead[statement(name)] = statement(name).replace(part, other)
    return instead


def _fetching(which: str, text: str) -> str:
    """Put common table expressions of the rows before a statement, and before its own ones."""
    copied, opening, rest = text.partition("copy (\n") if text.startswith("copy (") else ("", "", text)
    joint = ", " if rest.startswith("with ") else "\n"
    fetched = statement("spread/fetched").replace("{which}", which)
    return copied + opening + fetched + joint + rest.removeprefix("with ")


def _page(then: str) -> str:
    return _as_pattern("spread/page", page=1, joins=2, order=3).replace("{then}", statement(then))


def _as_pattern(name: str, **groups: int) -> str:
    """Return a statement as the replacement of a pattern, with the groups of these numbers in their places."""
    text = statement(name)
    for place, number in groups.items():
        text = text.replace(f"{{{place}}}", f"\\{number}")
    return text


@cache
def _gates() -> dict[str, str]:
    """Return what a statement that reads several entities waits for: drops that are being committed.

    The feed waits for all that is being committed, and keeps more from it meanwhile.
    """
    names = [path.stem for path in (SQL / "query").glob("*.sql") if _SEVERAL.match(path.stem)]
    gates = {statement(f"query/{name}"): statement("spread/pass_gate") for name in names}
    return gates | {statement("query/changes"): statement("spread/stop_commits")}


def _sent(query: Any, params: Any) -> Any:
    if not isinstance(query, str):
        return query
    explaining = match[0] if (match := _EXPLAIN.match(query)) else ""
    asked = query.removeprefix(explaining)
    return explaining + written_out(_instead().get(asked, asked), has_values=params is not None)


class SpreadCursor(psycopg.Cursor[TupleRow]):
    """A cursor of a distributed database."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        """Execute a statement, in the form for several machines, when its gate is open."""
        with _behind_gate(self, query):
            sent = _sent(query, params)
            if isinstance(sent, str) and (parts := _COUNTED_INSERT.fullmatch(sent)):
                super().execute(parts["insert"], params, **more)
                sent = f"{parts['select']} from {parts['table']}"
                params = params if "%(" in sent else None
            return super().execute(sent, params, **more)

    def executemany(self, query: Any, params_seq: Any, **more: Any) -> None:
        """Execute a statement with each of the parameters, in the form for several machines."""
        super().executemany(_sent(query, ()), params_seq, **more)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **more: Any) -> Iterator[psycopg.Copy]:
        """Copy in or out, in the form for several machines; the gate is held until the end."""
        with _behind_gate(self, statement), super().copy(_sent(statement, params), params, **more) as copy:
            yield copy


class SpreadServerCursor(psycopg.ServerCursor[TupleRow]):
    """The same of results that stay at the server."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        """Execute a statement, in the form for several machines, when its gate is open."""
        with _behind_gate(self, query):
            return super().execute(_sent(query, params), params, **more)


@contextmanager
def _behind_gate(cursor: psycopg.Cursor[TupleRow] | psycopg.ServerCursor[TupleRow], query: Any) -> Iterator[None]:
    """Pass the gate of a statement, and keep it open until the statement or its transaction ends."""
    gate = _gates().get(query) if isinstance(query, str) else None
    if gate is None:
        yield
        return
    connection = cursor.connection
    is_within = connection.info.transaction_status == TransactionStatus.INTRANS
    with nullcontext() if is_within else connection.transaction():
        psycopg.Cursor(connection).execute(gate)
        yield
