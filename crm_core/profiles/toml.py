"""Read a profile from TOML; a fault is named with its file, line and key."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast
from zoneinfo import ZoneInfo

import polars as pl

from crm_core.errors import ProfileRefused
from crm_core.formats.files import is_encoding
from crm_core.formats.kinds import KINDS, Kind
from crm_core.formats.layout import Layout
from crm_core.profiles.dates import EPOCHS, parsed
from crm_core.profiles.profile import COLUMNS, Profile, Template, Value
from crm_core.values.hashing import normal_form

Key = tuple[str, ...]
TOP = [
    "description",
    "format",
    "encoding",
    "separator",
    "skip",
    "sheet",
    "decimal",
    "thousands",
    "zone",
    "blanks",
    "blank",
    "ignore",
    "partial",
    "mode",
    "scope",
    "columns",
    "details",
    "keys",
]
OF_A_VALUE = ["from", "values", "default", "format", "zone", "number", "blank", "file_name"]
_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_PIECE = re.compile(r"(\{\{)|(\}\})|\{([^{}]+)\}|([^{}]+)|(.)", re.DOTALL)
_HEADER = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]+\s*(?:#.*)?")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")
_PROBE = datetime(2024, 1, 31, 13, 45, 59)  # noqa: DTZ001  the time of a wall clock, to try a format with


def read_profile(name: str, text: str, file: str) -> Profile:
    """Read a profile; `file` is what errors call it. Raises ProfileRefused."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = int(place[1]) if place else max(1, len(text.splitlines()))  # at the end
        raise ProfileRefused(file, f"is not TOML: {str(error).split(' (at')[0]}", line) from error
    return _Reader(name, text, file, given).profile()


def as_changes(text: str) -> str:
    """Return a profile without `mode` and `scope`: a part of the rows of a snapshot, corrected, is not a snapshot."""
    top = re.split(r"(?m)^(?=\[)", text, maxsplit=1)[0]
    return re.sub(r"(?ms)^(?:mode\s*=[^\n]*|scope\s*=\s*(?:\[.*?\])?[^\n]*)\n?", "", top) + text[len(top) :]


class _Reader:
    """Reads the keys of one profile."""

    def __init__(self, name: str, text: str, file: str, given: dict[str, object]) -> None:
        self.name, self.text, self.file, self.given = name, text, file, given

    def profile(self) -> Profile:
        self._require_known(self.given, TOP, ())
        blank_ends = self._choice(self.given, ("blank",), ("keep", "ends"), "keep") == "ends"
        columns = {
            name: self._value(value, ("columns", name), is_detail=False, ends=False)
            for name, value in self._table("columns").items()
        }
        details = {
            (normal_form(name) or "").lower(): self._value(value, ("details", name), is_detail=True, ends=blank_ends)
            for name, value in self._table("details").items()
        }
        keys = {
            (normal_form(name) or "").lower(): self._value(value, ("keys", name), is_detail=False, ends=False)
            for name, value in self._table("keys").items()
        }
        self._require_known(columns, COLUMNS, ("columns",))
        partial = self._flag(self.given, ("partial",))
        self._require_enough(columns, is_partial=partial)
        made = [*columns.values(), *details.values(), *keys.values()]
        return Profile(
            name=self.name,
            text=self.text,
            digest=hashlib.sha256(json.dumps(self.given, sort_keys=True, default=str).encode()).hexdigest(),
            description=self._text(self.given, ("description",)) or "",
            layout=self._layout(),
            columns=columns,
            details=details,
            keys=keys,
            decimal=self._mark("decimal", "."),
            thousands=self._mark("thousands", ""),
            zone=self._zone(self.given, ("zone",)),
            blanks=tuple(self._texts(("blanks",))),
            ignore=tuple(self._texts(("ignore",))),
            is_partial=partial,
            mode=cast(
                Literal["delta", "snapshot"], self._choice(self.given, ("mode",), ("delta", "snapshot"), "delta")
            ),
            scope=tuple(self._texts(("scope",))),
            needed=tuple(dict.fromkeys(column for value in made for column in value.template.columns)),
        )

    def refuse(self, key: Key, fault: str) -> ProfileRefused:
        """Return the error about a key, with its line."""
        return ProfileRefused(self.file, f"{'.'.join(key)} {fault}" if key else fault, line_of(self.text, key))

    def _require_known(self, given: Iterable[str], known: Sequence[str], key: Key) -> None:
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                meant = f"; is it {close[0]}?" if close else ""
                raise self.refuse((*key, name), f"is not a key here{meant}; there are: {', '.join(known)}")

    def _require_enough(self, columns: Mapping[str, Value], *, is_partial: bool) -> None:
        if is_partial:
            needs = ("entity_uid", "source_key")
            if not any(name in columns for name in needs):
                raise self.refuse(("partial",), "needs columns.source_key, or columns.entity_uid, to name the entity")
        elif not {"entity_uid", "op"} <= columns.keys() and not {"source_key", "op"} <= columns.keys():
            for name, example in (("display_name", "{first} {last}"), ("entity_type", "PERSON")):
                if name not in columns:
                    raise self.refuse(("columns",), f'lacks {name}; such as {name} = "{example}"')
        mode, scope = self.given.get("mode", "delta"), self.given.get("scope")
        if (mode == "snapshot") != bool(scope):
            fault = (
                'goes with mode = "snapshot"' if scope else 'needs scope: what it lists completely, such as ["PERSON"]'
            )
            raise self.refuse(("scope",) if scope else ("mode",), fault)
        if ("source_key" in columns) != ("source" in columns):
            raise self.refuse(("columns",), "needs both source and source_key: whose key it is, and the key")

    def _layout(self) -> Layout:
        encoding = self._text(self.given, ("encoding",)) or "utf-8"
        if not is_encoding(encoding):
            raise self.refuse(
                ("encoding",),
                f"is {encoding!r}, which is not a known encoding; use one such as utf-8, cp1252 or utf-16",
            )
        separator = self._text(self.given, ("separator",)) or ","
        separator = _SEPARATORS.get(separator, separator)
        if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0 ' or separator.isalnum():
            raise self.refuse(("separator",), f'is {separator!r}; write one character, such as ";", or "tab"')
        skip = self.given.get("skip", 0)
        if not isinstance(skip, int) or isinstance(skip, bool) or not 0 <= skip <= 1_000:
            raise self.refuse(("skip",), "is not a number of lines above the header; write a whole number up to 1000")
        kind = self._choice(self.given, ("format",), KINDS, None)
        return Layout(cast(Kind | None, kind), encoding, separator, skip, self._text(self.given, ("sheet",)))

    def _value(self, given: object, key: Key, *, is_detail: bool, ends: bool) -> Value:
        if isinstance(given, str):
            return Value(self._template(given, key), ends=ends)
        if not isinstance(given, dict):
            raise self.refuse(key, 'is neither a text nor a table; such as "{column}" or { from = "{column}" }')
        self._require_known(given, OF_A_VALUE, key)
        of_file = self._text(given, (*key, "file_name"))
        if of_file is not None and (key != ("columns", "change_ts") or "from" in given):
            raise self.refuse((*key, "file_name"), "is for columns.change_ts alone, and instead of from")
        if of_file is None and "from" not in given:
            raise self.refuse(key, 'lacks from; such as from = "{column}"')
        if "blank" in given and not is_detail:
            raise self.refuse((*key, "blank"), "is for details: only they can end alone")
        formats = given.get("format", [])
        formats = [formats] if isinstance(formats, str) else formats
        if not isinstance(formats, list) or not all(isinstance(each, str) for each in formats):
            raise self.refuse((*key, "format"), 'is not a text or a list of texts; write, for example, "%d.%m.%Y"')
        for each in [*formats, *([of_file] if of_file else [])]:
            self._require_format(each, key)
        return Value(
            template=self._template(self._text(given, (*key, "from")) or "", key),
            values=self._map(given, (*key, "values")),
            default=self._text(given, (*key, "default")),
            formats=tuple(formats),
            zone=self._zone(given, (*key, "zone")),
            is_number=self._flag(given, (*key, "number")),
            ends=self._choice(given, (*key, "blank"), ("keep", "ends"), "ends" if ends else "keep") == "ends",
            file_name=of_file,
        )

    def _template(self, text: str, key: Key) -> Template:
        parts: list[tuple[str, str | None]] = []
        before = ""
        for opening, closing, column, plain, odd in _PIECE.findall(text):
            if odd:
                raise self.refuse(key, f"has a single {odd!r}; write a column as {{name}}, and a brace twice")
            if column:
                parts.append((before, normal_form(column) or column))
                before = ""
            else:
                before += "{" if opening else "}" if closing else plain
        if before or not parts:
            parts.append((before, None))
        return Template(tuple(parts))

    def _require_format(self, text: str, key: Key) -> None:
        if text in EPOCHS:
            return
        written = _PROBE.strftime(text.replace("%.f", "").replace("%:z", "+01:00").replace("%z", "+0100"))
        try:
            (found,) = parsed(pl.Series([written]), text)
        except pl.exceptions.PolarsError:
            found = None
        if found is None or (found.year, found.month, found.day) != (_PROBE.year, _PROBE.month, _PROBE.day):
            fault = f"has the format {text!r}, which makes no date; such as %d.%m.%Y or %Y-%m-%d %H:%M:%S"
            raise self.refuse(key, fault)

    def _zone(self, given: Mapping[str, object], key: Key) -> ZoneInfo | None:
        name = self._text(given, key)
        try:
            return ZoneInfo(name) if name else None
        except (ValueError, OSError, KeyError):
            raise self.refuse(key, f"is {name!r}; write a name such as Europe/Berlin") from None

    def _mark(self, name: str, default: str) -> str:
        mark = self._text(self.given, (name,))
        if mark is not None and (len(mark) > 1 or mark.isalnum()):
            raise self.refuse((name,), f'is {mark!r}; write one character, such as "{default or "."}"')
        return default if mark is None else mark

    def _table(self, name: str) -> dict[str, object]:
        table = self.given.get(name, {})
        if not isinstance(table, dict):
            raise self.refuse((name,), f"is not a table; write [{name}] on a line of its own")
        return table

    def _map(self, given: Mapping[str, object], key: Key) -> Mapping[str, str] | None:
        table = given.get(key[-1])
        if table is None:
            return None
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise self.refuse(key, 'is not a map of texts; write one such as { P = "PERSON", "*" = "INSTITUTION" }')
        return table

    def _text(self, given: Mapping[str, object], key: Key) -> str | None:
        value = given.get(key[-1])
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, "is not a text; put it in quotes")
        return value

    def _texts(self, key: Key) -> list[str]:
        value = self.given.get(key[-1], [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise self.refuse(key, 'is not a list of texts; write one such as ["a", "b"]')
        return texts

    def _flag(self, given: Mapping[str, object], key: Key) -> bool:
        value = given.get(key[-1], False)
        if not isinstance(value, bool):
            raise self.refuse(key, "is neither true nor false")
        return value

    def _choice(self, given: Mapping[str, object], key: Key, known: Sequence[str], default: str | None) -> str | None:
        value = given.get(key[-1], default)
        if value is not None and value not in known:
            raise self.refuse(key, f"is {value!r}; choose one of: {', '.join(known)}")
        return cast(str | None, value)


def line_of(text: str, key: Key) -> int | None:
    """Return the line on which a key, or the nearest table around it, is written in TOML; None if it is not."""
    best, found, table = 0, None, Key()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _parts(header[1])
            path = table
        elif match := _KEY.match(line):
            path = (*table, *_parts(match[1]))
        else:
            continue
        if len(path) > best and key[: len(path)] == path:
            best, found = len(path), number
    return found


def _parts(dotted: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(r"""\"[^"]*\"|'[^']*'|[\w-]+""", dotted))
