"""The records of the product: types, changes, rejects, and the report on a merge."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

FURTHER_KEY = "key."  # the beginning of the name of a drop's column with keys of a further source, before its code
Op = Literal["upsert", "patch", "delete"]
Retracting = Literal["undo", "reinstate"]  # what a batch does that says which batches act
Effect = Literal["undo", "reinstate", "snapshot"]  # what a batch does to entities that no row of it names
Compares = Literal["exact", "text", "casefold"]
Status = Literal["merged", "replayed", "held", "declined", "refused"]


class Reason(enum.StrEnum):
    """Why a row is rejected: the reason codes of the drop contract, one for each fault."""

    INVALID_UID = "invalid_uid"
    MISSING_DISPLAY_NAME = "missing_display_name"
    UNKNOWN_ENTITY_TYPE = "unknown_entity_type"
    DETAILS_NOT_JSON = "details_not_json"
    DETAILS_NOT_LIST = "details_not_list"
    UNKNOWN_DETAIL_TYPE = "unknown_detail_type"
    DUPLICATE_DETAIL_TYPE = "duplicate_detail_type"
    INVALID_DETAIL_VALUE = "invalid_detail_value"
    INVALID_CHANGE_TS = "invalid_change_ts"
    FUTURE_CHANGE_TS = "future_change_ts"
    UNKNOWN_OP = "unknown_op"
    WRONG_FIELD_COUNT = "wrong_field_count"
    INVALID_ENCODING = "invalid_encoding"
    VALUE_TOO_LONG = "value_too_long"
    UNKNOWN_SOURCE = "unknown_source"
    MISSING_SOURCE_KEY = "missing_source_key"
    KEY_OF_ANOTHER_ENTITY = "key_of_another_entity"


@dataclass(frozen=True, slots=True)
class EntityType:
    """A kind of entity, such as PERSON."""

    entity_type_id: int  # smallint, the key inside the database
    code: str  # canonical spelling; matched case-insensitively
    name: str  # shown to people
    description: str
    is_active: bool  # an inactive type keeps its history and takes no new changes


@dataclass(frozen=True, slots=True)
class DetailType:
    """A kind of detail, such as email, and how its values compare."""

    detail_type_id: int
    code: str
    name: str
    description: str
    is_active: bool
    compares: Compares  # exact: byte by byte; text: in normal form; casefold: in normal form, ignoring case


@dataclass(frozen=True, slots=True)
class Source:
    """A system that changes come from, such as erp, with keys of its own for entities."""

    source_id: int  # smallint, the key inside the database
    code: str  # canonical spelling; matched case-insensitively
    name: str  # shown to people
    description: str
    is_active: bool  # an inactive source keeps its keys and names entities in no new changes


@dataclass(frozen=True, slots=True)
class ReferenceTypes:
    """The entity and detail types, and the sources, that a drop or a request may name."""

    entity_types: tuple[EntityType, ...]
    detail_types: tuple[DetailType, ...]
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted statement: from `change_ts` on, this is true."""

    entity_uid: UUID
    change_ts: datetime  # aware, microseconds
    op: Op  # upsert is complete, patch sets only the given fields, delete ends the entity
    display_name: str | None = None  # normal form; None in a patch: keep
    entity_type: str | None = None  # canonical code; None in a patch: keep
    details: Mapping[str, str | None] = field(default_factory=dict)  # canonical code → value; None ends the detail


@dataclass(frozen=True, slots=True)
class Reject:
    """A row of a drop that was rejected."""

    line: int  # physical line of the file where the row starts; the header is line 1
    reasons: tuple[Reason, ...]
    raw: str  # the row unchanged, but cut if long; bytes that are not UTF-8 are written \xNN


@dataclass(frozen=True, slots=True)
class Difference:
    """A change of one field of an entity at an instant."""

    entity_uid: str
    field: str  # display_name, entity_type or details.<code>
    at: str  # ISO 8601, UTC
    before: str | None  # None: it had no value
    after: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """An entity by its name."""

    entity_uid: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The entities of a snapshot's scope that it does not list: it ends them, or would."""

    would_end: int
    in_scope: int  # entities that exist just before
    first: tuple[Named, ...]  # of those that would end, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """What became of the rows of a drop, or of several; records in other modules extend this one."""

    rows_read: int = 0  # accepted + rejected
    rows_accepted: int = 0  # changed + unchanged
    rows_rejected: int = 0
    rows_changed: int = 0  # rows after which a timeline differs
    rows_unchanged: int = 0  # confirmations, replays, and rows superseded at their own instant
    rows_late: int = 0  # rows older than what was known of their entity
    rows_superseded: int = 0  # changes that a later recorded one at the same instant supersedes
    entities_ended: int = 0  # entities that a snapshot, mostly this one, ended by it
    entity_versions_added: int = 0
    detail_versions_added: int = 0
    rows_ending_nobody: int = 0  # deletions of an entity that did not exist just before
    rows_fallen_together: int = 0  # rows without entity_uid that say the same as one before them: one entity


@dataclass(frozen=True, slots=True)
class MergeReport(RowCounts):
    """What one drop did: its counts always balance."""

    file: str
    sha256: str | None
    status: Status
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()  # what the sender should know, a sentence each
    dry_run: bool = False  # nothing went in: the rest is what would be
    differences: tuple[Difference, ...] = ()  # of a dry run: the first changes of fields that it would make
    rejects: tuple[Reject, ...] = ()  # the first few, to show; all of a merged drop's are kept in the database
    unlisted: Unlisted | None = None  # of a snapshot

    def as_json(self) -> dict[str, object]:
        """Return the object that `crm ingest --json` prints: without the rejects; differences only of a dry run."""
        fields = {"file": self.file, "sha256": self.sha256, "status": self.status} | asdict(self)
        for name in ("rows_ending_nobody", "rows_fallen_together", "notes", "dry_run", "differences", "unlisted"):
            fields[name] = fields.pop(name)  # to the end
        for name in ("rejects",) if self.dry_run else ("rejects", "differences"):
            del fields[name]
        if self.unlisted is None:
            del fields["unlisted"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class EntityTypeFixture:
    """A kind of entity that does not have an id of the database yet."""

    code: str  # upper case
    name: str
    description: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class SourceFixture:
    """A source that does not have an id of the database yet."""

    code: str  # lower case
    name: str
    description: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class DetailTypeFixture:
    """A kind of detail that does not have an id of the database yet."""

    code: str  # lower case
    name: str
    description: str
    is_active: bool
    compares: Compares


_IN_THE_CLOUD = re.compile(r"(s3|gs)://[^/?#\s]+(/[^?#]*)?")


@dataclass(frozen=True, slots=True)
class CloudPath:
    """Where a file or a folder is in the cloud."""

    address: str  # s3:// or gs://, the bucket, and the way to it; no slash at the end

    @classmethod
    def parse(cls, text: str) -> CloudPath | None:
        """Return the path that an address names; None if it begins with no scheme of the cloud; raise ValueError."""
        if not text.startswith(("s3:", "gs:")):
            return None
        if not _IN_THE_CLOUD.fullmatch(text):
            raise ValueError(text)
        return cls(text.rstrip("/"))

    @property
    def name(self) -> str:
        """Return the last part of it."""
        return self.address.rpartition("/")[2]

    def __truediv__(self, name: str) -> CloudPath:
        return CloudPath(f"{self.address}/{name}")

    def __str__(self) -> str:
        return self.address
