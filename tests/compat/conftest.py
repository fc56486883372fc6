"""A real node of one, with the native API and both formats of the originals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
from wire_tables import OriginalClient

from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.server.build import build_server
from rendezvous_raft.server.lifecycle import Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    config = NodeConfig(
        name="n1",
        region="eu",
        grpc_address="127.0.0.1:0",
        http_address="127.0.0.1:0",
        compat_main_address="127.0.0.1:0",
        compat_words23_address="127.0.0.1:0",
        limits={"wait_timeout_ms_max": 20_000},
        paranoid=True,
    )
    server = await build_server(config)
    await server.start()
    yield server
    await server.close(drain_timeout_s=5)


@pytest.fixture
async def main(server: Server) -> AsyncIterator[OriginalClient]:
    async with grpc.aio.insecure_channel(server.compat_addresses["compat_main_address"]) as channel:
        yield OriginalClient("main", channel)


@pytest.fixture
async def words23(server: Server) -> AsyncIterator[OriginalClient]:
    address = server.compat_addresses["compat_words23_address"]
    async with grpc.aio.insecure_channel(address) as channel:
        yield OriginalClient("words23", channel)


@pytest.fixture
async def native(server: Server) -> AsyncIterator[MetadataServiceStub]:
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        yield MetadataServiceStub(channel)
