"""A profile: how the files of a source are laid out, and what their columns mean in the standard form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from crm_core.formats.layout import Layout

# What a profile may map, besides details: the columns of the standard form.
COLUMNS = (
    "entity_uid",
    "source",
    "source_key",
    "display_name",
    "entity_type",
    "details",
    "change_ts",
    "op",
)
EVERY_OTHER = "*"  # in a map of values: the value of all that are not named


@dataclass(frozen=True, slots=True)
class Template:
    """A text with the values of columns in it, such as `{first} {last}`; without any it is a constant."""

    parts: tuple[tuple[str, str | None], ...]  # a text, and the column that follows it

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns in it."""
        return tuple(column for _, column in self.parts if column is not None)


@dataclass(frozen=True, slots=True)
class Value:
    """How a value of the standard form is made."""

    template: Template
    values: Mapping[str, str] | None = None  # texts of the file → values; "" for blank, EVERY_OTHER for all others
    default: str | None = None  # where there is no value
    formats: tuple[str, ...] = ()  # of an instant or a date: the first that fits
    zone: ZoneInfo | None = None  # of an instant without an offset
    is_number: bool = False  # with the profile's marks
    ends: bool = False  # of a detail: no value ends it
    file_name: str | None = None  # of change_ts: the format of an instant in the name of the file


@dataclass(frozen=True, slots=True)
class Profile:
    """How to read the files of a source."""

    name: str
    text: str  # the TOML
    digest: str  # of what it says: 64 hexadecimal digits, whatever its comments and the order of its keys
    description: str
    layout: Layout
    columns: Mapping[str, Value]
    details: Mapping[str, Value]  # by the code of their type, in lower case
    keys: Mapping[str, Value]  # of further sources, by their codes, in lower case
    decimal: str = "."
    thousands: str = ""
    zone: ZoneInfo | None = None  # None: that of the settings
    blanks: tuple[str, ...] = ()  # texts that mean no value
    ignore: tuple[str, ...] = ()  # patterns of the names of columns that are left
    is_partial: bool = False  # rows set only what they name
    mode: Literal["delta", "snapshot"] = "delta"
    scope: tuple[str, ...] = ()  # of a snapshot: codes of entity types, or one `source=…`
    needed: tuple[str, ...] = field(default=())  # the columns that it reads

    def drop_id(self, sha256: str, instant: str | None) -> str:
        """Return what a drop is known by: the SHA-256 of its bytes' SHA-256, of what the profile says, and of the
        instant in the name of the file, if the profile takes it from there; in hexadecimal digits.
        """
        return hashlib.sha256("\n".join((sha256, self.digest, instant or "")).encode()).hexdigest()
