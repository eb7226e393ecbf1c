"""Several machines (Citus): the same SQL, with the functions of sql/routines that read tables written out.

A worker has only its part of each table, so a function that reads tables cannot be called there. Where the database is
distributed, each call of such a function is replaced by its body before a statement is sent, and in the routines when
they are created: then Citus sees which tables a statement reads, and sends it to where the rows are. One server does
the same by itself when it plans a statement, so nothing of this concerns it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from crm_core.postgres.schema_version import routines
from crm_core.resources import SQL, statement

_FUNCTION = re.compile(
    r"function (\w+)\((.*?)\)\s*returns (.*?)\s*language sql\b.*?"
    r"(?:as \$\$(?P<quoted>.*?)\$\$;|begin atomic(?P<atomic>.*?);\s*end;)",
    re.DOTALL,
)
_READS = re.compile(r"(?<!distinct )\b(?:from|join)\s+[a-z]")
_EMPTY_LIST = re.compile(r"\bselect\s+from\b")
_ATOMIC = re.compile(r"begin atomic\n(.*?);\s*end;", re.DOTALL)
_TEMPORARY = re.compile(r"\btemporary (?=view)|(?<=\)) on commit drop")
_COMMENT = re.compile(r"--[^\n]*")
_KNOWN_AT = re.compile(r"set_config\('crm\.known_at', ((?:[^(),]|\([^()]*\))*), true\)")  # the workers are told too
_ALIAS = re.compile(
    r"(?:\s+as)?\s+(?!(?:on|where|cross|left|join|order|group|union|limit|window|having|intersect|except|offset)\b)(\w+)(?!\()"
)
# Nor does it look anything up for a row of no distributed table: there the caller's own row of a drop is read.
# It does not return what an INSERT of many shards returns under an alias: such rows are counted where they went.
_COUNTED_INSERT = re.compile(
    r"with (\w+) as \(\s*(?P<insert>insert into (?P<table>\w+) .*)\s+returning [^()]*\n\)\n(?P<select>select .*?)\s+from \1",
    re.DOTALL,
)
_OWN = "staged_change own where own.entity_uid = {caller}.entity_uid and own.row_no = {caller}.row_no"
_OWN_ROW = {
    r"as is_ahead\s+from snapshot (\w+)\s+where": "as is_ahead from snapshot \\1 cross join {own} and",
    r"from snapshot where acts\)": "from snapshot where acts and {caller}.entity_uid is not null)",
    r"select true as is_new\s+where": "select true as is_new from {own} and",
    r"end as hashdiff\s+\) asserted": "end as hashdiff from {own}) asserted",
    r"from unnest\(.*?\) as listed \(code, detail_value, hashdiff\)": "from (select unnest(own.detail_types) as code, unnest(own.detail_values) as detail_value,"
    " unnest(own.detail_hashdiffs) as hashdiff from {own}) as listed",
}
# Citus does not join laterally to a row that comes from no table: where the caller has a table, it is joined to that.
_ONE_ROW = re.compile(
    r"select (?P<values>.*?)\s+from \(values \(1\)\) as one \(row\)\s+(?P<joins>.*?)(?P<where>\n    where .*)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Routine:
    """A function of one SELECT that reads tables."""

    name: str
    parameters: tuple[tuple[str, str], ...]  # name and type
    columns: tuple[str, ...]  # of what it returns; none if it returns one value
    body: str


@cache
def _readers() -> dict[str, Routine]:
    """Return the functions to write out, by name."""
    found = {}
    for each in routines():
        for part in _COMMENT.sub("", each.text).split("create or replace "):
            match = _FUNCTION.match(part)
            if match is None:
                continue
            name, parameters, returns = match[1], match[2], match[3]
            body = (match["quoted"] or match["atomic"]).strip()
            table = re.fullmatch(r"table\s*\((.*)\)", returns, re.DOTALL)
            columns = tuple(declared for declared, _ in _declarations(table[1])) if table else ()
            found[name] = Routine(name, _declarations(parameters), columns, body)
    readers = {name for name, each in found.items() if each.body.startswith("select") and _READS.search(each.body)}
    return {name: found[name] for name in readers}


def _definitions(text: str) -> list[str]:
    """Return the statements of a file of routines."""
    return ["create or replace " + part for part in _COMMENT.sub("", text).split("create or replace ")[1:]]


def spread_routines(text: str) -> str:
    """Return a file of routines as a distributed database gets it: what is written out elsewhere is left out.

    The names in a view are resolved when it is made, as if the schema in which it is were in force.
    """
    made = []
    for part in _definitions(text):
        definition = _ASSIGNED.sub(r"select array_agg(each) into \1 from (\2) as found (each);", part)
        definition = _FOLD_OF_ONE.sub(_fold_of_one, definition)
        if definition.startswith("create or replace function field_runs_as_known"):
            definition = definition.replace("as $$\n", "as $$\n#variable_conflict use_column\n", 1)
            definition = definition.replace("force_generic_plan", "force_custom_plan")
        kind, name = definition.split(maxsplit=5)[3:5]
        if kind == "function" and name.partition("(")[0] in _readers():
            made.append(_ATOMIC.sub(r"as $$\1\n$$;", definition))  # it is there, but nothing calls it
            continue
        schema, dot, _ = name.rpartition(".")
        if dot:
            made += [
                f"select set_config('search_path', '{schema}, ' || current_setting('search_path'), true);",
                definition,
            ]
            made.append(
                f"select set_config('search_path', regexp_replace(current_setting('search_path'), '^{schema}, ', ''), true);"
            )
        else:
            made.append(definition)
    return _TEMPORARY.sub("", written_out("\n".join(made))).replace("temporary table", "unlogged table")


# Statements about few entities that Citus does not take: their rows are fetched first, and it is finished at the coordinator.
_OF_SOME = "entity_uid = any (%(entity_uids)s::uuid[])"
_OF_ONE = "entity_uid = %(entity_uid)s::uuid"
_WITHIN = "(valid_from > %(from)s and valid_from <= %(to)s) or (valid_to > %(from)s and valid_to <= %(to)s)"
_FETCHED = {
    "query/audit_walk": _OF_SOME,
    "query/audit_entries": _OF_SOME,
    "query/diff": _OF_SOME,
    "query/compared": _OF_SOME,
    "query/last_names": _OF_SOME,
    "query/transitions": _OF_SOME,
    "query/lanes": _OF_ONE,
    "query/field_values": _OF_ONE,
    "query/stream_transitions": f"entity_uid in (select entity_uid from entity where {_WITHIN}"
    f" union select entity_uid from entity_detail where {_WITHIN})",
}
_BEGINNINGS = re.compile(
    r"from unnest\(%\(beginnings\)s::text\[\]\) as wanted \(beginning\)\s+cross join lateral \(\s+select ([^()]*?)\s+from entity\s+"
    r"where is_current\s+and (display_name >= .*?)\n\s+order by ([^()]*?)\n\s+limit %\(limit\)s\s+\) e",
    re.DOTALL,
)
_ENTITY_TABLES = ("entity", "entity_detail", "ledger", "repeat", "snapshot_reject")
_LIST = re.compile(
    r"from \(\n(    select (?:entity\.)?\*\n.*limit %\(limit\)s offset %\(offset\)s)\n\) e\n(join entity_type .*)\n(order by .*)",
    re.DOTALL,
)
_OF_THEN = "e.valid_from <= %(as_of)s and (e.valid_to > %(as_of)s or e.valid_to is null)"


def _fetch(which: str, *, is_stated: bool = True) -> str:
    """Return common table expressions that hide the tables with their rows of some entities."""
    tables = [f"{name} as materialized (select * from {name} where {which})" for name in _ENTITY_TABLES]
    if is_stated:
        tables.append(f"stated_change as materialized (select * from stated_change where {which})")
    named = " union all ".join(f"select batch_id, entity_uid from {name}" for name in _ENTITY_TABLES[2:])
    return "with " + ", ".join([*tables, f"named_by_batch as ({named})"])


# A request that is folded: its entity is fetched, and folded at the coordinator.
_FOLD_OF_ONE = re.compile(r"\(select d from single\.(entity|detail)_difference d\)")
_ASSIGNED = re.compile(r"(of_entity|of_details) := array\((.*?)\);\n", re.DOTALL)  # its type is not known to a worker as a parameter


def _fold_of_one(match: re.Match[str]) -> str:
    return f"""({_fetch("entity_uid = its_uid", is_stated=False)},
        refolded as materialized (select its_uid as entity_uid, its_ts as since),
        stated_change as materialized (select * from reopened_changes() reopened),
        recorded_change as materialized (
            select * from stated_change
            union all select entity_uid, change_ts, 0, 0, 'delete', null, null, null from snapshot_ends())
        select row(d.*)::single.{match[1]}_difference from {match[1]}_differences() d)"""


def _with(tables: str, text: str) -> str:
    """Put common table expressions before those that a statement has already."""
    copied, opening, rest = text.partition("copy (\n") if text.startswith("copy (") else ("", "", text)
    joint = ", " if rest.startswith("with ") else "\n"
    return copied + opening + tables + joint + rest.removeprefix("with ")


@cache
def _instead() -> dict[str, str]:
    """Return the statements that a distributed database needs in another form."""
    names = [
        path.relative_to(SQL / "spread").with_suffix("").as_posix() for path in (SQL / "spread").glob("*/**/*.sql")
    ]
    instead = {statement(name): statement(f"spread/{name}") for name in names}
    for name, which in _FETCHED.items():
        instead[statement(name)] = _with(_fetch(which), statement(name))
    for name in ("query/search", "query/search_by_beginning"):
        wanted = "exists (select 1 from unnest(%(beginnings)s::text[]) as wanted (beginning) where \\2)"
        found = f"from (select \\1 from entity where is_current and {wanted} order by \\3 limit %(limit)s * cardinality(%(beginnings)s::text[])) e"
        instead[statement(name)] = _BEGINNINGS.sub(found, statement(name))
    name = "query/count_transitions"
    instead[statement(name)] = statement(name).replace(
        "(select count(*) from detail_type)", "32767"
    )  # as many as can be
    for path in (SQL / "query").glob("entities_*.sql"):  # the page is found first, then read where its entities are
        text = statement(f"query/{path.stem}")
        which = _OF_THEN if "as_of" in path.stem else "e.is_current"
        page = rf"from entity e\n\2\nwhere {which} and e.entity_uid = any (array(select entity_uid from (\n\1\n) page))\n\3"
        instead[text] = _LIST.sub(page, text)
    for name in ("audit_of", "count_audit_of"):
        instead[statement(f"query/{name}_all")] = statement(f"spread/query/{name}_few")
    return instead


_SEVERAL = re.compile(r"(stream_|count_)?(entities_|diff|transition|compare|search|sample|by_type)")


@cache
def _gates() -> dict[str, str]:
    """Return what a statement waits for: one that reads several entities for the drops that are being committed.

    The feed waits for all that is being committed, and keeps more from it meanwhile.
    """
    names = [path.stem for path in (SQL / "query").glob("*.sql") if _SEVERAL.match(path.stem)]
    gates = {statement(f"query/{name}"): statement("spread/pass_gate") for name in names}
    return gates | {statement("query/changes"): statement("spread/stop_commits")}


class _WritesOut:
    """What a cursor of a distributed database sends."""

    connection: psycopg.Connection[TupleRow]

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        with self._behind_gate(query):
            sent = _sent(query, params)
            if isinstance(sent, str) and (parts := _COUNTED_INSERT.fullmatch(sent)):
                super().execute(parts["insert"], params, **more)  # type: ignore[misc]
                sent = f"{parts['select']} from {parts['table']}"
                params = params if "%(" in sent else None
            return super().execute(sent, params, **more)  # type: ignore[misc]

    def executemany(self, query: Any, params_seq: Any, **more: Any) -> Any:
        return super().executemany(_sent(query, ()), params_seq, **more)  # type: ignore[misc]

    @contextmanager
    def copy(self, query: Any, params: Any = None, **more: Any) -> Iterator[psycopg.Copy]:
        with self._behind_gate(query), super().copy(_sent(query, params), params, **more) as copy:  # type: ignore[misc]
            yield copy

    @contextmanager
    def _behind_gate(self, query: Any) -> Iterator[None]:
        gate = _gates().get(query) if isinstance(query, str) else None
        if gate is None:
            yield
            return
        is_within = self.connection.info.transaction_status == TransactionStatus.INTRANS
        with nullcontext() if is_within else self.connection.transaction():
            psycopg.Cursor(self.connection).execute(gate)
            yield


class SpreadCursor(_WritesOut, psycopg.Cursor[TupleRow]):
    """A cursor of a distributed database."""


class SpreadServerCursor(_WritesOut, psycopg.ServerCursor[TupleRow]):
    """The same of results that stay at the server."""


def _sent(query: Any, params: Any) -> Any:
    if not isinstance(query, str):
        return query
    return written_out(_instead().get(query, query), has_values=params is not None)


def write_out(connection: psycopg.Connection[TupleRow]) -> None:
    """Let a connection send what a distributed database can run."""
    connection.cursor_factory = SpreadCursor
    connection.server_cursor_factory = SpreadServerCursor


def is_spread(connection: psycopg.Connection[TupleRow]) -> bool:
    """Return whether the database of a connection is distributed."""
    return connection.cursor_factory is SpreadCursor


def look(connection: psycopg.Connection[TupleRow]) -> None:
    """Find out whether the database has Citus and its tables are distributed; if so, write out what is sent."""
    row = connection.execute(statement("server/is_spread")).fetchone()
    if row and row[0]:
        write_out(connection)


def _declarations(text: str) -> tuple[tuple[str, str], ...]:
    """Return the names and types in a list of parameters or columns."""
    parts = [part.split(" default ")[0].split(maxsplit=1) for part in _arguments(text)]
    return tuple((name, type_.strip()) for name, type_ in parts)


def _arguments(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and in no quotes."""
    parts, depth, quoted, begin = [], 0, False, 0
    for place, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    last = text[begin:].strip()
    return [*parts, last] if last else parts


def _closing(text: str, opening: int) -> int:
    """Return the place of the bracket that closes the one at a place."""
    depth, quoted = 0, False
    for place in range(opening, len(text)):
        letter = text[place]
        if letter == "'":
            quoted = not quoted
        elif not quoted and letter == "(":
            depth += 1
        elif not quoted and letter == ")":
            depth -= 1
            if depth == 0:
                return place
    message = f"a bracket is not closed: {text[opening : opening + 60]}"
    raise ValueError(message)


@lru_cache(maxsize=1024)
def written_out(text: str, *, has_values: bool = False) -> str:
    """Return SQL with every call of a function that reads tables replaced by the function's body.

    `has_values`: the text has placeholders of psycopg, so that a percent sign is doubled.
    """
    calls = re.compile(rf"(?<![\w.])(?<!function )({'|'.join(map(re.escape, _readers()))})\(")
    text = _COMMENT.sub("", text)
    begin = 0
    while match := calls.search(text, begin):
        closing = _closing(text, match.end() - 1)
        routine = _readers()[match[1]]
        before = text[: match.start()]
        caller = text[match.end() : closing].partition(".")[0].strip()
        body = _body(routine, _arguments(text[match.end() : closing]), has_values=has_values)
        after = closing + 1
        if routine.columns:
            alias = _ALIAS.match(text, after)
            name = alias[1] if alias else routine.name
            after = alias.end() if alias else after
            if before.rstrip().endswith("cross join lateral"):
                body = _of_a_staged_row(body, caller)
                joined = _ONE_ROW.fullmatch(body)
                if joined:
                    before = before.rstrip().removesuffix("cross join lateral")
                    body = (
                        f"{joined['joins']}\n    cross join lateral (select {joined['values']}{joined['where'] or ''})"
                    )
                else:
                    body = f"({body})"
            else:
                body = f"({body})"
            body += f" as {name} ({', '.join(routine.columns)})"
        else:
            body = f"({body})"
        text = before + body + text[after:]
        begin = len(before)  # the body may call others
    return _KNOWN_AT.sub(r"set_known_at(\1)", _EMPTY_LIST.sub("select 1 from", text))


def _of_a_staged_row(body: str, caller: str) -> str:
    own = _OWN.format(caller=caller)
    for pattern, instead in _OWN_ROW.items():
        body = re.sub(pattern, instead.replace("{own}", own).replace("{caller}", caller), body)
    return body


def _body(routine: Routine, arguments: list[str], *, has_values: bool) -> str:
    """Return a function's body with the arguments in the place of its parameters."""
    if len(arguments) != len(routine.parameters):
        message = f"{routine.name} takes {len(routine.parameters)} arguments and is given {len(arguments)}"
        raise ValueError(message)
    body = routine.body.replace("%", "%%") if has_values else routine.body
    for alias in {alias for argument in arguments for alias in re.findall(r"\b([a-z]\w*)\.\w", argument)}:
        body = re.sub(rf"(?<![\w.'%]){alias}(?![\w'(])", f"{alias}_", body)  # what it means in the body is another
    given = {
        name: f"({argument})::{type_}" for (name, type_), argument in zip(routine.parameters, arguments, strict=True)
    }
    if not given:
        return body
    names = re.compile(rf"(?<![\w.%])(?:{routine.name}\.)?({'|'.join(given)})(?![\w(])")
    return names.sub(lambda match: given[match[1]], body)
