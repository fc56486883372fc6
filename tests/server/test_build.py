"""The composition root with the real node and the engine of a single node."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
from front_end import failure_of, loopback_config
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from node_process import PROGRAM, start_process

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft._proto.rendezvous.v1.admin_service_pb2_grpc import AdminServiceStub
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.server.build import build_server
from rendezvous_raft.server.lifecycle import Server

FAILING_DISK = """
import errno, os
sync = os.fdatasync

def fdatasync(descriptor):
    if os.path.exists(os.environ["BROKEN"]):
        raise OSError(errno.EIO, "no")
    sync(descriptor)

os.fdatasync = fdatasync
"""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = await build_server(loopback_config(reflection=True, paranoid=True))
    await server.start()
    yield server
    await server.close(drain_timeout_s=5)


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[MetadataServiceStub]:
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        yield MetadataServiceStub(channel)


async def test_a_wait_ends_with_the_close(server: Server, stub: MetadataServiceStub) -> None:
    """The whole way: register, subscribe, wait, close."""
    # semantics: R1, R2, U1, U2.1, W2.6, C2
    branch = pb.BranchSpec(service="post", regions=["eu", "us"], locator=b"key")
    registered = await stub.RegisterBranch(pb.RegisterBranchRequest(branch=branch))
    subscription = stub.Subscribe(pb.SubscribeRequest(service="post", region="eu"))
    event = await subscription.read()
    assert (event.branch_id, event.locator) == (registered.branch_id, b"key")
    scope = types_pb2.Scope(services=["post"], region="eu")
    wait = pb.WaitRequestRequest(
        request_id=registered.request_id, scope=scope, min_revision=registered.revision
    )
    waiting = asyncio.ensure_future(stub.WaitRequest(wait))
    while not server.node.statistics().waits_in_progress:
        await asyncio.sleep(0)
    close = pb.CloseSpec(branch_id=registered.branch_id, region="eu")
    await stub.CloseBranch(pb.CloseBranchRequest(close=close))
    assert (await waiting).prevented_inconsistency
    status = await stub.CheckRequestByRegions(
        pb.CheckRequestByRegionsRequest(request_id=registered.request_id)
    )
    assert dict(status.statuses) == {"eu": types_pb2.STATUS_CLOSED, "us": types_pb2.STATUS_OPEN}
    subscription.cancel()
    url = f"http://{server.http_address}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        text = await response.text()
    assert 'rendezvous_inconsistencies_prevented_total{region="eu"} 1.0' in text


async def test_an_attempt_that_is_repeated_has_one_effect(stub: MetadataServiceStub) -> None:
    """G2."""
    # semantics: G2, G2.3
    request = pb.RegisterBranchRequest(branch=pb.BranchSpec(service="post"))
    metadata = (("rendezvous-idempotency-key", "order-7"),)
    first = await stub.RegisterBranch(request, metadata=metadata)
    second = await stub.RegisterBranch(request, metadata=metadata)
    assert not first.already_existed
    assert second.already_existed
    assert (first.request_id, first.branch_id) == (second.request_id, second.branch_id)


async def test_unknown_is_never_consistent(stub: MetadataServiceStub) -> None:
    """G5."""
    # semantics: G5
    error = await failure_of(stub.WaitRequest(pb.WaitRequestRequest(request_id="nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert dict(error.trailing_metadata())["rendezvous-code"] == "request_not_found"


async def test_pages_join(stub: MetadataServiceStub) -> None:
    # semantics: Q1.1
    for number in range(5):
        await stub.RegisterRequest(pb.RegisterRequestRequest(request_id=f"r{number}"))
    seen: list[str] = []
    token = ""
    while True:
        page = await stub.ListRequests(pb.ListRequestsRequest(page_size=2, page_token=token))
        seen += [summary.request_id for summary in page.requests]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"r{number}" for number in range(5)]


def test_every_reply_has_a_revision() -> None:
    # semantics: G3
    service = pb.DESCRIPTOR.services_by_name["MetadataService"]
    replies = {method.name: method.output_type for method in service.methods}
    replies["Execute"] = pb.ExecuteResult.DESCRIPTOR.file.message_types_by_name["ExecuteResult"]
    assert len(replies) >= 12
    for name, reply in replies.items():
        if name == "Execute":
            outcomes = reply.oneofs_by_name["outcome"].fields
            parts = [field.message_type for field in outcomes if field.name != "failure"]
            assert len(parts) == 5
        else:
            parts = [reply]
        for part in parts:
            assert "revision" in part.fields_by_name, (name, part.name)


async def test_operators_see_a_node_in_memory(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        admin = AdminServiceStub(channel)
        status = await admin.GetClusterStatus(admin_pb.GetClusterStatusRequest())
        error = await failure_of(admin.TakeSnapshot(admin_pb.TakeSnapshotRequest()))
        digest = await admin.GetDigest(admin_pb.GetDigestRequest())
    assert (status.durability, status.role, status.pid) == (
        "memory",
        admin_pb.ROLE_LEADER,
        os.getpid(),
    )
    assert status.members[0].grpc_address == server.grpc_address
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(digest.digest) == 64


async def test_reflection_lists_the_services(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        response = await call.read()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    names = {service.name for service in response.list_services_response.service}
    assert {"rendezvous.v1.MetadataService", "rendezvous.v1.AdminService"} <= names


@pytest.mark.slow
def test_a_process_ends_when_its_disk_fails(tmp_path: Path) -> None:
    """After a failed sync the kernel may have dropped what it promised: only a start can tell."""
    broken = tmp_path / "broken"
    settings = {"RENDEZVOUS_DATA_DIR": str(tmp_path / "n1"), "BROKEN": str(broken)}
    process = start_process(FAILING_DISK + PROGRAM, **settings)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["grpc_address"]
        with grpc.insecure_channel(address) as channel:
            stub = MetadataServiceStub(channel)
            stub.RegisterRequest(pb.RegisterRequestRequest(request_id="r1"), timeout=20)
            broken.touch()
            with pytest.raises(grpc.RpcError):
                stub.RegisterRequest(pb.RegisterRequestRequest(request_id="r2"), timeout=20)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1
    assert "engine_halted" in [json.loads(line)["event"] for line in log.splitlines()]


async def test_a_node_with_a_directory_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    async def restarted(request_id: str) -> pb.RegisterRequestResponse:
        server = await build_server(loopback_config(data_dir=tmp_path / "n1"))
        await server.start()
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            request = pb.RegisterRequestRequest(request_id=request_id)
            response = await MetadataServiceStub(channel).RegisterRequest(request)
        await server.close(drain_timeout_s=5)
        return response

    assert (await restarted("r")).created
    assert not (await restarted("r")).created


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_in_order_when_told_to(number: signal.Signals) -> None:
    process = start_process()
    try:
        assert process.stdout is not None
        notice = json.loads(process.stdout.readline())
        assert (notice["event"], notice["pid"]) == ("ready", process.pid)
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert process.returncode == 0
    assert events[0] == "data_in_memory"
    assert events[-3:] == ["node_ready", "node_draining", "node_stopped"]


@pytest.mark.slow
def test_a_process_that_cannot_listen_says_which_setting_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start_process(RENDEZVOUS_HTTP_ADDRESS=address)
        _, log = process.communicate(timeout=30)
    entry = json.loads(log.splitlines()[-1])
    assert process.returncode == 2
    assert entry["event"] == "node_misconfigured"
    assert entry["problems"][0].startswith("http_address: cannot listen")


@pytest.mark.slow
def test_a_process_refuses_files_that_it_cannot_use(tmp_path: Path) -> None:
    """With a status of its own, so that nobody starts it again and again."""
    first = start_process(RENDEZVOUS_DATA_DIR=str(tmp_path / "n1"))
    try:
        assert first.stdout is not None
        assert first.stdout.readline()
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    finally:
        first.kill()
        first.communicate()
    other = start_process(RENDEZVOUS_DATA_DIR=str(tmp_path / "n1"), RENDEZVOUS_CLUSTER_ID="other")
    _, log = other.communicate(timeout=30)
    assert other.returncode == 65
    assert json.loads(log.splitlines()[-1])["event"] == "node_failed_to_start"
