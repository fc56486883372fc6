"""Start, drain and end, in the order that loses nothing."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import aiohttp
import grpc
import pytest
from front_end import FrontEnd, failure_of, loopback_config, scripted_server
from scripted_node import Gate, ScriptedNode
from structlog.testing import capture_logs

from rendezvous_raft import errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.config import ConfigError, NodeConfig
from rendezvous_raft.server.build import build_server
from rendezvous_raft.types import Role

WAIT = pb.WaitRequestRequest(request_id="r")
REFUSED_BY_A_CLOSING_SERVER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
"""gRPC cancels a call that crosses the server's GOAWAY; a later one finds no connection."""


async def drain_begun(node: ScriptedNode) -> None:
    while "begin_drain" not in node.steps:
        await asyncio.sleep(0)


async def readiness(front: FrontEnd) -> tuple[int, str]:
    async with aiohttp.ClientSession(front.http_url) as http, http.get("/readyz") as response:
        return response.status, await response.text()


async def test_calls_in_progress_finish_and_new_ones_are_refused(front: FrontEnd) -> None:
    gate = front.node.answers["wait"] = Gate()
    waiting = asyncio.ensure_future(front.stub.WaitRequest(WAIT))
    await gate.entered.wait()
    closing = asyncio.create_task(front.server.close(drain_timeout_s=30))
    await drain_begun(front.node)
    status, text = await readiness(front)
    assert status == 503
    assert "[-]drain shutting down" in text
    error = await failure_of(front.stub.WaitRequest(WAIT, wait_for_ready=False))
    assert error.code() in REFUSED_BY_A_CLOSING_SERVER
    assert len(front.node.arguments("wait")) == 1, "the new call reached the node"
    assert not closing.done()
    gate.open.set()
    assert (await waiting).revision == 42
    await closing
    assert front.node.steps == ["open", "begin_drain", "close"]


async def test_calls_that_take_too_long_are_cancelled(front: FrontEnd) -> None:
    gate = front.node.answers["wait"] = Gate()
    waiting = asyncio.ensure_future(failure_of(front.stub.WaitRequest(WAIT)))
    await gate.entered.wait()
    await front.server.close(drain_timeout_s=0)
    await gate.cancelled.wait()
    assert (await waiting).code() in REFUSED_BY_A_CLOSING_SERVER
    assert front.node.steps[-1] == "close"


async def test_a_drain_can_be_cut_short(front: FrontEnd) -> None:
    gate = front.node.answers["wait"] = Gate()
    waiting = asyncio.ensure_future(failure_of(front.stub.WaitRequest(WAIT)))
    await gate.entered.wait()
    closing = asyncio.create_task(front.server.close(drain_timeout_s=600))
    await drain_begun(front.node)
    await front.server.hurry()
    await closing
    await waiting
    await gate.cancelled.wait()


async def test_readiness_fails_before_calls_are_refused(node: ScriptedNode) -> None:
    """While a leader hands over, it is not ready and still serves."""
    node.cluster_status = replace(node.cluster_status, role=Role.LEADER, leader="n1")
    gate = node.answers["transfer_leadership"] = Gate()
    server = await scripted_server(node)
    await server.start()
    closing = asyncio.create_task(server.close(drain_timeout_s=30))
    await gate.entered.wait()
    url = f"http://{server.http_address}/readyz"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 503
    assert "begin_drain" not in node.steps
    gate.open.set()
    await closing
    assert node.steps == ["open", "transfer_leadership", "begin_drain", "close"]


async def test_a_leader_that_cannot_hand_over_drains_all_the_same(node: ScriptedNode) -> None:
    node.cluster_status = replace(node.cluster_status, role=Role.LEADER, leader="n1")
    node.answers["transfer_leadership"] = errors.Unavailable("nobody is caught up")
    server = await scripted_server(node)
    await server.start()
    with capture_logs() as logs:
        await server.close(drain_timeout_s=5)
    assert node.steps[-2:] == ["begin_drain", "close"]
    assert {"event": "leadership_kept", "reason": "nobody is caught up"}.items() <= logs[1].items()


async def test_a_follower_hands_nothing_over(front: FrontEnd) -> None:
    await front.server.close(drain_timeout_s=5)
    assert "transfer_leadership" not in front.node.steps


async def test_closing_twice_is_one_end(front: FrontEnd) -> None:
    await asyncio.gather(*(front.server.close(drain_timeout_s=5) for _ in range(3)))
    await front.server.wait_closed()
    assert front.node.steps.count("close") == 1


async def test_subscriptions_end_with_the_drain(front: FrontEnd) -> None:
    call = front.stub.Subscribe(pb.SubscribeRequest(service="s", region="eu"))
    await call.read()
    closing = asyncio.create_task(front.server.close(drain_timeout_s=30))
    error = await failure_of(call.read())
    assert dict(error.trailing_metadata())["rendezvous-code"] == "draining"
    await closing


async def test_a_node_that_does_not_open_gives_everything_back(node: ScriptedNode) -> None:
    node.answers["open"] = OSError("damaged file")
    server = await scripted_server(node)
    with pytest.raises(OSError, match="damaged file"):
        await server.start()
    await server.wait_closed()
    assert node.steps == ["open", "close"]
    host, _, port = server.http_address.rpartition(":")
    with socket.create_server((host, int(port))):
        pass  # the port is free again


async def test_an_engine_that_does_not_close_ends_the_rest(node: ScriptedNode) -> None:
    node.answers["close"] = OSError("device gone")
    server = await scripted_server(node)
    await server.start()
    with pytest.raises(OSError, match="device gone"):
        await server.close(drain_timeout_s=5)
    await server.wait_closed()
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as http:
            await http.get(f"http://{server.http_address}/livez")


@pytest.mark.parametrize("field", ["grpc_address", "http_address"])
async def test_a_port_that_is_taken_names_its_setting(field: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = NodeConfig(**{**loopback_config().model_dump(), field: address})
        with pytest.raises(ConfigError, match=f"{field}: cannot listen on {address}"):
            await build_server(config)


async def test_the_notice_has_the_ports_that_were_bound(node: ScriptedNode) -> None:
    server = await scripted_server(node)
    notice = await server.start()
    assert notice.grpc_address == server.grpc_address
    assert not notice.grpc_address.endswith(":0")
    assert f"http://{server.http_address}/metrics" in notice.to_banner()
    assert '"event": "ready"' in notice.to_line()
    assert "\n" not in notice.to_line()
    await server.close(drain_timeout_s=5)
