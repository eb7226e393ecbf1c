"""Files that are not drops: each is refused whole, with one line that says what is wrong and what to do."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from crm_core.errors import DropRefused
from crm_core.formats.files import fingerprint
from crm_core.rows.reader import read_drop

pytestmark = pytest.mark.unit

HEADER = "display_name,entity_type,details\n"
MANY = 8 << 20


def refusal(path: Path) -> str:
    with pytest.raises(DropRefused) as refused:
        list(read_drop(path))
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


NO_COMMAS = "has no commas in its header; is {} the separator? a drop uses commas"
REFUSED = {
    "empty": ("", "is empty; "),
    "bom": ("\ufeff", "is empty; "),
    "blank": ("\n\r\n\n", "is empty; "),
    "lacks-one": ("display_name,details\nAda,[]\n", "lacks the column entity_type; "),
    "lacks-two": ("display_name,entity_uid\n", "lacks the columns entity_type, details; "),
    "twice": ("display_name,details,entity_type,details\n", "has the column details 2 times; "),
    "misspelt": ("display_name,details,entity_type,opp\n", "has an unknown column 'opp', is it op?; "),
    "misspelt-and-lacking": (
        "display_name,details,entity_typ\n",
        "has an unknown column 'entity_typ', is it entity_type?; lacks the column entity_type; ",
    ),
    "unknown": ("display_name,details,entity_type,shoe\n", "has an unknown column 'shoe'; "),
    "nameless": ("display_name,,details,entity_type\n", "has no name for column 2, give it one or remove the column; "),
    "nameless-first": (",display_name,details,entity_type,,\n", "has no name for column 1, give it one or remove "),
    "email": ("display_name,details,entity_type,email\n", "has an unknown column 'email'; "),
    "hint": ("sep=;\r\ndisplay_name;entity_type;details\r\n", "is ';' the separator? a drop uses commas; "),
    "hint-tab": ('"sep=\t"\ndisplay_name\tentity_type\tdetails\n', r"is '\t' the separator? a drop uses commas; "),
    "hint-alone": ("sep=,\n", "is empty; "),
    "whole-lines": (
        '"display_name,entity_type,details"\r\n"Ada,PERSON,""[]"""\r\n',
        "has each line in quotes, as a single cell; take the outer quotes away, or save it as CSV again; ",
    ),
    "deletions-of-whom": (
        "op,change_ts\ndelete,2024-01-01\n",
        "lacks the columns display_name, entity_type, details; ",
    ),
    "newline": ('display_name,details,entity_type,"z\nz"\n', r"has an unknown column 'z\nz'; "),
    "long": (f"display_name,details,entity_type,{'z' * 500}\n", f"has an unknown column '{'z' * 39}…'; "),
    "semicolon": ("display_name;entity_type;details\nAda;PERSON;[]\n", NO_COMMAS.format("';'")),
    "tab": ("display_name\tentity_type\tdetails\n", NO_COMMAS.format(r"'\t'")),
    "bar": ('"display_name"|"entity_type"|"details"\n', NO_COMMAS.format("'|'")),
    "data": ('Ada,PERSON,"[]"\nBob,PERSON,"[]"\n', "has no header row; "),
    "open-quote": (
        'display_name,"entity_type,details\nAda,PERSON\n',
        "has a quote in its header that is not closed; ",
    ),
    "title": (
        "Customers,,\n\ndisplay_name,entity_type,details\n",
        "has 2 lines above its header; remove what is above it",
    ),
    "remark": ("# all\ndisplay_name,entity_type,details\n", "has a line above its header; "),
    "foreign": (
        "Kunde;E-Mail\nAda;a@x.org\n",
        "has no header row with a column that is known; is ';' the separator? a drop ",
    ),
    "no-line": ("x" * 100_000, "has no header row; "),
    "html": ("<html></html>", "has no header row; "),
}


@pytest.mark.parametrize(("content", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_file_without_a_proper_header_is_refused(path: Path, content: str, fault: str) -> None:
    path.write_text(content, newline="")
    assert refusal(path).startswith(fault)


BINARY = {
    b"BZh91AY": "is a bzip2 archive; unpack it, or pack it with gzip or Zstandard",
    b"PK\x03\x04rest": "cannot be read as an Excel workbook: File is not a zip file; save it again, or export it as"
    " CSV UTF-8",
    HEADER.encode("utf-16"): 'is in UTF-16; save it as UTF-8, or say so in a profile: encoding = "utf-16"',
    HEADER.encode("utf-32"): 'is in UTF-32; save it as UTF-8, or say so in a profile: encoding = "utf-32"',
    HEADER.encode("utf-16-le"): "has NUL bytes in its header; is it UTF-16? save it as UTF-8",
    HEADER.encode("utf-16-be"): "has NUL bytes in its header; is it UTF-16? save it as UTF-8",
    "display_name,détails\n".encode(
        "latin-1"
    ): "has a header that is not UTF-8; save it as UTF-8, or name its encoding in a profile",
    b"\x89PNG\r\n\x1a\n\0": "has a header that is not UTF-8; save it as UTF-8, or name its encoding in a profile",
}


@pytest.mark.parametrize(("content", "fault"), BINARY.items(), ids=range(len(BINARY)))
def test_a_file_of_another_kind_is_refused_with_what_to_do(path: Path, content: bytes, fault: str) -> None:
    path.write_bytes(content)
    assert refusal(path) == fault


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path) == "is a folder; name a file in it"
    assert refusal(tmp_path / "none.csv") == "does not exist; check how its name is spelled"
    assert refusal(tmp_path / "pipe").startswith("is not a regular file; ")
    assert refusal(tmp_path / ("n" * 300)) == "cannot be read: File name too long"
    with pytest.raises(DropRefused, match="does not exist"):
        fingerprint(tmp_path / "none.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(path: Path) -> None:
    path.write_text(HEADER)
    path.chmod(0)
    assert refusal(path) == "cannot be read: Permission denied"


def test_a_fingerprint_is_the_sha_256_of_the_bytes(path: Path) -> None:
    path.write_bytes(HEADER.encode() + b"Ada,PERSON,[]\r\n")
    assert fingerprint(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(read_drop(path, sha256=fingerprint(path)))


@pytest.mark.parametrize("block_bytes", [1, 7, MANY])
def test_a_file_that_changed_since_its_fingerprint_is_refused_in_the_end(path: Path, block_bytes: int) -> None:
    path.write_text(HEADER + "Ada,PERSON,[]\n" * 3)
    before = fingerprint(path)
    path.write_text(HEADER + "Ada,PERSON,[]\n" * 2 + "Eve,PERSON,[]\n")
    with pytest.raises(DropRefused, match="changed while it was read"):
        list(read_drop(path, sha256=before, block_bytes=block_bytes))
