"""How a file is laid out, as far as it does not say so itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from crm_core.formats.csv_records import COMMA
from crm_core.formats.csv_text import Header
from crm_core.formats.kinds import Kind


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a file before it is read; the default is that of the standard form."""

    kind: Kind | None = None  # None: any
    encoding: str = "utf-8"  # of a text without UTF-8's byte order mark
    separator: str = COMMA
    skip: int = 0  # lines or rows above the header
    sheet: str | None = None  # of a workbook; None: the first


class Naming(Protocol):
    """Decides which columns of a file are read, and under which names; raises DropRefused if some are missing."""

    def columns(self, names: Sequence[str], header: Header | None) -> tuple[str, ...]:
        """Return distinct names for all columns of a file, in order; the header is that of CSV."""
        ...

    def member(self, name: str, line: int) -> str | None:
        """Return the name for a member of the objects in lines of JSON, which is first on this line; None: leave it."""
        ...
