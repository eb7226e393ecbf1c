"""Logs of Dagster's processes without color codes, because they are files."""

from __future__ import annotations

import coloredlogs  # type: ignore[import-untyped]  # what Dagster formats with


def write_plain_logs() -> None:
    """Turn color codes off in the log of this process; Dagster has no setting for it."""
    coloredlogs.ansi_wrap = _uncolored


def _uncolored(text: str, **_style: object) -> str:
    return text
