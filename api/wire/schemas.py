"""The messages of the API: request bodies, and for OpenAPI the documents that PostgreSQL writes."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

T = TypeVar("T")
READ_ONLY = {"readOnly": True}
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2024-01-15T10:30:00Z"])]
ChangeInstant = Annotated[
    str | None,
    Field(
        json_schema_extra={"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "format": None},
        description="From when on it is true (ISO 8601); without an offset, or as a date alone, in CRM_TIME_ZONE. "
        "Default: now",
        pattern=r"\S",
        examples=["2024-01-15T10:30:00Z"],
    ),
]
Uid = Annotated[UUID, Field(examples=["0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01"])]
Hashdiff = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the fields that are compared")]


AN_ENTITY: JsonDict = {
    "examples": [
        {
            "display_name": "John Doe",
            "entity_type": "PERSON",
            "details": [
                {"detail_type": "email", "detail_value": "john.doe@example.com"},
                {"detail_type": "phone", "detail_value": "+1-555-0123"},
            ],
        }
    ]
}


class RequestBody(BaseModel):
    """A request body; fields that only answers have are ignored, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    valid_from: Annotated[str | None, Field(json_schema_extra=READ_ONLY)] = None
    valid_to: Annotated[str | None, Field(json_schema_extra=READ_ONLY)] = None
    is_current: Annotated[bool | None, Field(strict=True, json_schema_extra=READ_ONLY)] = None
    hashdiff: Annotated[str | None, Field(json_schema_extra=READ_ONLY)] = None


class PostedDetail(RequestBody):
    """One typed value; null ends the detail."""

    detail_type: Annotated[str, Field(examples=["email"])]
    detail_value: Annotated[str | None, Field(examples=["john.doe@example.com"])]


Keys = Annotated[
    dict[str, str | list[str]],
    Field(
        description="By the code of a source: the key by which it names the entity; a list if there are several",
        examples=[{"erp": "4711"}],
    ),
]
# At most one for each active type; a list without a bound could have any number of faults to report.
Details = Annotated[list[PostedDetail], Field(max_length=10_000)]


class EntityBody(RequestBody):
    """What a request says of an entity."""

    keys: Annotated[Keys | None, Field(json_schema_extra=READ_ONLY)] = None
    details: Details = []
    change_ts: ChangeInstant = None


class NewEntity(EntityBody):
    """An entity to create."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=AN_ENTITY)

    entity_uid: Annotated[UUID | None, Field(description="Default: a new one")] = None
    display_name: Annotated[str, Field(examples=["John Doe"])]
    entity_type: Annotated[str, Field(examples=["PERSON"])]


class KeyedEntity(EntityBody):
    """An entity that a source names by a key, as it is from `change_ts` on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=AN_ENTITY)

    entity_uid: Annotated[UUID | None, Field(description="If given, it must be the entity that the key names")] = None
    display_name: Annotated[str, Field(examples=["John Doe"])]
    entity_type: Annotated[str, Field(examples=["PERSON"])]


class EntityPatch(EntityBody):
    """The fields to change; fields that are not given stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "display_name": "John Smith",
                    "details": [{"detail_type": "email", "detail_value": "john.smith@newcompany.com"}],
                }
            ]
        },
    )

    entity_uid: Annotated[UUID | None, Field(description="If given, it must be the uid in the address")] = None
    display_name: Annotated[str | None, Field(examples=["John Smith"])] = None
    entity_type: Annotated[str | None, Field(examples=["PERSON"])] = None


class Version(BaseModel):
    """The time for which a version holds."""

    valid_from: Instant
    valid_to: Instant | None
    is_current: bool
    hashdiff: Hashdiff


class Detail(Version):
    """One typed value of an entity."""

    detail_type: Annotated[str, Field(examples=["email"])]
    detail_value: str


class Entity(Version):
    """An entity with its details."""

    entity_uid: Uid
    display_name: Annotated[str, Field(examples=["John Doe"])]
    entity_type: Annotated[str, Field(examples=["PERSON"])]
    keys: Annotated[Keys | None, Field(description="Only in answers about now")] = None
    details: list[Detail]


class EntityVersion(Version):
    """A version of an entity."""

    kind: Literal["entity"]
    entity_uid: Uid
    display_name: str
    entity_type: str


class DetailVersion(Version):
    """A version of a detail."""

    kind: Literal["detail"]
    entity_uid: Uid
    detail_type: str
    detail_value: str


class Source(BaseModel):
    """Where a change came from: a drop and its line (null: a snapshot that does not list the entity), or a request."""

    kind: Literal["drop", "request", "fixture", "undo", "reinstate"]
    sha256: str | None = None
    file_name: str | None = None
    line: int | None = None
    request_id: str | None = None


class Asserted(BaseModel):
    """What a change said; null means that it did not say it."""

    display_name: str | None
    entity_type: str | None
    details: dict[str, str | None] | None


class Then(BaseModel):
    """The state of an entity at an instant."""

    display_name: str
    entity_type: str
    details: dict[str, str]


class LinkedKey(BaseModel):
    """A key that was given to an entity, or taken from it."""

    source: str
    source_key: str
    entity_uid: Annotated[UUID | None, Field(description="That it names from then on; null: the one of its own")]


class ApprovalOfDrop(BaseModel):
    """That a drop was held, and the actor of its changes let it in."""

    sent_by: Annotated[str, Field(description="Who sent the drop")]
    reason: Annotated[str | None, Field(description="Why it was approved")]


class Recorded(BaseModel):
    """A change as it is in the ledger."""

    entity_uid: Uid
    change_ts: Instant
    recorded_at: Instant
    op: Literal["upsert", "patch", "delete", "undo", "reinstate", "snapshot"]
    actor: str
    source: Source
    asserted: Asserted
    before: Then | None
    after: Then | None
    reason: Annotated[str | None, Field(description="Of an undo, a reinstatement or a link: why")] = None
    undone: Annotated[
        Source | None, Field(description="Of an undo or a reinstatement: the drop or request that was undone")
    ] = None
    links: Annotated[list[LinkedKey] | None, Field(description="Keys that it gave to an entity, or took from it")] = (
        None
    )
    approval: Annotated[ApprovalOfDrop | None, Field(description="If the drop was held, and the actor approved it")] = (
        None
    )


class RecordedOf(Recorded):
    """A change of one of all entities."""

    display_name: Annotated[str | None, Field(description="The entity's name now, or the last that it had")]


class FieldChange(BaseModel):
    """A field that differs."""

    model_config = ConfigDict(populate_by_name=True)

    field: Annotated[str, Field(examples=["display_name", "details.email"])]
    from_: Annotated[str | None, Field(alias="from")]
    to: str | None


class Difference(BaseModel):
    """How an entity differs between two instants."""

    entity_uid: Uid
    action: Literal["created", "changed", "ended"]
    changes: list[FieldChange]


class Transition(Difference):
    """What changed of an entity at one instant, and who recorded it."""

    at: Instant
    recorded_at: Instant
    actor: str
    source: Source


class FieldDifference(BaseModel):
    """A change of one field of an entity at an instant; null is no value."""

    entity_uid: str
    field: str
    at: Instant
    before: str | None
    after: str | None


class VersionDifference(BaseModel):
    """A version as it is now, and as it would be; null: there is none that begins then."""

    field: Annotated[str, Field(examples=["entity", "details.email"])]
    before: EntityVersion | DetailVersion | None
    after: EntityVersion | DetailVersion | None


class Preview(BaseModel):
    """What a change would do; nothing of it was recorded."""

    dry_run: Literal[True]
    entity_uid: Uid
    outcome: Literal["created", "changed", "deleted"]
    change_ts: Annotated[Instant, Field(description="From when on the change would hold")]
    past_versions: Annotated[int, Field(description="Versions that would no longer hold at some instant before now")]
    versions_added: int
    versions_changed: Annotated[int, Field(description="Versions that would end at another instant or say otherwise")]
    versions_removed: int
    differences: Annotated[list[FieldDifference], Field(description="The fields that would change at change_ts")]
    versions: Annotated[list[VersionDifference], Field(description="Before and after, in order of valid_from")]
    entity: Annotated[
        Entity | None, Field(description="As it would be then, or at change_ts if it has ended; null if it ends")
    ]


class ListOf(BaseModel, Generic[T]):
    """One page of a list."""

    count: Annotated[int | None, Field(description="The number of all results; null with a cursor or count=none")]
    next: Annotated[str | None, Field(description="The address of the next page")]
    previous: str | None
    results: list[T]
