"""A drop as chunks of rows in the standard form, whatever its format, and whatever its columns if it has a profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from pathlib import Path

import polars as pl

from crm_core.errors import DropRefused
from crm_core.formats.chunk import RawChunk
from crm_core.formats.csv_records import RECORD_BYTES
from crm_core.formats.csv_text import Header
from crm_core.formats.reading import BLOCK_BYTES, read_file
from crm_core.formats.remarks import NAMELESS
from crm_core.profiles.mapping import ProfileNaming, instant_of, mapped
from crm_core.profiles.profile import Profile
from crm_core.rows.header import COLUMNS, KNOWN, standard_columns, standard_member


@dataclass(frozen=True, slots=True)
class Form:
    """What a drop is expected to look like."""

    detail_types: Sequence[str] = ()  # codes, by which a column may be named in the standard form
    profile: Profile | None = None  # None: the standard form
    time_zone: tzinfo = UTC  # of instants without an offset, unless the profile names one
    file_name: str | None = None  # if it is not that of the path
    sources: Sequence[str] = ()  # codes, by which a column of further keys may be named in the standard form

    @property
    def zone(self) -> tzinfo:
        """Return the zone in which instants without an offset are read."""
        return (self.profile and self.profile.zone) or self.time_zone


@dataclass(frozen=True, slots=True)
class _Standard:
    """The names of the standard form."""

    path: Path
    form: Form

    def columns(self, names: Sequence[str], header: Header | None) -> tuple[str, ...]:
        return standard_columns(self.path, names, header, self.form.detail_types, self.form.sources)

    def member(self, name: str, line: int) -> str | None:
        return standard_member(self.path, name, line, self.form.detail_types, self.form.sources)


def drop_id(sha256: str, path: Path, profile: Profile | None, file_name: str | None = None) -> str:
    """Return what a drop is known by: the SHA-256 of its bytes, or a digest of that and its profile.

    Raises DropRefused if the profile takes the instant from the name of the file, which has none.
    """
    return sha256 if profile is None else profile.drop_id(sha256, instant_of(profile, path, file_name or path.name))


def read_drop(
    path: Path,
    form: Form | None = None,
    *,
    sha256: str | None = None,
    block_bytes: int = BLOCK_BYTES,
    record_bytes: int = RECORD_BYTES,
) -> Iterator[RawChunk]:
    """Read a drop in chunks of about `block_bytes`, rows in order; memory does not grow with the file.

    Raises DropRefused if the file is not a drop of that form, or no longer has the given SHA-256.
    """
    form = form or Form()
    profile = form.profile
    if profile is None:
        standard = _Standard(path, form)
        for chunk in read_file(path, standard, sha256=sha256, block_bytes=block_bytes, record_bytes=record_bytes):
            yield _completed(chunk)
        return
    if unknown := profile.keys.keys() - {code.lower() for code in form.sources}:
        named = ", ".join(sorted(unknown))
        fault = f"has a profile with keys of {named}, which is not a known source; add it, or correct the profile"
        raise DropRefused(path, fault)
    instant = instant_of(profile, path, form.file_name or path.name)
    naming, layout = ProfileNaming(path, profile), profile.layout
    for chunk in read_file(path, naming, layout, sha256=sha256, block_bytes=block_bytes, record_bytes=record_bytes):
        yield _completed(mapped(profile, chunk.marked(), form.zone, instant))


def _completed(chunk: RawChunk) -> RawChunk:
    """Return a chunk with all columns of the standard form, and no others but those of details."""
    given = chunk.frame.columns
    absent = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in given]
    others = [name for name in given if name not in ("line", *KNOWN) and not name.startswith(NAMELESS)]
    return replace(chunk, frame=chunk.frame.with_columns(absent).select("line", *COLUMNS, *others))
