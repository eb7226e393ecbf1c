"""Nights of the three sample sources, as such systems write them, and what is true once all of them are in.

Each night the ERP exports all its customers, the shop the accounts that changed, and once a week the association of
partners its members. The files are read by the profiles that ship.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from openpyxl import Workbook
from tables import write_table
from timeline_model import COMPARES, Batch, Model

from crm_core.drops import registry
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.model import Change
from crm_core.postgres.connection import Database
from crm_core.resources import DATA
from crm_core.timeline.invariants import check
from crm_core.values.hashing import key_uid

PROFILES = DATA / "profiles"
BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2025, 9, 1, 6, tzinfo=UTC)
CUSTOMERS, MEMBERS = 8, 4
Row = tuple[object, ...]
VERSIONS = """
    select entity_uid::text, 'name', display_name, code, valid_from, valid_to, entity.hashdiff
    from entity join entity_type using (entity_type_id)
    union all
    select entity_uid::text, code, detail_value, '', valid_from, valid_to, entity_detail.hashdiff
    from entity_detail join detail_type using (detail_type_id)
    order by 1, 2, 5
"""
KEYS = "select code, source_key, entity_uid::text from source_key join source using (source_id) order by 1, 2"
REJECTS = "select sha256 from drop_file where rows_rejected > 0 order by file_name"


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as the ERP knows it."""

    number: str
    on: datetime  # when it was last changed, to the minute
    city: str = "Berlin"
    email: str = ""
    is_gone: bool = False

    @property
    def change(self) -> Change:
        """What a row of it says."""
        uid = key_uid("erp", self.number)
        if self.is_gone:
            return Change(uid, self.on, "delete")
        address = {"address": f"Weg {int(self.number)}, 10115 {self.city}"}
        details = address | ({"email": self.email} if self.email else {})
        return Change(uid, self.on, "upsert", f"Kunde {self.number}", "INSTITUTION", details)


@dataclass(frozen=True)
class Nights:
    """The files of some nights, in order, and the truth that they tell together."""

    files: list[Path] = field(default_factory=list)  # each in a folder of the name of its profile
    truth: Model = field(default_factory=Model)
    bad: list[str] = field(default_factory=list)  # the rows of the ERP that are rejected, with line and reason

    def versions(self) -> list[Row]:
        """Return what VERSIONS answers once all files are in, without the hashes."""
        found: list[Row] = []
        for uid in self.truth.uids():
            of_one = Model([Batch(self.truth.walk(uid))])
            found += [(str(uid), "name", *version) for version in of_one.entity_versions(uid)]
            for code in COMPARES:
                for value, begins, ends in of_one.detail_versions(uid, code):
                    found.append((str(uid), code, value, "", begins, ends))
        return sorted(found, key=lambda row: (*row[:2], row[4]))

    def keys(self) -> list[Row]:
        """Return what KEYS answers once all files are in."""
        keys = [("erp", f"{n:05}") for n in range(CUSTOMERS)] + [("partner", str(n)) for n in range(MEMBERS)]
        return [(*key, str(key_uid(*key))) for key in keys]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is in a database."""

    versions: list[Row]
    keys: list[Row]
    rejects: list[str]  # the texts of the files of rejects, in order of the names of their drops


def the_nights(number: int, folder: Path) -> Nights:
    """Write the files of some nights into a folder."""
    chance, nights = random.Random(16), Nights()
    for source in ("erp", "shop", "partner"):
        (folder / source).mkdir(parents=True)
    customers = {f"{n:05}": Customer(f"{n:05}", FIRST, email=f"c{n}@example.org") for n in range(CUSTOMERS)}
    for night in range(number):
        now = FIRST + timedelta(days=night)
        for name in chance.sample(sorted(customers), 2):
            customers[name] = replace(
                customers[name],
                on=now - timedelta(minutes=chance.randrange(600)),
                city=chance.choice(["Berlin", "Köln", "Zürich"]),
                email=chance.choice(["", f"c{name}@example.org", f"n{night}@example.org"]),
                is_gone=chance.random() < 0.2,
            )
        nights.files.append(_erp(folder / "erp" / f"customers_{now:%Y-%m-%d}.csv", customers.values(), night, nights))
        nights.files.append(_shop(folder / "shop" / f"accounts_{now:%Y-%m-%d}.ndjson", chance, now, nights))
        if night % 7 == 0:
            nights.files.append(_partner(folder / "partner" / f"members_{now:%Y-%m-%d}.xlsx", night, now, nights))
    return nights


def _erp(path: Path, told: Collection[Customer], night: int, nights: Nights) -> Path:
    nights.truth.record(*(customer.change for customer in told))
    rows = [
        {"KdNr": one.number, "Art": "F", "Vorname": "", "Name": f"Kunde {one.number}",
         "Straße": f"Weg {int(one.number)}", "PLZ": "10115", "Ort": one.city, "Telefon": "", "E-Mail": one.email,
         "Geändert am": f"{one.on.astimezone(BERLIN):%d.%m.%Y %H:%M}", "Löschvermerk": "L" if one.is_gone else "",
         "Umsatz": "1.234,50"}
        for one in told
    ]  # fmt: skip
    if night % 3 == 0:  # somebody typed a customer without a name, and a day that does not exist
        bad = dict.fromkeys(rows[0], "") | {"KdNr": f"9{night:04}", "Art": "F", "Geändert am": "31.02.2025 10:00"}
        rows.insert(night % CUSTOMERS, bad)
        line = 2 + night % CUSTOMERS
        nights.bad.append(f"{line};missing_display_name invalid_change_ts;{';'.join(bad.values())}")
    return write_table(path, rows, ";", "cp1252")


def _shop(path: Path, chance: random.Random, now: datetime, nights: Nights) -> Path:
    lines, changes = [], []
    for _ in range(2):
        number, phone = f"{chance.randrange(CUSTOMERS):05}", f"+49 {chance.randrange(4)}"
        at = now - timedelta(minutes=chance.randrange(1000), seconds=30)  # at no instant of the ERP
        account = {"customer": {"number": number, "email": ""}, "phone": phone, "updated_at": at.isoformat()}
        lines.append(json.dumps(account) + "\n")
        changes.append(Change(key_uid("erp", number), at, "patch", details={"phone": phone}))
    nights.truth.record(*changes)
    path.write_text("".join(lines))
    return path


def _partner(path: Path, night: int, now: datetime, nights: Nights) -> Path:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Mitglieder"
    for row in (
        ["Mitglieder"],
        [f"Stand {now:%d.%m.%Y}"],
        [],
        ["Mitglied", "Firma", "PLZ", "Ort", "Website", "Beitritt"],
    ):
        sheet.append(row)
    on, changes = datetime(now.year, now.month, now.day, tzinfo=BERLIN), []
    for n in range(MEMBERS):
        name, website = f"Firma {n} {night // 14}", f"https://firma{n}.example" if (n + night) % 2 else None
        sheet.append([n, name, 1000 + n, "Ort", website, date(2020, 1, 1 + n)])
        sheet.cell(sheet.max_row, 3).number_format = "00000"
        details = {"address": f"0{1000 + n} Ort", "website": website}
        changes.append(Change(key_uid("partner", str(n)), on.astimezone(UTC), "upsert", name, "INSTITUTION", details))
    nights.truth.record(*changes)
    book.save(path)
    return path


def with_types(database: Database) -> None:
    """Load the types and sources that the nights need."""
    files = [DATA / "fixtures" / f"{name}.json" for name in ("001_entity_types", "002_detail_types", "006_sources")]
    with database.transaction() as connection:
        load_fixtures(connection, read_fixtures(files))


def outcome(database: Database) -> Outcome:
    """Return what is in a database, after all that must hold for it was checked."""
    with database.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []
        drops = [sha256 for (sha256,) in connection.execute(REJECTS.encode())]
        return Outcome(
            connection.execute(VERSIONS.encode()).fetchall(),
            connection.execute(KEYS.encode()).fetchall(),
            [b"".join(registry.rejects_file(connection, sha256)).decode() for sha256 in drops],
        )


def require_truth(nights: Nights, found: Outcome) -> None:
    """Assert that a database holds what the nights told, nobody twice, and rejects in the columns of the ERP."""
    assert [row[:-1] for row in found.versions] == nights.versions()
    assert found.keys == nights.keys()
    rows = [text.splitlines() for text in found.rejects]
    head = "\ufeffreject_line;reject_reasons;KdNr;Art;Vorname;Name;Straße;"
    assert rows
    assert all(first.startswith(head) for first, *_ in rows)
    assert [row for _, *rest in rows for row in rest] == nights.bad
