"""Errors of files and of what they did: drops, profiles, snapshots, undo and fixtures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crm_core.errors.root import CrmError


class DropRefused(CrmError):
    """A file that is not a drop, or is refused whole; the text is one line that names the file and the fault."""

    def __init__(self, file: Path | str, fault: str, line: int | None = None) -> None:
        self.file, self.fault, self.line = str(file), fault, line
        super().__init__(f"{file}:{line}: {fault}" if line else f"{file}: {fault}")


class DropUnreadable(DropRefused):
    """A file that could not be read, or changed meanwhile: its content was not checked, so it may be retried."""


class ProfileRefused(CrmError):
    """A profile that cannot be used; the text is one line that names the file, the line and the key."""

    def __init__(self, file: str, fault: str, line: int | None = None) -> None:
        self.file, self.fault, self.line = file, fault, line
        super().__init__(f"{file}:{line}: {fault}" if line else f"{file}: {fault}")


class UnknownProfile(CrmError):
    """There is no profile of that name."""

    def __init__(self, name: str, folder: Path, known: Sequence[str]) -> None:
        self.name = name
        there = f"there are: {', '.join(known)}" if known else "there is none yet"
        super().__init__(
            f"no profile {name[:80]!r} is in {folder}; {there}; make one with `crm profile infer FILE --write NAME`"
        )


class SnapshotRefused(CrmError):
    """A scope or an instant that no snapshot can have; nothing was read."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class DecisionRefused(CrmError):
    """A drop that does not wait for somebody to approve or decline it."""

    def __init__(self, sha256: str, status: str) -> None:
        self.sha256, self.status = sha256, status
        super().__init__(
            f"drop {sha256[:12]} waits for no decision, it is {status}; the list of drops says what it did"
        )


class BytesGone(CrmError):
    """A drop was declined so long ago that its bytes are not kept any longer."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(
            f"drop {sha256[:12]} was declined, and its bytes are not kept any longer; send its file again: it is held"
            " then, and can be approved"
        )


class UnknownDrop(CrmError):
    """No drop of that name or SHA-256 was ever received."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no drop {name!r} was ever received; give its file, its name, or six or more digits of its SHA-256"
        )


class UnknownBatch(CrmError):
    """No batch of that number was ever recorded."""

    def __init__(self, batch_id: int) -> None:
        self.batch_id = batch_id
        super().__init__(f"no batch {batch_id} was ever recorded; take its number from the feed, /api/v1/changes")


class UndoRefused(CrmError):
    """A drop or batch cannot be undone, or reinstated, as it stands; nothing was changed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class FixtureRefused(CrmError):
    """A fixture that cannot be loaded."""

    def __init__(self, file: Path | str, fault: str, record: int | None = None) -> None:
        self.file, self.fault, self.record = str(file), fault, record
        super().__init__(f"{file}: record {record}: {fault}" if record else f"{file}: {fault}")
