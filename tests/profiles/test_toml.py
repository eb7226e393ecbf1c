"""A profile that cannot be used is refused in one line that names the file, the line, the key and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm_core.errors import ProfileRefused, UnknownProfile
from crm_core.profiles import store
from crm_core.profiles.toml import line_of, read_profile

pytestmark = pytest.mark.unit

GOOD = """
# how the ERP writes
description = "Customers"
format = "csv"
encoding = "cp1252"
separator = "semicolon"
decimal = ","
thousands = "."
zone = "Europe/Berlin"
ignore = ["Notes"]

[columns]
source = "erp"
source_key = "{No}"
display_name = "{First} {Last}"
entity_type = { from = "{Kind}", values = { P = "PERSON", "*" = "INSTITUTION" } }
change_ts = { from = "{At}", format = "%d.%m.%Y" }

[details]
email = "{Mail}"
"Straße" = { from = "{Street}", blank = "ends" }
"""


def test_a_profile_says_what_it_says() -> None:
    found = read_profile("erp", GOOD, "erp.toml")
    assert (found.name, found.description, found.text) == ("erp", "Customers", GOOD)
    assert (found.layout.kind, found.layout.encoding, found.layout.separator) == ("csv", "cp1252", ";")
    assert found.needed == ("No", "First", "Last", "Kind", "At", "Mail", "Street")
    assert list(found.details) == ["email", "straße"]
    assert [value.ends for value in found.details.values()] == [False, True]
    assert (found.mode, found.is_partial, str(found.zone)) == ("delta", False, "Europe/Berlin")


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('format = "csv"', 'format = "csvv"', ":4: format is 'csvv'; choose one of: csv, ndjson, parquet, xlsx"),
        ('format = "csv"', "format = 1", ":4: format is 1; choose one of: "),
        ('format = "csv"', 'fromat = "csv"', ":4: fromat is not a key here; is it format?; there are: description, "),
        ('format = "csv"', 'mode = "snapshot"', ":4: mode needs scope: what it lists completely, such as "),
        ('format = "csv"', 'scope = ["PERSON"]', ':4: scope goes with mode = "snapshot"'),
        ('format = "csv"', "skip = -1", ":4: skip is not a number of lines above the header; "),
        ('"cp1252"', "1252", ":5: encoding is not a text; put it in quotes"),
        ('"cp1252"', '"klingon"', ":5: encoding is 'klingon', which is not a known encoding; use one such as utf-8"),
        ('"cp1252"', '"idna"', ":5: encoding is 'idna', which is not a known encoding"),
        ('"semicolon"', '";;"', ":6: separator is ';;'; write one character, such as "),
        ('"semicolon"', '"\\""', ":6: separator is '\"'; "),
        ('decimal = ","', 'decimal = "comma"', ":7: decimal is 'comma'; write one character"),
        ('"Europe/Berlin"', '"Europe/Berln"', ":9: zone is 'Europe/Berln'; write a name such as Europe/Berlin"),
        ('["Notes"]', "[1]", ":10: ignore is not a list of texts; "),
        ('display_name = "{First} {Last}"', "", ":12: columns lacks display_name; such as display_name = "),
        ('source = "erp"', "", ":12: columns needs both source and source_key: "),
        ('source = "erp"', 'sauce = "erp"', ":13: columns.sauce is not a key here; is it source?; there are: "),
        ("{First} {Last}", "{First {Last}", ":15: columns.display_name has a single '{'; write a column as {name}"),
        ("{First} {Last}", "First}", ":15: columns.display_name has a single '}'; "),
        ('"{First} {Last}"', "3", ":15: columns.display_name is neither a text nor a table; such as "),
        ('"{No}"', '{ from = "{No}", blank = "ends" }', ":14: columns.source_key.blank is for details: "),
        ('P = "PERSON"', "P = 1", ":16: columns.entity_type.values is not a map of texts; write one such as "),
        ('from = "{Kind}", ', "", ":16: columns.entity_type lacks from; such as "),
        ('"%d.%m.%Y"', '"%d.%m"', ":17: columns.change_ts has the format '%d.%m', which makes no date; such as"),
        ('"%d.%m.%Y"', '"%Q"', ":17: columns.change_ts has the format '%Q', which makes no date; "),
        ('"%d.%m.%Y"', '"day"', ":17: columns.change_ts has the format 'day', which makes no date; "),
        ('"%d.%m.%Y"', "7", ":17: columns.change_ts.format is not a text or a list of texts; "),
        ('blank = "ends"', 'blank = "end"', ":21: details.Straße.blank is 'end'; choose one of: keep, ends"),
        ('blank = "ends"', "number = 1", ":21: details.Straße.number is neither true nor false"),
        ('blank = "ends"', 'file_name = "%Y"', ":21: details.Straße.file_name is for columns.change_ts alone"),
        ('email = "{Mail}"', 'email = "{Mail}', ":20: is not TOML: "),
        ("[details]", "[details", ":19: is not TOML: "),
        ('email = "{Mail}"', 'email = "a"\nemail = "b"', ":21: is not TOML: Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line_and_key(was: str, now: str, said: str) -> None:
    assert was in GOOD
    with pytest.raises(ProfileRefused) as refused:
        read_profile("erp", GOOD.replace(was, now, 1), "profiles/erp.toml")
    text = str(refused.value)
    assert "\n" not in text
    assert text.removeprefix("profiles/erp.toml").startswith(said)


def test_a_partial_profile_needs_what_names_the_entity() -> None:
    with pytest.raises(ProfileRefused, match=r"^x:1: partial needs columns.source_key, or columns.entity_uid"):
        read_profile("x", 'partial = true\n[details]\nemail = "{E}"', "x")
    assert read_profile("x", 'partial = true\n[columns]\nentity_uid = "{U}"', "x").is_partial


def test_the_line_of_a_key_is_where_it_or_its_table_is_written() -> None:
    text = 'a = 1\n[b]\n# c = 1\nc = 1\n"d e".f = 2\n[b.g]\nh = 1\n'
    places = [("a",), ("b",), ("b", "c"), ("b", "c", "x"), ("b", "d e", "f"), ("b", "g", "h"), ("b", "z"), ("z",)]
    assert [line_of(text, key) for key in places] == [1, 2, 4, 4, 5, 7, 2, None]


def test_profiles_are_found_by_name_in_their_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    assert store.names(folder) == []
    with pytest.raises(
        UnknownProfile, match=r"no profile 'erp' is in .*; there is none yet; make one with `crm profile"
    ):
        store.load(folder, "erp")
    path = store.save(folder, "erp", GOOD)
    assert path.read_text() == GOOD
    (folder / "a b.toml").write_text(GOOD)
    (tmp_path / "secret.toml").write_text(GOOD)
    assert store.names(folder) == ["erp"]
    assert store.load(folder, "erp").text == GOOD
    for name in ("../secret", "a b", "", "erp.toml", "erp\n"):
        with pytest.raises(UnknownProfile, match="there are: erp"):
            store.load(folder, name)
    with pytest.raises(ProfileRefused, match="exists; choose another name, or edit it"):
        store.save(folder, "erp", GOOD)
    with pytest.raises(ProfileRefused, match="a name has letters"):
        store.save(folder, "../erp", GOOD)
    with pytest.raises(ProfileRefused, match="is not TOML"):
        store.save(folder, "bad", "x")
    (folder / "latin.toml").write_bytes(b'description = "\xe9"')
    with pytest.raises(ProfileRefused, match="is not UTF-8; save it as UTF-8"):
        store.load(folder, "latin")
