"""Logs of Dagster's processes for files: without colors, which nothing there shows."""

from __future__ import annotations

import coloredlogs  # type: ignore[import-untyped]  # what Dagster formats with


def write_plain_logs() -> None:
    """Let the log lines of this process have no codes for colors; Dagster has no setting for it."""
    coloredlogs.ansi_wrap = _uncolored


def _uncolored(text: str, **_style: object) -> str:
    return text
