"""Valid × recorded, the second picture: what was believed of a field, row by row, the newest on top."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from api.cockpit.pages.picture import Window
from crm_core.reading.lanes import Belief, Beliefs


@dataclass(frozen=True, slots=True)
class Block:
    """A value as it was believed to hold over a time, through one or more recordings; rows count from the top."""

    value: str
    valid_from: datetime
    valid_to: datetime | None
    x: float
    width: float
    top: int
    rows: int
    believed_from: datetime
    believed_until: datetime | None  # None: it still is
    shade: int  # the same for the same value


@dataclass(frozen=True, slots=True)
class BeliefPicture:
    """Everything that is drawn."""

    field: str
    window: Window
    rows: tuple[Belief, ...]  # the newest first
    blocks: tuple[Block, ...]
    is_all: bool
    looked_at: int

    def is_in_force(self, row: int, known_at: datetime | None) -> bool:
        """Return whether a row is what was believed at an instant of knowing (None: now)."""
        if known_at is None:
            return row == 0
        recorded = [belief.source.recorded_at <= known_at for belief in self.rows]
        return recorded[row] and (row == 0 or not recorded[row - 1])


def belief_picture(field: str, found: Beliefs, window: Window) -> BeliefPicture:
    """Return the picture of what was believed over a window of valid time."""
    rows = found.beliefs
    return BeliefPicture(field, window, rows, tuple(_blocks(rows, window)), found.is_all, found.looked_at)


def _blocks(rows: tuple[Belief, ...], window: Window) -> Iterator[Block]:
    """Return a block for each time, as high as the rows in which it stays the same."""
    shades: dict[str, int] = {}
    sets = [set(row.runs) for row in rows]
    for number, row in enumerate(rows):
        for stretch in row.runs:
            value = f"{stretch.runs:,} values" if stretch.value is None else stretch.value
            shade = shades.setdefault(value, len(shades) % 6)
            if number and stretch in sets[number - 1]:
                continue  # a block from above has it already
            oldest = number
            while oldest + 1 < len(rows) and stretch in sets[oldest + 1]:
                oldest += 1
            x = window.place(stretch.valid_from)
            yield Block(
                value,
                stretch.valid_from,
                stretch.valid_to,
                x,
                window.place(stretch.valid_to) - x,
                number,
                oldest - number + 1,
                rows[oldest].source.recorded_at,
                rows[number - 1].source.recorded_at if number else None,
                shade,
            )
