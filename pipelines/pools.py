"""The pools: what queues instead of running side by side; how many run at once says dagster.yaml."""

from __future__ import annotations

import dagster as dg

MERGE = "merge"


def make_known(instance: dg.DagsterInstance) -> None:
    """Give each pool its limit: one that the queue meets for the first time holds nobody back in that round."""
    storage = instance.event_log_storage
    if MERGE not in {pool.name for pool in storage.get_pool_limits()}:
        storage.initialize_concurrency_limit_to_default(MERGE)
