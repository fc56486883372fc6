"""A real front end on loopback before a scripted node: what the fixtures are made of."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio
import pytest
from scripted_node import ScriptedNode

from rendezvous_raft._proto.rendezvous.v1.admin_service_pb2_grpc import AdminServiceStub
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.server.build import Metrics, assemble_server, bind_ports
from rendezvous_raft.server.lifecycle import Server


def loopback_config(**settings: object) -> NodeConfig:
    """Any free ports."""
    return NodeConfig(
        name="n1",
        region="eu",
        grpc_address="127.0.0.1:0",
        http_address="127.0.0.1:0",
        **settings,
    )


async def scripted_server(node: ScriptedNode, **settings: object) -> Server:
    """The front ends, not started yet."""
    config = loopback_config(**settings)
    metrics = Metrics.create(names_max=config.metrics_names_max)
    async with AsyncExitStack() as undo:
        ports = await bind_ports(config, undo, metrics.security)
        server = assemble_server(config, node=node, ports=ports, metrics=metrics)
        undo.pop_all()
    return server


@dataclass
class FrontEnd:
    """What a test of the front end works with."""

    node: ScriptedNode
    server: Server
    channel: grpc.aio.Channel
    stub: MetadataServiceStub
    admin: AdminServiceStub

    @property
    def http_url(self) -> str:
        return f"http://{self.server.http_address}"


async def failure_of(call: object) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
