"""Which tables a transaction keeps others out of, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import psycopg
from psycopg.rows import TupleRow

from crm_core.resources import statement

Waiting: TypeAlias = Literal["writers", "readers and writers"]


@dataclass(frozen=True, slots=True)
class Held:
    """A table that was locked until the transaction ended."""

    table: str
    waiting: Waiting  # who had to wait
    seconds: float


@dataclass(slots=True)
class LockWatch:
    """Notes between the statements of a transaction which tables it has locked since."""

    since: dict[tuple[str, Waiting], float] = field(default_factory=dict)  # seconds of the monotonic clock
    before: set[str] = field(default_factory=set)  # tables that others can see

    def begin(self, connection: psycopg.Connection[TupleRow]) -> None:
        """Note which tables exist at the start."""
        self.before = {str(name) for _, name in connection.execute(statement("server/all_tables"))}

    def look(self, connection: psycopg.Connection[TupleRow], begun: float) -> None:
        """Note what is locked now; what is new was locked at `begun` at the earliest."""
        for table, keeps_readers_out in connection.execute(statement("server/held_locks")):
            if str(table).rpartition(".")[2].strip('"') in self.before:
                self.since.setdefault((table, "readers and writers" if keeps_readers_out else "writers"), begun)

    def held(self) -> list[Held]:
        """Return what was locked, at the end of the transaction."""
        now = time.monotonic()
        return [Held(table, waiting, now - since) for (table, waiting), since in sorted(self.since.items())]
