"""The errors of the product, as a tree; every error carries fields, and its text says the cause and the cure.

Every error has an owner, who can fix it: the client that sent the request, the operator who runs the server, the
database that is away or busy for a while, or ourselves. Only our own errors need to be reported.

CrmError
├── SettingsError            a setting has a value that cannot be used
├── DatabaseError
│   ├── ServerUnreachable    the server does not answer at its address, or the connection was cut
│   ├── ServerFull           no connection, disk or memory is left
│   ├── DatabaseReadOnly     the database takes no writes: it is a standby, or set so
│   ├── Contended            others hold the same data, or changed it at the same time
│   ├── TimedOut             the work took longer than it may
│   ├── AccessRefused        the server answers, but refuses the user, password or database
│   ├── MissingPrivilege     the user lacks a privilege
│   ├── DatabaseUnfit        the encoding, the version or an extension does not fit
│   ├── SchemaIncomplete     a part of the schema is missing, as after a partial restore
│   ├── SchemaTooOld         run `crm migrate`
│   ├── SchemaTooNew         install a newer release
│   ├── StorageFailed        the server's files cannot be read or are damaged
│   ├── EmbeddedServerFailed the embedded PostgreSQL did not start or stop
│   ├── DatabaseNotEmpty     a backup is restored into an empty database only
│   ├── BackupFailed         a backup could not be made, or not restored: nothing was changed
│   └── DatabaseFault        the database refused one of our statements: report it
├── BackupRefused            a file that is not a backup, is damaged, or must not be overwritten
├── AlertFailed              an alert could not be sent
├── DropRefused              a file that is not a drop: nothing of it is recorded
│   └── DropUnreadable       it could not be read, or changed meanwhile: its content was not checked
├── ProfileRefused           a profile that says something which cannot be read
├── UnknownProfile           there is no profile of that name
├── SnapshotRefused          a scope or an instant that no snapshot can have
├── DecisionRefused          a drop that does not wait for a decision
├── UnknownDrop              no drop of that name or SHA-256 was ever received
├── UnknownBatch             no batch of that number was ever recorded
├── UndoRefused              a drop or batch that cannot be undone or reinstated as it stands
├── FixtureRefused           a fixture that cannot be loaded: nothing of it is recorded
├── ChangeRefused            a single change with a fault, named by the reason codes of the drop contract
├── ChangesRefused           some lines of many changes in one call have faults: nothing is recorded
├── CursorRefused            a text that is not a cursor of the feed
│   └── CursorLost           what it has seen was lost: the database was restored to an earlier moment
├── RequestRefused           a valid change that the state of its entity does not allow
│   ├── EntityExists         it was to be created
│   ├── UnknownEntity        there never was such an entity
│   ├── EntityAbsent         it did not exist at the time of the change
│   ├── EntityStale          its ETag is not one of those that were given
│   └── KeyReused            the Idempotency-Key was used for another request
├── AlreadyUp                another `crm up` runs for this home
├── AddressUnusable          nothing can be served there
├── OpenToAll                others would reach an API that asks for no token
├── ServiceFailed            a process that `crm up` started has ended, or does not become ready
├── TooMuchToFold            an answer as known at an instant would have to look through too many entities
├── UnknownType              a code that names no entity type or detail type
├── DetailTypeInUse          how the values of a detail type compare cannot change while it has some
├── NameRefused              a name that no token and no account can have
├── TokenExists              a token of that name is in use
├── UnknownToken             no token of that name or id was ever made
├── AccountExists            an account of that name exists
├── UnknownAccount           no account of that name exists
├── AdminFirst               no admin could sign in, so nobody could manage the service
├── LastAdmin                no active admin would be left
└── WeakPassword             a password that can be guessed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal
from uuid import UUID

Owner = Literal["client", "operator", "database", "ours"]


class CrmError(Exception):
    """The root of every error that the product raises on purpose."""

    owner: ClassVar[Owner] = "client"  # who can fix it


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")  # as answers write it


class SettingsError(CrmError):
    """A setting has a value that cannot be used."""

    def __init__(self, name: str, value: str, cure: str) -> None:
        self.name, self.value, self.cure = name, value, cure
        super().__init__(f"{name}={value!r}: {cure}")


class DatabaseError(CrmError):
    """The database cannot be used as asked; nothing was changed."""

    owner: ClassVar[Owner] = "operator"
    passes: ClassVar[bool] = False  # it can pass by itself, so the same work may be tried again later
    client_detail: ClassVar[str] = (
        "the database cannot be used now; tell its operator"  # the text that clients of the API get
    )

    def __init__(self, cause: str, cure: str) -> None:
        self.cause, self.cure = cause, cure
        super().__init__(f"{cause}; {cure}")


class ServerUnreachable(DatabaseError):
    """The server does not answer at its address, or the connection was cut."""

    owner = "database"
    passes = True
    client_detail = "the database cannot answer now; try again in a moment"


class ServerFull(DatabaseError):
    """The server has no connection, no disk or no memory left."""

    passes = True
    client_detail = "the database has no room left now; try again later"


class DatabaseReadOnly(DatabaseError):
    """The database takes no writes: it is a standby, or was made read-only."""

    passes = True
    client_detail = "the database cannot be written now: it is read-only; reads go on, so try again later"


class Contended(DatabaseError):
    """Others hold the same data for too long, or changed it at the same time."""

    owner = "database"
    passes = True
    client_detail = "others are changing the same data, and nothing was changed; try again in a moment"


class TimedOut(DatabaseError):
    """The work took longer than it may, or was cancelled."""

    owner = "database"
    passes = True
    client_detail = "the database cannot answer now, or not in time; try again in a moment, or ask for less"


class AccessRefused(DatabaseError):
    """The server answers, but refuses the user, the password or the database."""


class MissingPrivilege(DatabaseError):
    """The user lacks a privilege for what has to be done."""

    client_detail = "crm lacks a privilege in its database; ask its operator to grant it"


class DatabaseUnfit(DatabaseError):
    """The encoding of the database, the version of the server or an extension does not fit."""


class SchemaIncomplete(DatabaseError):
    """A part of the schema is missing, as after a partial restore."""


class SchemaTooOld(DatabaseError):
    """The database was made by an earlier release, or not yet migrated."""


class SchemaTooNew(DatabaseError):
    """The database was migrated by a later release."""


class StorageFailed(DatabaseError):
    """The server cannot read its own files, or found them damaged."""


class EmbeddedServerFailed(DatabaseError):
    """The embedded PostgreSQL did not start or stop."""


class DatabaseNotEmpty(DatabaseError):
    """A backup is restored into an empty database only."""


class BackupFailed(DatabaseError):
    """A backup could not be made or restored."""


class DatabaseFault(DatabaseError):
    """The database refused one of our statements."""

    owner = "ours"
    client_detail = "an internal error; report it with the request_id, under which the log has the details"


class BackupRefused(CrmError):
    """A file that is not a backup, is damaged, or must not be overwritten; nothing was changed."""

    owner = "operator"

    def __init__(self, file: Path | str, fault: str) -> None:
        self.file, self.fault = str(file), fault
        super().__init__(f"{file}: {fault}")


class AlertFailed(CrmError):
    """An alert could not be sent by one of its ways; it is sent again later."""

    owner = "operator"

    def __init__(self, channel: str, fault: str) -> None:
        self.channel, self.fault = channel, fault
        super().__init__(f"an alert could not be sent by {channel}: {fault}; see CRM_ALERT_… in .env.example")


class DropRefused(CrmError):
    """A file that is not a drop, or is refused whole; the text is one line that names the file and the fault."""

    def __init__(self, file: Path | str, fault: str, line: int | None = None) -> None:
        self.file, self.fault, self.line = str(file), fault, line
        super().__init__(f"{file}:{line}: {fault}" if line else f"{file}: {fault}")


class DropUnreadable(DropRefused):
    """A file that could not be read, or changed meanwhile: its content was not checked, so it may be retried."""


class ProfileRefused(CrmError):
    """A profile that cannot be used; the text is one line that names the file, the line and the key."""

    def __init__(self, file: str, fault: str, line: int | None = None) -> None:
        self.file, self.fault, self.line = file, fault, line
        super().__init__(f"{file}:{line}: {fault}" if line else f"{file}: {fault}")


class UnknownProfile(CrmError):
    """There is no profile of that name."""

    def __init__(self, name: str, folder: Path, known: Sequence[str]) -> None:
        self.name = name
        there = f"there are: {', '.join(known)}" if known else "there is none yet"
        super().__init__(
            f"no profile {name[:80]!r} is in {folder}; {there}; make one with `crm profile infer FILE --write NAME`"
        )


class SnapshotRefused(CrmError):
    """A scope or an instant that no snapshot can have; nothing was read."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class DecisionRefused(CrmError):
    """A drop that does not wait for somebody to approve or decline it."""

    def __init__(self, sha256: str, status: str) -> None:
        self.sha256, self.status = sha256, status
        super().__init__(
            f"drop {sha256[:12]} waits for no decision, it is {status}; the list of drops says what it did"
        )


class UnknownDrop(CrmError):
    """No drop of that name or SHA-256 was ever received."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no drop {name!r} was ever received; give its file, its name, or six or more digits of its SHA-256"
        )


class UnknownBatch(CrmError):
    """No batch of that number was ever recorded."""

    def __init__(self, batch_id: int) -> None:
        self.batch_id = batch_id
        super().__init__(f"no batch {batch_id} was ever recorded; take its number from the feed, /api/v1/changes")


class UndoRefused(CrmError):
    """A drop or batch cannot be undone, or reinstated, as it stands; nothing was changed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class FixtureRefused(CrmError):
    """A fixture that cannot be loaded."""

    def __init__(self, file: Path | str, fault: str, record: int | None = None) -> None:
        self.file, self.fault, self.record = str(file), fault, record
        super().__init__(f"{file}: record {record}: {fault}" if record else f"{file}: {fault}")


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
        then = "now" if at is None else f"at {_utc(at)}"
        ended = "" if ended_at is None else f" (it last ended at {_utc(ended_at)})"
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


class AlreadyUp(CrmError):
    """Another `crm up` is running for this home."""

    def __init__(self, home: Path, pid: str, address: str) -> None:
        self.home, self.pid, self.address = home, pid, address
        where = f" at {address}" if address else ""
        super().__init__(f"crm up is already running for {home}{where} (process {pid}); use it, or stop it first")


class AddressUnusable(CrmError):
    """The address cannot be served on: its port is taken, or it is not an address of this machine."""

    def __init__(self, host: str, port: int, fault: str) -> None:
        self.host, self.port, self.fault = host, port, fault
        super().__init__(f"nothing can be served on port {port} of {host}: {fault}; give another --port or --host")


class OpenToAll(CrmError):
    """Others could reach an API that asks for no token."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"others can reach {host}, but there is no token and no account yet; create one with "
            "`crm token create NAME --role admin` or `crm createsuperuser`, "
            "serve on 127.0.0.1, or set CRM_AUTH=off"
        )


class ServiceFailed(CrmError):
    """A process that `crm up` started has ended, or does not become ready."""

    def __init__(self, name: str, fault: str, log: Path, last_lines: Sequence[str]) -> None:
        self.name, self.fault, self.log, self.last_lines = name, fault, log, tuple(last_lines)
        super().__init__(f"the {name} {fault}; its whole output is in {log}")


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


class NameRefused(CrmError):
    """A name that no token and no account can have: the ledger and the logs show it as the actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {name[:100]!r} cannot be used; begin with a letter or digit, and go on with these or . @ + - _, "
            "at most 100 characters in all"
        )


class TokenExists(CrmError):
    """An active token has that name already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the token {name!r} exists already; choose another name, or revoke that token first")


class UnknownToken(CrmError):
    """No token has that name or id; the text does not show it, because it may be the text of a token."""

    def __init__(self, name_or_id: str) -> None:
        self.name_or_id = name_or_id
        super().__init__("no token has that name or id; see `crm token list`")


class AccountExists(CrmError):
    """An account of that name exists."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"an account {username!r} exists already; choose another name")


class UnknownAccount(CrmError):
    """No account of that name exists, or it cannot sign in."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"no account {username[:100]!r} exists that can sign in")


class AdminFirst(CrmError):
    """Nobody could manage the service: what was asked for needs an admin who can sign in, and there is none yet."""

    def __init__(self) -> None:
        super().__init__("no account with the role admin can sign in yet; make the first account an admin")


class LastAdmin(CrmError):
    """The last active admin can neither be demoted nor deactivated."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"{username!r} is the last active admin; make another account an admin first")


class WeakPassword(CrmError):
    """A password that can be guessed; `faults` say why, one sentence each, without showing it."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{' '.join(faults)} Choose another password.")
