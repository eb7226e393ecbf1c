"""The registry of drops: what each one did, and its rejected rows, also as a file to correct and ingest again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from psycopg.rows import TupleRow

from crm_core.formats.csv_records import COMMA, UTF_8_MARK
from crm_core.formats.remarks import REMARKS
from crm_core.model import Reason, Reject
from crm_core.postgres.connection import Connection
from crm_core.postgres.streams import in_blocks
from crm_core.profiles.profile import Profile
from crm_core.profiles.toml import read_profile
from crm_core.resources import statement
from crm_core.rows.header import COLUMNS

Document = str  # one JSON object
PART = 1_000  # drops that a stream reads at once

_REMARKS_OF_OBJECT = re.compile(rf'\A"{REMARKS[0]}"\s*:\s*\d+\s*,\s*"{REMARKS[1]}"\s*:\s*"[a-z_ ]*"\s*,?\s*')


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of drops ended; the next page begins after it."""

    first_seen_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents in order; `next` is where the list continues, or None at its end."""

    documents: tuple[Document, ...]
    next: Position | None = None


def drops(connection: Connection, *, after: Position | None = None, offset: int = 0, limit: int = 20) -> Page:
    """Read what each drop did, newest first: a page after a position, or after the `offset` newest drops."""
    values = {
        "after_first_seen_at": None if after is None else after.first_seen_at,
        "after_sha256": None if after is None else after.sha256,
        "offset": offset,
        "limit": limit + 1,
    }
    rows = connection.execute(statement("drop/drops"), values, prepare=False).fetchall()
    page = rows[:limit]
    documents = tuple(document for document, *_ in page)
    return Page(documents, Position(*page[-1][1:]) if len(rows) > limit else None)


def stream_drops(connection: Connection) -> Iterator[bytes]:
    """Read all that `drops` lists, in the same order: lines of JSON, in blocks of some of them."""
    after, is_more = None, True
    while is_more:
        page = drops(connection, after=after, limit=PART)
        after, is_more = page.next, page.next is not None
        if page.documents:
            yield "".join(f"{document}\n" for document in page.documents).encode()


def count_drops(connection: Connection) -> int:
    """Count the drops that were ever received."""
    ((count,),) = connection.execute(statement("drop/count_drops"))
    return int(count)


def drop(connection: Connection, sha256: str) -> Document | None:
    """Read what one drop did; None if it was never received."""
    row = connection.execute(statement("drop/drop"), {"sha256": sha256}).fetchone()
    return None if row is None else row[0]


def validated(connection: Connection, sha256s: Collection[str]) -> set[str]:
    """Return which of these drops were read and validated, whatever the result; a restored backup may lack some."""
    rows = connection.execute(statement("drop/validated"), {"sha256s": list(sha256s)})
    return {sha256 for (sha256,) in rows}


def merged_as(connection: Connection, file_name: str) -> str | None:
    """Return the SHA-256 of the newest merged drop whose bytes first came under a file name."""
    row = connection.execute(statement("drop/merged_as"), {"file_name": file_name}).fetchone()
    return None if row is None else row[0]


def rejects(connection: Connection, sha256: str, limit: int = 10) -> list[Reject]:
    """Read the first rejected rows of a drop, in order of their lines."""
    rows = connection.execute(statement("drop/rejects"), {"sha256": sha256, "limit": limit})
    return [Reject(line, tuple(map(Reason, reasons)), raw) for line, reasons, raw in rows]


def count_rejects(connection: Connection, sha256: str) -> int:
    """Count the rejected rows of a drop."""
    ((count,),) = connection.execute(statement("drop/count_rejects"), {"sha256": sha256})
    return int(count)


def rejected_lines(connection: Connection, sha256: str) -> npt.NDArray[np.int64]:
    """Read the lines of a drop that were rejected, in order."""
    with connection.cursor() as cursor, cursor.copy(statement("drop/rejected_lines"), {"sha256": sha256}) as copy:
        copy.set_types(["int8"])
        return np.fromiter((line for (line,) in copy.rows()), np.int64)


def keep_rejects(connection: Connection, sha256: str, header: str, rejects: Sequence[Reject]) -> None:
    """Keep rejected rows of a drop, and its header for a file of them."""
    if not rejects:
        return
    connection.execute(statement("drop/keep_header"), {"sha256": sha256, "header": header})
    with connection.cursor() as cursor, cursor.copy(statement("drop/copy_rejects")) as copy:
        for reject in rejects:
            copy.write_row((sha256, reject.line, [str(reason) for reason in reject.reasons], reject.raw))


def header_of(connection: Connection, sha256: str) -> str:
    """Read the header line of a drop with rejected rows, empty for lines of JSON; else that of the standard form."""
    row = connection.execute(statement("drop/header"), {"sha256": sha256}).fetchone()
    return ",".join(COLUMNS) if row is None or row[0] is None else str(row[0])


def profile_of(connection: Connection, sha256: str) -> Profile | None:
    """Read the profile that a drop was read by, as it was then; None for the standard form."""
    row = connection.execute(statement("drop/header"), {"sha256": sha256}).fetchone()
    return None if row is None or row[1] is None else read_profile(row[1], row[2], f"{row[1]}.toml")


def rejects_page(connection: Connection, sha256: str, *, limit: int = 20, offset: int = 0) -> Page:
    """Read rejected rows of a drop in order of their lines, each as a document: line, reasons and raw."""
    values = {"sha256": sha256, "limit": limit, "offset": offset}
    return Page(tuple(document for (document,) in connection.execute(statement("drop/rejects_page"), values)))


@dataclass(frozen=True, slots=True)
class RejectPosition:
    """Where a page of the rejected rows of all drops ended; the next page begins after it."""

    first_seen_at: datetime
    sha256: str
    line: int


def rejects_of_all(
    connection: Connection,
    *,
    drop: str | None = None,
    reason: Reason | None = None,
    after: RejectPosition | None = None,
    limit: int = 20,
) -> tuple[tuple[Document, ...], RejectPosition | None]:
    """Read rejected rows of all drops, the newest drop first and within one by line; and where to go on, or None.

    `drop` is a SHA-256, or a part of the name of a file in upper or lower case. A document has sha256, file,
    first_seen_at, line, reasons and raw.
    """
    values = {
        "drop": drop,
        "reason": None if reason is None else str(reason),
        "after_at": None if after is None else after.first_seen_at,
        "after_sha256": None if after is None else after.sha256,
        "after_line": None if after is None else after.line,
        "limit": limit + 1,
    }
    rows = connection.execute(statement("drop/rejects_of_all"), values, prepare=False).fetchall()
    documents = tuple(document for document, *_ in rows[:limit])
    return documents, RejectPosition(*rows[limit - 1][1:]) if len(rows) > limit else None


def stream_rejects_of_all(
    connection: Connection, *, drop: str | None = None, reason: Reason | None = None
) -> Iterator[bytes]:
    """Read all that `rejects_of_all` lists, in the same order: lines of JSON, in blocks of some of them."""
    after, is_more = None, True
    while is_more:
        documents, after = rejects_of_all(connection, drop=drop, reason=reason, after=after, limit=PART)
        is_more = after is not None
        if documents:
            yield "".join(f"{document}\n" for document in documents).encode()


def rejects_file(connection: Connection, sha256: str) -> Iterator[bytes]:
    r"""Write the rejected rows of a drop as a file to correct and ingest again, in blocks; UTF-8, lines end with \n.

    It has the drop's own header and rows unchanged, after two columns that a drop may have and that say nothing about
    the entity: where the row was, and why it was rejected. A file of rejects that was ingested has these columns
    already: in front they are replaced, elsewhere they stay as they are. Bytes that were not UTF-8 are written \xNN. Of
    lines of JSON these are lines of JSON, with two further members in front.
    """
    header = header_of(connection, sha256)
    if not header:
        return in_blocks(_with_members(connection, sha256))
    profile = profile_of(connection, sha256)
    separator = profile.layout.separator if profile else COMMA
    mark = UTF_8_MARK.decode() if header.startswith(UTF_8_MARK.decode()) else ""
    columns, had_remarks = _remarks_of_header(separator).subn("", header.removeprefix(mark))
    if any(name in columns.lower() for name in REMARKS):
        return in_blocks(_as_they_stood(connection, sha256, header))
    remarked = f"{mark}{separator.join(REMARKS)}{separator}{columns}"
    return in_blocks(_with_remarks(connection, sha256, remarked, separator, had_remarks=bool(had_remarks)))


def _remarks_of_header(separator: str) -> re.Pattern[str]:
    return re.compile(r"\A" + "".join(f'"?{name}"?{re.escape(separator)}' for name in REMARKS), re.IGNORECASE)


def _remarks_of_row(separator: str) -> re.Pattern[str]:
    sep = re.escape(separator)
    return re.compile(rf'\A"?\d+"?{sep}"?[a-z_ ]*"?{sep}')


def _as_they_stood(connection: Connection, sha256: str, header: str) -> Iterator[bytes]:
    yield f"{header}\n".encode()
    for _, _, raw in _every_reject(connection, sha256):
        yield f"{raw}\n".encode()


def _with_remarks(
    connection: Connection, sha256: str, header: str, separator: str, *, had_remarks: bool
) -> Iterator[bytes]:
    remarks = _remarks_of_row(separator)
    yield f"{header}\n".encode()
    for line, reasons, raw in _every_reject(connection, sha256):
        row = remarks.sub("", raw) if had_remarks else raw
        yield f"{line}{separator}{' '.join(reasons)}{separator}{row}\n".encode()


def _with_members(connection: Connection, sha256: str) -> Iterator[bytes]:
    for line, reasons, raw in _every_reject(connection, sha256):
        if raw.startswith("{"):
            members = _REMARKS_OF_OBJECT.sub("", raw[1:].lstrip())
            comma = "" if members.startswith("}") else ", "
            yield f'{{"{REMARKS[0]}": {line}, "{REMARKS[1]}": "{" ".join(reasons)}"{comma}{members}\n'.encode()
        else:
            yield f"{raw}\n".encode()


def _every_reject(connection: Connection, sha256: str) -> Iterator[TupleRow]:
    with connection.cursor() as cursor, cursor.copy(statement("drop/stream_rejects"), {"sha256": sha256}) as copy:
        copy.set_types(["int8", "text[]", "text"])
        yield from copy.rows()
