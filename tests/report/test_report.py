"""The numbers of the report: what each drop did, what it changed, and how complete and fresh the data are."""

from __future__ import annotations

import html
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from time import sleep

import pytest
from builders import an_entity, as_row, day, reference_data, uid
from psycopg.pq import TransactionStatus
from reporting import NOW, drop_report, take

from crm_core.bench.generator import write_dirty, write_drops
from crm_core.drops.ingest import Options, ingest_on
from crm_core.errors import UnknownDrop
from crm_core.model import MergeReport, Reason
from crm_core.postgres.connection import Connection, Database
from crm_core.reference import reference_types
from crm_core.report.numbers import (
    Completeness,
    Distinctness,
    DropReport,
    FieldChanges,
    ReasonCount,
    as_json,
    collect,
    collect_drop,
    find_drops,
    masked,
)
from crm_core.report.page import as_html
from crm_core.timeline.merge import Origin, record

pytestmark = pytest.mark.integration


# each drop


def test_a_drop_is_shown_as_its_merge_reported_it(crm_connection: Connection, tmp_path: Path) -> None:
    drops = write_drops(tmp_path, 60)
    merged = [
        ingest_on(crm_connection, path, Options()) for path in (drops.initial, drops.delta, drops.replay, drops.late)
    ]
    found = collect(crm_connection, now=NOW).drops
    assert [drop.file_name for drop in found] == ["4_late.csv", "3_replay.csv", "2_delta.csv", "1_initial.csv"]
    books = {field.name for field in fields(MergeReport)} & {field.name for field in fields(DropReport)}
    assert {"rows_read", "rows_late", "rows_superseded", "detail_versions_added", "status"} < books
    for drop, report in zip(reversed(found), merged, strict=True):
        told_of = report.as_json()
        assert {name: getattr(drop, name) for name in books} == {name: told_of[name] for name in books}
        assert (drop.balances, drop.bytes) == (True, Path(report.file).stat().st_size)


def test_rejected_rows_are_counted_by_reason(crm_connection: Connection, tmp_path: Path) -> None:
    written = write_dirty(tmp_path / "dirty.csv", 300, 0.5)
    found = drop_report(crm_connection, ingest_on(crm_connection, tmp_path / "dirty.csv", Options()))
    assert {count.reason: count.rows for count in found.reasons} == written
    assert found.reject_share == 0.5
    assert [count.rows for count in found.reasons] == sorted(written.values(), reverse=True)


def test_the_worst_rejects_have_the_most_faults_and_come_by_line(crm_connection: Connection, tmp_path: Path) -> None:
    bad = as_row(an_entity()) | {"display_name": ""}
    worse = bad | {"entity_type": "ROBOT", "op": "merge"}
    found = drop_report(crm_connection, take(crm_connection, tmp_path / "d.csv", bad, worse, an_entity(), bad, worse))
    assert [(reject.line, len(reject.reasons)) for reject in found.worst_rejects] == [(3, 3), (6, 3), (2, 1), (5, 1)]


def test_a_refused_drop_tells_why(crm_connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "no.csv").write_text("name,type\nAda,PERSON\n")
    refused = ingest_on(crm_connection, tmp_path / "no.csv", Options())
    found = drop_report(crm_connection, refused)
    assert (found.status, found.error, found.balances, found.reject_share) == ("refused", refused.error, True, None)
    report = collect(crm_connection, now=NOW)
    assert (report.totals.drops_refused, report.totals.drops_merged) == (1, 0)
    assert str(refused.error) in html.unescape(as_html(report))


# all data


def test_completeness_counts_current_entities_that_have_a_detail(crm_connection: Connection) -> None:
    record(
        crm_connection,
        reference_types(crm_connection),
        [
            an_entity("ada", email="a@x.org", phone="1"),
            an_entity("bob", email="b@x.org"),
            an_entity("eve", email="e@x.org"),
            an_entity("eve", at=2, email=None),
            an_entity("max", email="m@x.org"),
            an_entity("max", at=2, op="delete"),
        ],
        Origin("test", "request"),
    )
    crm_connection.execute("update detail_type set is_active = false where code not in ('email', 'phone', 'note')")
    assert collect(crm_connection, now=NOW).completeness == (
        Completeness("INSTITUTION", "email", 0, 0, None),
        Completeness("INSTITUTION", "note", 0, 0, None),
        Completeness("INSTITUTION", "phone", 0, 0, None),
        Completeness("PERSON", "email", 3, 2, 2 / 3),
        Completeness("PERSON", "note", 3, 0, 0.0),
        Completeness("PERSON", "phone", 3, 1, 1 / 3),
    )


def test_distinctness_counts_values_in_the_types_own_comparison(crm_connection: Connection) -> None:
    changes = [
        an_entity(who, email=email, note=email)
        for who, email in (("ada", "a@x.org"), ("bob", "A@X.ORG"), ("eve", "a@x.org"), ("max", "m@x.org"))
    ]
    record(crm_connection, reference_types(crm_connection), changes, Origin("test", "request"))
    crm_connection.execute("update detail_type set is_active = false where code not in ('email', 'phone')")
    assert collect(crm_connection, now=NOW).distinctness == (
        Distinctness("email", 4, 2, 0.5),
        Distinctness("note", 4, 3, 0.75),
        Distinctness("phone", 0, 0, None),
    )


def test_freshness_is_the_age_of_the_newest_drop_and_change(crm_connection: Connection, tmp_path: Path) -> None:
    take(crm_connection, tmp_path / "d.csv", an_entity(at=9), an_entity(at=2))
    came = NOW - timedelta(hours=3)
    crm_connection.execute("update drop_file set first_seen_at = %s", (came,))
    freshness = collect(crm_connection, now=NOW).freshness
    assert (freshness.drop_at, freshness.drop_age_seconds) == (came, 3 * 3600)
    assert (freshness.change_ts, freshness.change_age_seconds) == (day(9), (NOW - day(9)).total_seconds())


@pytest.mark.parametrize(
    "damage",
    [
        "delete from reject where line = 2",
        "delete from ledger where row_no = 3",
        "alter table drop_file drop constraint drop_file_read_balances; update drop_file set rows_read = rows_read + 1",
    ],
)
def test_counts_that_do_not_balance_are_shown(crm_connection: Connection, tmp_path: Path, damage: str) -> None:
    bad = as_row(an_entity()) | {"display_name": ""}
    merged = take(crm_connection, tmp_path / "d.csv", bad, an_entity())
    assert collect(crm_connection, now=NOW).books.balance
    crm_connection.execute(damage.encode())
    report = collect(crm_connection, now=NOW)
    assert (report.books.balance, report.books.breaches, len(report.books.examples)) == (False, 1, 1)
    assert not drop_report(crm_connection, merged).balances
    assert "1 drop does not balance" in as_html(report)


def test_the_report_adds_up_the_drops_that_it_tells_of_and_the_totals_are_of_all(
    crm_connection: Connection, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        bad = as_row(an_entity(f"{number}")) | {"display_name": ""}
        take(crm_connection, tmp_path / f"{number}.csv", bad, an_entity(f"{number}"))
    report = collect(crm_connection, now=NOW, last=2)
    assert [drop.file_name for drop in report.drops] == ["3.csv", "2.csv"]
    assert report.reasons == (ReasonCount(Reason.MISSING_DISPLAY_NAME, 2),)
    assert report.field_changes == (FieldChanges("display_name", 2, 0, 0), FieldChanges("entity_type", 2, 0, 0))
    assert (report.totals.drops_merged, report.totals.rows_read, report.totals.rows_rejected) == (3, 6, 3)
    assert report.totals.reject_share == 0.5


def test_drops_are_found_by_file_by_name_and_by_digits(crm_connection: Connection, tmp_path: Path) -> None:
    first = take(crm_connection, tmp_path / "a.csv", an_entity("ada"))
    (tmp_path / "other").mkdir()
    second = take(crm_connection, tmp_path / "other" / "a.csv", an_entity("bob"))
    assert find_drops(crm_connection, str(tmp_path / "a.csv")) == [first.sha256]
    assert set(find_drops(crm_connection, "a.csv")) == {first.sha256, second.sha256}
    assert find_drops(crm_connection, str(second.sha256)[:6].upper()) == [second.sha256]
    for unknown in ("", "b.csv", str(first.sha256)[:5], "%", "\udcff"):
        with pytest.raises(UnknownDrop, match="ever received"):
            find_drops(crm_connection, unknown)
    with pytest.raises(UnknownDrop):
        collect_drop(crm_connection, "0" * 64)


def test_the_connection_is_left_as_it_was(fresh_database: Database, tmp_path: Path) -> None:
    with fresh_database.connect() as connection:
        reference_data(connection)
        connection.commit()
        collect(connection, now=NOW)
        assert connection.info.transaction_status is TransactionStatus.IDLE
        assert connection.isolation_level is None
        take(connection, tmp_path / "d.csv", an_entity())
        assert collect(connection, now=NOW).totals.drops_merged == 1, "what the transaction did is seen"
        assert connection.execute("show enable_nestloop").fetchone() == ("on",)
        assert connection.execute("select count(*) from drop_file").fetchone() == (1,), "and kept"


def test_a_drop_that_is_merged_meanwhile_is_in_all_of_the_report_or_in_none_of_it(
    fresh_database: Database, tmp_path: Path
) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
        take(connection, tmp_path / "1.csv", an_entity("ada"))
    with (
        ThreadPoolExecutor() as threads,
        fresh_database.connect() as reader,
        fresh_database.transaction() as writer,
    ):
        writer.execute("lock table entity in access exclusive mode")  # the report waits here, with the drops read
        reading = threads.submit(collect, reader, now=NOW)
        while writer.execute("select count(*) from pg_locks where not granted").fetchone() == (0,):
            sleep(0.01)
        take(writer, tmp_path / "2.csv", an_entity("bob"))
        writer.commit()
        report = reading.result()
    assert (len(report.drops), report.totals.drops_merged, report.completeness[-1].entities) == (1, 1, 1)


# values


@pytest.mark.unit
@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ("Ada Lovelace,PERSON,31/01/2024", "x x,PERSON,9/9/9"),
        ('[{""detail_type"":""email"",""detail_value"":""a.l@x1.org""}]',
         '[{""detail_type"":""email"",""detail_value"":""x.x@x.x""}]'),
        ("0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01,李\u202e小龍 O'Ré", "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01,x x'x"),
        ("0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01x,a_1,12b,person", "x-x-x-x-x,x,x,person"),
        ("+1 202 555 0100", "+9 9 9 9"),
    ],
)  # fmt: skip
def test_a_masked_row_shows_its_shape_alone(row: str, shape: str) -> None:
    assert masked(row, {"detail_type", "detail_value", "person", "email"}) == shape


def test_values_of_rejected_rows_are_masked_unless_asked_for(crm_connection: Connection, tmp_path: Path) -> None:
    bad = as_row(an_entity(name="Ada Lovelace", email="ada@secret.org")) | {"op": "abolish"}
    take(crm_connection, tmp_path / "d.csv", bad)
    hidden, shown = (collect(crm_connection, now=NOW, show_values=values) for values in (False, True))
    for secret in ("Lovelace", "secret.org", "abolish"):
        assert secret not in as_html(hidden) + as_json(hidden)
        assert secret in as_html(shown)
        assert secret in as_json(shown)
    assert "may be personal" in as_html(shown)
    assert "are masked" in as_html(hidden)


def test_a_long_row_is_cut(crm_connection: Connection, tmp_path: Path) -> None:
    bad = as_row(an_entity()) | {"display_name": "A " * 5_000, "op": "x"}
    found = drop_report(crm_connection, take(crm_connection, tmp_path / "d.csv", bad), show_values=True)
    assert len(found.worst_rejects[0].raw) == 241
    assert found.worst_rejects[0].raw.endswith("…")


def test_the_json_has_every_number_under_the_name_of_its_field(crm_connection: Connection, tmp_path: Path) -> None:
    bad = as_row(an_entity()) | {"op": "x"}
    take(crm_connection, tmp_path / "d.csv", bad, an_entity(), an_entity(name="B"))
    report = collect(crm_connection, now=NOW)
    document = json.loads(as_json(report))
    assert document["made_at"] == "2024-06-01T12:00:00Z"
    assert document["totals"] == asdict(report.totals)
    assert document["drops"][0]["reasons"] == [{"reason": "unknown_op", "rows": 1}]
    assert document["drops"][0]["superseded"][0] == {
        "entity_uid": str(uid("ada")),
        "change_ts": "2024-01-02T00:00:00Z",
        "source": "drop",
        "file_name": "d.csv",
        "line": 3,
        "by_line": 4,
    }


def test_what_the_sender_should_know_is_on_the_page(crm_connection: Connection, tmp_path: Path) -> None:
    merged = take(crm_connection, tmp_path / "gone.csv", an_entity("nobody", op="delete"))
    report = collect(crm_connection, now=NOW)
    assert [drop.rows_ending_nobody for drop in report.drops] == [1]
    assert merged.notes[0] in as_html(report)
