"""Named checks, and the gRPC health service on top of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from front_end import FrontEnd, failure_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scripted_node import ScriptedNode

from rendezvous_raft.server.drain import DrainSignal
from rendezvous_raft.server.health import HealthChecks, HealthService

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def checks_of(node: ScriptedNode, **fields: object) -> HealthChecks:
    checks = HealthChecks(
        **{
            "node": node,
            "drain": DrainSignal(),
            "ready_lag_max": 100,
            "loop_idle_s": lambda: 0.1,
            "engine_idle_s": lambda: 0.1,
            **fields,
        }
    )
    checks.started()
    return checks


def test_a_sound_node_is_ready(node: ScriptedNode) -> None:
    report = checks_of(node).ready()
    assert report.ok
    assert [check.name for check in report.checks] == [
        "started",
        "raft",
        "apply_lag",
        "halted",
        "disk",
        "drain",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"leader": None}, "[-]raft no leader"),
        ({"commit_index": 151}, "[-]apply_lag 101 entries"),
        ({"halted": "unknown command v3"}, "[-]halted unknown command v3"),
        ({"read_only": "disk full"}, "[-]disk disk full"),
    ],
)
def test_what_is_wrong_is_named(node: ScriptedNode, change: dict[str, object], line: str) -> None:
    node.cluster_status = replace(node.cluster_status, **change)
    report = checks_of(node).ready()
    assert not report.ok
    assert [str(check) for check in report.checks if not check.ok] == [line]
    assert str(report).splitlines()[-1] == "failed"
    name = line.removeprefix("[-]").split()[0]
    assert checks_of(node).ready(exclude=[name]).ok


def test_a_lag_at_its_limit_is_fine(node: ScriptedNode) -> None:
    node.cluster_status = replace(node.cluster_status, commit_index=150)
    assert checks_of(node).ready().ok


def test_draining_is_not_ready(node: ScriptedNode) -> None:
    drain = DrainSignal()
    checks = checks_of(node, drain=drain)
    drain.give()
    assert not checks.ready().ok
    node.node_statistics = replace(node.node_statistics, draining=True)
    assert not checks_of(node).ready().ok


def test_liveness_never_depends_on_the_cluster(node: ScriptedNode) -> None:
    """Or an orchestrator would kill the minority side of a partition."""
    node.cluster_status = replace(
        node.cluster_status, leader=None, commit_index=10**6, read_only="full", halted="why"
    )
    assert checks_of(node).live().ok


@pytest.mark.parametrize(("idle_s", "ok"), [(4.9, True), (5.0, False)])
def test_liveness_wants_the_loop_and_the_engine_to_turn(
    node: ScriptedNode, idle_s: float, ok: bool
) -> None:
    assert checks_of(node, loop_idle_s=lambda: idle_s).live().ok is ok
    assert checks_of(node, engine_idle_s=lambda: idle_s).live().ok is ok
    assert checks_of(node, engine_idle_s=lambda: idle_s).live(exclude=["engine"]).ok


def test_a_node_that_still_opens_is_alive_and_not_ready(node: ScriptedNode) -> None:
    checks = HealthChecks(
        node=node,
        drain=DrainSignal(),
        ready_lag_max=1,
        loop_idle_s=lambda: 0.0,
        engine_idle_s=lambda: 1e9,
    )
    assert checks.live().ok
    assert not checks.ready().ok


@pytest.mark.parametrize("service", ["", "rendezvous.v1.MetadataService"])
async def test_grpc_health(front: FrontEnd, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(front.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert (await stub.Check(request)).status == SERVING
    front.node.cluster_status = replace(front.node.cluster_status, leader=None)
    assert (await stub.Check(request)).status == NOT_SERVING


async def test_grpc_health_of_another_service(front: FrontEnd) -> None:
    stub = health_pb2_grpc.HealthStub(front.channel)
    request = health_pb2.HealthCheckRequest(service="other")
    assert (await failure_of(stub.Check(request))).code() is grpc.StatusCode.NOT_FOUND
    call = stub.Watch(request)
    unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert (await call.read()).status == unknown
    call.cancel()


async def test_a_health_watch_ends_with_the_drain(front: FrontEnd) -> None:
    call = health_pb2_grpc.HealthStub(front.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await call.read()).status == SERVING
    # gRPC gives no message to a read that begins after the end of the call is known.
    news = asyncio.ensure_future(call.read())
    await front.server.close(drain_timeout_s=5)
    assert (await news).status == NOT_SERVING
    assert await call.read() is grpc.aio.EOF


async def test_a_watch_tells_of_a_drain_that_begins_while_it_writes(node: ScriptedNode) -> None:
    drain = DrainSignal()
    checks = checks_of(node, drain=drain)
    sent: list[int] = []

    class SlowContext:
        async def write(self, response: health_pb2.HealthCheckResponse) -> None:
            sent.append(response.status)
            drain.give()

    service = HealthService(checks, services=(), drain=drain)
    await service.watch(health_pb2.HealthCheckRequest(), SlowContext())
    assert sent == [SERVING, NOT_SERVING]
