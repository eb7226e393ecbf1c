"""The sample drops: all of them, and the six that tell the small story of the contacts."""

from __future__ import annotations

from crm_core.resources import DATA

FOLDER = DATA / "drops"
ALL = sorted(FOLDER.glob("*.csv"))
INITIAL, DELTA, LATE, REPLAY, DIRTY, LAST = CONTACTS = [
    FOLDER / f"{name}.csv"
    for name in (
        "2020-01-01_initial",
        "2022-01-01_delta",
        "2022-02-15_late",
        "2022-03-01_replay",
        "2022-06-01_dirty",
        "2024-07-01_delta",
    )
]
CORRECTED = [  # (a drop, the one that corrects values of it at the same instant, so that has to come later)
    (DELTA, LATE),
    (REPLAY, LATE),
    (FOLDER / "2023-01-15_changes.csv", FOLDER / "2023-02-10_corrected.csv"),
]
