"""Make the small database of a release that test_upgrades.py upgrades, and what that release answers from it.

    python tests/releases/make.py 97bb44f 0.2.0

Run it once for a release, and for each revision of the schema that others may have, from a clone with its history,
and commit the two files. It takes the release out of git into a folder of its own, has uv install what it needs there,
and uses it as a user would: migrate, fixtures, drops, requests; and keys of sources, profiles, snapshots that are held,
approved and declined, and undo, if it has them. Then it asks it, and backs the database up with the `crm backup` of
today, which takes those of all releases.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
UIDS = 12  # entities whose whole history is asked for
INSTANTS = ("2019-01-01", "2021-06-30", "2022-02-01", "2022-06-02", "2024-07-02", "2025-03-02")
DROPS = (
    "2020-01-01_initial.csv",
    "2022-01-01_delta.csv",
    "2022-02-15_late.csv",
    "2022-03-01_replay.csv",
    "2022-06-01_dirty.csv",
    "2024-07-01_delta.csv",
)
ANNA, OTTO = "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a01", "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a02"


class Release:
    """A release in a folder, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "release", folder / "home"
        ours = ("CRM_", "POSTGRES_", "VIRTUAL_ENV", "UV_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env |= {"CRM_HOME": str(self.home), "CRM_PROFILE_DIR": str(self.folder / "data/profiles")}

    def crm(self, *arguments: str | Path, within: Path | None = None, status: int = 0) -> None:
        done = subprocess.run(["uv", "run", "crm", *arguments], cwd=within or self.folder, env=self.env)
        if done.returncode != status:
            sys.exit(f"crm {arguments[0]} ended with {done.returncode}, not with {status}")

    def has(self, path: str) -> bool:
        return (self.folder / path).exists()

    @contextmanager
    def served(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command = ["uv", "run", "crm", "serve", "--port", port]
        process = subprocess.Popen(command, cwd=self.folder, env=self.env, start_new_session=True)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                try:
                    ask(f"{address}/readyz")
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"{address}/api/v1"
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def ask(url: str, method: str = "GET", body: object = None, **headers: str) -> str:
    """Send a request and return the text of its answer."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, sent, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return str(answer.read(), "utf-8")


def write(address: str) -> None:
    """Send requests: create, change now and in the past, end, and create again under the same key."""
    for uid, name in ((ANNA, "Anna Lindqvist"), (OTTO, "Otto Ende")):
        details = [{"detail_type": "email", "detail_value": f"{name.split()[0]}@Example.org"}]
        body = {"entity_uid": uid, "display_name": name, "entity_type": "PERSON", "details": details}
        ask(f"{address}/entities", "POST", body | {"change_ts": "2021-01-01"})
    ask(f"{address}/entities/{ANNA}", "PATCH", {"display_name": "Anna Berg", "change_ts": "2024-05-01"})
    ask(f"{address}/entities/{ANNA}", "PATCH", {"display_name": "Anna Lind", "change_ts": "2022-05-01"})
    ask(f"{address}/entities/{OTTO}?change_ts=2023-01-01", "DELETE")
    kept = {"display_name": "Kept Key", "entity_type": "PERSON", "change_ts": "2023-01-01"}
    for _ in range(2):
        ask(f"{address}/entities", "POST", kept, Idempotency_Key="kept")


def write_by_keys(address: str) -> None:
    """Send requests by the keys of a source: create, change, link to an entity that exists, and unlink."""
    erp = f"{address}/sources/erp"
    for at, name in (("2021-01-01", "Karla Key"), ("2023-01-01", "Karla Kaye")):
        body = {"display_name": name, "entity_type": "PERSON", "change_ts": at}
        ask(f"{erp}/entities/K%2F1", "PUT", body)
    for key in ("A-1", "A-2"):
        ask(f"{erp}/links/{key}", "PUT", {"entity_uid": ANNA, "reason": "the same person"})
    ask(
        f"{erp}/entities/A-1",
        "PUT",
        {"display_name": "Anna By Key", "entity_type": "PERSON", "change_ts": "2025-01-01"},
    )
    ask(f"{erp}/links/A-2?reason=another+person", "DELETE")


def take_in_more(release: Release) -> None:
    """Take in files by profiles and snapshots, decide on those that are held but for one, and undo and reinstate."""
    sources = release.folder / "data/sources"
    for profile in ("erp", "partner", "shop"):
        release.crm("ingest", "--profile", profile, *sorted((sources / profile).iterdir()))
    header = "entity_uid,display_name,entity_type,details,change_ts\n"
    anna = f"{ANNA},Anna By Key,PERSON,,2025-04-01\n"
    for name, scope, rows, decision in (
        ("people.csv", "PERSON", anna, ["--reason", "the others left"]),
        ("nobody.csv", "PERSON", "", ["--decline", "--reason", "it is incomplete"]),
        ("nothing.csv", "INSTITUTION", "", []),
    ):
        path = release.folder / name
        path.write_text(header + rows)
        release.crm("ingest", "--mode", "snapshot", "--scope", scope, "--at", "2025-06-01", path, status=1)
        if decision:
            release.crm("approve", name, *decision)
    release.crm("undo", "2024-07-01_delta.csv", "--reason", "prices of another year")
    release.crm("undo", "2022-02-15_late.csv", "--reason", "too late")
    release.crm("undo", "2022-02-15_late.csv", "--reason", "not too late", "--reinstate")


def questions(address: str, moments: list[str]) -> Iterator[str]:
    """Yield the paths to ask: lists, differences and single entities, now, then, and as known before."""
    for at in INSTANTS:
        yield f"/entities-asof?as_of={at}&page_size=200"
        for known_at in moments:
            yield f"/entities-asof?as_of={at}&known_at={known_at}&page_size=200"
    yield "/entities?page_size=200"
    yield "/diff?from=2020-01-02&to=2025-01-01&page_size=200"
    yield f"/diff?from=2020-01-02&to=2025-01-01&known_at={moments[0]}&page_size=200"
    found = json.loads(ask(f"{address}/entities?page_size={UIDS}"))["results"]
    for uid in (ANNA, OTTO, *(entity["entity_uid"] for entity in found)):
        yield f"/entities/{uid}/history?page_size=200"
        yield f"/entities/{uid}/history?page_size=200&known_at={moments[-1]}"
    yield "/drops?page_size=200"


def questions_by_keys(address: str) -> Iterator[str]:
    """Yield paths that ask for keys, snapshots, what was undone, and what was recorded."""
    for key in ("K%2F1", "A-1", "A-2"):
        yield f"/sources/erp/links/{key}"
    yield "/sources/erp/entities/K%2F1?as_of=2022-01-01"
    yield "/entities?source=erp&page_size=200"
    yield "/sources"
    yield f"/entities/{ANNA}/audit?page_size=200"
    yield f"/entities/{OTTO}/audit?page_size=200"
    yield "/audit?page_size=200"
    yield "/changes?page_size=200"
    for drop in json.loads(ask(f"{address}/drops?page_size=200"))["results"]:
        yield f"/drops/{drop['sha256']}"
        yield f"/drops/{drop['sha256']}/rejects?page_size=200"


def make(commit: str, name: str) -> None:
    """Make NAME.backup and NAME.answers.json.gz beside this file."""
    with tempfile.TemporaryDirectory(prefix="crm-release-") as folder:
        release = Release(Path(folder))
        release.folder.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x"], cwd=release.folder, input=archive.stdout, check=True)
        release.crm("migrate")
        release.crm("loaddata", *sorted((release.folder / "data/fixtures").glob("*.json")))
        moments = []
        for drop in DROPS:
            release.crm("ingest", release.folder / "data/drops" / drop)
            moments.append(datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        with release.served() as address:
            write(address)
            moments.append(datetime.now(UTC).isoformat().replace("+00:00", "Z"))
            answers = {path: ask(address + path) for path in questions(address, moments)}
            if release.has("sql/ddl/0017_approvals.up.sql"):
                write_by_keys(address)
        if release.has("sql/ddl/0017_approvals.up.sql"):
            take_in_more(release)
            moments.append(datetime.now(UTC).isoformat().replace("+00:00", "Z"))
            with release.served() as address:
                asked = (*questions(address, moments), *questions_by_keys(address))
                answers = {path: ask(address + path) for path in asked}
        release.crm("token", "create", "nightly", "--role", "writer")
        beside = Path(__file__).parent
        release.crm("backup", "--force", beside / f"{name}.backup", within=ROOT)
        text = json.dumps(answers, indent=0).encode()
        (beside / f"{name}.answers.json.gz").write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    make(*sys.argv[1:])
