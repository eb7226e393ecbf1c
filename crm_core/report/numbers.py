"""The numbers of the data-quality report: what each drop did, and how complete and fresh the data are.

drop_file, rejects, ledger and versions are read as of one moment; `crm_core.report.page` makes the page.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar
from uuid import UUID

from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from crm_core.errors import UnknownDrop
from crm_core.formats.files import fingerprint
from crm_core.model import Reason, Reject, RowCounts
from crm_core.postgres.connection import Connection
from crm_core.reference import reference_types
from crm_core.resources import statement
from crm_core.utc import utc_text

SUPERSEDED_NAMED = 10  # of each drop
REJECTS_NAMED = 10  # of each drop
BREACHES_NAMED = 10
ROW_BEGINS = 240  # characters of a rejected row

CONTRACT_WORDS = frozenset({"detail_type", "detail_value", "upsert", "delete", "null", "true", "false"})
_WORD = r"0-9A-Za-z_\x80-\U0010ffff"  # everything that is not ASCII is part of a word
_TOKEN = re.compile(
    rf"(?P<uuid>[0-9A-Fa-f]{{8}}(-[0-9A-Fa-f]{{4}}){{3}}-[0-9A-Fa-f]{{12}}(?![{_WORD}]))"
    rf"|(?P<number>[0-9]+(?![{_WORD}]))|[{_WORD}]+"
)

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many rows were rejected for a reason; a row with several reasons counts for each."""

    reason: Reason
    rows: int


@dataclass(frozen=True, slots=True)
class FieldChanges:
    """How often drops changed one field.

    This counts the instants at which a timeline, as it is now, gets another value than just before, if a change of the
    drop is the last recorded one of that instant. So if a later drop replaces a change at the same instant, it counts
    for the later drop; and a late change in between counts for its own drop, and its end for the drop of the next
    change.
    """

    field: str  # display_name, entity_type or details.<code>
    created: int  # there is no value just before: the entity or detail is new, or returns
    changed: int  # there is a different value just before, as the field compares
    ended: int  # there is no value from then on


@dataclass(frozen=True, slots=True)
class Superseded:
    """A change that a change of a drop superseded at the same instant."""

    entity_uid: UUID
    change_ts: datetime
    source: Literal["drop", "request", "fixture"]  # it came from
    file_name: str | None  # of the drop that it came from, which may be the same
    line: int  # its line there
    by_line: int  # the line of the drop that superseded it when the drop was merged


@dataclass(frozen=True, slots=True)
class DropReport(RowCounts):
    """What one drop did."""

    sha256: str
    file_name: str  # the name under which its bytes first came
    bytes: int
    # seen: begun, but neither merged nor refused yet
    status: Literal["merged", "undone", "refused", "seen", "held", "declined"]
    first_seen_at: datetime
    merged_at: datetime | None
    batch_id: int | None  # its place in recording order
    seconds: float
    error: str | None  # why it was refused
    notes: list[str]  # what the sender should know
    reject_share: float | None  # of the rows read; None if there are none
    # Read = accepted + rejected, accepted = changed + unchanged, and rejects and ledger hold as many rows.
    balances: bool
    reasons: tuple[ReasonCount, ...] = ()  # most frequent first
    field_changes: tuple[FieldChanges, ...] = ()  # in order of the field; fields without a change are left out
    superseded: tuple[Superseded, ...] = ()  # the first of rows_superseded
    worst_rejects: tuple[Reject, ...] = ()  # most faults first, then by line; `raw` is cut, and masked unless asked


@dataclass(frozen=True, slots=True)
class Totals(RowCounts):
    """All drops that ever came, added up."""

    drops_merged: int
    drops_refused: int
    drops_unfinished: int
    drops_undone: int
    drops_held: int
    reject_share: float | None


@dataclass(frozen=True, slots=True)
class Completeness:
    """How many current entities of a type have a detail."""

    entity_type: str
    detail_type: str
    entities: int
    entities_with: int
    share: float | None  # None if there are no entities


@dataclass(frozen=True, slots=True)
class Distinctness:
    """How many of the current values of a detail type are different, as the type compares them."""

    detail_type: str
    total: int
    distinct_values: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """When the newest drop came, and the instant of the newest change, with their ages."""

    drop_at: datetime | None
    drop_age_seconds: float | None
    change_ts: datetime | None
    change_age_seconds: float | None


@dataclass(frozen=True, slots=True)
class Books:
    """Whether the counts of all drops balance, which is an invariant of `crm check`."""

    balance: bool
    breaches: int
    examples: tuple[str, ...]  # the first breaches, a line each


@dataclass(frozen=True, slots=True)
class Report:
    """The data-quality report."""

    made_at: datetime
    shows_values: bool  # of rejected rows
    totals: Totals
    books: Books
    freshness: Freshness
    completeness: tuple[Completeness, ...]  # by entity type, then detail type
    distinctness: tuple[Distinctness, ...]  # by detail type
    reasons: tuple[ReasonCount, ...]  # of the drops below, most frequent first
    field_changes: tuple[FieldChanges, ...]  # of the drops below
    drops: tuple[DropReport, ...]  # newest first


def collect(
    connection: Connection,
    *,
    now: datetime,
    last: int = 20,
    sha256s: Sequence[str] | None = None,
    show_values: bool = False,
) -> Report:
    """Read the report on the last drops, or on those with the given SHA-256.

    All of it is as of one moment, unless the connection is in a transaction: then it is what that transaction sees.
    """
    with _at_one_moment(connection):
        drops = _drops(connection, sha256s, last if sha256s is None else len(sha256s), show_values=show_values)
        return Report(
            made_at=now,
            shows_values=show_values,
            totals=totals(connection),
            books=books(connection),
            freshness=freshness(connection, now=now),
            completeness=tuple(_records(connection, Completeness, "report/completeness")),
            distinctness=tuple(_records(connection, Distinctness, "report/distinctness")),
            reasons=_add_reasons(drops),
            field_changes=_add_field_changes(drops),
            drops=tuple(drops),
        )


def collect_drop(
    connection: Connection, sha256: str, *, with_field_changes: bool = True, show_values: bool = False
) -> DropReport:
    """Read what one drop did; its field changes take a second for some 200,000 rows, and can be left out.

    Raises UnknownDrop.
    """
    with _at_one_moment(connection):
        drops = _drops(connection, [sha256], 1, with_field_changes=with_field_changes, show_values=show_values)
    if not drops:
        raise UnknownDrop(sha256)
    return drops[0]


def totals(connection: Connection) -> Totals:
    """Read what all drops did, added up."""
    return _records(connection, Totals, "report/totals")[0]


def freshness(connection: Connection, *, now: datetime) -> Freshness:
    """Read how old the newest drop and the newest change are."""
    return _records(connection, Freshness, "report/freshness", now=now)[0]


def books(connection: Connection) -> Books:
    """Read whether the counts of all drops agree with what is kept of them."""
    with connection.cursor() as cursor:
        breaches = cursor.execute(statement("check/11_books_balance"))
        examples = tuple(line for (line,) in islice(breaches, BREACHES_NAMED))
        return Books(cursor.rowcount == 0, cursor.rowcount, examples)


def find_drops(connection: Connection, name: str, *, prefer: Sequence[str] = ()) -> Sequence[str]:
    """Return the SHA-256 of the drops meant by a file, by a name, or by six or more digits of the SHA-256.

    Of several, only those with the first status of `prefer` that one of them has, if there is any. Raises UnknownDrop
    if no such drop was ever received.
    """
    file = Path(name)
    values = {"name": fingerprint(file) if file.is_file() else os.fsencode(name).decode(errors="replace")}
    found: dict[str, str] = dict(connection.execute(statement("report/find_drop"), values).fetchall())
    if not found:
        raise UnknownDrop(name)
    preferred = ([sha256 for sha256, its in found.items() if its == status] for status in prefer)
    return next(filter(None, preferred), [*found])


def as_json(report: Report) -> str:
    """Return the report as a JSON object with the names of its fields; instants are ISO 8601 in UTC."""
    return json.dumps(asdict(report), default=_plain, ensure_ascii=False, indent=2)


def masked(row: str, keep: Set[str]) -> str:
    """Return a row with its values masked: a number becomes 9, a word becomes x, and everything between them stays.

    The lengths do not show. UUIDs stay, and so do the words in `keep`, given in lower case.
    """

    def mask(token: re.Match[str]) -> str:
        if token["uuid"] or token[0].lower() in keep:
            return token[0]
        return "9" if token["number"] else "x"

    return _TOKEN.sub(mask, row)


@contextmanager
def _at_one_moment(connection: Connection) -> Iterator[None]:
    """Let all reads in the block see one moment, unless a transaction has begun; its settings end with it."""
    level = connection.isolation_level
    begins = connection.info.transaction_status is TransactionStatus.IDLE
    if begins:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction(force_rollback=True):
            yield
    finally:
        if begins:
            connection.isolation_level = level


def _drops(
    connection: Connection,
    sha256s: Sequence[str] | None,
    limit: int,
    *,
    with_field_changes: bool = True,
    show_values: bool,
) -> Sequence[DropReport]:
    drops = _records(connection, DropReport, "report/drops", sha256s=sha256s, limit=limit)
    rejecting = [drop.sha256 for drop in drops if drop.rows_rejected]
    merged = _batches(connection, [drop.sha256 for drop in drops if drop.status == "merged" and with_field_changes])
    superseding = _batches(connection, [drop.sha256 for drop in drops if drop.rows_superseded])

    types = reference_types(connection)
    codes = [*(known.code for known in types.entity_types), *(known.code for known in types.detail_types)]
    keep = CONTRACT_WORDS.union(map(str.lower, codes))

    def reason_count(reason: str, rows: int) -> ReasonCount:
        return ReasonCount(Reason(reason), rows)

    def reject(line: int, reasons: Sequence[str], raw: str) -> Reject:
        begins = raw if len(raw) <= ROW_BEGINS else f"{raw[:ROW_BEGINS]}…"
        return Reject(line, tuple(map(Reason, reasons)), begins if show_values else masked(begins, keep))

    connection.execute(statement("report/choose_joins"), {"batch_ids": merged})
    reasons = _by_drop(connection, reason_count, "report/reasons", sha256s=rejecting)
    field_changes = _by_drop(connection, FieldChanges, "report/field_changes", batch_ids=merged)
    superseded = _by_drop(connection, Superseded, "report/superseded", batch_ids=superseding, limit=SUPERSEDED_NAMED)
    worst_rejects = _by_drop(
        connection, reject, "report/worst_rejects", sha256s=rejecting, limit=REJECTS_NAMED, characters=ROW_BEGINS + 1
    )
    return [
        replace(
            drop,
            reasons=tuple(reasons[drop.sha256]),
            field_changes=tuple(field_changes[drop.sha256]),
            superseded=tuple(superseded[drop.sha256]),
            worst_rejects=tuple(worst_rejects[drop.sha256]),
        )
        for drop in drops
    ]


def _batches(connection: Connection, sha256s: Sequence[str]) -> list[int]:
    """Read the batches of some drops: one for each, and more where rejected rows were merged later."""
    return [batch_id for (batch_id,) in connection.execute(statement("report/batches"), {"sha256s": sha256s})]


def _add_reasons(drops: Sequence[DropReport]) -> tuple[ReasonCount, ...]:
    rows = Counter[Reason]()
    for drop in drops:
        rows.update({count.reason: count.rows for count in drop.reasons})
    return tuple(ReasonCount(reason, count) for reason, count in rows.most_common())


def _add_field_changes(drops: Sequence[DropReport]) -> tuple[FieldChanges, ...]:
    created, changed, ended = Counter[str](), Counter[str](), Counter[str]()
    for changes in (changes for drop in drops for changes in drop.field_changes):
        created[changes.field] += changes.created
        changed[changes.field] += changes.changed
        ended[changes.field] += changes.ended
    fields = sorted(created, key=lambda field: (field.startswith("details."), field))
    return tuple(FieldChanges(field, created[field], changed[field], ended[field]) for field in fields)


def _records(connection: Connection, record: type[Record], name: str, **values: object) -> Sequence[Record]:
    """Read records from a statement whose columns are named like their fields."""
    with connection.cursor(row_factory=class_row(record)) as cursor:
        return cursor.execute(statement(name), values).fetchall()


def _by_drop(
    connection: Connection, record: Callable[..., Record], name: str, **values: object
) -> Mapping[str, Sequence[Record]]:
    """Read records from a statement whose first column is the SHA-256 of the drop that each belongs to."""
    found = defaultdict[str, list[Record]](list)
    for sha256, *fields in connection.execute(statement(name), values):
        found[sha256].append(record(*fields))
    return found


def _plain(value: object) -> str:
    return utc_text(value) if isinstance(value, datetime) else str(value)
