"""A drop is read row by exact row, whatever is in the file; a file that is no drop is refused in one line."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reading import HEADER, MANY, Read, Row, read

from crm_core.formats.csv_records import RAW_BYTES
from crm_core.model import Reason, Reject
from crm_core.rows.header import COLUMNS
from crm_core.rows.reader import read_drop

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "content",
    [
        HEADER.encode() + b"Ada,PERSON,[]\nBob,,\n",
        b"\xef\xbb\xbf" + HEADER.encode() + b"Ada,PERSON,[]\nBob,,\n",
        HEADER.encode() + b"Ada,PERSON,[]\nBob,,",
        b"display_name,entity_type,details\r\nAda,PERSON,[]\r\nBob,,\r\n",
        b"display_name,entity_type,details\rAda,PERSON,[]\rBob,,\r",
        b"display_name,entity_type,details\rAda,PERSON,[]\rBob,,",
        b' Display_Name ,"ENTITY_TYPE",details\nAda,PERSON,[]\nBob,"",""\n',
        b"details,display_name,entity_type\n[],Ada,PERSON\n,Bob,\n",
        HEADER.encode() + b"Ada,PERSON,[]\n\xef\xbb\xbfBob,,\n\xef\xbb\xbf",
        HEADER.encode() + b"Ada,PERSON,[]\r\nBob,,\r\n\x1a",
        HEADER.encode() + b"Ada,PERSON,[]\nBob,,\x1a\x1a\x1a",
        HEADER.encode() + b"Ada,PERSON,[]\r\n\x1aBob,,\r\n\x1a\r\n",
        b"\xe2\x80\x8bdisplay_name\xef\xbb\xbf,\xc2\xa0entity_type,details\nAda,PERSON,[]\nBob,,\n",
        b"display_name,entity_type,details,, ,\nAda,PERSON,[],,,\nBob,,, ,\xe2\x80\x8b,\n",
    ],
    ids=[
        *("lf", "bom", "no-final-newline", "crlf", "cr", "cr-no-final", "header-case-and-quotes", "reordered"),
        *("joined", "end-of-file", "ends-of-file", "joined-ends", "unseen-in-header", "nameless"),
    ],
)
def test_every_way_to_write_a_csv_file_reads_the_same(path: Path, content: bytes) -> None:
    found = read(path, content)
    assert found.rows == [(2, "Ada", "PERSON", "[]"), (3, "Bob", None, None)]
    assert found.rejects == []


def test_a_batch_has_all_columns_with_null_for_what_is_absent(path: Path) -> None:
    path.write_text("op,details,entity_type,display_name\ndelete,[],PERSON,Ada\n")
    (chunk,) = read_drop(path)
    assert chunk.frame.columns == ["line", *COLUMNS]
    assert chunk.frame.row(0) == (2, None, "Ada", "PERSON", "[]", None, "delete", None, None)
    assert chunk.raw([2]) == ["delete,[],PERSON,Ada"]
    assert chunk.bytes_read == path.stat().st_size


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 7, MANY])
def test_a_mark_before_a_record_is_of_a_file_and_no_text(path: Path, block_bytes: int) -> None:
    content = (
        f'\ufeff{HEADER}\ufeff"Ada, B","1\n\ufeff2",x\n\ufeff{HEADER}\ufeff\ufeff\n\ufeffBob,,\n\ufeffshort\n\ufeff'
    )
    found = read(path, content, block_bytes=block_bytes)
    assert found.rows == [
        (2, "Ada, B", "1\n\ufeff2", "x"),
        (4, "display_name", "entity_type", "details"),
        (6, "Bob", None, None),
    ]
    assert found.rejects == [Reject(7, (Reason.WRONG_FIELD_COUNT,), "short")]
    assert found.raw == ['"Ada, B","1\n\ufeff2",x', HEADER.strip(), "Bob,,"]


@pytest.mark.parametrize("block_bytes", [1, 7, MANY])
def test_records_that_end_with_cr_may_hold_lf(path: Path, block_bytes: int) -> None:
    for many in (0, 1000, 9000):  # the first LF may stand behind what the header is looked for in
        content = HEADER.replace("\n", "\r") + "Fill,PERSON,[]\r" * many + '"Mac\nZwei",PERSON,[]\rEve,,\r'
        if block_bytes == MANY or many == 0:
            found = read(path, content, block_bytes=block_bytes)
            assert found.rows[many:] == [(many + 2, "Mac\nZwei", "PERSON", "[]"), (many + 4, "Eve", None, None)]
            assert found.rejects == []


def test_a_header_in_lines_of_two_cr_and_a_lf_is_not_of_an_old_macintosh(path: Path) -> None:
    assert read(path, HEADER.replace("\n", "\r\r\n") + "Ada,PERSON,[]\r\r\n").rows[0][:3] == (2, "Ada", "PERSON")


def test_a_hint_for_a_spreadsheet_is_passed_over(path: Path) -> None:
    for hint in ("sep=,\r\n", '"sep=,"\n', "SEP=,\n", "\ufeffsep=,,,\n"):
        found = read(path, f"{hint}{HEADER}Ada,PERSON,[]\n")
        assert found.rows == [(3, "Ada", "PERSON", "[]")]


def test_a_value_in_a_column_without_a_name_is_not_lost(path: Path) -> None:
    found = read(path, "display_name,entity_type,details,,\nAda,,,,\nBob,,,,seen\nshort,,\nEve,,,,\n")
    assert [row[:2] for row in found.rows] == [(2, "Ada"), (5, "Eve")]
    assert found.rejects == [
        Reject(3, (Reason.WRONG_FIELD_COUNT,), "Bob,,,,seen"),
        Reject(4, (Reason.WRONG_FIELD_COUNT,), "short,,"),
    ]


def test_a_file_of_deletions_needs_no_other_columns(path: Path) -> None:
    path.write_text("op,entity_uid\ndelete,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\n")
    (chunk,) = read_drop(path)
    assert chunk.frame.row(0, named=True) == dict.fromkeys(COLUMNS) | {
        "line": 2,
        "entity_uid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "op": "delete",
    }


@pytest.mark.parametrize("content", [HEADER, HEADER.strip(), HEADER + "\n\r\n\n", HEADER + "\x1a"])
def test_a_header_alone_is_a_drop_without_rows(path: Path, content: str) -> None:
    assert read(path, content) == Read([], [], [])


def test_lines_are_physical_ones_with_blank_lines_and_newlines_in_fields(path: Path) -> None:
    content = '\n\ndisplay_name,entity_type,details\n\nAda,"1\n2\r\n3",x\r\n\r\n\nBob,y,"z\n"\nshort\nEve,,\n'
    for block_bytes in (1, 7, MANY):
        found = read(path, content, block_bytes=block_bytes)
        assert found.rows == [(5, "Ada", "1\n2\r\n3", "x"), (10, "Bob", "y", "z\n"), (13, "Eve", None, None)]
        assert found.rejects == [Reject(12, (Reason.WRONG_FIELD_COUNT,), "short")]
        assert found.raw == ['Ada,"1\n2\r\n3",x', 'Bob,y,"z\n"', "Eve,,"]


@pytest.mark.parametrize(
    ("row", "raw"),
    [
        ("a,b", None),
        ("a,b,c,d", None),
        ("a,b,c,", None),
        (",", None),
        ("   ", None),
        ("\t", None),
        ('a,"b"x,c', None),
        ('a,"b" ,c', None),
        ('a,"b,c', None),
        ('"a,b,c', None),
        ('a,b,"', None),
        ('a,b,"""', None),
        ('a,"b\\"c",d', None),  # a backslash is no escape
        ('a,"b,c"\r', 'a,"b,c"'),
    ],
)
def test_a_damaged_row_is_rejected_alone(path: Path, row: str, raw: str | None) -> None:
    found = read(path, f'{HEADER}x,"1",2\n{row}\ny,"3\n4","5"\n')
    assert found.rejects == [Reject(3, (Reason.WRONG_FIELD_COUNT,), raw or row)]
    assert found.rows == [(2, "x", "1", "2"), (4, "y", "3\n4", "5")]


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ('a"b,c,d', ('a"b', "c", "d")),
        ('a""b,c,""', ('a""b', "c", None)),
        ('Bob "Bo" X,c"","""d"""', ('Bob "Bo" X', 'c""', '"d"')),
        (' "a", "b",c', (' "a"', ' "b"', "c")),
        ('"a,""b""\n",c,d', ('a,"b"\n', "c", "d")),
        ("a\rb,c,d", ("a\rb", "c", "d")),
        ("NULL,NaN,\\N", ("NULL", "NaN", "\\N")),
        ("#a,'b,c'", ("#a", "'b", "c'")),
    ],
)
def test_an_odd_row_keeps_its_text(path: Path, row: str, fields: tuple[str | None, ...]) -> None:
    found = read(path, f"{HEADER}{row}\nnext,,\n")
    assert found.rows[0] == (2, *fields)
    assert found.rows[1][1] == "next"
    assert found.rejects == []
    assert found.raw[0] == row


def test_a_quote_that_nobody_closes_costs_one_line(path: Path) -> None:
    content = HEADER + 'a,"b,c\n' + "d,e,f\n" * 1000
    for block_bytes, record_bytes in ((MANY, MANY), (100, MANY), (100, 500), (3000, 500)):
        found = read(path, content, block_bytes=block_bytes, record_bytes=record_bytes)
        assert found.rejects == [Reject(2, (Reason.WRONG_FIELD_COUNT,), 'a,"b,c')]
        assert len(found.rows) == 1000
        assert found.rows[-1] == (1002, "d", "e", "f")


def test_bytes_that_are_not_text_are_rejected_and_shown(path: Path) -> None:
    good = b"caf\xc3\xa9 \xf0\x9f\x98\x80,PERSON,[]\n"
    bad = [b"caf\xe9,PERSON,[]", b"a\x00b,PERSON,[]", b"\xed\xa0\x80,,", b'"\xff\n\xfe",b,c', b"\xc3,b"]
    content = HEADER.encode() + good + b"\n".join(bad) + b"\n" + good
    for block_bytes in (1, 2, 3, 5, 60, MANY):
        found = read(path, content, block_bytes=block_bytes)
        assert found.rejects == [
            Reject(3, (Reason.INVALID_ENCODING,), r"caf\xe9,PERSON,[]"),
            Reject(4, (Reason.INVALID_ENCODING,), r"a\x00b,PERSON,[]"),
            Reject(5, (Reason.INVALID_ENCODING,), r"\xed\xa0\x80,,"),
            Reject(6, (Reason.INVALID_ENCODING,), '"\\xff\n\\xfe",b,c'),
            Reject(8, (Reason.WRONG_FIELD_COUNT, Reason.INVALID_ENCODING), r"\xc3,b"),
        ]
        assert [(row[0], row[1]) for row in found.rows] == [(2, "café 😀"), (9, "café 😀")]


cells = st.text(
    st.one_of(
        # A byte order mark or Ctrl-Z before a record is left out, as in joined files.
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1a\ufeff"),
        st.sampled_from(',"\n\r é'),
    )
)


@settings(deadline=None)
@given(
    rows=st.lists(st.one_of(st.lists(cells, min_size=3, max_size=3), st.lists(cells, max_size=5)), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    block_bytes=st.integers(1, 200),
)
def test_what_the_csv_module_writes_is_read_back_on_its_line(
    rows: list[list[str]], end: str, quoting: Literal[0, 1], block_bytes: int
) -> None:
    content, line = HEADER.replace("\n", end), 2
    good: list[Row] = []
    bad: list[Reject] = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=end, quoting=quoting).writerow(row)
        if end == "\n" and ("\r," in text.getvalue() or text.getvalue().endswith("\r\n")):
            continue  # Python 3.11 leaves that CR unquoted: white space that ends a field or is part of the line's end
        if len(row) == 3:
            good.append((line, row[0] or None, row[1] or None, row[2] or None))
        elif row:
            bad.append(Reject(line, (Reason.WRONG_FIELD_COUNT,), text.getvalue().removesuffix(end)))
        content += text.getvalue()
        line += text.getvalue().count("\n")
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder) / "drop.csv", content, block_bytes=block_bytes)
    assert found.rows == good
    assert found.rejects == bad


single = st.sampled_from(b'"",,\n\n\r a\xff\0').map(lambda byte: bytes([byte]))
several = st.sampled_from(
    ["\ufeff", "\r\n", '""', '"x"', "é", "😀", "a,b,c\n", '"q\nr",b,c\n', '1,2,"3"\r\n', ',"x\n', '"\n,"']
).map(str.encode)
pieces = st.one_of(single, several)


@settings(max_examples=300, deadline=None)
@given(
    content=st.lists(pieces, max_size=40).map(b"".join),
    block_bytes=st.integers(1, 40),
    record_bytes=st.sampled_from([12, 30, MANY]),
)
@example(content=b'\xff"\n"a,b,c\n', block_bytes=1, record_bytes=MANY)
def test_every_line_of_any_bytes_is_accounted_for_wherever_the_blocks_end(
    content: bytes, block_bytes: int, record_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drop.csv"
        whole = read(path, HEADER.encode() + content, record_bytes=record_bytes)
        assert read(path, HEADER.encode() + content, block_bytes=block_bytes, record_bytes=record_bytes) == whole
    if record_bytes == MANY:
        texts = {row[0]: raw for row, raw in zip(whole.rows, whole.raw, strict=True)}
        texts |= {reject.line: reject.raw for reject in whole.rejects}
        assert len(texts) == len(whole.rows) + len(whole.rejects)
        shown = content.decode(errors="backslashreplace").replace("\0", r"\x00").split("\n")
        for line, text in enumerate(shown, 2):
            if text.lstrip("\ufeff").strip("\r") and line not in texts:
                start = max(known for known in texts if known < line)
                assert line - start <= texts[start].count("\n"), "a line is lost"


@pytest.mark.parametrize(
    ("row", "begins", "ends"),
    [
        (b"x" * RAW_BYTES + b"\r", b"x" * RAW_BYTES, "xx"),
        (b"x" * (RAW_BYTES + 1), b"x" * RAW_BYTES, "[cut: 1 bytes or more are left out; see line 2 of the file]"),
        ("é".encode() * RAW_BYTES + b",a,b,c", "é".encode() * (RAW_BYTES // 2), "see line 2 of the file]"),
        (b"x" + "é".encode() * RAW_BYTES, b"x" + "é".encode() * (RAW_BYTES // 2 - 1), "see line 2 of the file]"),
        (b'a,"' + b"x\n" * RAW_BYTES + b'",b,c', (b'a,"' + b"x\n" * RAW_BYTES)[:RAW_BYTES], 'see line 2 of the file]"'),
    ],
    ids=range(5),
)
def test_of_a_long_rejected_row_the_beginning_is_kept_and_where_the_rest_is(
    path: Path, row: bytes, begins: bytes, ends: str
) -> None:
    found = read(path, HEADER.encode() + row + b"\nAda,PERSON,[]\n")
    assert [reject.line for reject in found.rejects] == [2]
    raw = found.rejects[0].raw
    assert raw.startswith(begins.decode())
    assert raw.endswith(ends)
    assert len(raw) < len(begins.decode()) + 80
    assert [row[1] for row in found.rows] == ["Ada"]


def test_a_file_of_rejects_with_a_row_that_is_still_cut_has_that_row_rejected_alone(path: Path) -> None:
    rejected = read(path, HEADER.encode() + b"a," + b"x" * RAW_BYTES + b",b\nc," + b'"' + b"y" * RAW_BYTES + b'",d,e\n')
    raws = [reject.raw for reject in rejected.rejects]
    assert raws == [] or len(raws) == 1
    cut = "x" * 99 + "[cut: 7 bytes or more are left out; see line 2 of the file]"
    content = f"reject_line,reject_reasons,{HEADER}2,wrong_field_count,{cut},PERSON,[]\n"
    found = read(path, content + f"3,wrong_field_count,{raws[0]}\n4,,Bo [cut: it out,PERSON,[]\n5,x,Cy,PERSON,[]\n")
    assert [(reject.line, reject.reasons) for reject in found.rejects] == [
        (2, (Reason.VALUE_TOO_LONG,)),
        (3, (Reason.WRONG_FIELD_COUNT,)),
    ]
    assert [row[1] for row in found.rows] == ["Bo [cut: it out", "Cy"]


def other_python() -> str | None:
    """The system's Python, if it is another release that can load what is installed for this one."""
    command = ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:3])"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()
    except OSError:
        return None
    ours = [str(part) for part in sys.version_info[:3]]
    return command[0] if said[:2] == ours[:2] and said != ours else None


@pytest.mark.skipif(other_python() is None, reason="no other release of this Python in /usr/bin")
def test_another_release_of_python_reads_the_same_rows() -> None:
    program = textwrap.dedent(r"""
        import random
        from crm_core.formats.csv_records import Splitter
        chosen, splitter = random.Random(1), Splitter(3, 1000)
        for _ in range(30_000):
            block = "".join(chosen.choices('"",,\n\r aé', k=chosen.randint(0, 30))).encode() + b"\n"
            print(splitter.split(block, 2, is_last=True))
    """)

    def said(python: str) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [python, "-c", program]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    assert said(other_python() or "") == said(sys.executable)
