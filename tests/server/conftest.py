"""Fixtures of the front end's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
from front_end import FrontEnd, scripted_server
from scripted_node import ScriptedNode

from rendezvous_raft._proto.rendezvous.v1.admin_service_pb2_grpc import AdminServiceStub
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub


@pytest.fixture
def node() -> ScriptedNode:
    return ScriptedNode()


@pytest.fixture
async def front(node: ScriptedNode) -> AsyncIterator[FrontEnd]:
    server = await scripted_server(node)
    await server.start()
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        yield FrontEnd(
            node=node,
            server=server,
            channel=channel,
            stub=MetadataServiceStub(channel),
            admin=AdminServiceStub(channel),
        )
    await server.close(drain_timeout_s=5)
