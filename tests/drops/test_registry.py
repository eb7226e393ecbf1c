"""The log of drops, and the round of a rejected row: downloaded, corrected, dropped again, and in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import day, reference_data

from crm_core.drops import registry
from crm_core.drops.ingest import Options, ingest_on
from crm_core.model import MergeReport
from crm_core.postgres.connection import Connection
from crm_core.postgres.streams import BLOCK_BYTES
from crm_core.reading import reads
from crm_core.reference import reference_types

pytestmark = [pytest.mark.integration, pytest.mark.idempotency]

HEADER = "display_name,entity_type,details,change_ts"
REMARKED = f"reject_line,reject_reasons,{HEADER}"


class Desk:
    """Where drops are taken in and their rejects are looked at."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.folder = connection, folder

    def drop(self, content: str | bytes, name: str = "drop.csv", **options: Any) -> MergeReport:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest_on(self.connection, path, Options(**options))

    def download(self, report: MergeReport) -> bytes:
        return b"".join(registry.rejects_file(self.connection, report.sha256 or ""))

    def names(self) -> set[str]:
        page = reads.entities(self.connection, reference_types(self.connection), limit=200)
        return {json.loads(document)["display_name"] for document in page.documents}


@pytest.fixture
def desk(connection: Connection, tmp_path: Path) -> Desk:
    reference_data(connection)
    return Desk(connection, tmp_path)


def test_rejects_are_downloaded_corrected_and_dropped_again(desk: Desk) -> None:
    first = desk.drop(
        f"{HEADER}\n"
        "Ada,PERSON,[],2024-01-01\n"
        "Bo,ROBOT,[],2024-13-01\n"
        "Cy,PERSON,2024-01-01\n"  # a field is missing
        'Di,PERSON,"[]"x,2024-01-01\n'  # a quote is broken
        'E,"PERSON,[],2024-01-01\n'  # another is never closed
        '"Flo\n",PERSON,"{\r\n}",2024-01-01\n'  # newlines in fields
        ",PERSON,[],2024-01-01\n"
    )
    assert (first.rows_accepted, first.rows_rejected) == (1, 6)
    download = desk.download(first)
    assert download.decode() == (
        f"{REMARKED}\n"
        "3,unknown_entity_type invalid_change_ts,Bo,ROBOT,[],2024-13-01\n"
        "4,wrong_field_count,Cy,PERSON,2024-01-01\n"
        '5,wrong_field_count,Di,PERSON,"[]"x,2024-01-01\n'
        '6,wrong_field_count,E,"PERSON,[],2024-01-01\n'
        '7,details_not_list,"Flo\n",PERSON,"{\r\n}",2024-01-01\n'
        "10,missing_display_name,,PERSON,[],2024-01-01\n"
    )
    corrected = (
        download.replace(b"ROBOT", b"PERSON")
        .replace(b"-13-", b"-12-")
        .replace(b"Cy,PERSON,", b"Cy,PERSON,[],")
        .replace(b'"[]"x', b'"[]"')
        .replace(b'E,"P', b"E,P")
        .replace(b'"{\r\n}"', b'"[\r\n]"')
        .replace(b",,PERSON", b",Gus,PERSON")
    )
    second = desk.drop(corrected)
    assert (second.status, second.rows_read, second.rows_rejected) == ("merged", 6, 0)
    assert desk.names() == {"Ada", "Bo", "Cy", "Di", "E", "Flo", "Gus"}


def test_a_row_comes_to_the_same_entity_with_or_without_the_remarks(desk: Desk) -> None:
    row = 'Ada,PERSON,"[{""detail_type"":""email"",""detail_value"":""a@x.org""}]",2024-01-01'
    desk.drop(f"{HEADER}\n{row}\n")
    again = desk.drop(f"{REMARKED}\n7,unknown_op,{row}\n", "again.csv")
    assert (again.rows_accepted, again.rows_changed) == (1, 0)


def test_remarks_may_be_anywhere_empty_or_not_or_removed(desk: Desk) -> None:
    desk.drop("display_name,Reject_Reasons,entity_type,details,reject_line\nAda,,PERSON,[],\nBo,x,PERSON,[],y\n")
    desk.drop("display_name,entity_type,details,reject_line\nCy,PERSON,[],1\n")
    assert desk.names() == {"Ada", "Bo", "Cy"}


def test_what_is_still_wrong_is_downloaded_again_with_the_new_remarks_alone(desk: Desk) -> None:
    first = desk.drop(f"{HEADER}\nAda,ROBOT,[],2024-13-01\nBo,ROBOT\n\nCy,ROBOT,[],2024-01-01\n")
    half = desk.download(first).replace(b"-13-", b"-12-").replace(b"ROBOT,[],2024-01-01", b"PERSON,[],2024-01-01")
    second = desk.drop(half)
    assert second.rows_accepted == 1
    download = desk.download(second).decode()
    assert download == f"{REMARKED}\n2,unknown_entity_type,Ada,ROBOT,[],2024-12-01\n3,wrong_field_count,Bo,ROBOT\n"


def test_a_row_that_lost_its_remarks_keeps_all_its_own_fields(desk: Desk) -> None:
    report = desk.drop(
        f'"reject_line","Reject_Reasons",{HEADER}\nAda 9,7,person,[],2024-01-01\n"4","unknown_op",Bo,ROBOT,[],\n'
    )
    assert desk.download(report).decode() == (
        f"{REMARKED}\n2,wrong_field_count,Ada 9,7,person,[],2024-01-01\n3,unknown_entity_type,Bo,ROBOT,[],\n"
    )


def test_remarks_that_were_moved_stay_where_they_are(desk: Desk) -> None:
    content = "display_name,entity_type,details,reject_reasons\nAda,ROBOT,[],old\n"
    assert desk.download(desk.drop(content)).decode() == content


def test_a_file_of_old_line_ends_comes_back_with_new_ones(desk: Desk) -> None:
    report = desk.drop(b'display_name,entity_type,details\rAda,PERSON,[]\r"B\ro",ROBOT,[]\rCy,PERSON\r')
    download = desk.download(report)
    assert download == (
        b"reject_line,reject_reasons,display_name,entity_type,details\n"
        b'3,unknown_entity_type,"B\no",ROBOT,[]\n5,wrong_field_count,Cy,PERSON\n'
    )
    assert desk.drop(download.replace(b"ROBOT", b"PERSON").replace(b"PERSON\n", b"PERSON,\n")).rows_rejected == 0
    assert desk.names() == {"Ada", "B o", "Cy"}


def test_the_header_comes_back_as_it_stood_with_the_mark_of_utf_8_before_all(desk: Desk) -> None:
    header = ' Display_Name ,"ENTITY_TYPE",details'
    report = desk.drop(f"\ufeff\r\n{header}\r\nÅsa,ROBOT,[]\r\n")
    download = desk.download(report).decode()
    assert download == f"\ufeffreject_line,reject_reasons,{header}\n3,unknown_entity_type,Åsa,ROBOT,[]\n"
    assert desk.drop(download.replace("ROBOT", "PERSON")).rows_accepted == 1


def test_bytes_that_are_not_text_are_rejected_until_they_are_corrected(desk: Desk) -> None:
    header = b"display_name,entity_type,details\n"
    report = desk.drop(header + b"Ren\xe9e,PERSON,[]\nN\0ull,PERSON,[]\nAda,PERSON,[]\nshort\xff\nC:\\xe9,PERSON,[]\n")
    assert desk.names() == {"Ada", r"C:\xe9"}, "a backslash of the sender's own is text"
    download = desk.download(report)
    assert download.decode() == (
        "reject_line,reject_reasons,display_name,entity_type,details\n"
        "2,invalid_encoding,Ren\\xe9e,PERSON,[]\n"
        "3,invalid_encoding,N\\x00ull,PERSON,[]\n"
        "5,wrong_field_count invalid_encoding,short\\xff\n"
    )
    half = desk.drop(download.replace(b"N\\x00ull", b"Null").replace(b"short", b"short\n9,,Zoe,PERSON,[]\n"))
    assert half.rows_accepted == 2
    assert [(reject.line, *reject.reasons) for reject in half.rejects] == [
        (2, "invalid_encoding"),
        (4, "wrong_field_count"),
        (6, "wrong_field_count"),
    ]
    rest = desk.download(half).replace(b"\\xe9", "é".encode())
    assert desk.drop(rest).rows_accepted == 1
    assert desk.names() == {"Ada", r"C:\xe9", "Null", "Zoe", "Renée"}


def test_a_drop_without_rejects_gives_the_heading_alone(desk: Desk) -> None:
    report = desk.drop(f"{HEADER}\nAda,PERSON,[],\n")
    assert desk.download(report).decode().startswith("reject_line,reject_reasons,entity_uid,display_name,")
    assert desk.download(report).count(b"\n") == 1


def test_many_rejects_come_in_blocks(desk: Desk) -> None:
    report = desk.drop(f"{HEADER}\n" + f"{'x' * 200},ROBOT,[],\n" * 5_000)
    blocks = list(registry.rejects_file(desk.connection, report.sha256 or ""))
    assert len(blocks) > 3
    assert all(len(block) < BLOCK_BYTES + 1_000 for block in blocks)
    assert b"".join(blocks).count(b"\n") == 5_001


def test_rejects_are_listed_by_line(desk: Desk) -> None:
    report = desk.drop(f"{HEADER}\n" + "Ada,ROBOT,[]\n" * 30)
    sha256 = report.sha256 or ""
    assert registry.count_rejects(desk.connection, sha256) == 30
    documents = [
        json.loads(document)
        for offset in (0, 20, 40)
        for document in registry.rejects_page(desk.connection, sha256, limit=20, offset=offset).documents
    ]
    assert documents == [{"line": n, "reasons": ["wrong_field_count"], "raw": "Ada,ROBOT,[]"} for n in range(2, 32)]
    assert registry.count_rejects(desk.connection, "0" * 64) == 0


def test_the_log_says_what_each_drop_did_the_newest_first(desk: Desk) -> None:
    merged = desk.drop(f"{HEADER}\nAda,PERSON,[],2024-01-01\nBo,ROBOT,[],\n", "one.csv")
    refused = desk.drop("no header", "two.csv")
    strict = desk.drop(f"{HEADER}\nBo,ROBOT,[],\n", "three.csv", strict=True)
    assert registry.count_drops(desk.connection) == 3
    page = registry.drops(desk.connection)
    assert page.next is None
    third, second, first = map(json.loads, page.documents)
    books = merged.as_json() | {"file": "one.csv"}
    times = {key: datetime.fromisoformat(first.pop(key)) for key in ("first_seen_at", "merged_at")}
    assert times["first_seen_at"].tzinfo == UTC
    assert times["first_seen_at"] > day(0)
    not_of_these = dict.fromkeys(("profile", "scope", "snapshot_at", "held")) | {"mode": "delta"}
    rest = {"bytes": len(HEADER) + 39, **not_of_these}
    assert first == {k: v for k, v in books.items() if k != "dry_run"} | rest
    for told, report in ((second, refused), (third, strict)):
        assert (told["status"], told["error"], told["merged_at"]) == ("refused", report.error, None)
    assert registry.drop(desk.connection, merged.sha256 or "") == page.documents[2]
    assert registry.drop(desk.connection, "0" * 64) is None


def test_pages_of_drops_by_number_and_by_position_are_the_whole_log(desk: Desk) -> None:
    for n in range(7):
        desk.drop(f"{HEADER}\nname {n},PERSON,[],2024-01-01\n", f"{n}.csv")
    desk.connection.execute(
        "update drop_file set first_seen_at = '2024-05-05' where file_name in ('1.csv', '2.csv', '3.csv')"
    )
    whole = registry.drops(desk.connection, limit=10).documents
    assert len(whole) == 7
    for limit in (1, 2, 3, 7):
        numbered = [registry.drops(desk.connection, offset=n, limit=limit).documents for n in range(0, 8, limit)]
        assert tuple(document for page in numbered for document in page) == whole
        assert tuple(_walk(desk.connection, limit)) == whole


def _walk(connection: Connection, limit: int) -> Iterator[registry.Document]:
    page = registry.drops(connection, limit=limit)
    yield from page.documents
    while page.next is not None:
        page = registry.drops(connection, after=page.next, limit=limit)
        yield from page.documents


def test_rows_without_an_instant_are_merged_even_if_the_clock_was_set_back(desk: Desk) -> None:
    content = "display_name,entity_type,details\nAda,PERSON,[]\n"
    assert desk.drop(content + "Bo,ROBOT,[]\n", strict=True).status == "refused"
    desk.connection.execute(b"update drop_file set first_seen_at = first_seen_at + interval '1 hour'")
    report = desk.drop(content + "Bo,ROBOT,[]\n")
    assert (report.rows_accepted, report.rows_rejected) == (1, 1)
