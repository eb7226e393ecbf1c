"""Commands of `crm` run in this process, and small drops for them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crm_core.cli.main import crm
from crm_core.postgres.connection import Database
from crm_core.resources import DATA

FIXTURES = sorted((DATA / "fixtures").glob("*.json"))
HEADER = ["entity_uid", "display_name", "entity_type", "details", "change_ts", "op"]
ANNA = "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01"

Run = Callable[..., Result]


def on(database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CRM_DATABASE_URL", database.conninfo)

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(crm, list(map(str, arguments)), catch_exceptions=False)

    return run


def a_drop(path: Path, *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path


def anna(name: str = "Anna", change_ts: str = "2024-01-01", entity_type: str = "PERSON") -> list[str]:
    return [ANNA, name, entity_type, "[]", change_ts, ""]


def rows_of(database: Database, query: bytes) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(query).fetchall()
