"""The partitions: one a drop file, so that a drop is run again, or a range of them backfilled, by its name."""

from __future__ import annotations

import hashlib
import os
import re

import dagster as dg

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")

drops = dg.DynamicPartitionsDefinition(name="drops")  # drop_key(file name)


def drop_key(file_name: str) -> str:
    """Answer the partition key of a drop: its name, and a hash of it where the name has what a key may not have.

    A comma, for one, would make it impossible to backfill the partition.
    """
    plain = _NOT_PLAIN.sub("_", file_name)
    return plain if plain == file_name else f"{plain}_{hashlib.sha256(os.fsencode(file_name)).hexdigest()[:8]}"
