"""Streams of everything: blocks of whole lines, of one snapshot, and a connection that stays usable."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest
from builders import an_entity, day, reference_data

from crm_core.model import ReferenceTypes
from crm_core.postgres.connection import Database
from crm_core.postgres.streams import BLOCK_BYTES
from crm_core.reading import reads
from crm_core.reference import reference_types
from crm_core.timeline.merge import Origin, record

pytestmark = [pytest.mark.integration, pytest.mark.temporal]
LATE = day(99)


@pytest.fixture(scope="module")
def many(database: Database) -> ReferenceTypes:
    """Some hundreds of entities, committed: more than one block of a stream."""
    with database.transaction() as connection:
        reference_data(connection)
        types = reference_types(connection)
        record(
            connection,
            types,
            [an_entity(str(n), at=1, name="n" * 400, note="x" * 1_400) for n in range(600)],
            Origin("t", "fixture"),
        )
        return types


def test_a_stream_comes_in_blocks_of_whole_lines(database: Database, many: ReferenceTypes) -> None:
    with database.connect(autocommit=True) as connection:
        blocks = list(reads.stream_entities(connection, many, as_of=LATE))
        assert len(blocks) > 2
        assert all(block.endswith(b"\n") for block in blocks)
        assert all(len(block) < BLOCK_BYTES + 4_000 for block in blocks)
        assert sum(block.count(b"\n") for block in blocks) == 600


@pytest.mark.parametrize("known_at", [None, datetime.max.replace(tzinfo=LATE.tzinfo)])
def test_a_reader_who_leaves_a_stream_leaves_the_connection_usable(
    database: Database, many: ReferenceTypes, known_at: datetime | None
) -> None:
    with database.connect(autocommit=True) as connection:
        stream = reads.stream_entities(connection, many, as_of=LATE, known_at=known_at)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert reads.count_entities(connection, many) == 600


def test_a_stream_is_of_one_snapshot(database: Database, many: ReferenceTypes) -> None:
    with database.connect(autocommit=True) as reader, database.connect() as writer:
        stream = reads.stream_entities(reader, many, as_of=LATE)
        first = next(stream)
        writer.execute("delete from entity_detail")
        writer.execute("delete from entity")
        writer.commit()
        assert (first + b"".join(stream)).count(b'"detail_type":"note"') == 600
