"""The pools: steps of one pool wait for each other; dagster.yaml says how many run at the same time."""

from __future__ import annotations

import dagster as dg

MERGE = "merge"


def make_known(instance: dg.DagsterInstance) -> None:
    """Create each pool with its limit: a pool that is new to the queue does not limit anything in that round."""
    storage = instance.event_log_storage
    if MERGE not in {pool.name for pool in storage.get_pool_limits()}:
        storage.initialize_concurrency_limit_to_default(MERGE)
