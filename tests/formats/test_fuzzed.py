"""Files of every format that are damaged: never a traceback, and never a row that is lost without being counted."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from drop_rows import FIRST_SEEN, NOW, TYPES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import FORMATS, write_table

from crm_core.errors import DropRefused
from crm_core.formats.csv_records import end_of_text
from crm_core.profiles.infer import infer
from crm_core.profiles.toml import read_profile
from crm_core.rows.contract import validate
from crm_core.rows.reader import Form, read_drop

pytestmark = pytest.mark.unit

PROFILE = read_profile(
    "erp",
    """
    ignore = ["*"]
    blanks = ["-"]
    zone = "Europe/Berlin"
    decimal = ","
    [columns]
    display_name = "{display_name}"
    entity_type = { from = "{entity_type}", values = { P = "PERSON", "*" = "INSTITUTION" } }
    change_ts = { from = "{change_ts}", format = ["%d.%m.%Y %H:%M", "%d.%m.%Y"] }
    op = { from = "{op}", values = { X = "delete", "*" = "upsert" } }
    [details]
    email = { from = "{email} {website}", blank = "ends" }
    website = { from = "{website}", number = true }
    """,
    "erp.toml",
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", " ", "-", "P", "PERSON", "31.01.2024", "31.02.2024 10:00", "2024-01-31", "1,5", "delete", "X"]
    ),
)
COLUMNS = ("display_name", "entity_type", "email", "website", "change_ts", "op")
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, texts)), min_size=1, max_size=6)
damages = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3)), max_size=3)
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
PACKED = settings(quick, max_examples=6)  # the bytes that are packed are those of a format that has all examples


def examples(ends: str) -> settings:
    """How many tables are made up for a format."""
    return PACKED if "." in ends else quick


def counted(path: Path, form: Form) -> int | None:
    """How many rows were accepted or rejected, each once; None if the file is refused with one line."""
    try:
        chunks = list(read_drop(path, form, block_bytes=200))
        lines: list[int] = []
        for chunk in chunks:
            valid = validate(chunk, TYPES, first_seen=FIRST_SEEN, now=NOW, time_zone=form.zone)
            lines += [*valid.changes["line"], *(reject.line for reject in valid.rejects)]
            assert all(reject.reasons and "\0" not in reject.raw for reject in valid.rejects)
            assert all(end_of_text(reject.raw.encode()) == len(reject.raw.encode()) for reject in valid.rejects)
    except DropRefused as refused:
        said = str(refused)
    else:
        assert len(lines) == len(set(lines))
        return len(lines)
    assert "\n" not in said
    return None


@pytest.mark.parametrize("form", [Form(["email", "website"]), Form(profile=PROFILE)], ids=["standard", "profile"])
@pytest.mark.parametrize("ends", FORMATS)
def test_every_row_of_any_texts_is_counted(ends: str, form: Form) -> None:
    @examples(ends)
    @given(rows)
    def every_row(table: list[dict[str, str]]) -> None:
        is_text = ends.startswith("csv")
        table = [{name: _sheet(cell) if ends == "xlsx" else cell for name, cell in row.items()} for row in table]
        filled = [row for row in table if any(row.values())] if ends == "xlsx" else table
        with tempfile.TemporaryDirectory() as folder:
            found = counted(write_table(Path(folder) / f"drop.{ends}", table), form)
        if is_text:
            assert found is not None, "quotes keep every text in its row"
            assert found >= 0
        else:
            assert found == len(filled)

    every_row()


@pytest.mark.parametrize("ends", FORMATS)
def test_a_damaged_file_is_read_or_refused_in_one_line(ends: str) -> None:
    @examples(ends)
    @given(rows, damages, st.integers(0, 2_000))
    def damaged(table: list[dict[str, str]], places: list[tuple[int, bytes, int]], cut: int) -> None:
        table = [{name: _sheet(cell) for name, cell in row.items()} for row in table]
        with tempfile.TemporaryDirectory() as folder:
            path = write_table(Path(folder) / f"drop.{ends}", table)
            content = bytearray(path.read_bytes())
            for at, piece, width in places:
                place = at % (len(content) + 1)
                content[place : place + width] = piece
            path.write_bytes(content[: len(content) - cut] if cut < len(content) else content)
            counted(path, Form(["email", "website"]))
            counted(path, Form(profile=PROFILE))
            with suppress(DropRefused):
                assert infer(path, "source", ["email", "website"]).text.endswith("\n")

    damaged()


@quick
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"{"]),
)
def test_bytes_of_any_kind_are_read_or_refused_in_one_line(content: bytes, magic: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drop"
        path.write_bytes(magic + content)
        counted(path, Form(["email", "website"]))
        counted(path, Form(profile=PROFILE))


def _sheet(text: str) -> str:
    """A text that a sheet can hold: XML has no control characters, and openpyxl takes = for a formula."""
    plain = "".join(char for char in text if char.isprintable() and char != "_")
    return plain.lstrip("=")
