"""The invariants of the product, recomputed from the tables: `crm check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from crm_core.database import Connection, statement
from crm_core.resources import description

CHECKS = (
    "01_one_current_entity",
    "02_one_current_detail",
    "03_entity_intervals",
    "04_detail_intervals",
    "05_no_gap_without_deletion",
    "06_detail_within_entity",
    "07_entity_hashdiffs",
    "08_detail_hashdiffs",
    "09_entities_are_the_fold",
    "10_details_are_the_fold",
    "11_books_balance",
    "12_every_change_has_a_batch",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant and how it stands."""

    name: str
    invariant: str  # one sentence
    breaches: int
    examples: tuple[str, ...]  # the first breaches, a line each

    @property
    def holds(self) -> bool:
        """Say whether nothing breaks the invariant."""
        return self.breaches == 0


def check(connection: Connection, *, examples: int = 5) -> Iterator[Check]:
    """Recompute every invariant over all data, one statement each: a merge meanwhile is seen whole or not at all."""
    with connection.transaction():
        connection.execute(statement("query/set_known_at"), {"known_at": "infinity"})
        for name in CHECKS:
            with connection.cursor() as cursor:
                breaches = cursor.execute(statement(f"check/{name}"))
                first = tuple(line for (line,) in islice(breaches, examples))
                yield Check(name[3:], description(f"check/{name}"), cursor.rowcount, first)
