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
├── BytesGone                a drop was declined, and its bytes are not kept any longer
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

from crm_core.errors.access import (
    AccountExists,
    AdminFirst,
    LastAdmin,
    NameRefused,
    TokenExists,
    UnknownAccount,
    UnknownToken,
    WeakPassword,
)
from crm_core.errors.changes import (
    ChangeRefused,
    ChangesRefused,
    CursorLost,
    CursorRefused,
    DetailTypeInUse,
    EntityAbsent,
    EntityExists,
    EntityStale,
    KeyReused,
    LineFault,
    RequestRefused,
    TooMuchToFold,
    UnknownEntity,
    UnknownType,
)
from crm_core.errors.database import (
    AccessRefused,
    BackupFailed,
    Contended,
    DatabaseError,
    DatabaseFault,
    DatabaseNotEmpty,
    DatabaseReadOnly,
    DatabaseUnfit,
    EmbeddedServerFailed,
    MissingPrivilege,
    SchemaIncomplete,
    SchemaTooNew,
    SchemaTooOld,
    ServerFull,
    ServerUnreachable,
    StorageFailed,
    TimedOut,
)
from crm_core.errors.drops import (
    BytesGone,
    DecisionRefused,
    DropRefused,
    DropUnreadable,
    FixtureRefused,
    ProfileRefused,
    SnapshotRefused,
    UndoRefused,
    UnknownBatch,
    UnknownDrop,
    UnknownProfile,
)
from crm_core.errors.root import (
    CrmError,
    Owner,
)
from crm_core.errors.running import (
    AddressUnusable,
    AlertFailed,
    AlreadyUp,
    BackupRefused,
    OpenToAll,
    ServiceFailed,
    SettingsError,
)

__all__ = [
    "AccessRefused",
    "AccountExists",
    "AddressUnusable",
    "AdminFirst",
    "AlertFailed",
    "AlreadyUp",
    "BackupFailed",
    "BackupRefused",
    "BytesGone",
    "ChangeRefused",
    "ChangesRefused",
    "Contended",
    "CrmError",
    "CursorLost",
    "CursorRefused",
    "DatabaseError",
    "DatabaseFault",
    "DatabaseNotEmpty",
    "DatabaseReadOnly",
    "DatabaseUnfit",
    "DecisionRefused",
    "DetailTypeInUse",
    "DropRefused",
    "DropUnreadable",
    "EmbeddedServerFailed",
    "EntityAbsent",
    "EntityExists",
    "EntityStale",
    "FixtureRefused",
    "KeyReused",
    "LastAdmin",
    "LineFault",
    "MissingPrivilege",
    "NameRefused",
    "OpenToAll",
    "Owner",
    "ProfileRefused",
    "RequestRefused",
    "SchemaIncomplete",
    "SchemaTooNew",
    "SchemaTooOld",
    "ServerFull",
    "ServerUnreachable",
    "ServiceFailed",
    "SettingsError",
    "SnapshotRefused",
    "StorageFailed",
    "TimedOut",
    "TokenExists",
    "TooMuchToFold",
    "UndoRefused",
    "UnknownAccount",
    "UnknownBatch",
    "UnknownDrop",
    "UnknownEntity",
    "UnknownProfile",
    "UnknownToken",
    "UnknownType",
    "WeakPassword",
]
