"""Errors of single changes, of many in one call, and of reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm_core.errors.root import CrmError
from crm_core.utc import utc_text


class ChangeRefused(CrmError):
    """A single change with `faults`: (reason code of the drop contract, field, what is wrong and the cure)."""

    def __init__(self, faults: Sequence[tuple[str, str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{field}: {said}" for _, field, said in faults))


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with one of many changes."""

    line: int  # the first is 1
    said: str  # what is wrong, or the line as it stood
    reason: str | None = None  # reason codes of the drop contract, with commas between them


class ChangesRefused(CrmError):
    """Some lines of many changes in one call have faults, so nothing is recorded."""

    def __init__(self, faults: Sequence[LineFault]) -> None:
        self.faults = tuple(faults)
        bad = len({fault.line for fault in faults})
        lines = "1 line is" if bad == 1 else f"{bad:,} lines are"
        super().__init__(f"{lines} bad, so nothing was recorded; correct them, and send all lines again")


class CursorRefused(CrmError):
    """A text that is not a cursor of the feed."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__("is not a cursor of the feed; copy it unchanged from `next`, or leave it blank to begin")


class CursorLost(CursorRefused):
    """A cursor of what was recorded after the moment to which the database was restored."""

    def __init__(self, text: str) -> None:
        self.text = text
        CrmError.__init__(
            self,
            "is of changes that this database does not have, because it was restored to an earlier moment; "
            "remove what you made of the feed, and begin with a blank cursor",
        )


class RequestRefused(CrmError):
    """A valid change that the state of its entity does not allow, so nothing was recorded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class EntityExists(RequestRefused):
    """An entity that was to be created exists already."""

    def __init__(self, entity_uid: UUID) -> None:
        self.entity_uid = entity_uid
        super().__init__(f"the entity {entity_uid} exists; change it with PATCH, or give another entity_uid")


class UnknownEntity(RequestRefused):
    """No entity with that uid was ever known."""

    def __init__(self, entity_uid: UUID) -> None:
        self.entity_uid = entity_uid
        super().__init__(f"no entity {entity_uid} was ever known; look for it in the list, or create it with POST")


class EntityAbsent(RequestRefused):
    """The entity is known, but did not exist at the time of the change; `ended_at` is when it had last ended then."""

    def __init__(self, entity_uid: UUID, at: datetime | None, ended_at: datetime | None) -> None:
        self.entity_uid, self.at, self.ended_at = entity_uid, at, ended_at
        then = "now" if at is None else f"at {utc_text(at)}"
        ended = "" if ended_at is None else f" (it last ended at {utc_text(ended_at)})"
        super().__init__(f"the entity {entity_uid} does not exist {then}{ended}; see its history, or create it again")


class EntityStale(RequestRefused):
    """The entity's ETag is not one of those that the request gave."""

    def __init__(self, entity_uid: UUID) -> None:
        self.entity_uid = entity_uid
        super().__init__(
            f"the entity {entity_uid} has changed since you read it; read it again, and repeat what still applies"
        )


class KeyReused(RequestRefused):
    """The Idempotency-Key was used for another request."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the Idempotency-Key {key!r} was used for another request; use a new key for a new request")


class TooMuchToFold(CrmError):
    """A read with known_at would have to search more than `at_most` entities."""

    def __init__(self, at_most: int) -> None:
        self.at_most = at_most
        super().__init__(
            f"with known_at, more than {at_most:,} entities would have to be searched for this answer; "
            "ask for everything as NDJSON, use count=none or a shorter window, or leave out q and details"
        )


class UnknownType(CrmError):
    """The code of an entity type or detail type that does not exist."""

    def __init__(self, kind: str, code: str, known: Sequence[str]) -> None:
        self.kind, self.code, self.known = kind, code, tuple(known)
        cure = f"choose one of: {', '.join(known)}" if known else "there are none yet: let an admin add it"
        super().__init__(f"{code!r} is not a known {kind}; {cure}")


class DetailTypeInUse(CrmError):
    """A detail type that has values cannot compare in another way, because their hashdiffs depend on it."""

    def __init__(self, code: str, compares: str, asked: str) -> None:
        self.code, self.compares, self.asked = code, compares, asked
        super().__init__(
            f"detail type {code!r} has values that compare as {compares}, so this cannot change to {asked}; "
            f"keep {compares}, or make a detail type with another code"
        )
