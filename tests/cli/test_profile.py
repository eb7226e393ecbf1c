"""`crm profile`, and `crm ingest --profile`: files as their systems write them go in, and bad rows come back so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FIXTURES, Run, rows_of

from crm_core.postgres.connection import Database
from crm_core.profiles.toml import read_profile

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]

ERP = (
    "Kundenliste;;;;;\n"
    "Name;Art;E-Mail;Straße;PLZ;Ort;Geändert am;Umsatz\n"
    "Zoë Müller;P;zoe@example.org;Hauptstr. 1;10115;Berlin;31.01.2024 09:30;1.234,50\n"
    "Bäckerei Groß GmbH;F;info@example.net;Markt 3;01067;Dresden;30.01.2024 17:00;12,00\n"
    ";P;;;;;05.01.2024 08:15;0,99\n"
).encode("cp1252")
PROFILE = """
encoding = "cp1252"
separator = ";"
skip = 1
zone = "Europe/Berlin"
ignore = ["Umsatz"]

[columns]
display_name = "{Name}"
entity_type = { from = "{Art}", values = { P = "PERSON", F = "INSTITUTION" } }
change_ts = { from = "{Geändert am}", format = "%d.%m.%Y %H:%M" }

[details]
email = "{E-Mail}"
address = "{Straße}, {PLZ} {Ort}"
"""


@pytest.fixture
def erp(tmp_path: Path) -> Path:
    path = tmp_path / "erp_2024-01-31.csv"
    path.write_bytes(ERP)
    return path


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "erp.toml").write_text(PROFILE)
    return tmp_path / "profiles"


def test_a_file_is_taken_in_by_a_profile_and_its_bad_rows_come_back_in_its_own_columns(
    run: Run, erp: Path, profiles: Path, fresh_database: Database
) -> None:
    result = run("ingest", "--json", "--profile", "erp", erp)
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["rows_accepted"], report["rows_rejected"]) == (0, "merged", 2, 1)
    assert rows_of(fresh_database, b"select display_name, valid_from::text from entity order by 1") == [
        ("Bäckerei Groß GmbH", "2024-01-30 16:00:00+00"),
        ("Zoë Müller", "2024-01-31 08:30:00+00"),
    ]
    assert rows_of(
        fresh_database,
        b"select detail_value from entity_detail join detail_type using (detail_type_id) where code = 'address'"
        b" order by 1",
    ) == [("Hauptstr. 1, 10115 Berlin",), ("Markt 3, 01067 Dresden",)]
    rejects = run("rejects", report["sha256"][:12])
    assert rejects.stdout_bytes.decode() == (
        "\ufeffreject_line;reject_reasons;Name;Art;E-Mail;Straße;PLZ;Ort;Geändert am;Umsatz\n"
        "5;missing_display_name;;P;;;;;05.01.2024 08:15;0,99\n"
    )
    corrected = erp.with_name("corrected.csv")
    corrected.write_bytes(rejects.stdout_bytes.replace(b"_name;;P", "_name;Åsa;P".encode()))
    again = json.loads(run("ingest", "--json", "--profile", "erp", corrected).stdout)
    assert (again["rows_accepted"], again["rows_rejected"], again["rows_changed"]) == (1, 0, 1)
    assert rows_of(fresh_database, "select count(*) from entity where display_name = 'Åsa'".encode()) == [(1,)]


@pytest.mark.idempotency
def test_the_same_bytes_are_a_replay_until_the_profile_says_something_else(
    run: Run, erp: Path, profiles: Path, fresh_database: Database
) -> None:
    run("ingest", "--profile", "erp", erp)
    path = profiles / "erp.toml"
    path.write_text("# for the audit\n" + PROFILE)
    again = json.loads(run("ingest", "--json", "--profile", "erp", erp).stdout)
    assert (again["status"], again["rows_changed"]) == ("replayed", 0)
    path.write_text(PROFILE.replace('"{Straße}, {PLZ} {Ort}"', '"{PLZ} {Ort}, {Straße}"'))
    other = json.loads(run("ingest", "--json", "--profile", "erp", erp).stdout)
    assert (other["status"], other["sha256"] == again["sha256"]) == ("merged", False)
    documents = [
        row for (row,) in rows_of(fresh_database, b"select profile_toml from drop_file order by first_seen_at")
    ]
    assert documents == [PROFILE, path.read_text()], "what the profile said then is kept"


def test_infer_proposes_a_profile_that_reads_the_file(run: Run, erp: Path) -> None:
    result = run("profile", "infer", erp)
    assert result.exit_code == 0
    found = read_profile("erp", result.stdout, "proposal")
    assert (found.layout.encoding, found.layout.separator, found.layout.skip) == ("cp1252", ";", 1)
    assert found.columns["entity_type"].values == {"F": "INSTITUTION", "P": "PERSON"}
    assert found.columns["change_ts"].formats == ("%d.%m.%Y %H:%M",)
    assert found.ignore == ("Umsatz",)
    assert "no column looks like a key" in result.stderr
    assert "cp1252 is assumed" in result.stderr
    assert "Hauptstr. 1, 10115 Berlin" in result.stderr
    assert "the first rows: 3 read, 2 good, 1 bad" in result.stderr


def test_infer_writes_the_profile_that_check_and_ingest_take(
    run: Run, erp: Path, tmp_path: Path, fresh_database: Database
) -> None:
    result = run("profile", "infer", erp, "--write", "erp")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "The profile is in profiles/erp.toml" in result.stderr
    assert run("profile", "show", "erp").stdout == (tmp_path / "profiles" / "erp.toml").read_text()
    checked = run("profile", "check", "erp", erp)
    assert checked.exit_code == 1, "a row is bad"
    assert "rows: 3 read, 2 good, 1 bad" in checked.stdout
    assert "  missing_display_name: 1" in checked.stdout
    assert rows_of(fresh_database, b"select 1 from drop_file") == []
    assert run("ingest", "--profile", "erp", erp).exit_code == 0
    assert rows_of(fresh_database, b"select count(*) from entity") == [(2,)]
    again = run("profile", "infer", erp, "--write", "erp")
    assert again.exit_code == 1
    assert "erp.toml: exists; choose another name, or edit it" in again.stderr


def test_check_says_how_the_keys_of_rows_are_compared_with_the_database(run: Run, tmp_path: Path) -> None:
    assert run("loaddata", *FIXTURES).exit_code == 0
    (tmp_path / "profiles").mkdir()
    profile = PROFILE.partition('encoding = "cp1252"')[2].replace("[details]", '[keys]\npartner = "{PLZ}"\n\n[details]')
    text = f'encoding = "cp1252"{profile}'.replace("[columns]", '[columns]\nsource = "erp"\nsource_key = "{Name}"')
    (tmp_path / "profiles" / "erp.toml").write_text(text)
    (tmp_path / "erp.csv").write_bytes(ERP)
    checked = run("profile", "check", "erp", "erp.csv")
    assert "crm ingest --dry-run --profile erp erp.csv" in checked.stderr
    (tmp_path / "profiles" / "plain.toml").write_text(PROFILE)
    assert "--dry-run" not in run("profile", "check", "plain", "erp.csv").stderr


def test_rejects_of_a_file_in_utf_8_begin_with_its_mark_so_that_a_spreadsheet_reads_them(
    run: Run, erp: Path, profiles: Path
) -> None:
    (profiles / "erp.toml").write_text(PROFILE.replace("cp1252", "utf-8"))
    erp.write_text(ERP.decode("cp1252"))
    run("ingest", "--profile", "erp", erp)
    rejects = run("rejects", erp.name).stdout_bytes
    assert rejects.decode().startswith("\ufeffreject_line;reject_reasons;Name;Art;E-Mail;Straße;")
    erp.write_bytes(rejects.replace(b"_name;;P", "_name;Åsa;P".encode()))
    again = json.loads(run("ingest", "--json", "--profile", "erp", erp).stdout)
    assert (again["rows_accepted"], again["rows_rejected"]) == (1, 0)


def test_profiles_are_listed_with_what_they_are_for(run: Run, profiles: Path) -> None:
    (profiles / "shop.toml").write_text(f'description = "The shop\'s customers"\nformat = "ndjson"\n{PROFILE}')
    (profiles / "bad.toml").write_text("x")
    result = run("profile", "list")
    assert result.stdout.splitlines() == [
        "profile  format  description",
        "erp      any",
        "shop     ndjson  The shop's customers",
    ]
    assert "bad.toml:1: is not TOML" in result.stderr


def test_a_profile_that_nobody_knows_is_refused_before_anything_happens(run: Run, erp: Path, profiles: Path) -> None:
    for command in (["ingest", "--profile", "epr", erp], ["profile", "check", "epr", erp], ["profile", "show", "epr"]):
        result = run(*command)
        assert result.exit_code == 1
        assert "no profile 'epr' is in" in result.stderr
        assert "there are: erp" in result.stderr
    (profiles / "none.toml").write_text("")
    empty = run("profile", "check", "none", erp)
    assert "none.toml: columns lacks display_name" in empty.stderr


def test_without_profiles_the_list_says_how_to_make_one(run: Run) -> None:
    assert "crm profile infer FILE --write NAME" in run("profile", "list").stderr


def test_the_rejects_of_a_file_are_found_by_the_file_itself(run: Run, erp: Path, profiles: Path) -> None:
    run("ingest", "--profile", "erp", erp)
    assert "missing_display_name;;P;" in run("rejects", erp).stdout
    assert "missing_display_name;;P;" in run("rejects", erp.name).stdout
