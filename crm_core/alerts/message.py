"""What an alert says: what happened, when, and where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

Kind = Literal["run_failed", "drop_refused", "drop_held", "check_failed", "nothing_fresh"]
State = Literal["fault", "mended"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong until it is mended."""

    key: str  # by which it is known while it lasts
    kind: Kind
    what: str  # one line
    at: str  # since when, ISO 8601
    where: str  # an address or a command


@dataclass(frozen=True, slots=True)
class Message:
    """One alert; a fault has one, and another when it is mended."""

    state: State
    fault: Fault
    more: int = 0  # faults of its kind that it also stands for

    @property
    def title(self) -> str:
        """Return one line."""
        begin = "Mended: " if self.state == "mended" else ""
        return f"{begin}{self.fault.what}{f' (and {self.more:,} more)' if self.more else ''}"

    @property
    def text(self) -> str:
        """Return what, when, and where to look, in some lines."""
        return f"{self.title}\nSince: {self.fault.at}\nLook at: {self.fault.where}"

    def members(self, sent_at: str) -> Mapping[str, object]:
        """Return the members of its JSON; `text` is what chat programs show."""
        return {"product": "crm-core", "state": self.state, **asdict(self.fault), "more": self.more} | {
            "sent_at": sent_at,
            "text": self.text,
        }

    @classmethod
    def read(cls, said: Mapping[str, object]) -> Message:
        """Return the message of what `asdict` made of one; raises TypeError or KeyError for anything else."""
        fault = said["fault"]
        if not isinstance(fault, dict):
            raise TypeError
        return cls(**{**said, "fault": Fault(**fault)})  # type: ignore[arg-type]
