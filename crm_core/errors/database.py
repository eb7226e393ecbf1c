"""Errors of the database: it is away, busy, full, unfit or refuses a statement."""

from __future__ import annotations

from typing import ClassVar

from crm_core.errors.root import CrmError, Owner


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
