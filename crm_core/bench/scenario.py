"""A small story in five drops with known answers: the questions that `crm bench --compare` asks every tool.

The answer to each question is known by construction. One function grades all tools.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from crm_core.bench.generator import COLUMNS


@dataclass(frozen=True, slots=True)
class Version:
    """What a tool says an entity was during `[valid_from, valid_to)`."""

    display_name: str | None
    entity_type: str | None
    details: str | None  # JSON list as in a drop; only of a version that is current now
    valid_from: datetime  # aware
    valid_to: datetime | None  # None: current


Histories = Mapping[str, Sequence[Version]]  # by entity_uid


@dataclass(frozen=True, slots=True)
class Answers:
    """What a tool answered while it loaded the story."""

    after_twice: Histories
    after_late: Histories
    after_bad: Histories
    refused_lines: frozenset[int]  # lines of the bad drop that it named as refused, with a reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a tool is right about one question."""

    question: str
    is_right: bool
    found: str  # its answer, in a few words


@dataclass(frozen=True, slots=True)
class Story:
    """The files of the story, in the order of telling."""

    first: Path
    twice: Path  # a row twice; in a file of its own, because some tools refuse all of it
    second: Path
    late: Path
    bad: Path


def _on(day: int, hour: int = 8) -> datetime:
    return datetime(2024, 1, day, hour, tzinfo=UTC)


PASSED, RETURNED, TWICE, IN_ORDER, OUT_OF_ORDER, GOOD, ALSO_GOOD, BLANK, ROBOT, BROKEN = (
    f"00000000-0000-4000-8000-{number:012}" for number in range(1, 11)
)
NO_UUID = "not-a-uuid"
UIDS = (PASSED, RETURNED, TWICE, IN_ORDER, OUT_OF_ORDER, GOOD, ALSO_GOOD, BLANK, ROBOT, BROKEN, NO_UUID)
# The details of every row, so that each tool has some to keep.
DETAILS = '[{"detail_type": "phone", "detail_value": "1"}]'
BAD_LINES = {NO_UUID: 3, BLANK: 4, ROBOT: 5, BROKEN: 6}  # lines of the bad drop

Row = tuple[str, str, str, str, datetime]  # COLUMNS


def _row(uid: str, name: str, at: datetime, entity_type: str = "PERSON", details: str = DETAILS) -> Row:
    return uid, name, entity_type, details, at


ROWS: Mapping[str, Sequence[Row]] = {
    "first": (
        _row(PASSED, "A", _on(1)),
        _row(RETURNED, "A", _on(1)),
        _row(IN_ORDER, "A", _on(1)),
        _row(IN_ORDER, "B", _on(1, 16)),
        _row(OUT_OF_ORDER, "B", _on(1, 16)),
        _row(OUT_OF_ORDER, "A", _on(1)),
    ),
    "twice": (_row(TWICE, "A", _on(1)), _row(TWICE, "A", _on(1))),
    "second": (_row(PASSED, "C", _on(3)), _row(RETURNED, "A", _on(3)), _row(TWICE, "A", _on(3))),
    "late": (_row(PASSED, "B", _on(2)), _row(RETURNED, "B", _on(2))),
    "bad": (
        _row(GOOD, "A", _on(4)),
        _row(NO_UUID, "A", _on(4)),
        _row(BLANK, "  ", _on(4)),
        _row(ROBOT, "A", _on(4), "ROBOT"),
        _row(BROKEN, "A", _on(4), details="[{"),
        _row(ALSO_GOOD, "A", _on(4)),
    ),
}


def write_story(folder: Path) -> Story:
    """Write the drops of the story."""
    folder.mkdir()
    story = Story(*(folder / f"{number}_{field.name}.csv" for number, field in enumerate(fields(Story), start=1)))
    for name, rows in ROWS.items():
        with getattr(story, name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((*row, at.isoformat()) for *row, at in rows)
    return story


def grade(answers: Answers) -> Iterator[Verdict]:
    """Grade the answers to each question."""
    late = answers.after_late

    passed = f"day 2 {_at(late, PASSED, 2)}, now {_now(late, PASSED)}"
    yield Verdict("late row: A, B, C", passed == "day 2 B, now C", passed)

    returned = ", ".join(_at(late, RETURNED, day) for day in (1, 2, 3)) + f", now {_now(late, RETURNED)}"
    yield Verdict("late row: A, B, A", returned == "A, B, A, now A", returned)

    twice = f"{_now(answers.after_twice, TWICE)}, then {_now(late, TWICE)}"
    yield Verdict("a row twice in a file is one", twice == "A, then A", twice)

    for question, uid in (("two changes in a file", IN_ORDER), ("the same, out of order", OUT_OF_ORDER)):
        changes = f"noon {_at(late, uid, 1)}, now {_now(late, uid)}"
        yield Verdict(question, changes == "noon A, now B", changes)

    good = sum(_now(answers.after_bad, uid) == "A" for uid in (GOOD, ALSO_GOOD))
    yield Verdict("good rows beside bad ones are loaded", good == 2, f"{good} of 2")

    bad = sum(bool(answers.after_bad.get(uid)) for uid in BAD_LINES)
    yield Verdict("bad rows stay out", bad == 0, f"{bad} of {len(BAD_LINES)} were loaded")

    listed = len(answers.refused_lines & {*BAD_LINES.values()})
    yield Verdict(
        "bad rows are listed, with reasons",
        answers.refused_lines == {*BAD_LINES.values()},
        f"{listed} of {len(BAD_LINES)}",
    )


def current(versions: Sequence[Version]) -> Sequence[Version]:
    """Return the open versions; there should be one."""
    return [version for version in versions if version.valid_to is None]


def _now(histories: Histories, uid: str) -> str:
    return _names(current(histories.get(uid, ())))


def _at(histories: Histories, uid: str, day: int) -> str:
    """Return the value that held at noon of a day."""
    noon = _on(day, 12)
    return _names(
        version
        for version in histories.get(uid, ())
        if version.valid_from <= noon and (version.valid_to is None or noon < version.valid_to)
    )


def _names(versions: Iterable[Version]) -> str:
    return "+".join(sorted(version.display_name or "" for version in versions)) or "nothing"
