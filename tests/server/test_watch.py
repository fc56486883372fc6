"""The look at loop and engine: what changed is logged once."""

from __future__ import annotations

from dataclasses import replace

from scripted_node import ScriptedNode
from structlog.testing import capture_logs

from rendezvous_raft.observability.logs import get_logger
from rendezvous_raft.observability.metrics import MetricsRegistry, NodeMetrics, ServerMetrics
from rendezvous_raft.server.watch import NodeWatch


def watch_of(node: ScriptedNode, **fields: object) -> NodeWatch:
    return NodeWatch(
        clock=node.clock,
        status=node.status,
        metrics=ServerMetrics(MetricsRegistry(), version="1", python="3"),
        logger=get_logger(node="n1"),
        **fields,
    )


def events(watch: NodeWatch, looks: int = 3) -> list[str]:
    with capture_logs() as logs:
        for _ in range(looks):
            watch.look()
    return [line["event"] for line in logs]


def test_nothing_new_is_nothing_said(node: ScriptedNode) -> None:
    assert events(watch_of(node)) == []


def test_a_halt_is_logged_once(node: ScriptedNode) -> None:
    watch = watch_of(node)
    watch.look()
    node.cluster_status = replace(node.cluster_status, halted="unknown command v3")
    with capture_logs() as logs:
        watch.look()
        watch.look()
    (line,) = logs
    assert line == {
        "event": "engine_halted",
        "log_level": "error",
        "node": "n1",
        "reason": "unknown command v3",
        "revision": 41,
    }


def test_a_failed_disk_ends_the_process_once(node: ScriptedNode) -> None:
    ends: list[str] = []
    watch = watch_of(node, disk_failed=lambda: ends.append("end"))
    node.cluster_status = replace(node.cluster_status, halted="no", disk_failed=True)
    assert events(watch) == ["engine_halted"]
    assert ends == ["end"]


def test_elections_without_need_and_strangers_are_logged_once(node: ScriptedNode) -> None:
    watch = watch_of(node)
    node.cluster_status = replace(node.cluster_status, not_member=True, unneeded_elections=2)
    assert events(watch) == ["not_a_member", "unneeded_election"]


def test_a_full_disk_comes_and_goes(node: ScriptedNode) -> None:
    watch = watch_of(node)
    status = node.cluster_status
    node.cluster_status = replace(status, read_only="disk full")
    assert events(watch) == ["engine_read_only"]
    node.cluster_status = status
    assert events(watch) == ["engine_writable"]


def test_a_change_of_leader_is_logged(node: ScriptedNode) -> None:
    watch = watch_of(node)
    assert events(watch) == []
    for leader, term in ((None, 4), ("n1", 5), ("n1", 5)):
        before = (node.cluster_status.leader, node.cluster_status.term)
        node.cluster_status = replace(node.cluster_status, leader=leader, term=term)
        changed = before != (leader, term)
        assert events(watch) == (["leader_changed"] if changed else [])


def test_a_paranoid_node_says_what_is_broken(node: ScriptedNode) -> None:
    watch = watch_of(node, find_faults=lambda: ["r1 is in no order"])
    assert events(watch, looks=1) == ["invariant_broken"]


def test_an_idle_loop_shows(node: ScriptedNode) -> None:
    watch = watch_of(node)
    node.clock.now_s += 7
    assert watch.loop_idle_s() == 7


def test_requests_that_expire_while_open_are_logged_once(node: ScriptedNode) -> None:
    # semantics: L2.1
    metrics = NodeMetrics(MetricsRegistry(), names_max=2)
    watch = watch_of(node, open_requests_expired=lambda: metrics.open_requests_expired)
    metrics.requests_expired("settled", 7)
    assert events(watch) == []
    metrics.requests_expired("open", 2)
    metrics.requests_expired("open", 1)
    with capture_logs() as logs:
        watch.look()
        watch.look()
    (line,) = logs
    assert (line["event"], line["log_level"], line["count"]) == (
        "open_requests_expired",
        "warning",
        3,
    )
    metrics.requests_expired("open", 1)
    assert events(watch) == ["open_requests_expired"]
