"""`crm bench --compare`: the same drops and questions for this product and for other tools, in turn.

A peer is a folder of `data/peers`: `requirements.txt` says what to install, the tool itself first; `load.py FILE` loads
one drop; `rows.sql` reads the versions that the tool keeps. uv makes an environment for each of them. Every drop is
loaded by a new process, for this product too, into a database on the same server. A step is timed from the start of its
process to its end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Protocol
from uuid import UUID

import polars as pl
from psycopg.conninfo import make_conninfo
from psycopg.errors import UndefinedTable
from psycopg.sql import SQL, Identifier

from crm_core.bench.generator import Drops
from crm_core.bench.scenario import (
    NO_UUID,
    UIDS,
    Answers,
    Histories,
    Story,
    Verdict,
    Version,
    current,
    grade,
    write_story,
)
from crm_core.drops.registry import rejects
from crm_core.fixtures.load import with_types
from crm_core.postgres.connection import Connection, Database
from crm_core.reading import reads
from crm_core.resources import DATA, statement
from crm_core.values.text import one_line

PEERS = tuple(sorted(folder.name for folder in (DATA / "peers").iterdir() if folder.is_dir()))
PACKAGES_OF = "2026-11-22T00:00:00Z"  # no newer packages, so that the same ones are installed everywhere
OURS = "crm"
QUIET = {  # nothing is sent to the makers of the tools
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
}
NOT_TOLD = ("PYTHONDONTWRITEBYTECODE",)  # files compiled for the story are used again for the drops

OnProgress = Callable[[str], None]
Wanted = Mapping[str, tuple[str, str, frozenset[tuple[str, str]]]]  # by entity_uid: name, type, details


@dataclass(frozen=True, slots=True)
class Step:
    """One drop about all of the entities, loaded by one tool."""

    what: str
    seconds: float
    error: str | None  # why it was not loaded, in one line


@dataclass(frozen=True, slots=True)
class Compared:
    """The results of one tool; a tool that could not be installed has neither steps nor verdicts."""

    tool: str
    version: str | None
    error: str | None  # why it could not be installed, in one line
    steps: tuple[Step, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    seconds: float
    error: str | None
    refused_lines: frozenset[int] = (
        frozenset()
    )  # lines that were named as refused, with a reason; peers keep no such list


class _World(Protocol):
    """A tool with a database of its own."""

    @property
    def database(self) -> Database: ...

    def load(self, drop: Path) -> _Loaded: ...

    def versions(self, uids: Sequence[str]) -> Histories: ...


_Opens = Callable[[Database, Path, float], _World]


def compare(
    conninfo: str, drops: Drops, entities: int, peers: Sequence[str], folder: Path, on_progress: OnProgress
) -> tuple[Compared, ...]:
    """Run the product and each of the peers over the story and over drops about `entities` entities, in a folder.

    They take turns at each drop, because a machine is not equally busy all the time. `conninfo` may name any database
    on the server that all of them use. Tools that fail to install are reported as such.
    """
    folder.mkdir()
    versions = {OURS: metadata.version("crm-core")}
    opens: dict[str, _Opens] = {OURS: _ours}
    errors: dict[str, str] = {}
    for tool in peers:
        on_progress(f"installing {tool}")
        try:
            versions[tool], opens[tool] = _install(tool, folder / tool)
        except FileNotFoundError:
            errors[tool] = "uv is not installed, and it is needed to install the tool: pip install uv"
        except subprocess.CalledProcessError as failed:
            errors[tool] = f"it could not be installed: {_last_words(failed)}"

    limit = 120 + entities / 400  # seconds that a drop may take
    story = write_story(folder / "story")
    graded: dict[str, Sequence[Verdict]] = {}
    for tool, open_ in opens.items():
        on_progress(f"the story: {tool}")
        graded[tool] = tuple(grade(_answers(open_(*_fresh(conninfo, folder, f"{tool}_story"), limit), story)))
    worlds = {tool: open_(*_fresh(conninfo, folder, f"{tool}_drops"), limit) for tool, open_ in opens.items()}
    steps, verdicts = _take_in(worlds, drops, on_progress)
    return tuple(
        Compared(tool, None, errors[tool], (), ())
        if tool in errors
        else Compared(tool, versions[tool], None, tuple(steps[tool]), (*verdicts[tool], *graded[tool]))
        for tool in (OURS, *peers)
    )


def lines(compared: Sequence[Compared]) -> Iterator[str]:
    """Yield a table with one column for each installed tool, and why the others could not be installed."""
    had = [one for one in compared if one.version is not None]
    rows = [("", *(f"{one.tool} {one.version}" for one in had))]
    for steps in zip(*(one.steps for one in had), strict=True):
        rows.append((steps[0].what, *("failed" if step.error else f"{step.seconds:.1f} s" for step in steps)))
    for verdicts in zip(*(one.verdicts for one in had), strict=True):
        rows.append((verdicts[0].question, *(f"{'✓' if one.is_right else '✗'} {one.found}" for one in verdicts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for one in compared:
        for error in filter(None, (one.error, *(step.error for step in one.steps))):
            yield f"{one.tool}: {error}"


def _take_in(
    worlds: Mapping[str, _World], drops: Drops, on_progress: OnProgress
) -> tuple[Mapping[str, Sequence[Step]], Mapping[str, Sequence[Verdict]]]:
    """Load the large drops with each tool, and grade what it knows of the entities in the late one."""
    steps: dict[str, list[Step]] = {tool: [] for tool in worlds}
    verdicts: dict[str, list[Verdict]] = {tool: [] for tool in worlds}
    before: dict[str, Mapping[str, int]] = {}
    wanted = _wanted(drops)
    for what, drop in (
        ("first load", drops.initial),
        ("delta: 30 % news", drops.delta),
        ("replay, the same rows", drops.replay),
        ("late rows", drops.late),
    ):
        for tool, world in worlds.items():
            on_progress(f"{what}: {tool}")
            # A tool that failed once may do that work in the next step.
            goes_on = all(step.error is None for step in steps[tool])
            loaded = world.load(drop) if goes_on else _Loaded(0, "not tried, because the drop before it failed")
            steps[tool].append(Step(what, loaded.seconds, loaded.error))
            found = world.versions([*wanted])
            if drop is drops.delta:
                before[tool] = _counts(found)
            elif drop is drops.replay:
                verdicts[tool].append(_adds_nothing(before[tool], _counts(found)))
            elif drop is drops.late:
                verdicts[tool].append(_knows_current(found, wanted))
            with world.database.connect(autocommit=True) as connection:
                connection.execute(statement("bench/analyze"))
    return steps, verdicts


def _counts(histories: Histories) -> Mapping[str, int]:
    return {uid: len(versions) for uid, versions in histories.items()}


def _adds_nothing(before: Mapping[str, int], after: Mapping[str, int]) -> Verdict:
    more = sum(after.values()) - sum(before.values())
    return Verdict("a replay adds nothing", bool(before) and before == after, f"{more:,} more versions")


def _knows_current(histories: Histories, wanted: Wanted) -> Verdict:
    wrong = sum(not _is(histories.get(uid, ()), what) for uid, what in wanted.items())
    return Verdict("the current state after late rows", wrong == 0, f"{wrong:,} of {len(wanted):,} wrong")


def _answers(world: _World, story: Story) -> Answers:
    world.load(story.first)
    world.load(story.twice)
    after_twice = world.versions(UIDS)
    world.load(story.second)
    world.load(story.late)
    after_late = world.versions(UIDS)
    refused_lines = world.load(story.bad).refused_lines
    return Answers(after_twice, after_late, world.versions(UIDS), refused_lines)


def _wanted(drops: Drops) -> Wanted:
    """Return the current state of each entity in the late drop: what its last row by change_ts says."""
    initial, delta, late = (pl.scan_csv(path, infer_schema=False) for path in (drops.initial, drops.delta, drops.late))
    rows = pl.concat([initial, delta, late]).join(late.select("entity_uid"), on="entity_uid", how="semi")
    last = rows.sort("change_ts").group_by("entity_uid").last().collect()
    return {
        uid: (name, entity_type, _details(details))
        for uid, name, entity_type, details in last.select(
            "entity_uid", "display_name", "entity_type", "details"
        ).iter_rows()
    }


def _is(versions: Sequence[Version], wanted: tuple[str, str, frozenset[tuple[str, str]]]) -> bool:
    said = [(one.display_name, one.entity_type, _details(one.details)) for one in current(versions)]
    return said == [wanted]


def _details(text: str | None) -> frozenset[tuple[str, str]]:
    return frozenset((detail["detail_type"], detail["detail_value"]) for detail in json.loads(text or "[]"))


def _fresh(conninfo: str, folder: Path, name: str) -> tuple[Database, Path]:
    """Create a database, and name a folder for the files that belong to it."""
    with Database(conninfo).connect(autocommit=True) as connection:
        connection.execute(SQL(statement("bench/create_database")).format(name=Identifier(name)))
    return Database(make_conninfo(conninfo, dbname=name)), folder / name


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float) -> tuple[_Loaded, str]:
    """Run a command to its end; return how that went, and its standard output."""
    started = time.perf_counter()
    error, said = None, ""
    try:
        said = subprocess.run(
            command,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in NOT_TOLD} | dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired:
        error = f"given up after {limit:.0f} s"
    except subprocess.CalledProcessError as failed:
        error = _last_words(failed)
    return _Loaded(time.perf_counter() - started, error), said


def _last_words(failed: subprocess.CalledProcessError) -> str:
    """Return the line of a command's output that most likely says why it failed."""
    said = [line for line in f"{failed.stdout}\n{failed.stderr}".splitlines() if line.strip()] or ["it wrote nothing"]
    return one_line(next((line for line in reversed(said) if re.search("error|fail", line, re.IGNORECASE)), said[-1]))


@dataclass(frozen=True, slots=True)
class _Ours:
    """This product, through its own command line and its own reads."""

    database: Database
    folder: Path
    limit: float

    def load(self, drop: Path) -> _Loaded:
        command = [sys.executable, "-P", "-m", "crm_core", "ingest", "--json", str(drop)]
        loaded, said = _run(command, self.folder, {"CRM_DATABASE_URL": self.database.conninfo}, self.limit)
        if loaded.error is not None:
            return loaded
        with self.database.connect() as connection:
            found = rejects(connection, json.loads(said)["sha256"], limit=1_000)
        return replace(loaded, refused_lines=frozenset(reject.line for reject in found if reject.reasons))

    def versions(self, uids: Sequence[str]) -> Histories:
        with self.database.connect(autocommit=True) as connection:
            return {uid: _history(connection, UUID(uid)) for uid in uids if uid != NO_UUID}


def _history(connection: Connection, uid: UUID) -> Sequence[Version]:
    documents = [json.loads(document) for document in reads.history(connection, uid)]
    details = json.dumps([one for one in documents if one["kind"] == "detail" and one["is_current"]])
    return [
        Version(
            one["display_name"],
            one["entity_type"],
            details,
            datetime.fromisoformat(one["valid_from"]),
            None if one["is_current"] else datetime.fromisoformat(one["valid_to"]),
        )
        for one in documents
        if one["kind"] == "entity"
    ]


def _ours(database: Database, folder: Path, limit: float) -> _Ours:
    folder.mkdir()
    return _Ours(with_types(database), folder, limit)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Another tool, through its driver."""

    database: Database
    folder: Path  # a copy of the peer's files, and the files that the tool keeps
    limit: float
    python: Path

    def load(self, drop: Path) -> _Loaded:
        places = {"HOME": str(self.folder), "DLT_DATA_DIR": str(self.folder)}
        environment = {**QUIET, **self.database.environment(), **places}
        return _run([str(self.python), "load.py", str(drop)], self.folder, environment, self.limit)[0]

    def versions(self, uids: Sequence[str]) -> Histories:
        found: dict[str, list[Version]] = {}
        rows = (self.folder / "rows.sql").read_bytes()
        with self.database.connect() as connection, suppress(UndefinedTable):  # the first drop was not loaded
            for uid, *version in connection.execute(rows, {"entity_uids": [*uids]}):
                found.setdefault(uid, []).append(Version(*version))
        return found


def _install(tool: str, environment: Path) -> tuple[str, _Opens]:
    """Create an environment with a tool in it; return its version, and a function that opens a world for it.

    Only wheels are installed, because a build could download anything. Raises FileNotFoundError if uv is missing, and
    CalledProcessError.
    """
    python = environment / "bin" / "python"
    wanted = DATA / "peers" / tool / "requirements.txt"
    uv = partial(subprocess.run, cwd=environment.parent, capture_output=True, text=True, check=True)
    uv(["uv", "venv", "--python", sys.executable, str(environment)])
    chosen = ["--python", str(python), "--exclude-newer", PACKAGES_OF, "--no-build", "--compile-bytecode"]
    uv(["uv", "pip", "install", *chosen, "--requirements", str(wanted)])
    name = re.match(r"[\w-]+", wanted.read_text(encoding="utf-8"))
    installed = uv(["uv", "pip", "freeze", "--python", str(python)]).stdout
    version = re.search(rf"^{name and name[0]}==(.+)$", installed, re.MULTILINE)

    def opens(database: Database, folder: Path, limit: float) -> _Peer:
        base = tool.partition("-")[0]  # a variant, `tool-what`, holds only the files that differ
        shutil.copytree(DATA / "peers" / base, folder)
        shutil.copytree(wanted.parent, folder, dirs_exist_ok=True)
        return _Peer(database, folder, limit, python)

    return version[1] if version else "", opens
