"""What a profile makes of the rows of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import polars as pl
import pytest
from drop_rows import FIRST_SEEN, NOW, TYPES, UID
from openpyxl import Workbook
from tables import FORMATS, write_table

from crm_core.errors import DropRefused
from crm_core.model import Reason
from crm_core.profiles.profile import Profile
from crm_core.profiles.toml import read_profile
from crm_core.rows.contract import ValidChunk, validate
from crm_core.rows.reader import Form, drop_id, read_drop
from crm_core.values.hashing import normal_form

pytestmark = pytest.mark.unit

BASE = """
[columns]
entity_uid = "{ID}"
display_name = "{First} {Last}"
entity_type = "PERSON"
"""


def profile(text: str) -> Profile:
    return read_profile("erp", text, "erp.toml")


def validated(path: Path, chosen: Profile, zone: tzinfo = UTC) -> ValidChunk:
    form = Form(profile=chosen, time_zone=zone)
    (chunk,) = read_drop(path, form)
    return validate(chunk, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=form.zone)


def one(tmp_path: Path, text: str, **cells: object) -> dict[str, object]:
    """The change and the details that one row becomes."""
    path = write_table(tmp_path / "erp.csv", [{"ID": UID, "First": "Ada", "Last": "Quill", **cells}])
    valid = validated(path, profile(text))
    assert valid.rejects == []
    details = dict(valid.details.select("detail_type", "detail_value").rows())
    return {**valid.changes.row(0, named=True), **details}


def refusal(path: Path, chosen: Profile) -> str:
    with pytest.raises(DropRefused) as refused:
        list(read_drop(path, Form(profile=chosen)))
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"{path}: ")


def test_templates_constants_and_columns_make_the_standard_form(tmp_path: Path) -> None:
    text = f'{BASE}change_ts = "{{At}}"\nop = "{{Op}}"\n[details]\nEmail = "{{Mail}}"\nwebsite = "https://{{{{x}}}}/{{Last}}"\n'
    found = one(tmp_path, text, Mail=" a@x ", At="2024-01-31", Op="upsert")
    assert (found["display_name"], found["email"], found["website"]) == ("Ada Quill", "a@x", "https://{x}/Quill")
    assert (found["change_ts"], found["op"]) == (datetime(2024, 1, 31, tzinfo=UTC), "upsert")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("1 High St", "N1", "London"), "1 High St, N1 London"),
        (("", "N1", "London"), "N1 London"),
        (("1 High St", "", "London"), "1 High St, London"),
        (("1 High St", "", ""), "1 High St"),
        ((" ", "", ""), None),
    ],
)
def test_blank_parts_of_a_template_leave_no_punctuation(
    tmp_path: Path, cells: tuple[str, str, str], said: str | None
) -> None:
    text = f'{BASE}[details]\nwebsite = "{{Street}}, {{Zip}} {{City}}"\n'
    assert one(tmp_path, text, Street=cells[0], Zip=cells[1], City=cells[2]).get("website") == said


def test_values_are_mapped_and_filled_in(tmp_path: Path) -> None:
    text = """
        blanks = ["NULL", "-"]
        [columns]
        display_name = "{N}"
        entity_type = { from = "{T}", values = { P = "PERSON", "" = "PERSON", "*" = "INSTITUTION" } }
        op = { from = "{D}", values = { X = "delete" } }
        [details]
        email = { from = "{E}", default = "none@x.org" }
        website = { from = "{W}", values = { a = "b" } }
    """
    path = write_table(
        tmp_path / "erp.csv",
        [
            {"N": "1", "T": "P", "E": "NULL", "W": "a", "D": ""},
            {"N": "2", "T": "", "E": "e", "W": "-", "D": ""},
            {"N": "3", "T": "GmbH", "E": "", "W": "c", "D": "X"},
            {"N": "4", "T": "P", "E": "", "W": "", "D": "upsert"},
            {"N": "5", "T": "P", "E": "", "W": "", "D": "Y"},
        ],
    )
    valid = validated(path, profile(text))
    assert valid.changes.select("display_name", "entity_type_id", "op").rows() == [
        ("1", 1, "upsert"),
        ("2", 1, "upsert"),
        (None, None, "delete"),
        ("4", 1, "upsert"),
    ]
    assert valid.details.select("line", "detail_type", "detail_value").rows() == [
        (2, "email", "none@x.org"),
        (2, "website", "b"),
        (3, "email", "e"),
        (5, "email", "none@x.org"),
    ]
    assert [(reject.line, reject.reasons) for reject in valid.rejects] == [(6, (Reason.UNKNOWN_OP,))]


INSTANTS = {
    ('{ from = "{At}", format = "%d.%m.%Y" }', "31.1.2024"): "2024-01-30T23:00:00",
    ('{ from = "{At}", format = "%d.%m.%Y", zone = "UTC" }', "31.01.2024"): "2024-01-31T00:00:00",
    ('{ from = "{At}", format = ["%d.%m.%Y %H:%M", "%d.%m.%Y"] }', "01.07.2023 14:30"): "2023-07-01T12:30:00",
    ('{ from = "{At}", format = ["%d.%m.%Y %H:%M", "%d.%m.%Y"] }', "01.07.2023"): "2023-06-30T22:00:00",
    ('{ from = "{At} {Last}", format = "%m/%d/%Y Quill" }', "12/31/2023"): "2023-12-30T23:00:00",
    ('{ from = "{At}", format = "%m/%d/%Y %I:%M %p" }', "1/2/2024 1:05 PM"): "2024-01-02T12:05:00",
    ('{ from = "{At}", format = "%Y-%m-%d %H:%M:%S%z" }', "2024-01-31 10:00:00-0500"): "2024-01-31T15:00:00",
    ('{ from = "{At}", format = "epoch" }', "1706745600"): "2024-02-01T00:00:00",
    ('{ from = "{At}", format = "epoch_ms" }', "1706745600123"): "2024-02-01T00:00:00.123",
    ('{ from = "{At}", format = "%d.%m.%Y" }', "2024-01-31T10:00:00Z"): "2024-01-31T10:00:00",
    ('"{At}"', "2024-01-31"): "2024-01-30T23:00:00",
    ('{ from = "{At}", format = "%d.%m.%Y" }', ""): FIRST_SEEN.isoformat(),
    ('{ from = "{At}", format = "%d.%m.%y" }', "31.01.24"): "2024-01-30T23:00:00",
}


@pytest.mark.parametrize(("given", "instant"), INSTANTS.items())
def test_instants_are_read_in_their_format_and_zone(tmp_path: Path, given: tuple[str, str], instant: str) -> None:
    spec, text = given
    toml = f'zone = "Europe/Berlin"\n{BASE}change_ts = {spec}\n'
    assert one(tmp_path, toml, At=text)["change_ts"] == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["31.02.2024", "soon", "31.03.2024 02:30", "27.10.2024 02:30", "01.01.2999"])
def test_an_instant_that_does_not_exist_rejects_the_row(tmp_path: Path, text: str) -> None:
    toml = f'zone = "Europe/Berlin"\n{BASE}change_ts = {{ from = "{{At}}", format = ["%d.%m.%Y %H:%M", "%d.%m.%Y"] }}\n'
    path = write_table(tmp_path / "erp.csv", [{"ID": UID, "First": "Ada", "Last": "Q", "At": text}])
    (reject,) = validated(path, profile(toml)).rejects
    assert reject.reasons in ((Reason.INVALID_CHANGE_TS,), (Reason.FUTURE_CHANGE_TS,))


def test_a_day_without_a_midnight_begins_when_it_begins(tmp_path: Path) -> None:
    toml = f'zone = "America/Santiago"\n{BASE}change_ts = {{ from = "{{At}}", format = "%d.%m.%Y" }}\n'
    assert one(tmp_path, toml, At="03.09.2023")["change_ts"] == datetime(2023, 9, 3, 4, tzinfo=UTC)


def test_numbers_have_the_marks_of_the_profile_and_dates_become_iso(tmp_path: Path) -> None:
    text = (
        f'decimal = ","\nthousands = "."\n{BASE}[details]\nkey = {{ from = "{{Sum}}", number = true }}\n'
        'website = { from = "{Born}", format = "%d.%m.%Y" }\n'
    )
    found = one(tmp_path, text, Sum="1.234.567,50", Born="31.12.1999")
    assert (found["key"], found["website"]) == ("1234567.50", "1999-12-31")
    assert one(tmp_path, text, Sum="-12", Born="1999-12-31")["key"] == "-12"
    assert one(tmp_path, text, Sum="1'234", Born="")["key"] == "1234"
    path = write_table(
        tmp_path / "bad.csv",
        [
            {"ID": UID, "First": "Ada", "Last": "Q", "Sum": "12 EUR", "Born": ""},
            {"ID": UID, "First": "Bo", "Last": "Q", "Sum": "", "Born": "32.12.1999"},
        ],
    )
    rejects = validated(path, profile(text)).rejects
    assert [(reject.line, reject.reasons, reject.raw) for reject in rejects] == [
        (2, (Reason.INVALID_DETAIL_VALUE,), f"{UID},Ada,Q,12 EUR,"),
        (3, (Reason.INVALID_DETAIL_VALUE,), f"{UID},Bo,Q,,32.12.1999"),
    ]


def test_a_blank_says_nothing_unless_it_ends_the_detail(tmp_path: Path) -> None:
    text = f'{BASE}[details]\nemail = "{{Mail}}"\nwebsite = {{ from = "{{Web}}", blank = "ends" }}\n'
    found = one(tmp_path, text, Mail="", Web="")
    assert ("email" in found, found["website"]) == (False, None)
    text = f'blank = "ends"\n{BASE}[details]\nemail = "{{Mail}}"\nwebsite = {{ from = "{{Web}}", blank = "keep" }}\n'
    found = one(tmp_path, text, Mail=" ", Web="")
    assert ("website" in found, found["email"]) == (False, None)


def test_rows_of_a_partial_profile_set_only_what_they_name(tmp_path: Path) -> None:
    text = """
        partial = true
        [columns]
        entity_uid = "{ID}"
        display_name = "{N}"
        entity_type = "{T}"
        op = "{D}"
        [details]
        email = "{E}"
    """
    path = write_table(
        tmp_path / "crm.csv",
        [
            {"ID": UID, "N": "", "T": "", "D": "", "E": "a@x"},
            {"ID": UID, "N": "Ada", "T": "PERSON", "D": "upsert", "E": ""},
            {"ID": UID, "N": "", "T": "", "D": "delete", "E": ""},
            {"ID": "", "N": "Ada", "T": "", "D": "", "E": ""},
            {"ID": UID, "N": "Ada", "T": "ALIEN", "D": "", "E": ""},
        ],
    )
    valid = validated(path, profile(text))
    assert valid.changes.select("op", "display_name", "entity_type_id").rows() == [
        ("patch", None, None),
        ("patch", "Ada", 1),
        ("delete", None, None),
    ]
    assert valid.changes["hashdiff"].is_null().to_list() == [True, False, True]
    assert valid.details.select("line", "detail_type", "detail_value").rows() == [(2, "email", "a@x")]
    assert [(reject.line, reject.reasons) for reject in valid.rejects] == [
        (5, (Reason.INVALID_UID,)),
        (6, (Reason.UNKNOWN_ENTITY_TYPE,)),
    ]


@pytest.mark.parametrize(
    ("name", "format_", "instant"),
    [
        ("erp_2024-01-31.csv", "%Y-%m-%d", datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024013112-erp_20240131.csv", "_%Y%m%d", datetime(2024, 1, 31, tzinfo=UTC)),
        ("erp 31.01.2024 10h30.csv", "%d.%m.%Y %Hh%M", datetime(2024, 1, 31, 10, 30, tzinfo=UTC)),
    ],
)
def test_the_instant_may_be_in_the_name_of_the_file(tmp_path: Path, name: str, format_: str, instant: datetime) -> None:
    chosen = profile(f'{BASE}change_ts = {{ file_name = "{format_}" }}\n')
    path = write_table(tmp_path / "x.csv", [{"ID": UID, "First": "Ada", "Last": "Q"}]).rename(tmp_path / name)
    assert validated(path, chosen).changes["change_ts"].to_list() == [instant]
    other = path.rename(tmp_path / "erp_2024-02-30.csv")
    assert refusal(other, chosen).startswith("has no date like ")


def test_a_drop_is_known_by_its_bytes_what_its_profile_says_and_the_instant_of_its_name(tmp_path: Path) -> None:
    path, sha256 = tmp_path / "erp_2024-01-31.csv", "0" * 64
    plain, commented = profile(BASE), profile(f"# a comment\n{BASE.replace('ID', 'ID')}  # another\n")
    assert drop_id(sha256, path, None) == sha256
    assert drop_id(sha256, path, plain) == drop_id(sha256, path, replace(commented, name="other"))
    dated = profile(f'{BASE}change_ts = {{ file_name = "%Y-%m-%d" }}\n')
    ids = {
        sha256,
        drop_id(sha256, path, plain),
        drop_id("1" * 64, path, plain),
        drop_id(sha256, path, profile(BASE.replace("PERSON", "INSTITUTION"))),
        drop_id(sha256, path, dated),
        drop_id(sha256, path, dated, "erp_2024-02-01.csv"),
    }
    assert len(ids) == 6
    assert {len(one) for one in ids} == {64}


def test_columns_that_are_missing_or_that_nobody_named_refuse_the_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "erp.csv", [{"ID": UID, "First": "Ada", "Lst": "Q", "Salary": "1", "Notes": "x"}])
    assert refusal(path, profile(BASE)) == (
        'lacks the column "Last" (is it \'Lst\'?), which profile erp reads; it has "ID", "First", "Lst", "Salary", '
        '"Notes"'
    )
    path = write_table(tmp_path / "erp.csv", [{"ID": UID, "First": "Ada", "Last": "Q", "Salary": "1", "Notes": "x"}])
    assert refusal(path, profile(BASE)) == (
        'has columns that the profile does not name: "Salary", "Notes"; map it in profile erp, or write '
        'ignore = ["Salary", "Notes"]'
    )
    for ignored in ('["Salary", "Notes"]', '["*"]', '["Sal*", "N?tes"]'):
        assert len(validated(path, profile(f"ignore = {ignored}\n{BASE}")).changes) == 1


def test_a_column_that_comes_twice_has_a_number(tmp_path: Path) -> None:
    path = tmp_path / "erp.csv"
    path.write_text(f"ID,Name, Name ,\n{UID},Ada,Quill,\n")
    text = BASE.replace("{First} {Last}", "{Name} {Name (2)}")
    assert validated(path, profile(text)).changes["display_name"].to_list() == ["Ada Quill"]


@pytest.mark.parametrize("ends", FORMATS)
def test_a_profile_reads_the_same_table_in_every_format(tmp_path: Path, ends: str) -> None:
    rows = [{"ID": UID, "First": "Zoë", "Last": "Q", "Born": "31.12.1999"}]
    text = f'{BASE}[details]\nwebsite = {{ from = "{{Born}}", format = "%d.%m.%Y" }}\n'
    valid = validated(write_table(tmp_path / f"erp.{ends}", rows), profile(text))
    assert valid.changes["display_name"].to_list() == ["Zoë Q"]
    assert valid.details["detail_value"].to_list() == ["1999-12-31"]


@pytest.mark.parametrize(
    ("encoding", "separator"),
    [("cp1252", ";"), ("latin-1", "\t"), ("utf-16", "|"), ("utf-16-le", ";"), ("cp850", ":"), ("utf-8-sig", ",")],
)
def test_text_may_have_any_encoding_and_separator(tmp_path: Path, encoding: str, separator: str) -> None:
    rows = [{"ID": UID, "First": 'Zoë "Z"', "Last": f"a{separator}\r\nb"}, {"ID": UID, "First": "Ü", "Last": ""}]
    path = write_table(tmp_path / "erp.csv", rows, separator, encoding)
    toml = f'encoding = "{encoding}"\nseparator = {json.dumps(separator)}\n{BASE}'
    valid = validated(path, profile(toml))
    normal = normal_form(f'Zoë "Z" a{separator}\r\nb')
    assert valid.changes.select("line", "display_name").rows() == [(2, normal), (4, "Ü")]


def test_bytes_that_are_no_text_in_the_encoding_reject_their_row(tmp_path: Path) -> None:
    path = tmp_path / "erp.csv"
    path.write_bytes(f"ID;First;Last\n{UID};Zo\xeb;Q\n{UID};\x81;Q\n{UID};Bo;Q\n".encode("latin-1"))
    valid = validated(path, profile(f'encoding = "cp1252"\nseparator = ";"\n{BASE}'))
    assert valid.changes["display_name"].to_list() == ["Zoë Q", "Bo Q"]
    assert [(reject.line, reject.reasons, reject.raw) for reject in valid.rejects] == [
        (3, (Reason.INVALID_ENCODING,), f"{UID};\\x81;Q")
    ]


def test_lines_above_the_header_are_skipped_in_text_and_in_sheets(tmp_path: Path) -> None:
    path = tmp_path / "erp.csv"
    path.write_text(f"Customers of 2024\n\nID,First,Last\n{UID},Ada,Q\n")
    valid = validated(path, profile(f"skip = 2\n{BASE}"))
    assert valid.changes.select("line", "display_name").rows() == [(4, "Ada Q")]
    book = Workbook()
    book.create_sheet("Kunden")
    for cells in (["Customers of 2024"], [], ["ID", "First", "Last"], [UID, "Ada", "Q"]):
        book["Kunden"].append(cells)
    book.save(path.with_suffix(".xlsx"))
    valid = validated(path.with_suffix(".xlsx"), profile(f'skip = 2\nsheet = "Kunden"\n{BASE}'))
    assert valid.changes.select("line", "display_name").rows() == [(4, "Ada Q")]
    for sheet, said in (
        ("Sheet", "has nothing in its sheet; save the table as the first sheet, or name it in a profile"),
        ("kunden", "has no sheet 'kunden'; it has: Sheet, Kunden"),
    ):
        assert refusal(path.with_suffix(".xlsx"), profile(f'sheet = "{sheet}"\n{BASE}')) == said


def test_a_format_that_the_profile_does_not_say_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "erp.csv", [{"ID": UID, "First": "Ada", "Last": "Q"}])
    assert refusal(path, profile(f'format = "xlsx"\n{BASE}')) == (
        'is a CSV file, but its profile says format = "xlsx"; correct one of them'
    )


def test_members_of_json_are_named_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "shop.ndjson"
    lines: list[dict[str, object]] = [
        {"id": UID, "customer": {"first": "Ada", "last": "Quill"}, "tags": ["a", "b"], "total": 12.50},
        {"id": UID, "customer": {"first": "Bo"}},
        {"reject_line": 4, "reject_reasons": "unknown_op", "id": UID, "customer": {"first": "Cy"}},
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    text = """
        ignore = ["tot*"]
        [columns]
        entity_uid = "{id}"
        display_name = "{customer.first} {customer.last}"
        entity_type = "PERSON"
        [details]
        key = "{tags}"
    """
    valid = validated(path, profile(text))
    assert valid.changes["display_name"].to_list() == ["Ada Quill", "Bo", "Cy"]
    assert valid.details["detail_value"].to_list() == ['["a", "b"]']
    path.write_text(json.dumps(lines[0] | {"new": 1}))
    assert refusal(path, profile(text)).endswith(
        ":1: has a member that the profile does not name: 'new'; map it in profile erp, or write ignore = [\"new\"]"
    )


def test_a_frame_without_rows_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "erp.csv"
    path.write_text("ID,First,Last\n")
    assert list(read_drop(path, Form(profile=profile(BASE)))) == []
    path.write_text("ID,First,Last\nx\n")
    (chunk,) = read_drop(path, Form(profile=profile(BASE)))
    assert (chunk.frame.height, len(chunk.rejects)) == (0, 1)
    assert chunk.frame.schema["display_name"] == pl.String
