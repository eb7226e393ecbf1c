"""`crm bench --pages`: how long the service takes for each page of the cockpit, by the milliseconds of its own log.

The service is a process of its own, as `crm serve` starts it, on a database that is there already.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

from crm_core.bench.generator import DAY, MONTH, START, write_dirty, write_many
from crm_core.drops.ingest import ingest
from crm_core.postgres.connection import Database
from crm_core.reading import reads
from crm_core.resources import statement
from crm_core.utc import utc_text

DIRTY_ROWS, SHARE_BAD = 5_000, 0.2
VERSIONS = 10_000
SEARCHED = 100  # entities, for one that has an e-mail address
RUNS = 9  # of each page, of which the median counts
PATIENCE = 60.0  # seconds in which the service starts, a page is whole, and a line is in the log
AGAIN = b"data-again"  # in a page of which a part is still being read


@dataclass(frozen=True, slots=True)
class Subjects:
    """What the pages are about."""

    uid: str  # of an entity
    name: str  # that it has
    value: str  # of a detail of type email that it has
    many: str  # uid of an entity with very many versions
    dirty: str  # SHA-256 of a drop with many rejects
    late: str  # name of a drop of late rows
    known_at: datetime  # an instant between drops


@dataclass(frozen=True, slots=True)
class PageFigure:
    """One page that was asked for several times."""

    what: str
    path: str
    first_ms: float  # of the first request, of which the page may be incomplete
    median_ms: float
    size: int  # bytes of its HTML


def take_in(database: Database, folder: Path, name: str) -> Subjects:
    """Take in a drop with rejects, and one that gives an entity very many versions; return what the pages are about.

    The database has the drops of `write_drops` already; `name` is that of the late one.
    """
    known_at = datetime.now(UTC)
    dirty, many = folder / "dirty.csv", folder / "many.csv"
    write_dirty(dirty, DIRTY_ROWS, SHARE_BAD)
    uid = write_many(many, VERSIONS)
    reports = [ingest(database, path) for path in (dirty, many)]
    with database.connect(autocommit=True) as connection:
        connection.execute(statement("bench/analyze"))
        for (found,) in connection.execute(statement("bench/uids"), {"limit": SEARCHED}).fetchall():
            entity = json.loads(reads.snapshot(connection, found) or "{}")
            emails = [one["detail_value"] for one in entity["details"] if one["detail_type"] == "email"]
            if emails:
                break
    sha256 = reports[0].sha256
    assert sha256 is not None
    return Subjects(entity["entity_uid"], entity["display_name"], emails[0], uid, sha256, name, known_at)


def pages_of(subjects: Subjects) -> Mapping[str, str]:
    """Return the address of each page that is measured, by what it is."""
    middle, known = utc_text(START + MONTH / 2), utc_text(subjects.known_at)
    uid, many, half = subjects.uid, subjects.many, utc_text(START + 6 * MONTH)
    week = f"from={utc_text(START + 10 * DAY)}&to={utc_text(START + 17 * DAY)}"
    year = f"from={utc_text(START - DAY)}&to={utc_text(START + 12 * MONTH)}"
    first = "after=00000000-0000-0000-0000-000000000000"
    deep = "c0000000-0000-4000-8000-000000000000"
    return {
        "login": "/login",
        "overview": "/",
        "overview, in the past": f"/?as_of={middle}",
        "overview, as known": f"/?known_at={known}",
        "search, blank": "/search",
        "search, 1 letter": "/search?q=a",
        "search, 2 letters": "/search?q=an",
        "search, 3 letters": "/search?q=and",
        "search, 4 letters of many": "/search?q=exam",
        "search, a name": f"/search?q={quote(subjects.name)}",
        "search, nothing found": "/search?q=qqqxyz",
        "search, by name": "/search?q=and&sort=name",
        "search, by type": "/search?q=an&entity_type=INSTITUTION&sort=name",
        "search, by detail": f"/search?detail_type=email&detail_value={quote(subjects.value)}",
        "search, deep": f"/search?sort=name&after={uid}..{quote(subjects.name)}",
        "search, in the past": f"/search?as_of={middle}",
        "search, in the past, 1 letter": f"/search?q=a&as_of={middle}",
        "search, in the past, 3 letters": f"/search?q=and&as_of={middle}",
        "search, in the past, a name": f"/search?q={quote(subjects.name)}&as_of={middle}",
        "search, in the past, nothing found": f"/search?q=qqqxyz&as_of={middle}",
        "search, in the past, by detail": (
            f"/search?detail_type=email&detail_value={quote(subjects.value)}&as_of={middle}"
        ),
        "search, in the past, deep": f"/search?as_of={middle}&after={deep}..",
        "search, as known": f"/search?known_at={known}",
        "search, as known, 3 letters": f"/search?q=and&known_at={known}",
        "search, as known, a name": f"/search?q={quote(subjects.name)}&known_at={known}",
        "compare": "/compare",
        "compare, a week": f"/compare?{week}",
        "compare, a year": f"/compare?{year}",
        "compare, a year, deep": f"/compare?{year}&after={deep}",
        "compare, a year, changed names": f"/compare?{year}&action=changed&field=display_name",
        "compare, a year, ended": f"/compare?{year}&action=ended",
        "compare, a year, a name": f"/compare?{year}&q={quote(subjects.name)}",
        "compare, a year, one entity": f"/compare?{year}&entity={many}",
        "compare, a week, a type": f"/compare?{week}&entity_type=INSTITUTION&{first}",
        "compare, a year, as known": f"/compare?{year}&known_at={known}",
        "drops": "/drops",
        "drop, with rejects": f"/drops/{subjects.dirty}",
        "drop, with rejects, deep": f"/drops/{subjects.dirty}?page=20",
        "quality": "/quality",
        "audit": "/audit",
        "audit, as known": f"/audit?known_at={known}",
        "audit, of an actor": "/audit?actor=nobody",
        "audit, of a day": f"/audit?from={utc_text(subjects.known_at - DAY)}&to={known}",
        "audit, of a drop": f"/audit?drop={quote(subjects.late)}",
        "audit, upserts": "/audit?op=upsert",
        "audit, patches": "/audit?op=patch",
        "audit, deletions": "/audit?op=delete",
        "audit, of a detail type": "/audit?detail_type=website",
        "audit, patches of a detail type": "/audit?op=patch&detail_type=website",
        "audit, of one entity": f"/audit?entity={uid}",
        "audit, of one with many versions": f"/audit?entity={many}",
        "entity": f"/entities/{uid}",
        "entity, in the past": f"/entities/{uid}?as_of={middle}",
        "entity, as known": f"/entities/{uid}?known_at={known}",
        "entity, what was believed": f"/entities/{uid}?field=display_name",
        "entity, to change": f"/entities/{uid}/change",
        "entity, to end": f"/entities/{uid}/end",
        "entity, new": "/entities/new",
        "many versions": f"/entities/{many}",
        "many versions, in the past": f"/entities/{many}?as_of={half}",
        "many versions, a month": f"/entities/{many}?since={middle}&until={utc_text(START + 3 * MONTH / 2)}",
        "many versions, deep": f"/entities/{many}?values=400&audit=400",
        "many versions, compared": f"/entities/{many}?from={middle}&to={half}",
        "many versions, as known": f"/entities/{many}?known_at={known}",
        "many versions, what was believed": f"/entities/{many}?field=display_name",
        "many versions, to change": f"/entities/{many}/change",
    }


def measure_pages(
    database: Database, folder: Path, subjects: Subjects, *, runs: int = RUNS, workers: int = 1
) -> Iterator[PageFigure]:
    """Ask a service of the database for each page, several times; its files go into a folder."""
    with _serving(database, folder, workers) as (address, log):
        for what, path in pages_of(subjects).items():
            first, html = _asked(address, path)
            deadline = time.monotonic() + PATIENCE
            while AGAIN in html and time.monotonic() < deadline:
                time.sleep(0.2)
                _, html = _asked(address, path)
            asked = [_asked(address, path) for _ in range(runs)]
            took = _milliseconds(log, [first, *(request_id for request_id, _ in asked)])
            size = max(len(html) for _, html in asked)
            yield PageFigure(what, path, took[0], statistics.median(took[1:]), size)


@contextmanager
def _serving(database: Database, folder: Path, workers: int) -> Iterator[tuple[str, Path]]:
    """Serve a database, and yield the address and the log of the service."""
    folder.mkdir(exist_ok=True)
    log = folder / "serve.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "POSTGRES_"))}
    with log.open("wb") as errors:
        service = subprocess.Popen(
            [sys.executable, "-P", "-m", "crm_core", "serve", "--port", "0", "--workers", str(workers)],
            cwd=folder,
            env={**own, "CRM_DATABASE_URL": database.conninfo, "CRM_HOME": str(folder), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert service.stdout is not None
        said = service.stdout.readline()
        assert "http" in said, log.read_text(encoding="utf-8")
        yield said.split()[-1].rstrip("/"), log
    finally:
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=PATIENCE)


def _asked(address: str, path: str) -> tuple[str, bytes]:
    """Ask for a page; return the id of the request and the page."""
    answer: HTTPResponse
    with urllib.request.urlopen(f"{address}{path}", timeout=PATIENCE) as answer:
        return answer.headers["X-Request-Id"], answer.read()


def _milliseconds(log: Path, request_ids: list[str]) -> list[float]:
    """Return what the log says of some requests; it is written a moment later."""
    deadline = time.monotonic() + PATIENCE
    while True:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        took = {line["request_id"]: float(line["ms"]) for line in lines if "ms" in line}
        if took.keys() >= {*request_ids} or time.monotonic() > deadline:
            return [took[request_id] for request_id in request_ids]
        time.sleep(0.1)
