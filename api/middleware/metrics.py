"""The metrics of the requests that a process answers, for /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram


class Metrics:
    """How long requests took, and how busy the connection pools are."""

    def __init__(self) -> None:
        """Start with all counts at zero."""
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        help_ = "Seconds that requests took"
        self.seconds = Histogram("crm_http_request_seconds", help_, labels, registry=self.registry)
        help_ = "Statistics of the connection pools"
        self.pool = Gauge("crm_pool", help_, ("pool", "figure"), registry=self.registry)
