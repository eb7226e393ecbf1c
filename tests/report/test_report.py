"""The data-quality report: its numbers are those of the drops, ledger and versions, and its page is safe to mail."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any
from uuid import UUID

import pytest
from builders import an_entity, as_row, day, reference_data, uid, write_drop
from click.testing import CliRunner
from playwright.sync_api import Page
from psycopg.pq import TransactionStatus
from timeline_model import Model

from crm_core.bench.generator import write_dirty, write_drops
from crm_core.cli.main import crm
from crm_core.drops.ingest import Options, ingest, ingest_over
from crm_core.errors import UnknownDrop
from crm_core.model import Change, MergeReport, Reason
from crm_core.postgres.connection import Connection, Database
from crm_core.reference import reference_types
from crm_core.report.numbers import (
    Completeness,
    Distinctness,
    DropReport,
    FieldChanges,
    ReasonCount,
    Report,
    Superseded,
    as_json,
    collect,
    collect_drop,
    find_drops,
    masked,
)
from crm_core.report.page import MEANING, as_html
from crm_core.timeline.merge import Origin, record

pytest_plugins = ("browser",)
pytestmark = pytest.mark.integration

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='run'<script>.csv",  # a file's name holds no slash
    '"><img src=x onerror="document.title=\'run\'">.csv',
    "\u202egnp.exe \u0007\x1b[2J\n' autofocus onfocus='document.title=1.csv",
    "{{ 7 * 7 }} &amp; %s {% raw %}.csv",
    "long" * 60 + ".csv",
)


@pytest.fixture
def crm_connection(connection: Connection) -> Connection:
    """A connection to a database that knows the types."""
    reference_data(connection)
    return connection


def take(connection: Connection, path: Path, *rows: Change | dict[str, str]) -> MergeReport:
    return ingest_over(connection, write_drop(path, rows), Options())


def drop_report(connection: Connection, merged: MergeReport, **options: bool) -> DropReport:
    assert merged.sha256 is not None
    return collect_drop(connection, merged.sha256, **options)


def counts(changes: Iterable[FieldChanges]) -> dict[str, tuple[int, int, int]]:
    return {found.field: (found.created, found.changed, found.ended) for found in changes}


# each drop


def test_a_drop_is_told_as_its_merge_reported_it(crm_connection: Connection, tmp_path: Path) -> None:
    drops = write_drops(tmp_path, 60)
    merged = [
        ingest_over(crm_connection, path, Options()) for path in (drops.initial, drops.delta, drops.replay, drops.late)
    ]
    told = collect(crm_connection, now=NOW).drops
    assert [drop.file_name for drop in told] == ["4_late.csv", "3_replay.csv", "2_delta.csv", "1_initial.csv"]
    books = {field.name for field in fields(MergeReport)} & {field.name for field in fields(DropReport)}
    assert {"rows_read", "rows_late", "rows_superseded", "detail_versions_added", "status"} < books
    for drop, report in zip(reversed(told), merged, strict=True):
        told_of = report.as_json()
        assert {name: getattr(drop, name) for name in books} == {name: told_of[name] for name in books}
        assert (drop.balances, drop.bytes) == (True, Path(report.file).stat().st_size)


def test_rejected_rows_are_counted_by_reason(crm_connection: Connection, tmp_path: Path) -> None:
    written = write_dirty(tmp_path / "dirty.csv", 300, 0.5)
    told = drop_report(crm_connection, ingest_over(crm_connection, tmp_path / "dirty.csv", Options()))
    assert {count.reason: count.rows for count in told.reasons} == written
    assert told.reject_share == 0.5
    assert [count.rows for count in told.reasons] == sorted(written.values(), reverse=True)


def test_the_worst_rejects_have_the_most_faults_and_come_by_line(crm_connection: Connection, tmp_path: Path) -> None:
    bad = as_row(an_entity()) | {"display_name": ""}
    worse = bad | {"entity_type": "ROBOT", "op": "merge"}
    told = drop_report(crm_connection, take(crm_connection, tmp_path / "d.csv", bad, worse, an_entity(), bad, worse))
    assert [(reject.line, len(reject.reasons)) for reject in told.worst_rejects] == [(3, 3), (6, 3), (2, 1), (5, 1)]


def test_a_refused_drop_tells_why(crm_connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "no.csv").write_text("name,type\nAda,PERSON\n")
    refused = ingest_over(crm_connection, tmp_path / "no.csv", Options())
    told = drop_report(crm_connection, refused)
    assert (told.status, told.error, told.balances, told.reject_share) == ("refused", refused.error, True, None)
    report = collect(crm_connection, now=NOW)
    assert (report.totals.drops_refused, report.totals.drops_merged) == (1, 0)
    assert str(refused.error) in as_html(report)


# what a drop changed


def test_a_new_entity_creates_its_name_type_and_details(crm_connection: Connection, tmp_path: Path) -> None:
    told = drop_report(crm_connection, take(crm_connection, tmp_path / "d.csv", an_entity(email="a@x.org", phone=None)))
    assert counts(told.field_changes) == {
        "display_name": (1, 0, 0),
        "entity_type": (1, 0, 0),
        "details.email": (1, 0, 0),
    }


def test_only_what_differs_in_the_fields_own_comparison_has_changed(crm_connection: Connection, tmp_path: Path) -> None:
    take(crm_connection, tmp_path / "1.csv", an_entity(at=1, email="a@x.org", phone="1", note="a"))
    told = drop_report(
        crm_connection,
        take(
            crm_connection, tmp_path / "2.csv", an_entity(at=2, name="Ada King", email="A@X.org", phone=None, note="A")
        ),
    )
    assert counts(told.field_changes) == {
        "display_name": (0, 1, 0),
        "details.note": (0, 1, 0),
        "details.phone": (0, 0, 1),
    }


def test_a_deletion_ends_every_field_and_a_revival_creates_them(crm_connection: Connection, tmp_path: Path) -> None:
    take(crm_connection, tmp_path / "1.csv", an_entity(at=1, email="a@x.org", phone="1"))
    gone = take(crm_connection, tmp_path / "2.csv", an_entity(at=2, op="delete"))
    back = take(crm_connection, tmp_path / "3.csv", an_entity(at=4, email="a@x.org"))
    names = ("display_name", "entity_type", "details.email", "details.phone")
    assert counts(drop_report(crm_connection, gone).field_changes) == dict.fromkeys(names, (0, 0, 1))
    assert counts(drop_report(crm_connection, back).field_changes) == dict.fromkeys(names[:3], (1, 0, 0))


def test_what_a_later_drop_takes_over_at_the_same_instant_counts_as_the_later_ones(
    crm_connection: Connection, tmp_path: Path
) -> None:
    first = take(crm_connection, tmp_path / "1.csv", an_entity(at=1, name="A"))
    second = take(crm_connection, tmp_path / "2.csv", an_entity(at=1, name="B"))
    assert drop_report(crm_connection, first).field_changes == ()
    assert counts(drop_report(crm_connection, second).field_changes)["display_name"] == (1, 0, 0)


def test_after_a_late_drop_the_next_row_changes_the_value_back(crm_connection: Connection, tmp_path: Path) -> None:
    first = take(crm_connection, tmp_path / "1.csv", an_entity(at=1, name="A"), an_entity(at=3, name="A"))
    assert counts(drop_report(crm_connection, first).field_changes)["display_name"] == (1, 0, 0)
    late = take(crm_connection, tmp_path / "2.csv", an_entity(at=2, name="B"))
    assert counts(drop_report(crm_connection, late).field_changes) == {"display_name": (0, 1, 0)}
    assert counts(drop_report(crm_connection, first).field_changes)["display_name"] == (1, 1, 0)


def test_field_changes_can_be_left_out(crm_connection: Connection, tmp_path: Path) -> None:
    merged = take(crm_connection, tmp_path / "d.csv", an_entity())
    assert drop_report(crm_connection, merged, with_field_changes=False).field_changes == ()


@pytest.mark.parametrize("seed", range(6))
def test_random_drops_changed_and_superseded_what_the_model_says(
    any_connection: Connection, tmp_path: Path, seed: int
) -> None:
    """Drops and requests in any order; the model's state just before and at each instant is what must be counted."""
    reference_data(any_connection)
    draw = random.Random(seed)
    model, merged, recorded_by = Model(), list[MergeReport](), list[int | None]()  # per change of the model, its drop
    superseded = Counter[int]()
    for number in range(8):
        drawn = [_a_random_change(draw) for _ in range(draw.randint(1, 6))]
        is_drop = number % 4 != 3
        if is_drop:
            merged.append(take(any_connection, tmp_path / f"{number}.csv", *drawn))
        else:
            record(any_connection, reference_types(any_connection), drawn, Origin("test", "fixture"))
        instants = Counter(map(_instant, model.changes))
        for change in model.record(*drawn):
            if is_drop and instants[_instant(change)]:
                superseded[len(merged) - 1] += 1
            instants[_instant(change)] += 1
            recorded_by.append(len(merged) - 1 if is_drop else None)

    expected = [Counter[tuple[str, str]]() for _ in merged]
    standing = {_instant(change): by for change, by in zip(model.changes, recorded_by, strict=True)}
    for (who, at), by in standing.items():
        if by is not None:
            _, changes = model.diff(at - timedelta(microseconds=1), at).get(who, ("", {}))
            for field, (before, after) in changes.items():
                expected[by][field, "created" if before is None else "ended" if after is None else "changed"] += 1
    for number, report in enumerate(merged):
        told = drop_report(any_connection, report)
        found = Counter({(c.field, kind): getattr(c, kind) for c in told.field_changes for kind in KINDS})
        assert +found == expected[number], report.file
        assert report.rows_superseded == superseded[number] == len(told.superseded), report.file


KINDS = ("created", "changed", "ended")


def _instant(change: Change) -> tuple[UUID, datetime]:
    return change.entity_uid, change.change_ts


def _a_random_change(draw: random.Random) -> Change:
    who, at = draw.choice(("ada", "bob", "eve")), draw.randint(1, 6)
    if draw.random() < 0.15:
        return an_entity(who, at=at, op="delete")
    details: dict[str, Any] = {
        code: draw.choice(("a@x.org", "A@x.org", "b", None)) for code in draw.sample(("email", "phone", "note"), 2)
    }
    return an_entity(who, at=at, name=draw.choice("AB"), type_=draw.choice(("PERSON", "INSTITUTION")), **details)


# what a drop stood over


def test_superseded_changes_are_named_with_what_stands_over_them(crm_connection: Connection, tmp_path: Path) -> None:
    types = reference_types(crm_connection)
    record(crm_connection, types, [an_entity("eve", at=5)], Origin("test", "request", request_id="r-1"))
    take(crm_connection, tmp_path / "first.csv", an_entity(at=1, name="A"))
    second = take(
        crm_connection,
        tmp_path / "second.csv",
        an_entity(at=1, name="B"),
        an_entity("eve", at=5, name="Eve"),
        an_entity(at=1, name="C"),
    )
    told = drop_report(crm_connection, second)
    assert told.rows_superseded == 3
    assert told.superseded == (
        Superseded(uid("ada"), day(1), "drop", "first.csv", 2, by_line=4),
        Superseded(uid("eve"), day(5), "request", None, 1, by_line=3),
        Superseded(uid("ada"), day(1), "drop", "second.csv", 2, by_line=4),
    )
    page = as_html(collect(crm_connection, now=NOW))
    assert "3 of 3" in page
    assert "a request" in page


def test_of_many_superseded_changes_the_first_are_named_with_the_true_total(
    crm_connection: Connection, tmp_path: Path
) -> None:
    merged = take(crm_connection, tmp_path / "d.csv", *(an_entity(at=1, name=f"N{number}") for number in range(40)))
    told = drop_report(crm_connection, merged)
    assert (told.rows_superseded, [change.line for change in told.superseded]) == (39, list(range(2, 12)))
    assert {change.by_line for change in told.superseded} == {41}


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
def test_books_that_do_not_balance_are_told(crm_connection: Connection, tmp_path: Path, damage: str) -> None:
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
    told = drop_report(crm_connection, take(crm_connection, tmp_path / "d.csv", bad), show_values=True)
    assert len(told.worst_rejects[0].raw) == 241
    assert told.worst_rejects[0].raw.endswith("…")


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


# the page


@pytest.fixture(scope="module")
def hostile(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report in which every text that others choose is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    value = f"</code><script>document.title='run'</script>\u202e{'x' * 400}\\x00"
    bad = as_row(an_entity(name=value)) | {"op": value, "entity_uid": "\u2066\"'<b>"}
    bad |= {"entity_type": "ROBOT", "details": "[", "change_ts": "soon"}
    (folder / "<b>no.csv").write_text("<script>document.title='run'</script>\n1\n")
    with database.connect() as connection:
        reference_data(connection)
        for number, name in enumerate(HOSTILE):
            again = [an_entity(at=5, name=f"{value} {number} {turn}", email=f"{value}@x.org") for turn in range(3)]
            take(connection, folder / name, bad, an_entity(name=f"{number}", at=number), *again)
        ingest_over(connection, folder / "<b>no.csv", Options())
        report = collect(connection, now=NOW, show_values=True)
        connection.rollback()
    return report


def opened(page: Page, html: str, folder: Path) -> list[str]:
    """Open a page as a file with every drop unfolded, and answer what it complained of or tried to load."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.endswith("/report.html") else None)
    (folder / "report.html").write_text(html, encoding="utf-8")
    page.goto((folder / "report.html").as_uri())
    for summary in page.query_selector_all("summary"):
        summary.click()
    return said


def overflow(page: Page) -> int:
    """How many pixels the page is wider than the window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wider


def test_the_page_needs_nothing_from_outside_and_has_no_scripts(hostile: Report) -> None:
    html = as_html(hostile)
    tags = {name.lower() for name in re.findall(r"<([a-zA-Z]+)", html)}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "input", "base", "b0"}
    assert not re.search(r"\b(src|onclick|onload|srcset|action)\s*=\s*[\"']", re.sub(r"&\S+?;|>[^<]*<", "><", html))
    assert re.search(r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'", html)
    assert "{{" not in html.replace("{{ 7 * 7 }}", "")


def test_hostile_names_and_values_are_shown_and_do_nothing(hostile: Report, page: Page, tmp_path: Path) -> None:
    assert opened(page, as_html(hostile), tmp_path) == []
    assert page.title().startswith("Data quality")
    assert page.locator("script, img, b:not(.bad)").count() == 0
    text = page.locator("body").inner_text()
    for name in HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[4]:
        assert name in text
    assert "\\u202egnp.exe \\x07\\x1b[2J\\x0a' autofocus" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", text), "what cannot be seen is written out"


def test_the_policy_of_the_page_keeps_a_script_from_running(hostile: Report, page: Page, tmp_path: Path) -> None:
    said = opened(page, as_html(hostile).replace("</body>", "<script>document.title='run'</script></body>"), tmp_path)
    assert page.title() != "run"
    assert any("Content Security Policy" in message for message in said)


@pytest.mark.parametrize("letter_spacing", ["normal", "0.12em"], ids=["plain", "spaced"])
@pytest.mark.parametrize("width", [320, 390, 700, 1200])
def test_the_page_scrolls_down_only(
    hostile: Report, page: Page, tmp_path: Path, width: int, letter_spacing: str
) -> None:
    """Whatever the fonts: the wider letters are those that readers may ask for (WCAG 1.4.12)."""
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, as_html(hostile), tmp_path)
    page.evaluate(
        "spacing => document.querySelectorAll('body, body *').forEach(each => { each.style.letterSpacing = spacing })",
        letter_spacing,
    )
    assert overflow(page) == 0


def test_paper_is_white_and_shows_what_is_folded(hostile: Report, page: Page, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark")
    opened(page, as_html(hostile), tmp_path)
    for summary in page.query_selector_all("summary"):
        summary.click()  # fold them again
    assert not page.locator("details caption").first.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less the margins, at 96 dots an inch
    assert page.locator("details caption").first.is_visible()
    assert overflow(page) == 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(hostile: Report, page: Page, tmp_path: Path, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 for text."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    opened(page, as_html(hostile), tmp_path)
    faint = page.evaluate(
        """() => {
            const numbers = color => color.match(/[\\d.]+/g).map(Number)
            const light = color => numbers(color).slice(0, 3).map(part => part / 255)
                .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0)
            const behind = element => {
                for (; element; element = element.parentElement) {
                    const color = getComputedStyle(element).backgroundColor
                    if (numbers(color)[3] !== 0) return color
                }
                return "rgb(255, 255, 255)"
            }
            const contrast = element => {
                const style = getComputedStyle(element)
                const ink = light(element instanceof SVGElement ? style.fill : style.color)
                const both = [ink, light(behind(element))].sort((a, b) => b - a)
                return (both[0] + 0.05) / (both[1] + 0.05)
            }
            return [...document.querySelectorAll("body *")]
                .filter(element => [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim()))
                .filter(element => !["title", "desc"].includes(element.tagName) && contrast(element) < 4.5)
                .map(element => `${element.tagName} ${element.textContent.trim().slice(0, 30)} ${contrast(element)}`)
        }"""
    )
    assert faint == []


def test_the_pictures_have_a_text_in_their_place_and_a_bar_for_each_drop(
    hostile: Report, page: Page, tmp_path: Path
) -> None:
    opened(page, as_html(hostile), tmp_path)
    rows, shares = page.locator("svg.picture").all()
    assert rows.locator("g").count() == shares.locator("circle").count() == len(HOSTILE)
    for picture in (rows, shares):
        named = (picture.get_attribute("aria-labelledby") or "").split()
        assert picture.get_attribute("role") == "img"
        assert all(page.locator(f"[id='{name}']").text_content() for name in named)
        assert len(named) == 2
    heights = {kind: [float(rect.get_attribute("height") or 0) for rect in rows.locator(f".{kind}").all()]
               for kind in ("changed", "unchanged", "rejected")}  # fmt: skip
    drop = hostile.drops[-1]
    assert heights["unchanged"][0] / heights["rejected"][0] == pytest.approx(
        drop.rows_unchanged / drop.rows_rejected, 0.01
    )
    assert heights["changed"][0] / heights["rejected"][0] == pytest.approx(drop.rows_changed / drop.rows_rejected, 0.01)


def test_an_empty_database_has_a_report_that_says_what_to_do(
    connection: Connection, page: Page, tmp_path: Path
) -> None:
    report = collect(connection, now=NOW)
    assert opened(page, as_html(report), tmp_path) == []
    text = page.locator("body").inner_text()
    assert "No drop has arrived yet" in text
    assert "crm loaddata" in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("at", "age"),
    [(NOW - timedelta(days=2), "2 days ago"), (NOW - timedelta(days=1), "24 hours ago"), (NOW, "just now")],
)
def test_an_age_is_told_in_its_largest_unit(connection: Connection, at: datetime, age: str) -> None:
    connection.execute(
        "insert into drop_file (sha256, file_name, bytes, first_seen_at, status)"
        " values (repeat('a', 64), 'a', 1, %s, 'seen')",
        (at,),
    )
    assert f"<dd>{age}</dd>" in as_html(collect(connection, now=NOW))


@pytest.mark.unit
def test_every_reason_has_a_meaning() -> None:
    assert set(MEANING) == set(Reason)


# the command


@pytest.fixture
def sampled(fresh_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[MergeReport]:
    """Two drops in the database of the settings, and an empty folder to run in."""
    with fresh_database.transaction() as connection:
        reference_data(connection)
    bad = as_row(an_entity(name="Ada Lovelace")) | {"op": "x"}
    paths = [
        write_drop(tmp_path / "a.csv", [an_entity(), bad]),
        write_drop(tmp_path / "b.csv", [an_entity(at=2, name="Ada King")]),
    ]
    merged = [ingest(fresh_database, path) for path in paths]
    monkeypatch.setenv("CRM_DATABASE_URL", fresh_database.conninfo)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return merged


def test_crm_report_writes_a_page_and_says_where(sampled: list[MergeReport]) -> None:
    result = CliRunner().invoke(crm, ["report"])
    assert (result.exit_code, result.stdout) == (0, "The report on 2 drop(s) is in crm-report.html\n")
    html = Path("crm-report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "b.csv" in html
    assert "Lovelace" not in html
    assert CliRunner().invoke(crm, ["report", "--show-values", "--output", "other.html"]).exit_code == 0
    assert "Lovelace" in Path("other.html").read_text(encoding="utf-8")


def test_crm_report_answers_json(sampled: list[MergeReport]) -> None:
    document = json.loads(CliRunner().invoke(crm, ["report", "--json", "--last", "1"]).stdout)
    assert [drop["file_name"] for drop in document["drops"]] == ["b.csv"]
    assert not list(Path().iterdir())
    assert CliRunner().invoke(crm, ["report", "--json", "--output", "r.json"]).exit_code == 0
    assert len(json.loads(Path("r.json").read_text(encoding="utf-8"))["drops"]) == 2


def test_crm_report_tells_of_the_drops_that_are_named(sampled: list[MergeReport]) -> None:
    for named in ("a.csv", "../a.csv", str(sampled[0].sha256)[:8]):
        document = json.loads(CliRunner().invoke(crm, ["report", named, "--json"]).stdout)
        assert [drop["file_name"] for drop in document["drops"]] == ["a.csv"]


@pytest.mark.parametrize("arguments", [["nothing.csv"], ["--output", "no/such/folder.html"]])
def test_crm_report_fails_in_one_line(sampled: list[MergeReport], arguments: list[str]) -> None:
    result = CliRunner().invoke(crm, ["report", *arguments])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
