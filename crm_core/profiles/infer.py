"""Propose a profile for a file, as TOML with comments that say what each line rests on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.csv_text import Header
from crm_core.formats.layout import Layout
from crm_core.formats.reading import read_file
from crm_core.formats.remarks import LINE, NAMELESS, REMARKS
from crm_core.profiles.dates import instant_in
from crm_core.profiles.guess_columns import are_codes, are_uuids, dates_of, is_unique, meaning, plain
from crm_core.profiles.guess_layout import guess_layout
from crm_core.profiles.mapping import distinct_names
from crm_core.values.hashing import normal_form

MAX_MEMBERS = 300  # of objects in JSON
NO_ROWS = "has no rows to look at; take one that has some"
MAX_VALUES = 12  # different texts in a column of types
_IN_NAMES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%Y_%m_%d")
_KINDS = {
    "PERSON": "person persons p individual contact privat private privatperson natural mensch",
    "INSTITUTION": "institution i f firma c company organization organisation o business b account legal unternehmen"
    " geschaeftlich vendor partner juristisch",
}
_TRUE, _FALSE = "true 1 yes y x ja wahr", "false 0 no n nein falsch"
_AS_TRUE = {"false": "true", "False": "True", "FALSE": "TRUE", "0": "1", "no": "yes", "No": "Yes", "N": "Y", "n": "y"}
_OF_COMPANIES = {"PERSON": _FALSE, "INSTITUTION": _TRUE}  # values of a column that says whether it is a company
_OF_FIRMS = re.compile(r"compan|account|firm|organi|vendor|supplier|partner|lieferant|institution|kreditor")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed profile."""

    text: str  # the TOML
    notes: tuple[str, ...]  # what to look at, a sentence each


@dataclass(frozen=True, slots=True)
class _Any:
    """Takes every column of a file."""

    path: Path
    seen: dict[str, str]

    def columns(self, names: Sequence[str], header: Header | None) -> tuple[str, ...]:
        del header
        if not names:
            raise DropRefused(self.path, NO_ROWS)
        return distinct_names(names)

    def member(self, name: str, line: int) -> str | None:
        del line
        if name == LINE or len(self.seen) >= MAX_MEMBERS:
            return None
        return self.seen.setdefault(name, normal_form(name) or name)


def infer(path: Path, source: str, detail_types: Iterable[str], sources: Iterable[str] = ()) -> Proposal:
    """Propose a profile from the first rows of a file; `source` is the code of the system that it may come from.

    `sources` are the codes of those that are known: one that the name of the file has in it comes first.

    Raises DropRefused for a file that cannot be read, or has no rows.
    """
    guess = guess_layout(path)
    chunk = next((one for one in read_file(path, _Any(path, {}), guess.layout) if one.frame.height), None)
    if chunk is None:
        raise DropRefused(path, NO_ROWS)
    frame = chunk.frame.drop("line", *REMARKS, strict=False)
    frame = frame.select(name for name in frame.columns if not name.startswith(NAMELESS))
    columns = _Columns(path, frame, [*detail_types])
    known = [code.lower() for code in sources]
    source = next((code for code in known if code in path.stem.lower()), source)
    columns.is_known = source.lower() in known
    lines = [f"# Proposed from {path.name}. Look at each line, and at what the first rows become."]
    lines += [f"# {note}" for note in guess.notes]
    lines += _layout_lines(guess.layout)
    body = ["", "[columns]", *columns.entity_lines(source), "", "[details]", *columns.detail_lines()]
    if columns.is_partial:
        lines.append("partial = true  # rows set only what they name: no column looks like a name")
    if any("change_ts = {" in line for line in body):
        lines.append('# zone = "Europe/Berlin" would say whose clock its times are of; without it, CRM_TIME_ZONE does')
    ignored = [name for name in frame.columns if name not in columns.used]
    if ignored:
        lines += [
            "# Columns that are not mapped; others that come one day are refused, so that nobody misses them.",
            f"ignore = {_list(ignored)}",
        ]
    return Proposal("\n".join([*lines, *body, ""]), (*guess.notes, *columns.notes))


# What later files may give, though it is blank in each row looked at.
OF_DETAILS = {"email", "phone", "website", "address", "street", "zip", "city", "country"}


class _Columns:
    """The columns of a file and what they may be."""

    def __init__(self, path: Path, frame: pl.DataFrame, detail_types: Sequence[str]) -> None:
        self.path, self.frame, self.detail_types = path, frame, detail_types
        self.used = set[str]()
        self.is_known = True  # the source
        self.is_partial = False  # the source knows entities by their keys, and not by their names
        self.notes: list[str] = []
        self.by_meaning: dict[str, str] = {}
        blank = [name for name in frame.columns if frame[name].null_count() == frame.height]
        for name in (*(name for name in frame.columns if name not in blank), *blank):
            what = meaning(name)
            if what and "{" not in name and "}" not in name and (name not in blank or what in OF_DETAILS):
                self.by_meaning.setdefault(what, name)

    def entity_lines(self, source: str) -> list[str]:
        keys = self._key(source)
        has_name = any(name in self.by_meaning for name in ("first", "last", "name", "company"))
        self.is_partial = not has_name and not keys[0].startswith("#")
        kind = [] if self.is_partial and "type" not in self.by_meaning else [self._type()]
        return [*keys, *self._name(), *kind, *self._instant(), *self._op()]

    def detail_lines(self) -> list[str]:
        lines = []
        for code in self.detail_types:
            exact = next((name for name in self.frame.columns if plain(name) == plain(code) and plain(code)), None)
            if exact is not None and exact not in self.used:
                lines.append(f"{_key(code)} = {self._of(exact)}")
            elif code in ("email", "phone", "website") and (name := self._take(code)):
                lines.append(f"{_key(code)} = {self._of(name)}")
            elif code == "address" and (text := self._address()):
                lines.append(f"{_key(code)} = {text}")
        return lines or ['# no column looks like a detail; such as: email = "{E-Mail}"']

    def _take(self, what: str) -> str | None:
        name = self.by_meaning.get(what)
        return name if name is not None and name not in self.used else None

    def _of(self, *names: str, pattern: str | None = None) -> str:
        """Return the template of some columns, which are used up then."""
        self.used.update(names)
        return _quoted(pattern or " ".join(f"{{{name}}}" for name in names))

    def _key(self, source: str) -> list[str]:
        if name := self._take("entity_uid"):
            return [f"entity_uid = {self._of(name)}"]
        unique = [name for name in self.frame.columns if is_unique(self.frame[name])]
        keys = [name for name in unique if meaning(name) == "key"]
        keys = keys or [name for name in unique if are_uuids(self.frame[name])]
        keys = keys or [name for name in unique if name == self.frame.columns[0] and are_codes(self.frame[name])]
        if keys:
            if not self.is_known:
                self.notes.append(f"the source {source!r} is not known: name one that is, or add it to the sources")
            return [
                f"source = {_quoted(source)}  # whose keys these are; `crm types` lists the sources that are known",
                f"source_key = {self._of(keys[0])}  # in each of the rows looked at, and in none twice",
            ]
        self.notes.append(
            "no column looks like a key: a row is known by its content then, and a changed row is another entity"
        )
        return ['# source = "…" and source_key = "{…}" would name the entity by its key; no column looks like one']

    def _name(self) -> list[str]:
        first, last = self._take("first"), self._take("last")
        name = self._take("name") or self._take("company")
        if first and (family := last or self._take("name")):
            return [f"display_name = {self._of(first, family)}"]
        if chosen := name or last or first:
            return [f"display_name = {self._of(chosen)}"]
        self.notes.append("no column looks like a name: write display_name, unless the source does not know it")
        if self.is_partial:
            return ['# display_name = "{first} {last}" would be the name; no column looks like one']
        return ['display_name = "…"  # no column looks like a name; such as "{first} {last}"']

    def _type(self) -> str:
        if column := self._take("type"):
            texts = self.frame[column].drop_nulls().unique().sort().to_list()
            kinds = _OF_COMPANIES if plain(column) == "iscompany" else _KINDS
            values = {text: code for text in texts for code, words in kinds.items() if plain(text) in words.split()}
            if values and len(texts) <= MAX_VALUES:
                unknown = [text for text in texts if text not in values]
                if unknown:
                    values |= dict.fromkeys(unknown, "INSTITUTION")
                    self.notes.append(f"the entity types of {', '.join(map(repr, unknown))} are a guess")
                if any(plain(text) != plain(code) for text, code in values.items()):
                    return f"entity_type = {{ from = {self._of(column)}, values = {_map(values)} }}"
                return f"entity_type = {self._of(column)}"
        is_person = {"first", "last"} & self.by_meaning.keys()
        of_firms = _OF_FIRMS.search(self.path.stem.lower()) or (
            "company" in self.by_meaning and "name" not in self.by_meaning
        )
        kind = "PERSON" if is_person or not of_firms else "INSTITUTION"
        return f'entity_type = "{kind}"  # of all rows; a column too: {{ from = "{{…}}", values = {{ P = "PERSON" }} }}'

    def _instant(self) -> list[str]:
        named = [name for name in self.frame.columns if meaning(name) == "changed"]
        for name in named:
            if (guess := dates_of(self.frame[name])) is None:
                continue
            if not guess.formats:
                return [f"change_ts = {self._of(name)}"]
            line = f"change_ts = {{ from = {self._of(name)}, format = {_quoted(guess.formats[0])} }}"
            if guess.or_else:
                self.notes.append(
                    f"the dates of {name!r} fit {guess.formats[0]} and {guess.or_else}: no day above 12 tells which"
                )
                line += f"  # AMBIGUOUS: {guess.or_else} fits as well; ask who sends it"
            return [line]
        for each in _IN_NAMES:
            if instant_in(self.path.stem, each):
                return [f"change_ts = {{ file_name = {_quoted(each)} }}  # from the name of the file"]
        return ["# change_ts: no column says when a row changed, so it is from when the file was first seen"]

    def _op(self) -> list[str]:
        if name := self._take("op"):
            return [f"op = {self._of(name)}"]
        if name := self._take("deleted"):
            texts = self.frame[name].drop_nulls().unique().sort().to_list()
            if len(texts) == 1 and self.frame[name].null_count():  # a mark, or nothing
                return [f'op = {{ from = {self._of(name)}, values = {{ {_quoted(texts[0])} = "delete" }} }}']
            if texts and all(plain(text) in f"{_TRUE} {_FALSE}".split() for text in texts):
                gone = next((text for text in texts if plain(text) in _TRUE.split()), _AS_TRUE.get(texts[0], "true"))
                return [
                    f'op = {{ from = {self._of(name)}, values = {{ {_quoted(gone)} = "delete", "*" = "upsert" }} }}'
                ]
        return []

    def _address(self) -> str | None:
        if name := self._take("address"):
            return self._of(name)
        street, code, city, country = map(self._take, ("street", "zip", "city", "country"))
        place = " ".join(f"{{{name}}}" for name in (code, city) if name)
        parts = [f"{{{street}}}" if street else "", place, f"{{{country}}}" if country else ""]
        names = [name for name in (street, code, city, country) if name]
        return self._of(*names, pattern=", ".join(filter(None, parts))) if street or city else None


def _layout_lines(layout: Layout) -> list[str]:
    lines = [f'format = "{layout.kind}"']
    if layout.kind in ("csv", "ndjson") and layout.encoding != "utf-8":
        lines.append(f'encoding = "{layout.encoding}"')
    if layout.kind == "csv" and layout.separator != ",":
        lines.append(f"separator = {_quoted(layout.separator)}")
    if layout.skip:
        lines.append(f"skip = {layout.skip}  # lines above the header")
    return lines


def _key(code: str) -> str:
    return code if re.fullmatch(r"[A-Za-z0-9_-]+", code) else _quoted(code)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _map(values: Mapping[str, str]) -> str:
    return f"{{ {', '.join(f'{_quoted(text)} = {_quoted(code)}' for text, code in values.items())} }}"
