"""The data-quality report as one HTML page that needs no network, contains no scripts, and allows none."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from crm_core.model import Reason, Reject
from crm_core.report.numbers import DropReport, Report

TEMPLATES = Path(__file__).parent / "templates"
WORST_REJECTS = 10  # of all drops together
NOTHING = "—"

MEANING: Mapping[Reason, str] = {
    Reason.INVALID_UID: "entity_uid is not a UUID",
    Reason.MISSING_DISPLAY_NAME: "display_name is blank",
    Reason.UNKNOWN_ENTITY_TYPE: "entity_type is not a known type",
    Reason.DETAILS_NOT_JSON: "details is not JSON",
    Reason.DETAILS_NOT_LIST: "details is JSON, but not a list",
    Reason.UNKNOWN_DETAIL_TYPE: "a detail's type is not known",
    Reason.DUPLICATE_DETAIL_TYPE: "a detail type is listed twice",
    Reason.INVALID_DETAIL_VALUE: "a detail's value is not text",
    Reason.INVALID_CHANGE_TS: "change_ts is not an ISO 8601 timestamp",
    Reason.FUTURE_CHANGE_TS: "change_ts is in the future",
    Reason.UNKNOWN_OP: "op is neither upsert nor delete",
    Reason.WRONG_FIELD_COUNT: "the row has too few or too many fields, or broken quotes",
    Reason.INVALID_ENCODING: "the row has bytes that are not UTF-8",
    Reason.VALUE_TOO_LONG: "a name or key has more than 500 characters, or a detail more than 100,000 bytes",
    Reason.UNKNOWN_SOURCE: "source is not a known source, or there is a key without a source",
    Reason.MISSING_SOURCE_KEY: "source_key is blank, and there is a source",
    Reason.KEY_OF_ANOTHER_ENTITY: "a key names another entity than the uid, or than another key",
}

WIDTH, HEIGHT = 400, 200  # of a picture, in its own units: roughly its pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 392, 12, 172  # of the plot in it
WIDEST_BAR = 32


@dataclass(frozen=True, slots=True)
class Tick:
    """A horizontal line in a picture, with its label."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar."""

    kind: Literal["changed", "unchanged", "rejected"]
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The rows of a drop."""

    drop: DropReport
    x: float
    width: float
    segments: tuple[Segment, ...]  # from the bottom up, without empty ones


@dataclass(frozen=True, slots=True)
class Point:
    """The reject share of a drop."""

    drop: DropReport
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Two pictures of the drops, oldest first: their rows, and the share of rejects."""

    drops: tuple[DropReport, ...]
    bars: tuple[Bar, ...]
    rows: tuple[Tick, ...]
    points: tuple[Point, ...]
    shares: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class WorstReject:
    """A rejected row, and the drop that it came in."""

    drop: DropReport
    reject: Reject


def as_html(report: Report) -> str:
    """Return the report as a self-contained HTML page, to be opened, mailed or printed."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    completeness = [
        (entity_type, list(rows)) for entity_type, rows in groupby(report.completeness, lambda row: row.entity_type)
    ]
    return _template().render(
        report=report,
        entities=sum(rows[0].entities for _, rows in completeness),
        details=sum(row.total for row in report.distinctness),
        trend=_trend(report.drops),
        completeness=completeness,
        worst_rejects=_worst_rejects(report.drops),
        meaning=MEANING,
        style=Markup(style),  # our own file, so it needs no escaping
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        plot={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


@functools.cache
def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all: on a full disk the existing file stays. Raises OSError."""
    if path.exists() and not path.is_file():  # a pipe or a terminal has nothing to keep
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "percent": _percent,
        "instant": _instant,
        "age": _age,
        "size": _size,
        "visible": _visible,
    }
    return environment.get_template("report.html")


def _worst_rejects(drops: Sequence[DropReport]) -> Sequence[WorstReject]:
    """Return the rows with the most faults, those of the newest drop first."""
    named = [WorstReject(drop, reject) for drop in drops for reject in drop.worst_rejects]
    return sorted(named, key=lambda worst: -len(worst.reject.reasons))[:WORST_REJECTS]


def _trend(newest_first: Sequence[DropReport]) -> Trend:
    drops = tuple(drop for drop in reversed(newest_first) if drop.rows_read)
    slot = (RIGHT - LEFT) / max(1, len(drops))
    width = min(WIDEST_BAR, 0.72 * slot)
    rows = _scale(max((drop.rows_read for drop in drops), default=1), whole=True)
    shares = _scale(max((drop.reject_share or 0 for drop in drops), default=0) or 0.01, whole=False)
    centres = [LEFT + (place + 0.5) * slot for place in range(len(drops))]
    return Trend(
        drops,
        bars=tuple(
            Bar(drop, round(x - width / 2, 2), round(width, 2), tuple(_segments(drop, rows[-1])))
            for drop, x in zip(drops, centres, strict=True)
        ),
        rows=tuple(Tick(_height(value, rows[-1]), _number(round(value))) for value in rows),
        points=tuple(
            Point(drop, round(x, 2), _height(drop.reject_share or 0, shares[-1]))
            for drop, x in zip(drops, centres, strict=True)
        ),
        shares=tuple(Tick(_height(value, shares[-1]), f"{value * 100:g} %") for value in shares),
    )


def _segments(drop: DropReport, top: float) -> Iterator[Segment]:
    """Yield the segments of a drop's bar; each one that has rows is at least a hairline."""
    y = float(BOTTOM)
    kinds: tuple[tuple[Literal["changed", "unchanged", "rejected"], int], ...] = (
        ("changed", drop.rows_changed),
        ("unchanged", drop.rows_unchanged),
        ("rejected", drop.rows_rejected),
    )
    for kind, rows in kinds:
        if rows:
            height = max(1.0, rows / top * (BOTTOM - TOP))
            y -= height
            yield Segment(kind, round(y, 2), round(height, 2))


def _height(value: float, top: float) -> float:
    return round(BOTTOM - value / top * (BOTTOM - TOP), 2)


def _scale(top: float, *, whole: bool) -> Sequence[float]:
    """Return up to six round values from 0 to at least `top`, in steps of 1, 2 or 5 times a power of ten."""
    least = max(1.0, top / 5) if whole else top / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    return [number * step for number in range(math.ceil(top / step * (1 - 1e-9)) + 1)]


def _number(value: int) -> str:
    return f"{value:,}"


def _percent(share: float | None) -> str:
    """Return a share with one decimal; only zero is shown as 0 %, and only all as 100 %."""
    if share is None:
        return NOTHING
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share * 100:.1f} %"


def _instant(at: datetime | None) -> str:
    return NOTHING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit} ago"
    return "just now"


def _size(octets: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if octets >= size:
            return f"{octets / size:,.1f} {unit}"
    return f"{octets} bytes"


def _visible(text: str) -> str:
    r"""Return a text in which characters that are invisible, or change its direction, are written like \u202e."""
    return "".join(
        char if char.isprintable() else f"\\x{ord(char):02x}" if char < "\x80" else f"\\u{ord(char):04x}"
        for char in text
    )
