"""The header of a drop: which columns it has, in which order; or why the file is not a drop."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from crm_core.errors import DropRefused
from crm_core.formats.csv_text import Header
from crm_core.formats.remarks import REASONS, REMARKS
from crm_core.model import FURTHER_KEY
from crm_core.values.hashing import normal_form

REQUIRED = ("display_name", "entity_type", "details")
# A file with these may lack the required columns: it can only delete.
OF_A_DELETION = ({"entity_uid", "op"}, {"source", "source_key", "op"})
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts", "op", "source", "source_key")
KNOWN = {"", *COLUMNS, *REMARKS}
_SEPARATORS = (";", "\t", "|")
SEARCHED = 20  # lines that are searched for a header that is not in the first one
CLOSE = 0.75  # the similarity from which on an unknown column counts as a misspelling of a known one


def standard_columns(
    path: Path,
    names: Sequence[str],
    header: Header | None,
    detail_types: Iterable[str] = (),
    sources: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the names of a file's columns in the standard form; a column may be a detail type, by its code.

    Others hold keys of sources, named by FURTHER_KEY and their codes. "" stands for empty nameless columns at the end;
    `header` is that of CSV. Raises DropRefused if it is not a drop.
    """
    codes = _codes(detail_types, sources)
    rule = _rule(codes)
    if header is not None and header.hint not in (None, ","):
        raise DropRefused(path, f"{_separated_by(header.hint or '')}; {rule}")
    if not names:
        raise DropRefused(path, f"is empty; {rule}")
    columns = tuple(_column(name, KNOWN | codes) for name in names)
    if header and not set(columns) & set(COLUMNS) and (above := _lines_above_header(header.body)):
        lines = "a line" if above == 1 else f"{above} lines"
        raise DropRefused(path, f"has {lines} above its header; remove what is above it; {rule}")
    is_sound = header is None or header.is_sound
    if faults := _faults(columns, codes) or ([] if is_sound else ["has a quote in its header that is not closed"]):
        raise DropRefused(path, f"{'; '.join(faults)}; {rule}")
    return columns


def standard_member(
    path: Path, name: str, line: int, detail_types: Iterable[str] = (), sources: Iterable[str] = ()
) -> str | None:
    """Return the column that a member of JSON is in the standard form, None for a remark that is for people.

    Raises DropRefused for an unknown one.
    """
    codes = _codes(detail_types, sources)
    column = _column(name, KNOWN | codes)
    if column not in (KNOWN | codes) - {""}:
        raise DropRefused(path, f"{_unknown('member', column, codes)}; {_rule(codes)}", line)
    return None if column in REMARKS and column != REASONS else column


def further_key(source: str) -> str:
    """Return the name of the column that holds keys of a source, given its code."""
    return f"{FURTHER_KEY}{source.lower()}"


def _codes(detail_types: Iterable[str], sources: Iterable[str]) -> Set[str]:
    return {code.lower() for code in detail_types} | {further_key(code) for code in sources}


def _lines_above_header(body: bytes) -> int:
    """Count the lines, such as a title, above what looks like a header; 0 if nothing near the start does."""
    for above, line in enumerate(body.split(b"\n", SEARCHED)[:SEARCHED]):
        if len({cell.strip(b' "\r').lower() for cell in line.split(b",")} & {name.encode() for name in COLUMNS}) > 1:
            return above
    return 0


def _column(text: str, known: Set[str]) -> str:
    """Return the name of a column: the known spelling, or else the text in lower case."""
    name = (normal_form(text) or "").lower()
    return name if name in known else text.strip().lower()


def _faults(columns: tuple[str, ...], codes: Set[str]) -> list[str]:
    if not set(columns) & set(COLUMNS):
        if len(columns) == 1 and {part.strip(' "') for part in columns[0].split(",")} & set(COLUMNS):
            return ["has each line in quotes, as a single cell; take the outer quotes away, or save it as CSV again"]
        for separator in _SEPARATORS:
            if any({part.strip(' "') for part in cell.split(separator)} & set(COLUMNS) for cell in columns):
                return [f"has no commas in its header; {_separated_by(separator)}"]
        seen = next((f"; {_separated_by(one)}" for one in _SEPARATORS if len(columns) == 1 and one in columns[0]), "")
        return [f"has no header row with a column that is known{seen}" if seen else "has no header row"]
    named = _without_nameless(columns)
    faults = [f"has the column {name} {times} times" for name, times in Counter(named).items() if times > 1 and name]
    if "" in named:
        faults.append(f"has no name for column {named.index('') + 1}, give it one or remove the column")
    faults += [_unknown("column", name, codes) for name in dict.fromkeys(named) if name not in KNOWN | codes]
    details = {name for name in codes & set(named) if not name.startswith(FURTHER_KEY)}
    missing = [name for name in REQUIRED if name not in named and not (name == "details" and details)]
    if missing and not any(columns <= set(named) for columns in OF_A_DELETION):
        faults.append(f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    return faults


def _unknown(what: str, name: str, codes: Set[str]) -> str:
    close = difflib.get_close_matches(name, [*COLUMNS, *sorted(codes)], n=1, cutoff=CLOSE)
    shown = repr(name if len(name) <= 40 else name[:39] + "…")
    return f"has an unknown {what} {shown}" + (f", is it {close[0]}?" if close else "")


def _rule(codes: Set[str]) -> str:
    details = sorted(code for code in codes if not code.startswith(FURTHER_KEY))
    known = f" ({', '.join(details)})" if details else ""
    return (
        f"a drop names its columns in the first line: {', '.join(COLUMNS)}, detail types by their codes{known}, and "
        f"{FURTHER_KEY}<source> for keys of further sources"
    )


def _without_nameless(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns without the nameless ones at the end, which spreadsheets leave behind."""
    last = max((place for place, name in enumerate(columns) if name), default=-1)
    return columns[: last + 1]


def _separated_by(separator: str) -> str:
    return f"is {separator!r} the separator? a drop uses commas"
