"""The partitions: one for each drop file, so that drops can be run again or backfilled by name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

import dagster as dg

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")

drops = dg.DynamicPartitionsDefinition(name="drops")  # drop_key(file name)

# What was read: "<content of a DropFile> <SHA-256>". It is kept as keys of partitions that no asset has, because a
# sensor's cursor is written with every tick, and 10,000 files would be a megabyte of it.
_read_files = dg.DynamicPartitionsDefinition(name="read_drop_files")


def drop_key(file_name: str) -> str:
    """Return the partition key of a drop: its name, and a hash of it if the name has characters keys may not have.

    A comma, for example, would make it impossible to backfill the partition.
    """
    plain = _NOT_PLAIN.sub("_", file_name)
    return plain if plain == file_name else f"{plain}_{hashlib.sha256(os.fsencode(file_name)).hexdigest()[:8]}"


def remember_read(instance: dg.DagsterInstance, content: str, sha256: str) -> None:
    """Store the SHA-256 of a file, by its `DropFile.content`, once the database has validated its rows."""
    instance.add_dynamic_partitions(_read_files.name or "", [f"{content} {sha256}"])


def read_files(instance: dg.DagsterInstance) -> Mapping[str, str]:
    """Return the SHA-256 of all files that were ever read and validated, by their content."""
    keys = instance.get_dynamic_partitions(_read_files.name or "")
    return {content: sha256 for content, _, sha256 in (key.rpartition(" ") for key in keys)}
