"""SQL with the functions of sql/routines that read tables written out, for a database on several machines.

A worker has only its part of each table, so a function that reads tables cannot be called there. Each call is replaced
by the function's body; then Citus sees which tables a statement reads, and sends it to where the rows are. One server
does the same by itself when it plans a statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from crm_core.postgres.schema_version import routines

_COMMENT = re.compile(r"--[^\n]*")
_EMPTY_LIST = re.compile(r"\bselect\s+from\b")  # Citus would take it for a function that returns no columns
_KNOWN_AT = re.compile(r"set_config\('crm\.known_at', ((?:[^(),]|\([^()]*\))*), true\)")
_READS = re.compile(r"(?<!distinct )\b(?:from|join)\s+[a-z]")
_FUNCTION = re.compile(
    r"function (\w+)\((.*?)\)\s*returns (.*?)\s*language sql\b.*?"
    r"(?:as \$\$(?P<quoted>.*?)\$\$;|begin atomic(?P<atomic>.*?);\s*end;)",
    re.DOTALL,
)
_ALIAS = re.compile(
    r"(?:\s+as)?\s+(?!(?:on|where|cross|left|join|order|group|union|limit|window|having|intersect|except|offset)\b)"
    r"(\w+)(?!\()"
)
# A look-up that Citus would make a join, and fetch all that was ever named for it.
_LISTED_NOWHERE = re.compile(r"not exists \(select from named_by_batch n where ([^()]*)\)")
# A row that comes from no table: Citus joins nothing laterally to it, so its joins become the caller's.
_ONE_ROW = re.compile(
    r"select (?P<values>.*?)\s+from \(values \(1\)\) as one \(row\)\s+(?P<joins>.*?)(?P<where>\n    where .*)?",
    re.DOTALL,
)
# Nor does it look anything up for a subquery that reads no distributed table: there it reads the drop's row itself.
_OWN = "staged_change own where own.entity_uid = {caller}.entity_uid and own.row_no = {caller}.row_no"
_OWN_ROW: Mapping[str, str] = {
    r"as is_ahead\s+from snapshot (\w+)\s+where": r"as is_ahead from snapshot \1 cross join {own} and",
    r"(from snapshot where (?:acts|source_id is not null))\)": r"\1 and {caller}.entity_uid is not null)",
    r"select true as is_new\s+where": "select true as is_new from {own} and",
    r"end as hashdiff\s+\) asserted": "end as hashdiff from {own}) asserted",
    r"from unnest\(.*?\) as listed \(code, detail_value, hashdiff\)": (
        "from (select unnest(own.detail_types) as code, unnest(own.detail_values) as detail_value,"
        " unnest(own.detail_hashdiffs) as hashdiff from {own}) as listed"
    ),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """A function of one SELECT that reads tables."""

    name: str
    parameters: tuple[tuple[str, str], ...]  # name and type
    columns: tuple[str, ...]  # of the rows that it returns; none if it returns one value
    body: str


@cache
def readers() -> Mapping[str, Reader]:
    """Return the functions of sql/routines that are written out, by name."""
    found = {}
    for each in routines():
        for definition in definitions(each.text):
            match = _FUNCTION.match(definition.removeprefix("create or replace "))
            body = (match["quoted"] or match["atomic"]).strip() if match else ""
            if match is None or not body.startswith(("select", "with ")) or not _READS.search(body):
                continue
            rows = re.fullmatch(r"table\s*\((.*)\)", match[3], re.DOTALL)
            columns = tuple(name for name, _ in _declarations(rows[1])) if rows else ()
            found[match[1]] = Reader(match[1], _declarations(match[2]), columns, body)
    return found


def definitions(text: str) -> Sequence[str]:
    """Return the statements of a file of routines, without comments."""
    return ["create or replace " + part for part in _COMMENT.sub("", text).split("create or replace ")[1:]]


@lru_cache(maxsize=1024)
def written_out(text: str, *, has_values: bool = False) -> str:
    """Return SQL in which no function is called that reads tables.

    `has_values`: it has placeholders of psycopg, so that a percent sign of a body is doubled.
    """
    calls = re.compile(rf"(?<![\w.])(?<!function )(?<!if exists )({'|'.join(readers())})\(")
    text, begin = _COMMENT.sub("", text), 0
    while match := calls.search(text, begin):
        before, closing = text[: match.start()], _closing(text, match.end() - 1)
        reader, after = readers()[match[1]], text[closing + 1 :]
        body = _body(reader, _arguments(text[match.end() : closing]), has_values=has_values)
        if reader.columns:
            before, body, after = _joined(reader, before, body, after, text[match.end() : closing])
        else:
            body = f"({body})"
        begin = len(before)  # the body may call others
        text = before + body + after
    return _KNOWN_AT.sub(r"set_known_at(\1)", _EMPTY_LIST.sub("select 1 from", text))


def _body(reader: Reader, arguments: Sequence[str], *, has_values: bool) -> str:
    """Return a function's body with the arguments in the place of its parameters."""
    body = _LISTED_NOWHERE.sub(r"(select true from named_by_batch n where \1 limit 1) is null", reader.body)
    body = body.replace("%", "%%") if has_values else body
    for alias in {alias for argument in arguments for alias in re.findall(r"\b([a-z]\w*)\.\w", argument)}:
        body = re.sub(rf"(?<![\w.'%]){alias}(?![\w'(])", f"{alias}_", body)  # in the body it means something else
    pairs = zip(reader.parameters, arguments, strict=True)
    given = {name: f"({argument})::{type_}" for (name, type_), argument in pairs}
    if not given:
        return body
    names = re.compile(rf"'[^']*'|(?<![\w.%])(?:{reader.name}\.)?({'|'.join(given)})(?![\w(])")
    return names.sub(lambda match: given[match[1]] if match[1] else match[0], body)


def _joined(reader: Reader, before: str, body: str, after: str, arguments: str) -> tuple[str, str, str]:
    """Return what stands before, in the place of, and after a call that returns rows."""
    alias = _ALIAS.match(after)
    name = f" as {alias[1] if alias else reader.name} ({', '.join(reader.columns)})"
    after = after[alias.end() :] if alias else after
    lateral = "cross join lateral"
    if not before.rstrip().endswith(lateral):
        return before, f"({body}){name}", after
    caller = arguments.partition(".")[0].strip()
    own = _OWN.replace("{caller}", caller)
    for pattern, instead in _OWN_ROW.items():
        body = re.sub(pattern, instead.replace("{own}", own).replace("{caller}", caller), body)
    joined = _ONE_ROW.fullmatch(body)
    if joined is None:
        return before, f"({body}){name}", after
    last = f"{lateral} (select {joined['values']}{joined['where'] or ''})"
    return before.rstrip().removesuffix(lateral), f"{joined['joins']}\n    {last}{name}", after


def _declarations(text: str) -> tuple[tuple[str, str], ...]:
    """Return the names and types in a list of parameters or columns."""
    parts = [part.partition(" default ")[0].split(maxsplit=1) for part in _arguments(text)]
    return tuple((name, type_.strip()) for name, type_ in parts)


def _arguments(text: str) -> Sequence[str]:
    """Split at the commas that are in no bracket and in no quotes."""
    parts, begin = [], 0
    for place, depth in _depths(text):
        if text[place] == "," and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    return [part for part in (*parts, text[begin:].strip()) if part]


def _closing(text: str, opening: int) -> int:
    """Return the place of the bracket that closes the one at a place."""
    return next(opening + place for place, depth in _depths(text[opening:]) if depth == 0)


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Yield each place that is in no quotes, and how many brackets are open after it."""
    depth, is_quoted = 0, False
    for place, letter in enumerate(text):
        if letter == "'":
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (letter in "([") - (letter in ")]")
            yield place, depth
