"""Files as three sources write them, with their profiles: they go in, in any order, and tell one story."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from servers import Server

from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest
from crm_core.errors import SnapshotRefused
from crm_core.fixtures.django_format import read_fixtures
from crm_core.fixtures.load import load_fixtures
from crm_core.model import MergeReport
from crm_core.postgres.connection import Database
from crm_core.profiles import store
from crm_core.profiles.toml import as_changes, read_profile
from crm_core.resources import DATA
from crm_core.timeline.invariants import check

pytestmark = pytest.mark.integration

FILES = sorted((DATA / "sources").glob("*/*"))
VERSIONS = """
    select entity_uid, 'name' as field, display_name, code, valid_from, valid_to, entity.hashdiff
    from entity join entity_type using (entity_type_id)
    union all
    select entity_uid, code, detail_value, '', valid_from, valid_to, entity_detail.hashdiff
    from entity_detail join detail_type using (detail_type_id)
    order by 1, 2, 5
"""
EMAILS_OF_ZOE = """
    select detail_value
    from entity_detail join detail_type using (detail_type_id)
    where code = 'email' and entity_uid = (select entity_uid from entity where display_name like 'Zo%' limit 1)
    order by valid_from
"""
NOW = """
    select display_name, code, detail_value
    from entity e left join entity_detail d on d.entity_uid = e.entity_uid and d.is_current
    left join detail_type using (detail_type_id)
    where e.is_current
    order by 1, 2
"""


@pytest.fixture
def known(server: Server) -> Iterator[Database]:
    """A database that knows the types and the sources."""
    with server.clone() as database:
        with_types(database)
        yield database


def with_types(database: Database) -> None:
    files = [DATA / "fixtures" / f"{name}.json" for name in ("001_entity_types", "002_detail_types", "006_sources")]
    with database.transaction() as connection:
        load_fixtures(connection, read_fixtures(files))


def take(database: Database, path: Path) -> MergeReport:
    return ingest(database, path, Options(profile=store.load(DATA / "profiles", path.parent.name)))


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_the_samples_tell_one_story(known: Database) -> None:
    reports = {f"{path.parent.name}/{path.stem[-10:]}": take(known, path) for path in FILES}
    assert {name: (report.status, report.rows_accepted, report.rows_rejected) for name, report in reports.items()} == {
        "erp/2025-09-02": ("merged", 5, 0),
        "erp/2025-09-03": ("merged", 5, 2),
        "partner/2025-08-01": ("merged", 3, 0),
        "partner/2025-09-01": ("merged", 3, 0),
        "shop/2025-09-02": ("merged", 2, 0),
        "shop/2025-09-03": ("merged", 3, 0),
    }
    assert rows(known, NOW) == [
        ("Ana Núñez", "address", "Calle Mayor 5, 28013 Madrid"),
        ("Ana Núñez", "email", "ana.nunez@example.com"),
        ("Ana Núñez", "phone", "+34 91 5550 199"),
        ("Bohnenwerk KG", "address", "04109 Leipzig"),
        ("Bohnenwerk KG", "website", "https://bohnenwerk.example"),
        ("Café Zur Post", "address", "85354 Freising"),
        ("Jörg Weiß", "address", "Prager Str. 7, 01069 Dresden"),
        ("Jörg Weiß", "email", "joerg.weiss@example.net"),
        ("Jörg Weiß", "phone", "0351 5550103"),
        ("Kaffeerösterei Nordlicht GmbH", "address", "20457 Hamburg"),
        ("Kaffeerösterei Nordlicht GmbH", "address", "Speicherstadt 3, 20457 Hamburg"),
        ("Kaffeerösterei Nordlicht GmbH", "email", "post@nordlicht.example"),
        ("Kaffeerösterei Nordlicht GmbH", "phone", "+49 40 5550102"),
        ("Kaffeerösterei Nordlicht GmbH", "website", "https://nordlicht.example"),
        ("Rösterei Elbe & Söhne GmbH", "address", "01069 Dresden"),
        ("Rösterei Elbe & Söhne GmbH", "website", "https://elbe.example"),
        ("Zoë Müller-Öz", "address", "Am Markt 3, 21031 Hamburg"),
        ("Zoë Müller-Öz", "email", "zoe.mueller@example.org"),
        ("Zoë Müller-Öz", "phone", "+49 40 5550101"),
    ]
    assert rows(known, EMAILS_OF_ZOE) == [
        ("zoe.mueller@example.org",),
        ("zoe@mueller-oez.example",),
        ("zoe.mueller@example.org",),
    ]
    with known.connect(autocommit=True) as connection:
        assert [found for found in check(connection) if not found.holds] == []


def test_the_rejects_come_back_as_the_erp_writes_them(known: Database) -> None:
    report = take(known, DATA / "sources" / "erp" / "customers_2025-09-03.csv")
    with known.connect() as connection:
        text = b"".join(registry.rejects_file(connection, report.sha256 or "")).decode()
    header, first, second = text.splitlines()
    assert header.startswith("\ufeffreject_line;reject_reasons;KdNr;Art;Vorname;Name;Straße;")
    assert first == "7;missing_display_name;00022;P;;;Ohne Namen 1;10115;Berlin;;wer@example.org;03.09.2025 13:20;;0,00"
    assert second.startswith("8;invalid_change_ts;00023;P;Lukasz;")


@pytest.mark.scd2
def test_the_files_in_any_order_give_the_same_versions_and_no_second_person(server: Server, known: Database) -> None:
    for path in FILES:
        take(known, path)
    expected = rows(known, VERSIONS)
    orders = list(permutations(FILES))
    for order in random.Random(16).sample(orders, 4):
        with server.clone() as other:
            with_types(other)
            for path in order:
                take(other, path)
            assert rows(other, VERSIONS) == expected, [path.name for path in order]
    assert rows(known, "select count(distinct entity_uid) from entity") == [(9,)]


def test_each_sample_has_a_profile_and_each_profile_a_sample() -> None:
    assert sorted({path.parent.name for path in FILES}) == store.names(DATA / "profiles")
    for name in store.names(DATA / "profiles"):
        assert store.load(DATA / "profiles", name).description


@pytest.mark.parametrize("scope", ['["INSTITUTION"]', '"source=partner"', '["source = PARTNER"]'])
def test_a_full_list_ends_who_is_not_in_it_as_of_the_instant_in_its_name(known: Database, scope: str) -> None:
    partner = DATA / "profiles" / "partner.toml"
    text = f'mode = "snapshot"\nscope = {scope}\n{partner.read_text()}'
    profile = read_profile("partner", text, "partner.toml")
    first, second = sorted((DATA / "sources" / "partner").iterdir())
    reports = [ingest(known, path, Options(profile=profile, snapshot_limit=1.0)) for path in (second, first)]
    assert [(report.status, report.rows_accepted) for report in reports] == [("merged", 3), ("merged", 3)]
    lives = "select display_name, valid_from::text, valid_to::text from entity where display_name like 'Café%'"
    assert rows(known, lives) == [("Café Zur Post", "2025-07-31 22:00:00+00", "2025-08-31 22:00:00+00")]
    again = ingest(known, first, Options(profile=profile, snapshot_limit=1.0))
    assert (again.status, again.sha256) == ("replayed", reports[1].sha256)


@pytest.mark.parametrize("scope", ['[\n  "INSTITUTION",\n]', '"source=partner"  # of all members'])
def test_corrected_rows_of_a_full_list_are_no_full_list(known: Database, tmp_path: Path, scope: str) -> None:
    partner = DATA / "profiles" / "partner.toml"
    text = f'mode = "snapshot"\nscope = {scope}\n{partner.read_text()}'
    profile = read_profile("partner", text, "partner.toml")
    first = min((DATA / "sources" / "partner").iterdir())
    ingest(known, first, Options(profile=profile, snapshot_limit=1.0))
    columns = list(dict.fromkeys(column for column in profile.needed))
    corrected = tmp_path / f"{first.stem}.csv"
    corrected.write_text(f"reject_line,reject_reasons,{','.join(columns)}\n")
    report = ingest(known, corrected, Options(profile=profile))
    assert (report.status, report.rows_read, report.entities_ended) == ("merged", 0, 0)
    changes = read_profile("partner", as_changes(text), "partner.toml")
    assert (changes.mode, changes.scope) == ("delta", ())
    assert as_changes(partner.read_text()) == partner.read_text()


@pytest.mark.parametrize(
    ("scope", "year", "said"),
    [
        ("INSTITUTION", "2125", "is in the future"),
        ("NOBODY", "2025", "is not an entity type"),
        ("source=crm", "2025", "is not a source"),
    ],
)
def test_a_full_list_of_the_future_or_of_no_type_is_refused_by_a_profile_too(
    known: Database, scope: str, year: str, said: str
) -> None:
    partner = DATA / "profiles" / "partner.toml"
    profile = read_profile("partner", f'mode = "snapshot"\nscope = ["{scope}"]\n{partner.read_text()}', "partner.toml")
    first = min((DATA / "sources" / "partner").iterdir())
    with pytest.raises(SnapshotRefused, match=said):
        ingest(known, first, Options(profile=profile, shown_as=first.name.replace("2025", year)))
    assert rows(known, "select count(*) from drop_file where status <> 'seen'") == [(0,)]
