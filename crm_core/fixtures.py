"""Fixtures as Django serialises them → reference types and changes.

A fixture file is a JSON list of `{"model": "entity.entitytype", "pk": "PERSON", "fields": {…}}`. What it says of
versions becomes the changes that make them, so that a fixture goes in by the same merge as a drop or a request.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias, TypeVar, get_args
from uuid import UUID

from crm_core.errors import FixtureRefused
from crm_core.hashing import NAME_CHARACTERS, NOBODY, VALUE_BYTES, is_name_too_long, is_value_too_long, stored_form
from crm_core.instants import parse_instant
from crm_core.model import Change, Compares
from crm_core.resources import DATA

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

TYPES = [DATA / "fixtures" / name for name in ("001_entity_types.json", "002_detail_types.json")]  # those that ship
MODELS = ("entitytype", "detailtype", "entity", "entitydetail")  # the last part of a record's model
COMPARES: tuple[Compares, ...] = get_args(Compares)
PLAIN_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")  # what the tables of types allow

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class EntityTypeFixture:
    """A kind of entity, before the database gives it an id."""

    code: str  # upper case
    name: str
    description: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class DetailTypeFixture:
    """A kind of detail, before the database gives it an id."""

    code: str  # lower case
    name: str
    description: str
    is_active: bool
    compares: Compares


@dataclass(frozen=True, slots=True)
class Fixtures:
    """What a set of fixture files says."""

    entity_types: tuple[EntityTypeFixture, ...]
    detail_types: tuple[DetailTypeFixture, ...]
    changes: list[Change]  # by change_ts, then entity_uid; one an entity and instant
    objects: int  # records in the files


def read_fixtures(paths: Sequence[Path], time_zone: tzinfo = UTC) -> Fixtures:
    """Read fixture files, given in any order, as one set; a naive instant is read in `time_zone`.

    A version lasts until its valid_to or the next version of the same thing, whichever comes first; a detail ends with
    its entity at the latest. Raises FixtureRefused, which names file, record, fault and cure.
    """
    records = _distinct(record for path in paths for record in _records(path))
    entity_types = {r.key("pk"): _entity_type(r) for r in records if r.model == "entitytype"}
    detail_types = {r.key("pk"): _detail_type(r) for r in records if r.model == "detailtype"}
    codes = {pk: entity_type.code for pk, entity_type in entity_types.items()}
    entities = [_entity_version(r, codes, time_zone) for r in records if r.model == "entity"]
    uids = {v.record.key("pk"): v.entity_uid for v in entities if v.record.has_pk}
    uids |= {str(v.entity_uid): v.entity_uid for v in entities}
    named = detail_types | {detail_type.code: detail_type for detail_type in detail_types.values()}
    details = [_detail_version(r, uids, named, time_zone) for r in records if r.model == "entitydetail"]
    changes = _changes(entities, details)
    return Fixtures(tuple(entity_types.values()), tuple(detail_types.values()), changes, len(records))


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of a fixture file, and where it stands."""

    file: Path
    number: int  # from 1
    model: str  # one of MODELS
    fields: Mapping[str, Json]  # "pk" among them

    @property
    def has_pk(self) -> bool:
        return self.fields["pk"] is not None

    def refused(self, fault: str) -> FixtureRefused:
        return FixtureRefused(self.file, fault, self.number)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.fields.get(name, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            fault = f"{name} is {json.dumps(value)}; give it some text"
            raise self.refused(fault)
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value):
            fault = f"{name} holds a NUL or half a surrogate pair, which no database stores; take it out"
            raise self.refused(fault)
        return value

    def key(self, name: str) -> str:
        """Answer a primary or foreign key, a number or a text, as it compares."""
        value = self.fields.get(name)
        return str(value) if type(value) is int else self.text(name).strip().casefold()

    def code(self) -> str:
        """Answer the code of a type, of which the pk may be a number."""
        code = self.text("code" if "code" in self.fields else "pk").strip()
        if not PLAIN_CODE.fullmatch(code):
            fault = f"code {json.dumps(code)} cannot be used; give it a letter, then letters, digits and _, at most 63"
            raise self.refused(fault)
        return code

    def flag(self, name: str) -> bool:
        value = self.fields.get(name, True)
        if not isinstance(value, bool):
            fault = f"{name} is {json.dumps(value)}; give true or false"
            raise self.refused(fault)
        return value

    def instant(self, name: str, time_zone: tzinfo) -> datetime:
        try:
            return parse_instant(self.text(name), time_zone)
        except ValueError:
            fault = f"{name} is {json.dumps(self.fields[name])}; give ISO 8601, such as 2024-01-31T00:00:00Z"
            raise self.refused(fault) from None


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of an entity, or of one of its details, as a fixture gives it."""

    record: _Record
    entity_uid: UUID
    type_code: str  # of the entity or of the detail
    value: str  # display_name or detail_value
    valid_from: datetime
    valid_to: datetime | None

    def holds_at(self, instant: datetime) -> bool:
        return self.valid_from <= instant and (self.valid_to is None or instant < self.valid_to)


def _records(path: Path) -> Iterator[_Record]:
    try:
        content: Json = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        fault = f"it cannot be read ({error.strerror}); check its name and permissions"
        raise FixtureRefused(path, fault) from error
    except (ValueError, RecursionError) as error:
        fault = f"it is no JSON in UTF-8 ({error}); correct it, or write it again with dumpdata"
        raise FixtureRefused(path, fault) from error
    if not isinstance(content, list):
        fault = "it holds no JSON list; put the records into one"
        raise FixtureRefused(path, fault)
    for number, item in enumerate(content, start=1):
        record = item if isinstance(item, dict) else {}
        label, fields = record.get("model"), record.get("fields")
        if not isinstance(label, str) or not isinstance(fields, dict):
            fault = 'it is no record; write {"model": …, "pk": …, "fields": {…}}'
            raise FixtureRefused(path, fault, number)
        model = label.rpartition(".")[2].lower()
        if model not in MODELS:
            fault = f"model {label} is not known; take it out: only {', '.join(MODELS)} can be loaded"
            raise FixtureRefused(path, fault, number)
        yield _Record(path, number, model, {**fields, "pk": record.get("pk", fields.get("code"))})


def _distinct(records: Iterable[_Record]) -> list[_Record]:
    """List the records; two of one model and pk are refused."""
    listed: list[_Record] = []
    seen: dict[tuple[str, str], _Record] = {}
    for record in records:
        first = seen.setdefault((record.model, record.key("pk")), record) if record.has_pk else record
        if first is not record:
            fault = f"pk {record.key('pk')} is taken by record {first.number} of {first.file.name}; give it another"
            raise record.refused(fault)
        listed.append(record)
    return listed


def _entity_type(record: _Record) -> EntityTypeFixture:
    code = record.code().upper()
    return EntityTypeFixture(code, record.text("name", code), record.text("description", ""), record.flag("is_active"))


def _detail_type(record: _Record) -> DetailTypeFixture:
    code = record.code().lower()
    compares = record.text("compares", "casefold" if code == "email" else "text")
    for known in COMPARES:
        if compares == known:
            return DetailTypeFixture(
                code, record.text("name", code), record.text("description", ""), record.flag("is_active"), known
            )
    fault = f"compares is {json.dumps(compares)}; give one of {', '.join(COMPARES)}"
    raise record.refused(fault)


def _entity_version(record: _Record, codes: Mapping[str, str], time_zone: tzinfo) -> _Version:
    try:
        entity_uid = UUID(record.text("entity_uid").strip())
    except ValueError:
        fault = f"entity_uid is {json.dumps(record.fields['entity_uid'])}; give a UUID"
        raise record.refused(fault) from None
    if entity_uid in NOBODY:
        fault = f"entity_uid {entity_uid} names nobody; give another UUID"
        raise record.refused(fault)
    key = record.key("entity_type")
    name = stored_form(record.text("display_name"), "text")
    if name is not None and is_name_too_long(name):
        fault = f"display_name has {len(name):,} characters; a name has at most {NAME_CHARACTERS}"
        raise record.refused(fault)
    return _version(record, entity_uid, codes.get(key, key.upper()), name, time_zone)


def _detail_version(
    record: _Record, uids: Mapping[str, UUID], types: Mapping[str, DetailTypeFixture], time_zone: tzinfo
) -> _Version:
    owner, key = record.key("entity"), record.key("detail_type")
    if (entity_uid := uids.get(owner) or _as_uid(owner)) is None:
        fault = f"entity {owner} is in none of the files; load the file that has it too, or name its uid"
        raise record.refused(fault)
    known = types.get(key)
    value = stored_form(record.text("detail_value"), known.compares if known else "text")
    if value is not None and is_value_too_long(value):
        fault = f"detail_value is longer than {VALUE_BYTES:,} bytes; keep it elsewhere, and store where it is"
        raise record.refused(fault)
    return _version(record, entity_uid, known.code if known else key, value, time_zone)


def _as_uid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _version(record: _Record, entity_uid: UUID, type_code: str, value: str | None, time_zone: tzinfo) -> _Version:
    valid_from = record.instant("valid_from", time_zone)
    valid_to = None if record.fields.get("valid_to") is None else record.instant("valid_to", time_zone)
    if valid_to is not None and valid_to <= valid_from:
        fault = "valid_to is not after valid_from; a version holds for [valid_from, valid_to)"
        raise record.refused(fault)
    if value is None:
        fault = "its value is blank; give it some text"
        raise record.refused(fault)
    return _Version(record, entity_uid, type_code, value, valid_from, valid_to)


def _changes(entities: Sequence[_Version], details: Sequence[_Version]) -> list[Change]:
    lives = _timelines(entities, lambda version: version.entity_uid)
    listed: dict[UUID, dict[datetime, dict[str, str | None]]] = defaultdict(lambda: defaultdict(dict))
    for (entity_uid, code), timeline in _timelines(details, lambda v: (v.entity_uid, v.type_code)).items():
        for instant, value in _detail_changes(timeline, lives.get(entity_uid)):
            listed[entity_uid][instant][code] = value
    changes = [
        change
        for entity_uid in lives.keys() | listed.keys()
        for change in _changes_of_one(entity_uid, lives.get(entity_uid, ()), listed[entity_uid])
    ]
    return sorted(changes, key=lambda change: (change.change_ts, change.entity_uid))


def _changes_of_one(
    entity_uid: UUID, life: Sequence[_Version], listed: Mapping[datetime, Mapping[str, str | None]]
) -> Iterator[Change]:
    starts = {version.valid_from: version for version in life}
    for instant, version in starts.items():
        yield Change(entity_uid, instant, "upsert", version.value, version.type_code, listed.get(instant, {}))
    for instant in listed.keys() - starts.keys():
        yield Change(entity_uid, instant, "patch", details=listed[instant])
    for version in life:
        if version.valid_to is not None and version.valid_to not in starts:
            yield Change(entity_uid, version.valid_to, "delete")


def _detail_changes(
    timeline: Sequence[_Version], life: Sequence[_Version] | None
) -> Iterator[tuple[datetime, str | None]]:
    """Say when a detail gets which value, or None where it ends while its entity goes on.

    The life of an entity that is in none of the files is not known: the database holds it, or will.
    """
    starts = {version.valid_from for version in timeline}
    returns = [after.valid_from for before, after in pairwise(life or ()) if before.valid_to != after.valid_from]
    for version in timeline:
        if life is not None and not any(entity.holds_at(version.valid_from) for entity in life):
            fault = "its entity does not exist at valid_from; begin it while a version of the entity holds"
            raise version.record.refused(fault)
        if any(version.holds_at(instant) and version.valid_from < instant for instant in returns):
            fault = "it lasts while its entity was away; end it with the entity, and begin another on the return"
            raise version.record.refused(fault)
        yield version.valid_from, version.value
        end = version.valid_to
        if end is not None and end not in starts and (life is None or any(entity.holds_at(end) for entity in life)):
            yield end, None


def _timelines(versions: Sequence[_Version], key: Callable[[_Version], Key]) -> dict[Key, list[_Version]]:
    """Gather the versions of each key in order of time, each cut where the next begins."""
    gathered: dict[Key, list[_Version]] = defaultdict(list)
    for version in sorted(versions, key=lambda version: version.valid_from):
        timeline = gathered[key(version)]
        before = timeline[-1] if timeline else None
        if before and before.valid_from == version.valid_from:
            fault = f"it begins with record {before.record.number} of {before.record.file.name}; keep one of the two"
            raise version.record.refused(fault)
        if before and before.holds_at(version.valid_from):
            timeline[-1] = replace(before, valid_to=version.valid_from)
        timeline.append(version)
    for timeline in gathered.values():
        if timeline[-1].valid_to is None and timeline[-1].record.fields.get("is_current") is False:
            fault = "is_current is false, and nothing says since when; give it a valid_to"
            raise timeline[-1].record.refused(fault)
    return gathered
