"""The metrics, for /metrics: of the requests that all processes of a service answer, and of the drops.

Several processes write their counts into one folder (PROMETHEUS_MULTIPROC_DIR), where each of them can add up all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from crm_core.drops.totals import DropTotals
from crm_core.postgres.pool import Pool

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the client library reads it when it is imported
NOTE_SECONDS = 5.0  # between two looks at the pools, where another process may be asked for them
MERGED = ("merged", "undone")  # what was merged once still counts: a counter does not go back
ROWS = ("read", "accepted", "rejected", "changed", "unchanged", "late")


class Metrics:
    """How long requests took, and how busy the connection pools are."""

    def __init__(self) -> None:
        """Start with all counts at zero."""
        self.folder = os.environ.get(METRICS_FOLDER)  # None: this process is alone
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        help_ = "Seconds that requests took"
        self.seconds = Histogram("crm_http_request_seconds", help_, labels, registry=self.registry)
        help_ = "Statistics of the connection pools"
        of_pool = ("pool", "figure")
        self.pool = Gauge("crm_pool", help_, of_pool, registry=self.registry, multiprocess_mode="livesum")

    def note(self, pools: Mapping[str, Pool]) -> None:
        """Note how the pools are now."""
        for name, pool in pools.items():
            for figure, value in pool.figures().items():
                self.pool.labels(name, figure).set(value)

    async def keep_noting(self, pools: Mapping[str, Pool]) -> None:
        """Note how the pools are, again and again, until it is cancelled."""
        while True:
            self.note(pools)
            await asyncio.sleep(NOTE_SECONDS)

    def text(self, drops: Sequence[DropTotals]) -> bytes:
        """Return everything in the format of Prometheus; of the drops nothing if their totals are not known."""
        registry = self.registry
        if self.folder:
            _forget_dead(Path(self.folder))
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=self.folder)  # type: ignore[no-untyped-call]
        of_drops = CollectorRegistry()
        if drops:
            of_drops.register(_Drops(drops))
        return generate_latest(registry) + generate_latest(of_drops)


class _Drops(Collector):
    """The metrics of the drops: they are counted in the database, so every process says the same."""

    def __init__(self, totals: Sequence[DropTotals]) -> None:
        self.totals = totals

    def collect(self) -> Iterator[Metric]:
        drops = GaugeMetricFamily("crm_drops", "Drops by what became of them", labels=["status"])
        rows = CounterMetricFamily("crm_drop_rows", "Rows of the merged drops by what became of them", labels=["rows"])
        last = GaugeMetricFamily("crm_drop_last_seen_timestamp_seconds", "When the newest drop came, since 1970")
        for total in self.totals:
            drops.add_metric([total.status], total.drops)
        for name in ROWS:
            merged = [total for total in self.totals if total.status in MERGED]
            rows.add_metric([name], sum(getattr(total, f"rows_{name}") for total in merged))
        last.add_metric([], max(total.last_seen_at.timestamp() for total in self.totals))
        yield from (drops, rows, last)


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of processes that have ended."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call]
