"""A desk where drops and snapshots are taken in by name, and what then is known of an entity."""

from __future__ import annotations

import json
from pathlib import Path

from builders import COLUMNS, day, uid, write_drop

from crm_core.drops.ingest import Options, ingest_on
from crm_core.drops.snapshots import SnapshotOptions
from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection
from crm_core.reading import reads

ANY = 1.0  # of a limit: whatever ends
Row = Change | dict[str, str]


class Desk:
    """Where drops and snapshots are taken in by name."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.folder = connection, folder

    def take(self, name: str, *rows: Row, options: Options | None = None) -> MergeReport:
        path = write_drop(self.folder / f"{name}.csv", rows, (*COLUMNS, "source", "source_key"))
        return ingest_on(self.connection, path, options or Options())

    def snapshot(
        self, name: str, at: float | None, *rows: Row, scope: str = "PERSON", limit: float = ANY, dry_run: bool = False
    ) -> MergeReport:
        of = SnapshotOptions(scope, None if at is None else day(at))
        return self.take(name, *rows, options=Options("sender", snapshot=of, snapshot_limit=limit, dry_run=dry_run))

    def lives(self, who: str = "ada") -> list[tuple[str, str | None]]:
        """From when to when an entity exists."""
        documents = [json.loads(document) for document in reads.history(self.connection, uid(who))]
        return [
            (d["valid_from"][:10], d["valid_to"] and d["valid_to"][:10]) for d in documents if d["kind"] == "entity"
        ]

    def details(self, who: str = "ada") -> list[tuple[str, str, str | None]]:
        documents = [json.loads(document) for document in reads.history(self.connection, uid(who))]
        return [
            (d["detail_value"], d["valid_from"][:10], d["valid_to"] and d["valid_to"][:10])
            for d in documents
            if d["kind"] == "detail"
        ]
