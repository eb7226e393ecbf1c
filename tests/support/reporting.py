"""Drops taken in, and the report on them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from builders import write_drop

from crm_core.drops.ingest import Options, ingest_on
from crm_core.model import Change, MergeReport
from crm_core.postgres.connection import Connection
from crm_core.report.numbers import DropReport, collect_drop

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def take(connection: Connection, path: Path, *rows: Change | dict[str, str]) -> MergeReport:
    return ingest_on(connection, write_drop(path, rows), Options())


def drop_report(connection: Connection, merged: MergeReport, **options: bool) -> DropReport:
    assert merged.sha256 is not None
    return collect_drop(connection, merged.sha256, **options)
