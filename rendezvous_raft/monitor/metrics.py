"""Every metric of a monitor process, once. Branch ids never become labels."""

from __future__ import annotations

from rendezvous_raft.monitor.monitor import MonitorStatistics
from rendezvous_raft.monitor.ports import EndpointLook, Selection
from rendezvous_raft.observability.metrics import MetricsRegistry

_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class MonitorMetrics:
    """The metrics of all monitors of one process, in one registry."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self.probes = registry.counter(
            "monitor_probes",
            "Branches looked for, by what was found.",
            ("datastore", "endpoint", "result"),
        )
        self.probe_duration = registry.histogram(
            "monitor_probe_duration_seconds",
            "Time of one look of a batch at one endpoint.",
            ("datastore", "endpoint"),
        )
        self.endpoint_up = registry.gauge(
            "monitor_endpoint_up", "Whether the endpoint answered the last look.", ("endpoint",)
        )
        self.pending = registry.gauge(
            "monitor_branches_pending",
            "Branches that are open as far as the monitor knows.",
            ("datastore", "service", "region"),
        )
        self.oldest_pending = registry.gauge(
            "monitor_oldest_pending_seconds",
            "Age of the oldest of them; 0 when there is none.",
            ("datastore", "service", "region"),
        )
        self.visibility_lag = registry.histogram(
            "monitor_visibility_lag_seconds",
            "From the registration of a branch until it was found visible.",
            ("datastore", "region"),
            buckets=_LAG,
        )
        self.close_lag = registry.histogram(
            "monitor_close_lag_seconds",
            "From a branch found visible until its close was acknowledged.",
            ("region",),
            buckets=_LAG,
        )
        self.batch_size = registry.histogram(
            "monitor_close_batch_size", "Closes in one call.", ("region",), buckets=_BATCH
        )
        self.closes = registry.counter(
            "monitor_closes", "Closes by what the answer means.", ("result",)
        )
        self.resubscribes = registry.counter(
            "monitor_resubscribes", "Streams that broke and were taken up again.", ("reason",)
        )
        self.superseded = registry.counter(
            "monitor_superseded", "Branches found visible under a newer write.", ("datastore",)
        )

    def observer(self, selection: Selection, datastore: str) -> EntryMetrics:
        """The observer of one monitor."""
        return EntryMetrics(self, selection, datastore)

    def set_pending(self, statistics: MonitorStatistics) -> None:
        """Brings the gauges up to date; called when somebody reads them."""
        selection = statistics.selection
        labels = (statistics.datastore, selection.service, selection.region)
        self.pending.labels(*labels).set(statistics.pending)
        self.oldest_pending.labels(*labels).set(statistics.oldest_pending_s)


class EntryMetrics:
    """What one monitor tells, with its labels: an implementation of `MonitorObserver`."""

    def __init__(self, metrics: MonitorMetrics, selection: Selection, datastore: str) -> None:
        self._metrics = metrics
        self._datastore = datastore
        self._visibility_lag = metrics.visibility_lag.labels(datastore, selection.region)
        self._close_lag = metrics.close_lag.labels(selection.region)
        self._batch_size = metrics.batch_size.labels(selection.region)

    def looked(self, look: EndpointLook) -> None:
        """An endpoint was asked."""
        metrics, names = self._metrics, (self._datastore, look.endpoint)
        metrics.probe_duration.labels(*names).observe(look.seconds)
        metrics.endpoint_up.labels(look.endpoint).set(look.error is None)
        counts = (("visible", look.visible), ("absent", look.absent), ("failed", look.failed))
        for result, count in counts:
            if count:
                metrics.probes.labels(*names, result).inc(count)

    def became_visible(self, lag_s: float) -> None:
        """A branch was found visible."""
        self._visibility_lag.observe(lag_s)

    def superseded(self, count: int) -> None:
        """A look reported branches that it was not asked for."""
        self._metrics.superseded.labels(self._datastore).inc(count)

    def batch_sent(self, size: int) -> None:
        """A batch of closes was sent."""
        self._batch_size.observe(size)

    def close_answered(self, result: str) -> None:
        """A close was answered."""
        self._metrics.closes.labels(result).inc()

    def close_acknowledged(self, lag_s: float) -> None:
        """A close is settled."""
        self._close_lag.observe(lag_s)

    def resubscribed(self, reason: str) -> None:
        """The stream broke."""
        self._metrics.resubscribes.labels(reason).inc()
