"""Exports of well-known systems, made by hand after their documentation, go in by what is proposed for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from drop_rows import FIRST_SEEN, NOW
from openpyxl import Workbook

from crm_core.errors import DropRefused
from crm_core.model import DetailType, EntityType, ReferenceTypes, Source
from crm_core.profiles.guess_columns import dates_of, meaning
from crm_core.profiles.guess_layout import guess_encoding, guess_separator
from crm_core.profiles.infer import infer
from crm_core.profiles.toml import read_profile
from crm_core.rows.contract import ValidChunk, validate
from crm_core.rows.reader import Form, read_drop

pytestmark = pytest.mark.unit

CODES = ("address", "email", "phone", "website")
TYPES = ReferenceTypes(
    (EntityType(1, "PERSON", "", "", is_active=True), EntityType(2, "INSTITUTION", "", "", is_active=True)),
    tuple(DetailType(n, code, "", "", is_active=True, compares="text") for n, code in enumerate(CODES, 1)),
    tuple(
        Source(n, code, "", "", is_active=True) for n, code in enumerate(("salesforce", "hubspot", "odoo", "erp"), 1)
    ),
)
SALESFORCE = (
    '"Id","FirstName","LastName","Email","Phone","MailingStreet","MailingCity","MailingPostalCode","LastModifiedDate",'
    '"IsDeleted"\n'
    '"0035g00000ABCdEAAX","Ada","Quill","ada@example.org","+1 202 555 0101","1 High St","Bristol","BS1",'
    '"2024-01-31T10:15:00.000+0000","false"\n'
    '"0035g00000ABCdFAAX","Bo","Brandt","","","","","","2024-01-30T09:00:00.000+0000","true"\n'
)
HUBSPOT = (
    '"Record ID","First Name","Last Name","Email","Phone Number","Contact owner","Lead Status","Create Date"\n'
    '"51","Ada","Quill","ada@example.org","+1 202 555 0101","","","2023-05-01 09:12"\n'
    '"101","Bo","Brandt","","","","","2023-06-11 15:45"\n'
)
ODOO = (
    '"id","name","is_company","email","phone","street","city","zip","country_id/id","write_date"\n'
    '"__export__.res_partner_10","Azure Interior","True","azure@example.com","+1 870","4557 De Silva St","Fremont",'
    '"94538","base.us","2024-01-31 10:15:00"\n'
    '"__export__.res_partner_11","Brandon Freeman","False","brandon@example.com","","","","","","2024-01-30 10:15:00"\n'
)
EXCEL = (  # as Excel saves in Germany: "CSV (Trennzeichen-getrennt)"
    "Kundenliste;;;;;;;\r\n"
    "KdNr;Vorname;Name;Art;E-Mail;Straße;PLZ;Ort;Geändert am;Löschvermerk;Umsatz\r\n"
    "0017;Zoë;Müller;P;zoe@example.org;Hauptstr. 1;10115;Berlin;31.01.2024 09:30;;1.234,50\r\n"
    '0018;;"Bäckerei ""Groß""; GmbH";F;;Markt 3;01067;Dresden;30.01.2024 17:00;X;0,99\r\n'
)


@dataclass(frozen=True, slots=True)
class Made:
    """A proposal, and what a file becomes by it."""

    toml: str
    notes: tuple[str, ...]
    valid: ValidChunk

    @property
    def rows(self) -> list[tuple[object, ...]]:
        columns = (
            "source_key",
            "op",
            "display_name",
            "entity_type_id",
            pl.col("change_ts").dt.to_string("%Y-%m-%d %H:%M"),
        )
        return self.valid.changes.select(columns).rows()

    @property
    def details(self) -> list[tuple[object, ...]]:
        return self.valid.details.select("line", "detail_type", "detail_value").rows()


def proposed(path: Path, source: str = "erp", *edits: tuple[str, str]) -> Made:
    """Propose a profile, change some of its lines, and read the file by it."""
    found = infer(path, source, CODES, [known.code for known in TYPES.sources])
    toml = found.text
    for was, now in edits:
        assert was in toml
        toml = toml.replace(was, now)
    form = Form(profile=read_profile(source, toml, "proposal"), sources=[known.code for known in TYPES.sources])
    (chunk,) = read_drop(path, form)
    valid = validate(chunk, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=form.zone)
    assert valid.rejects == []
    return Made(toml, found.notes, valid)


def a_file(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_contacts_of_salesforce_go_in_as_proposed(tmp_path: Path) -> None:
    made = proposed(a_file(tmp_path / "salesforce_contacts.csv", SALESFORCE))
    assert made.rows == [
        ("0035g00000ABCdEAAX", "upsert", "Ada Quill", 1, "2024-01-31 10:15"),
        ("0035g00000ABCdFAAX", "delete", None, None, "2024-01-30 09:00"),
    ]
    assert made.details == [
        (2, "address", "1 High St, BS1 Bristol"),
        (2, "email", "ada@example.org"),
        (2, "phone", "+1 202 555 0101"),
    ]
    assert made.valid.changes["source_id"].to_list() == [1, 1], "the source is in the name of the file"


def test_contacts_of_hubspot_go_in_with_the_day_in_the_name_of_the_export(tmp_path: Path) -> None:
    made = proposed(a_file(tmp_path / "hubspot-crm-exports-all-contacts-2024-01-31.csv", HUBSPOT))
    assert made.rows == [
        ("51", "upsert", "Ada Quill", 1, "2024-01-31 00:00"),
        ("101", "upsert", "Bo Brandt", 1, "2024-01-31 00:00"),
    ]
    assert made.details == [(2, "email", "ada@example.org"), (2, "phone", "+1 202 555 0101")]


def test_partners_of_odoo_go_in_after_one_changed_line(tmp_path: Path) -> None:
    made = proposed(a_file(tmp_path / "res.partner.csv", ODOO), "res", ('source = "res"', 'source = "odoo"'))
    assert made.rows == [
        ("__export__.res_partner_10", "upsert", "Azure Interior", 2, "2024-01-31 10:15"),
        ("__export__.res_partner_11", "upsert", "Brandon Freeman", 1, "2024-01-30 10:15"),
    ]
    assert made.details[0] == (2, "address", "4557 De Silva St, 94538 Fremont")
    assert "the source 'res' is not known: name one that is, or add it to the sources" in made.notes


def test_a_sheet_that_excel_saved_as_text_goes_in_after_the_zone_is_named(tmp_path: Path) -> None:
    path = a_file(tmp_path / "kunden.csv", EXCEL, "cp1252")
    made = proposed(path, "erp", ('# zone = "Europe/Berlin" would say', 'zone = "Europe/Berlin" # would say'))
    assert made.rows == [
        ("0017", "upsert", "Zoë Müller", 1, "2024-01-31 08:30"),
        ("0018", "delete", None, None, "2024-01-30 16:00"),
    ]
    assert made.details == [(3, "address", "Hauptstr. 1, 10115 Berlin"), (3, "email", "zoe@example.org")]
    assert 'ignore = ["Umsatz"]' in made.toml


def test_a_workbook_with_a_title_goes_in_as_proposed(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    for row in (["Members"], [], ["No", "Company", "Website"], [7, "Acme", "acme.example"], [8, "Bell", None]):
        book.active.append(row)
    book.save(tmp_path / "erp.xlsx")
    made = proposed(tmp_path / "erp.xlsx")
    assert [row[:4] for row in made.rows] == [("7", "upsert", "Acme", 2), ("8", "upsert", "Bell", 2)]
    assert made.details == [(4, "website", "acme.example")]


def test_lines_of_json_without_names_become_a_partial_source(tmp_path: Path) -> None:
    lines = [{"customer": {"number": f"{n}", "email": f"{n}@x.org"}, "updated_at": 1706745600 + n} for n in range(3)]
    path = a_file(tmp_path / "shop.ndjson", "".join(f"{json.dumps(line)}\n" for line in lines))
    made = proposed(path)
    assert made.rows[0] == ("0", "patch", None, None, "2024-02-01 00:00")
    assert made.details[2] == (3, "email", "2@x.org")


@pytest.mark.parametrize(
    ("texts", "formats", "or_else"),
    [
        (["31.01.2024", "1.2.2024"], ("%d.%m.%Y",), None),
        (["31/01/2024", "01/02/2024"], ("%d/%m/%Y",), None),
        (["01/31/2024", "02/01/2024"], ("%m/%d/%Y",), None),
        (["01/02/2024", "03/04/2024"], ("%d/%m/%Y",), "%m/%d/%Y"),
        (["1/2/2024 1:05 PM", "1/31/2024 11:00 AM"], ("%m/%d/%Y %I:%M %p",), None),
        (["2024-01-31", "2024-01-31T10:00:00Z"], (), None),
        (["1706745600", "1706745601"], ("epoch",), None),
        (["31-Jan-2024"], ("%d-%b-%Y",), None),
    ],
)
def test_how_dates_are_written_is_decided_by_the_days_above_twelve(
    texts: list[str], formats: tuple[str, ...], or_else: str | None
) -> None:
    found = dates_of(pl.Series(texts))
    assert found is not None
    assert (found.formats, found.or_else) == (formats, or_else)


def test_ambiguous_dates_are_told(tmp_path: Path) -> None:
    text = "No,Name,Last updated\n1,Ada,01/02/2024\n2,Bo,03/04/2024\n"
    made = proposed(a_file(tmp_path / "erp.csv", text))
    assert "AMBIGUOUS: %m/%d/%Y fits as well" in made.toml
    assert any("no day above 12 tells which" in note for note in made.notes)


@pytest.mark.parametrize("texts", [["x", "y"], [""], ["12", "13"], ["1.2", "3.4"]])
def test_other_texts_are_no_dates(texts: list[str]) -> None:
    assert dates_of(pl.Series(texts)) is None


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("cp1252", "cp1252"),
        ("cp850", "cp850"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
def test_the_encoding_is_told_by_the_bytes(encoding: str, found: str) -> None:
    assert guess_encoding("Straße;Größe;Zoë Müller;Übung\nÄpfel;Öl;naïve;Café\n".encode(encoding)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a;b,c;d\n1;2;3\n", (";", 0)),
        ("a\tb\n1\t2\n", ("\t", 0)),
        ("a,b\n1,2\n", (",", 0)),
        ('sep=|\na|b\n"1|2"|3\n', ("|", 0)),
        ("Title\n\na;b;c\n1;2;3\n", (";", 2)),
        ("only\n1\n", (",", 0)),
        ("", (",", 0)),
        ('a;"b\nc";d\n1;"2;2";3\n', (";", 0)),
    ],
)
def test_the_separator_is_what_makes_columns(text: str, found: tuple[str, int]) -> None:
    assert guess_separator(text) == found


def test_names_of_columns_are_known_in_several_languages() -> None:
    names = {"Prénom": "first", "E-Mail": "email", "STRASSE": "street", "Straße": "street", "customer.id": "key"}
    for name, what in (names | {"Kunden-Nr.": "key", "Foo": None}).items():
        assert meaning(name) == what


def test_a_blank_column_of_a_detail_is_mapped_for_later_files(tmp_path: Path) -> None:
    made = proposed(a_file(tmp_path / "erp.csv", "Id,Name,Phone Number,Mobile\n1,Ada,,\n"))
    assert 'phone = "{Phone Number}"' in made.toml
    made = proposed(a_file(tmp_path / "erp.csv", "Id,Name,Phone Number,Mobile\n1,Ada,,+1 2\n"))
    assert 'phone = "{Mobile}"' in made.toml, "a column with values is preferred"


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    for text in ("a,b\n", "", "\n"):
        with pytest.raises(DropRefused, match="has no rows to look at"):
            infer(a_file(tmp_path / "erp.csv", text), "erp", CODES)
