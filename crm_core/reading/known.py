"""Reads with known_at: they use the changes recorded by then, for no more entities than an answer needs.

Inside `as_known` the schema `known` hides the tables, so every statement reads the fold of those changes. Folding all
entities costs as much as all of them. So a list first walks the ledger, whose key is in order of entities, for those
that it may show, and folds only these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from crm_core.errors import TooMuchToFold
from crm_core.postgres.connection import Connection
from crm_core.postgres.streams import in_blocks
from crm_core.reading.lists import Document, Value, Values
from crm_core.resources import statement

T = TypeVar("T")

FIRST_FOLDED, MAX_FOLDED = 40, 2_000  # entities that one statement folds: few at first, because a page needs few
MOST_CALLED = 2_000  # changes that say a name: of so few the entities are folded at once, of more they are walked
MAX_WALKED = 400_000  # entities that one answer may search, which takes some seconds


@contextmanager
def as_known(connection: Connection, known_at: datetime | None) -> Iterator[None]:
    """Let the queries of the block use the changes recorded up to `known_at`, in one transaction."""
    if known_at is None:
        yield
        return
    connection.execute(statement("query/await_commits"))
    with connection.transaction():
        connection.execute(statement("query/as_known"), {"known_at": known_at.isoformat()})
        yield
        connection.execute(statement("query/as_known_no_more"))


@contextmanager
def in_one_snapshot(connection: Connection, known_at: datetime | None) -> Iterator[None]:
    """Let the statements of the block see one snapshot of the database, with all that was recorded by `known_at`."""
    is_within = connection.info.transaction_status != TransactionStatus.IDLE  # then the transaction is the caller's
    if known_at is not None:
        connection.execute(statement("query/await_commits"))  # before the snapshot is taken
    with connection.transaction():
        if not is_within:
            connection.execute(statement("query/one_snapshot"))
        yield


def settled(
    connection: Connection, read: Callable[[datetime | str], list[T]], moment: Callable[[T], datetime]
) -> list[T]:
    """Return what `read` finds, in order of moments of recording: nothing of an earlier moment can appear later.

    Those who commit at the same time get their moments before that, so one with an earlier moment may be committed a
    little later. When something is found, they are waited for, and all is read again up to its last moment. `read` is
    given the last moment that it may return, or "infinity".
    """
    found = read("infinity")
    if found:  # while nothing is new, those who commit need not be waited for
        connection.execute(statement("query/await_commits"))
        found = read(moment(found[-1]))
    return found


def is_all_known(connection: Connection, entity_uid: UUID, known_at: datetime) -> bool:
    """Return whether nothing was recorded of an entity after `known_at`, so that the tables say what was known then.

    Ask in the same snapshot in which the tables are read.
    """
    ((is_all,),) = rows(connection, "is_all_known", {"entity_uid": entity_uid, "known_at": known_at})
    return bool(is_all)


def uids(
    connection: Connection,
    *,
    after: UUID | None = None,
    from_: datetime | None = None,
    to: datetime,
    like: Value = None,
    first: int = FIRST_FOLDED,
    at_most: int | None = MAX_WALKED,
) -> Iterator[list[UUID]]:
    """Walk the entities with a known change in `(from_, to]` in order of entity_uid, in parts that grow from `first`.

    With a pattern of LIKE, only those of which a change says a name like it. Raises TooMuchToFold if there are more
    than `at_most`.
    """
    if like is not None and (few := _called(connection, like)) is not None:
        few = [uid for uid in few if after is None or uid > after]
        yield from (few[start : start + MAX_FOLDED] for start in range(0, len(few), MAX_FOLDED))
        return
    values: Values = {"after_uid": after, "from": from_ or "-infinity", "to": to, "like": like}
    name = "known_uids" if like is None else "known_uids_named"
    for size in _sizes(at_most, first):
        found = [uid for (uid,) in rows(connection, name, values | {"limit": size})]
        if found:
            yield found
        if len(found) < size:
            return
        values["after_uid"] = found[-1]
    raise TooMuchToFold(at_most or 0)


def _called(connection: Connection, like: Value) -> list[UUID] | None:
    """Find the entities that ever had such a name, in order; None: too many to fold at once."""
    found = rows(connection, "ever_called", {"like": like, "limit": MOST_CALLED + 1})
    return sorted({uid for (uid,) in found}) if len(found) <= MOST_CALLED else None


def moments(
    connection: Connection,
    to: datetime,
    *,
    after: tuple[datetime, UUID],
    at_most: int | None = MAX_WALKED,
) -> Iterator[Sequence[TupleRow]]:
    """Walk the instants and entities of known changes up to `to`, in order and in parts, after a given one.

    Raises TooMuchToFold if there are more than `at_most`.
    """
    values: Values = {"after_at": after[0], "after_uid": after[1], "to": to}
    for size in _sizes(at_most):
        found = rows(connection, "known_moments", values | {"limit": size})
        if found:
            yield found
        if len(found) < size:
            return
        values["after_at"], values["after_uid"] = found[-1]
    raise TooMuchToFold(at_most or 0)


def matches(connection: Connection, values: Values, *, after: UUID | None = None) -> Iterator[UUID]:
    """Yield the entities that existed at an instant and match a filter, in order of entity_uid.

    `values` are those of query/known_matches without the uids. Raises TooMuchToFold.
    """
    as_of = values["as_of"]
    assert isinstance(as_of, datetime)
    for some in uids(connection, after=after, to=as_of, like=values["like"]):
        for (uid,) in rows(connection, "known_matches", values | {"entity_uids": some}):
            yield uid


def rows(connection: Connection, name: str, values: Values) -> Sequence[TupleRow]:
    """Run a statement that is planned for its actual values, because a generic plan would be bad for most of them."""
    return connection.execute(statement(f"query/{name}"), values, prepare=False).fetchall()


def lines(connection: Connection, known_at: datetime | None, found: Iterator[Document]) -> Iterator[bytes]:
    """Stream documents that several statements find, in one transaction with one snapshot."""
    with in_one_snapshot(connection, known_at), as_known(connection, known_at):
        yield from in_blocks(f"{document}\n".encode() for document in found)


def _sizes(at_most: int | None, first: int = FIRST_FOLDED) -> Iterator[int]:
    """Yield the sizes of the parts of a walk, until `at_most` are reached."""
    size, walked = min(first, MAX_FOLDED), 0
    while at_most is None or walked < at_most:
        yield size
        walked += size
        size = min(2 * size, MAX_FOLDED)
