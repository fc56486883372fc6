"""Every metric of a node, once. Names are stable: dashboards and alerts rely on them.

Each node has a registry of its own, so that several fit into one process. Labels are bounded: ids
never become labels, and names that clients choose are counted as `other` beyond a number.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rendezvous_raft.node.node import NodeStatistics
    from rendezvous_raft.node.status import ClusterStatus

MetricT = TypeVar("MetricT", Counter, Histogram)

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
"""Label of every name beyond the bound."""

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_CALL = (*_FAST, 5.0, 10.0, 30.0, 60.0, 300.0)
_ENTRY = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class LabelCap:
    """Lets the first names through and turns all others into `other`."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """The name itself, or `other`."""
        if name in self._names:
            return name
        if len(self._names) >= self._names_max:
            return OTHER
        self._names.add(name)
        return name


class ByLabel(dict[str, MetricT]):
    """The children of a metric with one label; finding one again costs a look into a dict."""

    def __init__(self, parent: MetricT) -> None:
        super().__init__()
        self._parent: MetricT = parent

    def __missing__(self, label: str) -> MetricT:
        child: MetricT = self._parent.labels(label)
        self[label] = child
        return child


class MetricsRegistry:
    """The registry of one node and the constructors of its metrics."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A count that only grows; `_total` is added to its name."""
        return Counter(f"rendezvous_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A value of the moment."""
        return Gauge(f"rendezvous_{name}", text, labels, registry=self._registry)

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = _FAST,
    ) -> Histogram:
        """A distribution; in seconds unless its name says otherwise."""
        return Histogram(
            f"rendezvous_{name}", text, labels, buckets=buckets, registry=self._registry
        )

    def add_process(self) -> None:
        """CPU, memory, descriptors and garbage collection of this process."""
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class EngineMetrics:
    """What the engine reports: an implementation of its observer."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self._leader_changes = registry.counter(
            "raft_leader_changes", "Times that this node saw another leader."
        )
        self._unneeded_elections = registry.counter(
            "raft_unneeded_elections",
            "Elections that this node began although it could reach its leader.",
        )
        self._apply = registry.histogram(
            "raft_apply_duration_seconds", "Time to apply one batch of committed commands."
        )
        self._applied = registry.counter("raft_commands_applied", "Commands applied by this node.")
        self._sync = registry.histogram("wal_sync_duration_seconds", "Time of one sync of the log.")
        self._read_index = registry.histogram(
            "raft_read_index_duration_seconds", "Time until a read was confirmed as linearizable."
        )
        self._entry_commands = registry.histogram(
            "raft_entry_commands", "Commands in one Raft entry of this node.", buckets=_ENTRY
        )
        self._asked_leader = ByLabel(
            registry.counter(
                "raft_messages_to_leader",
                "Messages of this follower to its leader on behalf of clients.",
                ["kind"],
            )
        )
        self._snapshot = registry.histogram(
            "raft_snapshot_duration_seconds", "Time to write one snapshot.", buckets=_CALL
        )
        self._snapshot_size = registry.gauge(
            "raft_snapshot_size_bytes", "Size of the last snapshot."
        )
        self._last_snapshot = registry.gauge(
            "raft_last_snapshot_timestamp_seconds", "When the last snapshot was written, Unix time."
        )

    def leader_changed(self) -> None:
        """This node follows another leader than before, or leads."""
        self._leader_changes.inc()

    def elected_without_need(self) -> None:
        """This node stands for election although its leader can be reached."""
        self._unneeded_elections.inc()

    def applied(self, count: int, seconds: float) -> None:
        """A batch of commands was applied."""
        self._applied.inc(count)
        self._apply.observe(seconds)

    def synced(self, seconds: float) -> None:
        """The log was synced to disk."""
        self._sync.observe(seconds)

    def read_barrier_done(self, seconds: float) -> None:
        """A read was confirmed."""
        self._read_index.observe(seconds)

    def entry_made(self, commands: int) -> None:
        """This node made an entry."""
        self._entry_commands.observe(commands)

    def asked_leader(self, kind: str) -> None:
        """This node sent its leader a message of this kind."""
        self._asked_leader[kind].inc()

    def snapshot_done(self, seconds: float, size_bytes: int) -> None:
        """A snapshot was written."""
        self._snapshot.observe(seconds)
        self._snapshot_size.set(size_bytes)
        self._last_snapshot.set(time.time())


class NodeMetrics:
    """What the use-cases report (a `NodeObserver`), and the gauges read at a scrape."""

    def __init__(self, registry: MetricsRegistry, *, names_max: int) -> None:
        self._services = LabelCap(names_max)
        self._regions = LabelCap(names_max)
        self._gauges = NodeGauges(registry, services=self._services, regions=self._regions)
        self._proposals = ByLabel(
            registry.counter("raft_proposals", "Proposals by outcome.", ["outcome"])
        )
        self._proposal_seconds = registry.histogram(
            "raft_proposal_duration_seconds", "Time from proposal to local apply.", buckets=_CALL
        )
        self._wait_seconds = ByLabel(
            registry.histogram(
                "wait_duration_seconds", "Time of waits by outcome.", ["outcome"], buckets=_CALL
            )
        )
        self._prevented = registry.counter(
            "inconsistencies_prevented", "Waits that were blocked and then released.", ["region"]
        )
        self._registered = ByLabel(
            registry.counter(
                "branches_registered", "Branches registered, as this replica saw them.", ["service"]
            )
        )
        self._closed = ByLabel(
            registry.counter(
                "branches_closed",
                "Branches closed in a region, as this replica saw them.",
                ["region"],
            )
        )
        self._expired = registry.counter("requests_expired", "Requests dropped.", ["state"])
        self.open_requests_expired = 0
        """How many were dropped while something of them was open; for the log."""
        self._resyncs = registry.counter(
            "subscription_resyncs", "Subscriptions that have to be taken up again.", ["reason"]
        )
        self._limits = registry.counter("limits_exceeded", "Refusals by limit.", ["limit"])

    def proposal_done(self, outcome: str, seconds: float) -> None:
        """A proposal ended."""
        self._proposals[outcome].inc()
        self._proposal_seconds.observe(seconds)

    def wait_done(self, outcome: str, seconds: float, region: str, *, prevented: bool) -> None:
        """A wait ended."""
        self._wait_seconds[outcome].observe(seconds)
        if prevented:
            self._prevented.labels(self._regions.label(region)).inc()

    def branch_registered(self, service: str, count: int) -> None:
        """Branches were registered."""
        self._registered[self._services.label(service)].inc(count)

    def branch_closed(self, region: str, count: int) -> None:
        """Branches were closed in a region."""
        self._closed[self._regions.label(region)].inc(count)

    def requests_expired(self, state: str, count: int) -> None:
        """Requests were dropped."""
        self._expired.labels(state).inc(count)
        if state == "open":
            self.open_requests_expired += count

    def subscription_resync(self, reason: str) -> None:
        """A subscription ended."""
        self._resyncs.labels(reason).inc()

    def limit_exceeded(self, limit: str) -> None:
        """A bound refused something."""
        self._limits.labels(limit).inc()

    def refresh(self, *, status: ClusterStatus, statistics: NodeStatistics) -> None:
        """Sets the gauges from the node; called at each scrape."""
        self._gauges.refresh_engine(status)
        self._gauges.refresh_node(statistics)


class NodeGauges:
    """Values of the moment, copied from the node's own statistics."""

    def __init__(self, registry: MetricsRegistry, *, services: LabelCap, regions: LabelCap) -> None:
        self._services = services
        self._regions = regions
        gauge = registry.gauge
        self._has_leader = gauge("raft_has_leader", "1 while this node knows a leader.")
        self._is_leader = gauge("raft_is_leader", "1 while this node leads.")
        self._term = gauge("raft_term", "Term of this node.")
        self._commit = gauge("raft_commit_index", "Highest index known to be committed.")
        self._applied = gauge("raft_applied_index", "Highest index applied.")
        self._entries = gauge("raft_log_entries", "Entries in the log.")
        self._peers = gauge("raft_peer_connected", "1 while a peer is connected.", ["peer"])
        self._halted = gauge("raft_halted", "1 after the engine has stopped for good.")
        self._read_only = gauge("disk_read_only", "1 while no proposals are taken, e.g. disk full.")
        self._revision = gauge("revision", "Commands applied since the cluster began.")
        self._in_flight = gauge("raft_proposals_in_flight", "Proposals on their way.")
        self._requests = gauge("requests_open", "Requests held, settled ones too.")
        self._open = gauge("branches_open", "Branches open in a region.", ["region"])
        self._waits = gauge("waits_in_progress", "Waits parked on this node.")
        self._subscribers = gauge("subscribers", "Subscribers on this node.", ["service", "region"])
        self._group_members = gauge(
            "subscription_group_members",
            "Members of subscription groups, on all nodes, as this one knows.",
            ["service", "region"],
        )
        self._queue = gauge(
            "subscription_queue_length_max", "Events queued for the slowest subscriber."
        )
        self._draining = gauge("draining", "1 while the node shuts down in order.")

    def refresh_engine(self, status: ClusterStatus) -> None:
        """Copies what the engine knows."""
        self._has_leader.set(status.leader is not None)
        self._is_leader.set(status.leader == status.name)
        self._term.set(status.term)
        self._commit.set(status.commit_index)
        self._applied.set(status.applied_index)
        self._entries.set(status.log_entries)
        self._halted.set(status.halted is not None)
        self._read_only.set(status.read_only is not None)
        self._revision.set(status.revision)
        self._peers.clear()  # a member that was removed must not stay behind
        for member in status.members:
            if member.name != status.name:
                self._peers.labels(member.name).set(member.connected)

    def refresh_node(self, statistics: NodeStatistics) -> None:
        """Copies what the use-cases know."""
        self._in_flight.set(statistics.proposals_in_flight)
        self._requests.set(statistics.requests)
        self._waits.set(statistics.waits_in_progress)
        self._queue.set(statistics.subscription_queue_len_longest)
        self._draining.set(statistics.draining)
        self._open.clear()
        for region, count in statistics.branches_open_by_region.items():
            self._open.labels(self._regions.label(region)).inc(count)
        self._subscribers.clear()
        for (service, region), count in statistics.subscribers.items():
            labels = (self._services.label(service), self._regions.label(region))
            self._subscribers.labels(*labels).inc(count)
        self._group_members.clear()
        for (service, region, _group), count in statistics.group_members.items():
            labels = (self._services.label(service), self._regions.label(region))
            self._group_members.labels(*labels).inc(count)


class SecurityMetrics:
    """What TLS and those who were refused give to count."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self._expiry = registry.gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "When this node's certificate expires, Unix time.",
            ["plane"],
        )
        self._refused = registry.counter(
            "raft_connections_refused", "Connections of or to members that were refused."
        )

    def watch_expiry(self, plane: str, expires_at_s: Callable[[], float]) -> None:
        """Asks at each scrape; `plane` is `grpc` or `raft`."""
        self._expiry.labels(plane).set_function(expires_at_s)

    def connection_refused(self) -> None:
        """Somebody was refused on the links between members."""
        self._refused.inc()


class CallCounters:
    """The metrics of one RPC method, its labels bound once."""

    def __init__(self, parent: ServerMetrics, *, service: str, method: str) -> None:
        self._parent = parent
        self._labels = (service, method)
        self.started = parent.started.labels(service, method)
        self.seconds = parent.seconds.labels(service, method)
        self._handled: dict[str, Counter] = {}

    def handled(self, code: str) -> None:
        """A call ended with this status, by its gRPC name."""
        counter = self._handled.get(code)
        if counter is None:
            counter = self._handled[code] = self._parent.handled.labels(*self._labels, code)
        counter.inc()


class ServerMetrics:
    """What the front end reports of itself."""

    def __init__(self, registry: MetricsRegistry, *, version: str, python: str) -> None:
        build = registry.gauge("build_info", "Always 1; labels say what.", ["version", "python"])
        build.labels(version, python).set(1)
        labels = ["grpc_service", "grpc_method"]
        self.started = registry.counter("grpc_server_started", "Calls begun.", labels)
        self.handled = registry.counter(
            "grpc_server_handled", "Calls ended, by status.", [*labels, "grpc_code"]
        )
        self.seconds = registry.histogram(
            "grpc_server_handling_seconds", "Time of calls.", labels, buckets=_CALL
        )
        self._loop_lag = registry.histogram(
            "event_loop_lag_seconds", "How late the loop ran what was due."
        )

    def call_counters(self, *, service: str, method: str) -> CallCounters:
        """The counters of one method."""
        return CallCounters(self, service=service, method=method)

    def loop_lagged(self, seconds: float) -> None:
        """The loop was late by this much."""
        self._loop_lag.observe(seconds)
