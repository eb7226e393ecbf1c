"""The rows of a file in the standard form, as its profile says; whole columns at a time."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from fnmatch import fnmatchcase
from functools import reduce
from operator import and_, or_
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.chunk import ENDS, RawChunk
from crm_core.formats.csv_text import Header
from crm_core.formats.remarks import LINE, REASONS, REMARKS, without_faulty
from crm_core.model import FURTHER_KEY, Reason
from crm_core.profiles.dates import instant_in, iso_dates, iso_instants
from crm_core.profiles.profile import EVERY_OTHER, Profile, Template, Value
from crm_core.values.hashing import normal_form

_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]+)?$"
_SHOWN = 8  # names of columns that an error lists
_PUNCTUATION = r"\s*([,;/|])(?:\s*[,;/|])+"  # what is left between parts of a text of which one is blank


@dataclass(frozen=True, slots=True)
class ProfileNaming:
    """The columns that a profile reads; columns that it neither reads nor ignores are refused, they may matter."""

    path: Path
    profile: Profile

    def columns(self, names: Sequence[str], header: Header | None) -> tuple[str, ...]:
        """Return distinct names for all columns of a file, in order; raise DropRefused if it does not fit."""
        separator = self.profile.layout.separator
        if not names:
            raise DropRefused(self.path, f"is empty; its first line names the columns: {_listed(self.profile.needed)}")
        if header is not None and header.hint not in (None, separator):
            raise DropRefused(
                self.path, f"says that {header.hint!r} is the separator, and the profile {separator!r}; correct one"
            )
        if header is not None and not header.is_sound:
            raise DropRefused(
                self.path, "has a quote in its header that is not closed; is the profile's separator right?"
            )
        columns = distinct_names(names)
        missing = [name for name in self.profile.needed if name not in columns]
        if missing:
            raise DropRefused(self.path, self._lacks(missing, columns))
        if unknown := [name for name in columns if name and self._is_unknown(name)]:
            raise DropRefused(
                self.path, f"has columns that the profile does not name: {_listed(unknown)}; {self._cure(unknown)}"
            )
        return columns

    def member(self, name: str, line: int) -> str | None:
        """Return the column that a member of JSON is, None for an ignored one; raise DropRefused for an unknown one."""
        column = normal_form(name) or name
        if column in self.profile.needed or column == REASONS:
            return column
        if column == LINE or not self._is_unknown(column):
            return None
        raise DropRefused(
            self.path, f"has a member that the profile does not name: {column[:80]!r}; {self._cure([column])}", line
        )

    def _is_unknown(self, name: str) -> bool:
        return not (
            name in self.profile.needed
            or name.lower() in REMARKS
            or any(fnmatchcase(name, pattern) for pattern in self.profile.ignore)
        )

    def _cure(self, names: Sequence[str]) -> str:
        return f"map it in profile {self.profile.name}, or write ignore = [{', '.join(map(_quoted, names[:_SHOWN]))}]"

    def _lacks(self, missing: Sequence[str], columns: Sequence[str]) -> str:
        what = f"lacks the column{'s' if len(missing) > 1 else ''} {_listed(missing)}"
        close = difflib.get_close_matches(missing[0], [name for name in columns if name], n=1)
        meant = f" (is it {close[0]!r}?)" if close else ""
        return (
            f"{what}{meant}, which profile {self.profile.name} reads; it has {_listed([one for one in columns if one])}"
        )


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns in normal form, a repeated one with its number: `Name`, `Name (2)`; "" for none."""
    seen = Counter[str]()
    columns = []
    for name in (normal_form(name) or "" for name in names):
        name = name.lower() if name.lower() in REMARKS else name
        seen[name] += 1
        columns.append(f"{name} ({seen[name]})" if name and seen[name] > 1 else name)
    return tuple(columns)


def instant_of(profile: Profile, path: Path, name: str) -> str | None:
    """Return the instant in the name of a file, if the profile takes it from there; raise DropRefused without one."""
    value = profile.columns.get("change_ts")
    if value is None or value.file_name is None:
        return None
    if (found := instant_in(name, value.file_name)) is None:
        raise DropRefused(
            path, f"has no date like {value.file_name} in its name, as profile {profile.name} says; rename it"
        )
    return found


def mapped(profile: Profile, chunk: RawChunk, time_zone: tzinfo, instant: str | None = None) -> RawChunk:
    """Return the rows of a file in the standard form: its columns are those that the profile maps.

    `instant` is that of all rows, if it comes from the name of the file. A text that is not a number or a date although
    the profile says so is rejected.
    """
    rows = _Rows(profile, chunk.frame)
    made = [rows.column(name, value, time_zone, instant) for name, value in profile.columns.items()]
    made += [rows.detail(code, value) for code, value in profile.details.items()]
    made += [rows.column(f"{FURTHER_KEY}{code}", value, time_zone, instant) for code, value in profile.keys.items()]
    faulty = {Reason.INVALID_DETAIL_VALUE: reduce(or_, rows.faults)} if rows.faults else {}
    chunk = replace(chunk, frame=pl.DataFrame([chunk.frame["line"], *made]), is_partial=profile.is_partial)
    return without_faulty(chunk, faulty)


class _Rows:
    """Makes columns of the standard form from those of a file."""

    def __init__(self, profile: Profile, frame: pl.DataFrame) -> None:
        self.profile, self.height, self.faults = profile, frame.height, list[pl.Series]()
        blanks = dict.fromkeys(("", *profile.blanks))
        nothing = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
        self.cells: Mapping[str, pl.Series] = {
            name: frame[name].str.strip_chars().replace(blanks) if name in frame.columns else nothing
            for name in profile.needed
        }

    def column(self, name: str, value: Value, time_zone: tzinfo, instant: str | None) -> pl.Series:
        if value.file_name is not None:
            return self._constant(instant).alias(name)
        texts = self._made(value)
        if name == "change_ts" and value.formats:
            texts = iso_instants(texts, value.formats, value.zone or time_zone)
        return texts.alias(name)

    def detail(self, code: str, value: Value) -> pl.Series:
        texts = self._made(value)
        if value.formats or value.is_number:
            read = iso_dates(texts, value.formats) if value.formats else self._numbers(texts)
            self.faults.append(texts.is_not_null() & read.is_null())
            texts = read
        return (texts.fill_null(ENDS) if value.ends else texts).alias(code)

    def _made(self, value: Value) -> pl.Series:
        texts = self._filled(value.template)
        if value.values is not None:
            texts = _translated(texts, value.values)
        return texts if value.default is None else texts.fill_null(value.default)

    def _filled(self, template: Template) -> pl.Series:
        match template.parts:
            case ((text, None),):
                return self._constant(text)
            case (("", str() as column),):
                return self.cells[column]
        cells = {column: self.cells[column] for column in template.columns}
        blank = [cell.is_null() for cell in cells.values()]
        frame = pl.DataFrame([cell.fill_null("").alias(column) for column, cell in cells.items()])
        pieces = [pl.col(column) if column else pl.lit(text) for text, column in _pieces(template)]
        texts = frame.select(pl.concat_str(pieces)).to_series()
        some, every = reduce(or_, blank), reduce(and_, blank)
        if some.any():
            tidy = texts.str.replace_all(_PUNCTUATION, "$1").str.strip_chars(" ,;/|-")
            texts = tidy.zip_with(some, texts).set(every, None)
        return texts

    def _numbers(self, texts: pl.Series) -> pl.Series:
        marks = {"'": "", "\u2019": "", "\xa0": "", "\u202f": "", " ": ""}
        if self.profile.thousands:
            marks[self.profile.thousands] = ""
        plain = texts.str.replace_many(marks).str.replace(self.profile.decimal, ".", literal=True)
        return plain.set(~plain.str.contains(_NUMBER).fill_null(value=False), None)

    def _constant(self, text: str | None) -> pl.Series:
        return pl.Series([text or None], dtype=pl.String).new_from_index(0, self.height)


def _pieces(template: Template) -> list[tuple[str, str | None]]:
    """Return the texts and the columns of a template apart: ("text", None) or ("", "column")."""
    return [
        piece
        for text, column in template.parts
        for piece in ((text, None), ("", column))
        if piece[0] or piece[1] is not None
    ]


def _translated(texts: pl.Series, values: Mapping[str, str]) -> pl.Series:
    named = {given: value for given, value in values.items() if given not in ("", EVERY_OTHER)}
    other = values.get(EVERY_OTHER)
    rest = texts if other is None else texts.set(texts.is_not_null(), other)
    result = texts.replace_strict(named, default=rest, return_dtype=pl.String) if named else rest
    result = result.set(texts.is_null(), None)
    return result.fill_null(values[""]) if "" in values else result


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_quoted(name) for name in names[:_SHOWN]) + more


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= 80 else name[:79] + "…", ensure_ascii=False)
