"""Notes for the sender of a drop: rows that are valid but may not be what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from crm_core.model import MergeReport, ReferenceTypes
from crm_core.postgres.connection import Connection
from crm_core.resources import statement
from crm_core.timeline.merge import Merged


@dataclass(frozen=True, slots=True)
class Noted:
    """Rows of one kind: how many, and the lines of the first ones."""

    rows: int = 0
    lines: tuple[int, ...] = ()


class NotedRows:
    """The deletions of a drop and its rows without a uid, kept in a temporary table until the merge is done."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.is_empty = connection, True

    def add(self, changes: pl.DataFrame) -> None:
        """Add accepted rows, given as the changes of a ValidChunk."""
        is_deletion = pl.col("op") == "delete"
        rows = changes.filter(is_deletion | pl.col("is_derived")).select(
            "line", "entity_uid", pl.col("change_ts").dt.to_string("%Y-%m-%d %H:%M:%S%.6f+00"), is_deletion
        )
        if rows.is_empty():
            return
        if self.is_empty:
            self.connection.execute(statement("drop/create_noted_rows"))
            self.is_empty = False
        with self.connection.cursor() as cursor, cursor.copy(statement("drop/copy_noted_rows")) as copy:
            copy.write(rows.write_csv(include_header=False, separator="\t"))

    def after_merge(self, named: int) -> tuple[Noted, Noted]:
        """Return the deletions that ended no entity, and the rows that became the same entity as an earlier row.

        Each is given with its first `named` lines. Nothing can be added afterwards.
        """
        if self.is_empty:
            return Noted(), Noted()
        found = self._found("drop/rows_ending_nobody", named), self._found("drop/rows_fallen_together", named)
        self.connection.execute(statement("drop/drop_noted_rows"))
        self.is_empty = True
        return found

    def _found(self, name: Literal["drop/rows_ending_nobody", "drop/rows_fallen_together"], named: int) -> Noted:
        row = self.connection.execute(statement(name), {"limit": named}).fetchone()
        assert row is not None
        return Noted(row[0], tuple(row[1] or ()))


def outdated_repeats(connection: Connection, merged: Merged | None, named: int) -> Noted:
    """Return the rows of a merge that repeat what is superseded since, with the lines of the first `named`."""
    if merged is None or not merged.repeats_outdated:
        return Noted()
    values = {"batch_id": merged.batch_id, "limit": named}
    lines = connection.execute(statement("drop/outdated_repeats"), values).fetchall()
    return Noted(merged.repeats_outdated, tuple(line for (line,) in lines))


def notes_on(
    report: MergeReport,
    types: ReferenceTypes,
    ending_nobody: Noted,
    fallen_together: Noted,
    outdated: Noted,
    *,
    is_replay: bool,
    is_whole: bool,
) -> tuple[str, ...]:
    """Return the notes for the sender of a drop, one sentence each, with what to do."""

    def notes() -> Iterator[str]:
        if not report.rows_read:
            yield "nothing was changed: the file has no rows; if it should have some, export it again"
        if report.rows_rejected and not any(kind.is_active for kind in types.entity_types):
            yield (
                "no entity types are loaded, so every row is rejected; load them with crm loaddata, then "
                "ingest the file again"
            )
        elif report.rows_rejected and not report.rows_accepted:
            yield f"nothing was changed: every row was rejected ({report.rows_rejected:,}); see the reasons"
        if is_replay and report.rows_rejected:
            what = _rows(report.rows_rejected)
            yield f"rejected as before: {what}; correct them in the file of its rejects, and ingest that file"
        if ending_nobody.rows:
            yield (
                f"deletions that ended no entity: {_rows(ending_nobody.rows)} ({_lines(ending_nobody)}); the entity did"
                " not exist at that time, or has another name now: look it up, and delete it by its entity_uid"
            )
        if fallen_together.rows:
            yield (
                f"the same as an earlier row: {_rows(fallen_together.rows)} ({_lines(fallen_together)}); without"
                " entity_uid they are one entity; if they are different ones, give each an entity_uid of its own"
            )
        if outdated.rows:
            yield (
                f"repeats of what is superseded since: {_rows(outdated.rows)} ({_lines(outdated)}); they change"
                " nothing: undo what superseded them, or date them later"
            )
        if not is_whole:
            yield (
                "the last line does not end with a line break; if the file was cut off there, ingest it again "
                "when it is complete"
            )

    return tuple(notes())


def note_on_ended(ended: int) -> str:
    """Return the note on entities that a drop brought into the scope of a later snapshot, which does not list them."""
    entities = "1 entity" if ended == 1 else f"{ended:,} entities"
    return (
        f"{entities} ended, for by this file their source names them before its snapshot, which does not list them;"
        " undo the snapshot or this drop if that is wrong"
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _lines(noted: Noted) -> str:
    more = f" and {noted.rows - len(noted.lines):,} more" if noted.rows > len(noted.lines) else ""
    return f"line{'s' if noted.rows > 1 else ''} {', '.join(map(str, noted.lines))}{more}"
