"""A drop in the standard form is the same drop of rows in whatever format it comes."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from drop_rows import BERLIN, FIRST_SEEN, NOW, TYPES
from openpyxl import Workbook
from tables import FORMATS, write_table

from crm_core.errors import DropRefused
from crm_core.formats import files, workbook
from crm_core.formats.chunk import RawChunk
from crm_core.model import Reason, Reject
from crm_core.rows.contract import validate
from crm_core.rows.header import COLUMNS
from crm_core.rows.reader import Form, read_drop

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.unit

CODES = ["email", "website", "key"]
ROWS = [
    {"display_name": "Ada", "entity_type": "PERSON", "email": "ada@x.org", "change_ts": "2024-01-31T10:00:00Z"},
    {"display_name": 'Zoë, "Z"\nTwo', "entity_type": "person", "email": "", "change_ts": "2024-01-31"},
    {"display_name": "", "entity_type": "PERSON", "email": "x", "change_ts": "2024-01-31"},
]


def read(path: Path, *, block_bytes: int = 8 << 20, record_bytes: int = 8 << 20) -> list[RawChunk]:
    return list(read_drop(path, Form(CODES), block_bytes=block_bytes, record_bytes=record_bytes))


def rows_of(path: Path) -> list[dict[str, object]]:
    return pl.concat([chunk.frame for chunk in read(path)], how="diagonal").to_dicts()


def refusal(path: Path) -> str:
    with pytest.raises(DropRefused) as refused:
        read(path)
    text = str(refused.value)
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("ends", FORMATS)
def test_the_same_table_gives_the_same_changes_in_every_format(tmp_path: Path, ends: str) -> None:
    path = write_table(tmp_path / f"drop.{ends}", ROWS)
    (chunk,) = read(path)
    valid = validate(chunk, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=BERLIN)
    (plain,) = read(write_table(tmp_path / "plain.csv", ROWS))
    expected = validate(plain, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=BERLIN)
    assert valid.changes.drop("line").equals(expected.changes.drop("line"))
    assert valid.details.drop("line").equals(expected.details.drop("line"))
    assert [reject.reasons for reject in valid.rejects] == [(Reason.MISSING_DISPLAY_NAME,)]
    assert valid.changes["display_name"].to_list() == ["Ada", 'Zoë, "Z" Two']


@pytest.mark.parametrize(
    ("ends", "lines"),
    [("csv", [2, 3, 5]), ("csv.zst", [2, 3, 5]), ("ndjson.gz", [1, 2, 3]), ("parquet", [1, 2, 3]), ("xlsx", [2, 3, 4])],
)
def test_rows_are_counted_as_the_format_shows_them(tmp_path: Path, ends: str, lines: list[int]) -> None:
    (chunk,) = read(write_table(tmp_path / f"drop.{ends}", ROWS))
    assert chunk.frame["line"].to_list() == lines
    assert chunk.bytes_read == (tmp_path / f"drop.{ends}").stat().st_size or ends == "xlsx"


def test_a_format_is_known_by_its_content_whatever_the_name(tmp_path: Path) -> None:
    for ends in FORMATS:
        path = write_table(tmp_path / f"drop.{ends}", ROWS).rename(tmp_path / "drop.dat")
        assert rows_of(path)[0]["display_name"] == "Ada"


def test_values_of_parquet_become_the_text_that_a_person_would_write(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "display_name": ["Ada", "Bo"],
            "entity_type": pl.Series(["PERSON", "PERSON"], dtype=pl.Categorical),
            "email": [1234567.0, 0.5],
            "website": [True, None],
            "key": ["007", ""],
            "change_ts": [datetime(2024, 1, 31), datetime(2024, 1, 31, 10, 0, 0, 5)],  # noqa: DTZ001
            "op": pl.Series([None, None], dtype=pl.String),
        }
    )
    frame.write_parquet(tmp_path / "drop.parquet")
    rows = [[row[name] for name in (*COLUMNS[1:6], *CODES)] for row in rows_of(tmp_path / "drop.parquet")]
    assert rows == [
        ["Ada", "PERSON", None, "2024-01-31", None, "1234567", "true", "007"],
        ["Bo", "PERSON", None, "2024-01-31T10:00:00.000005", None, "0.5", None, None],
    ]


def test_details_of_parquet_may_be_a_list_of_structs(tmp_path: Path) -> None:
    details = [[{"detail_type": "email", "detail_value": 'a"b'}], [], None]
    frame = pl.DataFrame({"display_name": ["A", "B", "C"], "entity_type": ["PERSON"] * 3, "details": details})
    frame.write_parquet(tmp_path / "drop.parquet")
    found = [row["details"] for row in rows_of(tmp_path / "drop.parquet")]
    assert [json.loads(str(text)) if text else None for text in found] == details


def test_bytes_in_parquet_are_text_and_a_row_with_other_bytes_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "drop.parquet"
    bytes_of = {"display_name": [b"Ada", "Zoë".encode(), b"Zo\xeb"], "entity_type": [b"PERSON"] * 3}
    details = [[{"detail_type": b"email", "detail_value": b"a@x.org"}], [], None]
    pl.DataFrame({**bytes_of, "details": details}).write_parquet(path)
    (chunk,) = read(path)
    assert chunk.frame["display_name"].to_list() == ["Ada", "Zoë"]
    assert json.loads(chunk.frame["details"][0]) == [{"detail_type": "email", "detail_value": "a@x.org"}]
    assert [(reject.line, reject.reasons) for reject in chunk.rejects] == [(3, (Reason.INVALID_ENCODING,))]
    pl.DataFrame({**bytes_of, "details": [[b"\xff"]] * 3}).write_parquet(path)
    assert "cannot be read as a Parquet file" in refusal(path)


def test_spans_of_time_in_parquet_are_written_as_those_of_excel(tmp_path: Path) -> None:
    spans = [timedelta(days=1, hours=2, seconds=5), None]
    frame = pl.DataFrame({"display_name": ["A", "B"], "entity_type": ["PERSON"] * 2, "key": spans})
    frame.write_parquet(tmp_path / "drop.parquet")
    assert [row["key"] for row in rows_of(tmp_path / "drop.parquet")] == ["26:00:05", None]


def test_instants_with_a_zone_keep_their_offset(tmp_path: Path) -> None:
    at = pl.Series([datetime(2024, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin")  # noqa: DTZ001
    pl.DataFrame({"display_name": ["A"], "entity_type": ["PERSON"], "details": [""], "change_ts": at}).write_parquet(
        tmp_path / "drop.parquet"
    )
    assert rows_of(tmp_path / "drop.parquet")[0]["change_ts"] == "2024-07-01T12:00:00+02:00"


def test_cells_of_excel_become_the_text_that_a_person_sees(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([])
    sheet.append(["display_name", "entity_type", "email", "website", "key", "change_ts"])
    sheet.append(["Ada", "PERSON", 1234567.0, 0.1 + 0.2, "007", date(2024, 1, 31)])
    sheet.append(["Bo", "PERSON", True, 7, 49_170_123_456, datetime(2024, 1, 31, 10, 0)])  # noqa: DTZ001
    sheet["D4"].number_format = "00000"
    sheet.append([])
    sheet.append(["Cy", "PERSON", time(9, 30), "#N/A", None, None])
    sheet.append(["Di_x000D_\nEd", "PERSON", "_x005F_x000D_", "_x0041_", None, None])
    book.save(tmp_path / "drop.xlsx")
    rows = [
        [row[name] for name in ("line", "display_name", *CODES, "change_ts")] for row in rows_of(tmp_path / "drop.xlsx")
    ]
    assert rows == [
        [3, "Ada", "1234567", "0.3", "007", "2024-01-31"],
        [4, "Bo", "true", "00007", "49170123456", "2024-01-31T10:00:00"],
        [6, "Cy", "09:30:00", "#N/A", None, None],
        [7, "Di\r\nEd", "_x000D_", "_x0041_", None, None],
    ]


def a_sheet(path: Path, xml: str) -> Path:
    """A workbook whose sheet is written by another program than openpyxl."""
    whole, book = path.with_name("whole.xlsx"), Workbook()
    book.save(whole)
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(path, "w") as made:
        for name in given.namelist():
            made.writestr(name, xml if name == "xl/worksheets/sheet1.xml" else given.read(name))
    return path


MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
HEAD = "".join(
    f'<x:c t="inlineStr"><x:is><x:t>{name}</x:t></x:is></x:c>' for name in ("display_name", "entity_type", "email")
)


def test_a_sheet_may_be_written_in_any_way_that_the_format_allows(tmp_path: Path) -> None:
    path = a_sheet(
        tmp_path / "drop.xlsx",
        f"""<?xml version="1.0"?>
        <x:worksheet xmlns:x="{MAIN}"><x:sheetData>
        <x:row>{HEAD}</x:row>
        <x:row r="4"><x:c r="C4"><x:v>1E3</x:v></x:c>
          <x:c r="B4" t="str"><x:f>"PER"&amp;"SON"</x:f><x:v>PERSON</x:v></x:c>
          <x:c r="A4" t="inlineStr"><x:is><x:r><x:t>Ad</x:t></x:r><x:r><x:t>a &amp; </x:t></x:r><x:r><x:t>Bo</x:t></x:r>
            <x:rPh sb="0" eb="1"><x:t>phonetic</x:t></x:rPh></x:is></x:c></x:row>
        <x:row/>
        <x:row r="7"><x:c t="str"><x:v>Cy</x:v></x:c>
          <x:c t="str"><x:v>PERSON</x:v></x:c><x:c t="b"><x:v>0</x:v></x:c></x:row>
        <x:row><x:c t="str"><x:v>Di</x:v></x:c>
          <x:c t="str"><x:v>PERSON</x:v></x:c><x:c t="d"><x:v>2024-01-31</x:v></x:c></x:row>
        </x:sheetData></x:worksheet>""",
    )
    rows = [[row[name] for name in ("line", "display_name", "entity_type", "email")] for row in rows_of(path)]
    assert rows == [
        [4, "Ada & Bo", "PERSON", "1000"],
        [7, "Cy", "PERSON", "false"],
        [8, "Di", "PERSON", "2024-01-31"],
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('<x:row r="3"/><x:row r="2"/>', "its row 2 comes after row 3"),
        ('<x:row><x:c r="XFE2"><x:v>1</x:v></x:c></x:row>', "it has a column 'XFE'"),
        ('<x:row><x:c r="A2"><x:v>one</x:v></x:c></x:row>', "could not convert string to float: 'one'"),
        ('<x:row><x:c r="A2" t="s"><x:v>7</x:v></x:c></x:row>', "list index out of range"),
        ("<x:row>", "mismatched tag"),
    ],
)
def test_a_sheet_that_no_program_writes_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    xml = f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row>{HEAD}</x:row>{rows}</x:sheetData></x:worksheet>'
    assert refusal(a_sheet(tmp_path / "drop.xlsx", xml)).startswith(f"cannot be read as an Excel workbook: {said}")


def test_a_sheet_that_declares_entities_is_refused(tmp_path: Path) -> None:
    declared = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    xml = f'{declared}<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row>{HEAD}</x:row></x:sheetData></x:worksheet>'
    assert "it declares a document type, which no workbook does" in refusal(a_sheet(tmp_path / "drop.xlsx", xml))


def test_members_of_json_become_the_text_that_a_person_would_write(tmp_path: Path) -> None:
    path = tmp_path / "drop.ndjson"
    path.write_text(
        '{"display_name": "Ada", "entity_type": "PERSON", "email": 1234567.0, "website": 1.10, "key": true}\n'
        '\n{"display_name": 42, "entity_type": "PERSON", "email": null, "website": 12345678901234567890, "key": 1e-7}'
        '\r\n{"display_name": "Zoë \\u00e9", "entity_type": "PERSON",'
        ' "details": [{"detail_type": "email", "detail_value": "é"}]}'
    )
    rows = rows_of(path)
    assert [[row.get(name) for name in ("line", "display_name", *CODES)] for row in rows] == [
        [1, "Ada", "1234567", "1.10", "true"],
        [3, "42", None, "12345678901234567890", "0.0000001"],
        [4, "Zoë é", None, None, None],
    ]
    assert rows[2]["details"] == '[{"detail_type": "email", "detail_value": "é"}]'


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1 << 20])
def test_a_line_that_is_no_object_is_rejected_alone(tmp_path: Path, block_bytes: int) -> None:
    good = '{"display_name": "Ada", "entity_type": "PERSON"}'
    bad = {
        "[1]": Reason.WRONG_FIELD_COUNT,
        '{"display_name": "A"': Reason.WRONG_FIELD_COUNT,
        '{"display_name": "A", "display_name": "B"}': Reason.WRONG_FIELD_COUNT,
        '{"display_name": NaN}': Reason.WRONG_FIELD_COUNT,
        '{"display_name": "a\\u0000"}': Reason.INVALID_ENCODING,
        '{"display_name": "\\ud800"}': Reason.INVALID_ENCODING,
        '{"display_name": ' + "[" * 50_000: Reason.WRONG_FIELD_COUNT,
        "x" * 5000: Reason.WRONG_FIELD_COUNT,
    }
    path = tmp_path / "drop.ndjson"
    path.write_text("\n".join([good, *bad, good]))
    chunks = read(path, block_bytes=block_bytes, record_bytes=60_000)
    assert [line for chunk in chunks for line in chunk.frame["line"]] == [1, 2 + len(bad)]
    rejects = [reject for chunk in chunks for reject in chunk.rejects]
    assert [(reject.line, reject.reasons, reject.raw) for reject in rejects] == [
        (line, (reason,), text) for line, (text, reason) in enumerate(bad.items(), 2)
    ]
    assert not chunks[-1].is_whole


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_a_line_with_two_members_of_one_column_is_rejected_and_each_of_them_may_stand_alone(
    tmp_path: Path, block_bytes: int
) -> None:
    path = tmp_path / "drop.ndjson"
    twice = '{"display_name": "Bo", "entity_type": "PERSON", "email": "b@x.org", "Email": null}'
    path.write_text(
        '{"display_name": "Ada", "entity_type": "PERSON", "EMAIL": "a@x.org"}\n'
        f"{twice}\n"
        '{"display_name": "Cy", "entity_type": "PERSON", "email": "c@x.org"}\n'
        '{"display_name": "Di", "entity_type": "PERSON"}\n'
    )
    chunks = read(path, block_bytes=block_bytes)
    rows = pl.concat([chunk.frame for chunk in chunks], how="diagonal")
    assert rows["email"].to_list() == ["a@x.org", "c@x.org", None]
    rejects = [reject for chunk in chunks for reject in chunk.rejects]
    assert rejects == [Reject(2, (Reason.WRONG_FIELD_COUNT,), twice)]


@pytest.mark.parametrize("block_bytes", [1, 50, 1 << 20])
def test_a_line_of_json_beyond_the_largest_size_is_rejected_wherever_the_blocks_end(
    tmp_path: Path, block_bytes: int
) -> None:
    path = tmp_path / "drop.ndjson"
    good = '{"display_name": "Ada", "entity_type": "PERSON"}\n'
    path.write_text(good + '{"display_name": "' + "x" * 500 + '"}\n' + good)
    chunks = read(path, block_bytes=block_bytes, record_bytes=100)
    assert [line for chunk in chunks for line in chunk.frame["line"]] == [1, 3]
    (reject,) = [reject for chunk in chunks for reject in chunk.rejects]
    assert (reject.line, reject.reasons, len(reject.raw)) == (2, (Reason.WRONG_FIELD_COUNT,), 100)


def test_bytes_that_are_not_utf_8_in_json_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "drop.ndjson"
    path.write_bytes(b'{"display_name": "Ada", "entity_type": "PERSON"}\n{"display_name": "Ren\xe9"}\n')
    (chunk,) = read(path)
    assert chunk.rejects == [Reject(2, (Reason.INVALID_ENCODING,), r'{"display_name": "Ren\xe9"}')]


def test_an_unknown_member_refuses_the_file_with_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "drop.ndjson"
    path.write_text('{"display_name": "Ada", "entity_type": "PERSON"}\n{"display_name": "Bo", "emial": "x"}\n')
    said = refusal(path)
    assert said.startswith(f"{path}:2: has an unknown member 'emial', is it email?; ")
    assert "display_name, entity_type, details" in said
    assert "(email, key, website)" in said


def test_a_row_of_a_table_is_rejected_as_a_record_of_csv(tmp_path: Path) -> None:
    frame = pl.DataFrame({"display_name": ['A "x", y', "B"], "entity_type": ["PERSON", "P\0"], "email": [1.0, 2.0]})
    frame.write_parquet(tmp_path / "drop.parquet")
    (chunk,) = read(tmp_path / "drop.parquet")
    assert chunk.header == "\ufeffdisplay_name,entity_type,email"
    assert chunk.raw([1]) == ['"A ""x"", y",PERSON,1']
    assert chunk.rejects == [Reject(2, (Reason.INVALID_ENCODING,), r"B,P\x00,2")]


def test_a_cell_beyond_the_header_is_a_row_with_too_many_fields(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    for row in (
        ["display_name", "entity_type", "email", None],
        ["Ada", "PERSON", "a"],
        ["Bo", "PERSON", "b", "c", "d"],
    ):
        book.active.append(row)
    book.save(tmp_path / "drop.xlsx")
    (chunk,) = read(tmp_path / "drop.xlsx")
    assert chunk.frame["display_name"].to_list() == ["Ada"]
    assert chunk.rejects == [Reject(3, (Reason.WRONG_FIELD_COUNT,), "Bo,PERSON,b,c,d")]


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    rows = [{"display_name": f"Ada {number}", "entity_type": "PERSON", "email": ""} for number in range(5000)]
    for ends, kind in (("csv.gz", "gzip"), ("csv.zst", "Zstandard")):
        path = write_table(tmp_path / f"drop.{ends}", rows)
        path.write_bytes(path.read_bytes()[:-20])
        assert refusal(path).startswith(f"is a broken {kind} archive (")
        path.write_bytes(b"".join((path.read_bytes()[:500], b"\0\xff" * 50, path.read_bytes()[600:])))
        assert refusal(path).startswith(f"is a broken {kind} archive (")


def test_several_packed_parts_are_one_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "drop.csv", ROWS)
    more = b"Cy,PERSON,,\r\n"
    for packed in (gzip, zstd):
        path.with_suffix(".x").write_bytes(packed.compress(path.read_bytes()) + packed.compress(more))
        assert [row["display_name"] for row in rows_of(path.with_suffix(".x"))][-1] == "Cy"


def test_a_file_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SMALL", 1 << 20)
    header = b"display_name,entity_type,details\n"
    for packed in (gzip, zstd):
        path = tmp_path / "drop.csv"
        path.write_bytes(packed.compress(header + b"Ada,PERSON,[]\n" * 2_000_000))
        assert refusal(path).startswith("unpacks to more than 250 times its size")


def test_a_workbook_that_is_too_large_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "WORKBOOK_BYTES", 3 << 20)
    rows = [{"display_name": "Ada" * 30, "entity_type": "PERSON", "email": f"{n}"} for n in range(10)]
    assert len(rows_of(write_table(tmp_path / "small.xlsx", rows))) == 10
    path = write_table(tmp_path / "drop.xlsx", rows * 3000)
    said = refusal(path)
    assert said == (
        "unpacks to more than 3 MiB, the most for a workbook; save its sheet as CSV UTF-8, which may be of any size"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(gzip.compress(b"x")), "is packed twice; unpack it once"),
        (gzip.compress(b"PAR1"), "is a Parquet file packed with gzip; it is packed in itself: unpack it first"),
        (b"PAR1 and no more", "cannot be read as a Parquet file: "),
        (b"PK\x03\x04 and no more", "cannot be read as an Excel workbook: "),
        (b"\xd0\xcf\x11\xe0old", "is an old or encrypted Excel workbook; save it as .xlsx without a password"),
        (b'[{"display_name": "Ada"}]', "is a JSON list; write one object a line, as `jq -c '.[]'` does"),
        (b"", "is empty; a drop names its columns in the first line: "),
        (gzip.compress(b""), "is empty; "),
        (
            "display_name\n".encode("utf-16"),
            'is in UTF-16; save it as UTF-8, or say so in a profile: encoding = "utf-16"',
        ),
    ],
    ids=range(9),
)
def test_what_is_no_drop_is_refused_with_what_to_do(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "drop"
    path.write_bytes(content)
    assert refusal(path).startswith(said)
