"""Thirty nights of three sources, each by its profile, in any order: one version a real change, and nobody twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import Server
from tables import write_table

from crm_core.drops.ingest import Options, ingest
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.postgres.connection import Database
from crm_core.profiles import store
from crm_core.profiles.toml import read_profile
from crm_core.resources import DATA
from crm_core.timeline.invariants import check

pytestmark = [pytest.mark.integration, pytest.mark.scd2]

NIGHTS, CUSTOMERS, MEMBERS = 30, 8, 4
FIRST = datetime(2025, 9, 1, 6, tzinfo=UTC)
VERSIONS = """
    select entity_uid::text, 'name' as field, display_name, valid_from, valid_to, entity.hashdiff from entity
    union all
    select entity_uid::text, code, detail_value, valid_from, valid_to, entity_detail.hashdiff
    from entity_detail join detail_type using (detail_type_id)
    order by 1, 2, 4
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What comes in these nights: a full export of the ERP, accounts of the shop, and members once a week."""
    chance, folder = random.Random(16), tmp_path_factory.mktemp("nights")
    for source in ("erp", "shop", "partner"):
        (folder / source).mkdir()
    customers = {f"{n:05}": {"city": "Berlin", "email": f"c{n}@example.org", "on": FIRST} for n in range(CUSTOMERS)}
    return list(_nights(chance, folder, customers))


def _nights(chance: random.Random, folder: Path, customers: dict[str, dict[str, object]]) -> Iterator[Path]:
    for night in range(NIGHTS):
        now = FIRST + timedelta(days=night)
        for number in chance.sample(sorted(customers), 2):
            customers[number] = {
                "city": chance.choice(["Berlin", "Köln", "Zürich"]),
                "email": chance.choice(["", f"c{number}@example.org", f"n{night}@example.org"]),
                "on": now - timedelta(minutes=chance.randrange(600)),
            }
        yield _erp(folder / "erp" / f"customers_{now:%Y-%m-%d}.csv", customers)
        yield _shop(folder / "shop" / f"accounts_{now:%Y-%m-%d}.ndjson", chance, now)
        if night % 7 == 0:
            members = [
                {"Mitglied": n, "Firma": f"Firma {n} {night // 14}", "PLZ": 1000 + n, "Ort": "Ort"}
                for n in range(MEMBERS)
            ]
            path = folder / "partner" / f"members_{now:%Y-%m-%d}.csv"
            yield write_table(path, [member | {"Website": "", "Beitritt": ""} for member in members])


def _erp(path: Path, customers: dict[str, dict[str, object]]) -> Path:
    columns = ("Art", "Vorname", "Straße", "PLZ", "Telefon", "Löschvermerk", "Umsatz")
    rows = [
        {"KdNr": number, **dict.fromkeys(columns, ""), "Art": "F", "Name": f"Kunde {number}", "Ort": told["city"],
         "E-Mail": told["email"], "Geändert am": f"{told['on']:%d.%m.%Y %H:%M}"}
        for number, told in customers.items()
    ]  # fmt: skip
    return write_table(path, rows, ";", "cp1252")


def _shop(path: Path, chance: random.Random, now: datetime) -> Path:
    accounts = [
        {
            "customer": {"number": f"{chance.randrange(CUSTOMERS):05}", "email": ""},
            "phone": f"+49 {chance.randrange(4)}",
            "updated_at": (now - timedelta(minutes=chance.randrange(1000))).isoformat(),
        }
        for _ in range(2)
    ]
    path.write_text("".join(f"{json.dumps(account)}\n" for account in accounts))
    return path


def take(database: Database, files: list[Path]) -> list[tuple[object, ...]]:
    """Take files in, in this order; the versions that come of them."""
    types = [DATA / "fixtures" / f"{name}.json" for name in ("001_entity_types", "002_detail_types", "006_sources")]
    with database.transaction() as connection:
        load_fixtures(connection, read_fixtures(types))
    profiles = {name: store.load(DATA / "profiles", name) for name in ("erp", "shop")}
    members = (DATA / "profiles" / "partner.toml").read_text()
    profiles["partner"] = read_profile("partner", members.replace('"xlsx"', '"csv"').replace("skip = 3", ""), "partner")
    for path in files:
        report = ingest(database, path, Options(profile=profiles[path.parent.name]))
        assert (report.status, report.rows_rejected) == ("merged", 0), report
    with database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []
        return connection.execute(VERSIONS.encode()).fetchall()


def test_the_nights_in_any_order_give_the_same_versions_and_nobody_twice(server: Server, files: list[Path]) -> None:
    with server.clone() as one, server.clone() as other:
        expected = take(one, files)
        assert take(other, random.Random(1).sample(files, len(files))) == expected
    assert len({uid for uid, *_ in expected}) == CUSTOMERS + MEMBERS
    assert len(expected) > 3 * (CUSTOMERS + MEMBERS)
    before: dict[tuple[object, object], tuple[object, ...]] = {}
    for uid, field, value, begins, ends, hashed in expected:
        last = before.get((uid, field))
        assert last is None or last[-1] != hashed or last[2] != begins, "two versions that say the same"
        before[uid, field] = (value, begins, ends, hashed)
