"""How an instant is written, everywhere: UTC with a Z, as in 2024-01-31T08:00:00Z."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(instant: datetime, *, timespec: str = "auto") -> str:
    """Return an aware instant as answers write it; `timespec` is that of `datetime.isoformat`."""
    return instant.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"
