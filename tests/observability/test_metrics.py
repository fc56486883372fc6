"""Every metric once, bounded labels, a registry per node."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rendezvous_raft.node.node import NodeStatistics
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.status import ClusterStatus, MemberStatus
from rendezvous_raft.observability.metrics import (
    EngineMetrics,
    LabelCap,
    MetricsRegistry,
    NodeMetrics,
    ServerMetrics,
)
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.types import Role

STATUS = ClusterStatus(
    name="n1",
    region="eu",
    role=Role.LEADER,
    term=3,
    leader="n1",
    revision=41,
    commit_index=50,
    applied_index=49,
    log_entries=7,
    durability="disk",
    members=(
        MemberStatus("n1", "eu", "", "", Role.LEADER, True, 0),
        MemberStatus("n2", "us", "", "", Role.FOLLOWER, True, 0),
        MemberStatus("n3", "ap", "", "", None, False, 0),
    ),
)
STATISTICS = NodeStatistics(
    revision=41,
    requests=4,
    branches_open=3,
    branches_open_by_region={"eu": 2, "us": 1, "ap": 5},
    waits_in_progress=5,
    subscribers={("post", "eu"): 1, ("post", "us"): 2},
    command_version=1,
    group_members={("post", "eu", "g"): 2, ("post", "eu", "h"): 1, ("post", "us", "g"): 1},
    subscription_queue_len_longest=6,
    proposals_in_flight=7,
    draining=False,
)


class Exposition:
    """What a scrape says."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.names: set[str] = set()
        for family in text_string_to_metric_families(registry.render().decode()):
            self.names.add(family.name)
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.samples[f"rendezvous_{name}", frozenset(labels.items())]


@pytest.fixture
def registry() -> MetricsRegistry:
    return MetricsRegistry()


def test_names_are_bounded() -> None:
    cap = LabelCap(2)
    assert [cap.label(name) for name in ("a", "b", "c", "a", "d")] == [
        "a",
        "b",
        "other",
        "a",
        "other",
    ]


def test_what_the_use_cases_report(registry: MetricsRegistry) -> None:
    # semantics: L2.1
    observer: NodeObserver = NodeMetrics(registry, names_max=2)
    observer.proposal_done("applied", 0.01)
    observer.wait_done("blocked", 1.5, "eu", prevented=True)
    observer.wait_done("immediate", 0.0, "eu", prevented=False)
    for service in ("a", "b", "c", "d"):
        observer.branch_registered(service, 2)
    observer.branch_closed("eu", 3)
    observer.requests_expired("open", 4)
    observer.subscription_resync("overflow")
    observer.limit_exceeded("waiters_max")
    seen = Exposition(registry)
    assert seen.value("raft_proposals_total", outcome="applied") == 1
    assert seen.value("raft_proposal_duration_seconds_sum") == 0.01
    assert seen.value("wait_duration_seconds_count", outcome="blocked") == 1
    assert seen.value("wait_duration_seconds_count", outcome="immediate") == 1
    assert seen.value("inconsistencies_prevented_total", region="eu") == 1
    assert seen.value("branches_registered_total", service="a") == 2
    assert seen.value("branches_registered_total", service="other") == 4
    assert seen.value("branches_closed_total", region="eu") == 3
    assert seen.value("requests_expired_total", state="open") == 4
    assert seen.value("subscription_resyncs_total", reason="overflow") == 1
    assert seen.value("limits_exceeded_total", limit="waiters_max") == 1


def test_what_the_engine_reports(registry: MetricsRegistry) -> None:
    observer: EngineObserver = EngineMetrics(registry)
    observer.leader_changed()
    observer.applied(3, 0.001)
    observer.synced(0.002)
    observer.read_barrier_done(0.003)
    observer.entry_made(64)
    observer.asked_leader("read_index")
    observer.snapshot_done(0.5, 1_000)
    seen = Exposition(registry)
    assert seen.value("raft_leader_changes_total") == 1
    assert seen.value("raft_apply_duration_seconds_count") == 1
    assert seen.value("raft_commands_applied_total") == 3
    assert seen.value("wal_sync_duration_seconds_sum") == 0.002
    assert seen.value("raft_read_index_duration_seconds_sum") == 0.003
    assert seen.value("raft_entry_commands_bucket", le="64.0") == 1
    assert seen.value("raft_messages_to_leader_total", kind="read_index") == 1
    assert seen.value("raft_entry_commands_bucket", le="32.0") == 0
    assert seen.value("raft_snapshot_duration_seconds_sum") == 0.5
    assert seen.value("raft_snapshot_size_bytes") == 1_000
    assert seen.value("raft_last_snapshot_timestamp_seconds") > 0


@pytest.mark.parametrize(
    ("observer", "metrics"), [(NodeObserver, NodeMetrics), (EngineObserver, EngineMetrics)]
)
def test_observers_have_the_same_signatures(observer: type, metrics: type) -> None:
    """Structural: nothing else would say that a fact has no receiver."""
    facts = [name for name in vars(observer) if not name.startswith("_")]
    assert facts
    for name in facts:
        wanted, found = (inspect.signature(getattr(cls, name)) for cls in (observer, metrics))
        assert list(wanted.parameters) == list(found.parameters)


def test_gauges_are_of_the_moment(registry: MetricsRegistry) -> None:
    metrics = NodeMetrics(registry, names_max=2)
    metrics.refresh(status=STATUS, statistics=STATISTICS)
    seen = Exposition(registry)
    assert seen.value("raft_has_leader") == seen.value("raft_is_leader") == 1
    assert seen.value("raft_term") == 3
    assert seen.value("raft_commit_index") == 50
    assert seen.value("raft_applied_index") == 49
    assert seen.value("raft_log_entries") == 7
    assert seen.value("raft_peer_connected", peer="n2") == 1
    assert seen.value("raft_peer_connected", peer="n3") == 0
    assert seen.value("branches_open", region="eu") == 2
    assert seen.value("branches_open", region="other") == 5
    assert seen.value("subscribers", service="post", region="us") == 2
    assert seen.value("subscription_group_members", service="post", region="eu") == 3
    assert seen.value("subscription_group_members", service="post", region="us") == 1
    assert seen.value("waits_in_progress") == 5
    assert seen.value("requests_open") == 4
    assert seen.value("raft_proposals_in_flight") == 7
    assert seen.value("subscription_queue_length_max") == 6
    changed = replace(STATUS, leader=None, role=Role.CANDIDATE, members=STATUS.members[:2])
    later = replace(STATISTICS, branches_open_by_region={}, subscribers={}, group_members={})
    metrics.refresh(status=replace(changed, read_only="full"), statistics=later)
    seen = Exposition(registry)
    assert seen.value("raft_has_leader") == seen.value("raft_is_leader") == 0
    assert seen.value("disk_read_only") == 1
    gone = [("raft_peer_connected", "n3"), ("branches_open", "eu"), ("subscribers", "post")]
    gone.append(("subscription_group_members", "post"))
    for name, label in gone:
        assert not [
            labels
            for (sample, labels) in seen.samples
            if sample == f"rendezvous_{name}" and label in dict(labels).values()
        ]


def test_calls(registry: MetricsRegistry) -> None:
    metrics = ServerMetrics(registry, version="1.2", python="3.11")
    counters = metrics.call_counters(service="S", method="M")
    counters.started.inc()
    for code in ("OK", "OK", "NOT_FOUND"):
        counters.handled(code)
    counters.seconds.observe(0.1)
    metrics.loop_lagged(0.02)
    seen = Exposition(registry)
    labels = {"grpc_service": "S", "grpc_method": "M"}
    assert seen.value("build_info", version="1.2", python="3.11") == 1
    assert seen.value("grpc_server_started_total", **labels) == 1
    assert seen.value("grpc_server_handled_total", **labels, grpc_code="OK") == 2
    assert seen.value("grpc_server_handled_total", **labels, grpc_code="NOT_FOUND") == 1
    assert seen.value("grpc_server_handling_seconds_sum", **labels) == 0.1
    assert seen.value("event_loop_lag_seconds_sum") == 0.02


def test_names_follow_the_conventions(registry: MetricsRegistry) -> None:
    """One prefix; base units; several nodes fit into one process."""
    for each in (registry, MetricsRegistry()):
        NodeMetrics(each, names_max=1)
        EngineMetrics(each)
        ServerMetrics(each, version="1", python="3")
    names = Exposition(registry).names
    assert len(names) > 30
    for name in names:
        assert name.startswith("rendezvous_")
        assert not name.endswith(("_ms", "_kb", "_count", "_sum", "_bucket"))


def test_the_process_is_there_too(registry: MetricsRegistry) -> None:
    registry.add_process()
    assert "process_resident_memory_bytes" in Exposition(registry).names
