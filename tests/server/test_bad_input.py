"""Bad input changes nothing: the digest of a real node's state is the same before and after."""

from __future__ import annotations

import grpc
from front_end import failure_of, loopback_config
from test_gate import breaches

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1.admin_service_pb2_grpc import AdminServiceStub
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.server.build import build_server

REJECTED = [
    ("RegisterBranch", {"branch": {"branch_id": "b", "service": "other"}}, "conflict"),
    ("RegisterBranch", {"branch": {"service": "s", "parent_branch_id": "no"}}, "branch_not_found"),
    ("CloseBranch", {"close": {"branch_id": "no", "region": "eu"}}, "branch_not_found"),
    ("CloseBranch", {"close": {"branch_id": "b", "region": "mars"}}, "invalid"),
    ("CloseBranch", {"close": {"branch_id": "b"}}, "invalid"),
]
"""What passes the gate and is refused by the state: (method, fields, code)."""


async def test_bad_input_leaves_the_digest_as_it_was() -> None:
    """G1, G2: neither what the gate refuses nor what the state refuses changes anything."""
    # semantics: G1.2, G2.1
    server = await build_server(loopback_config())
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub, admin = MetadataServiceStub(channel), AdminServiceStub(channel)
            spec = pb.BranchSpec(branch_id="b", service="s", regions=["eu", "us"])
            await stub.RegisterBranch(pb.RegisterBranchRequest(request_id="r", branch=spec))
            before = await admin.GetDigest(admin_pb.GetDigestRequest())
            for method, request, field in breaches():
                target = admin if method == "TransferLeadership" else stub
                error = await failure_of(getattr(target, method)(request))
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, field)
            for method, fields, code in REJECTED:
                message = getattr(pb, f"{method}Request")(**fields)
                if method == "RegisterBranch":
                    message.request_id = "r"
                error = await failure_of(getattr(stub, method)(message))
                assert dict(error.trailing_metadata())["rendezvous-code"] == code, method
            after = await admin.GetDigest(admin_pb.GetDigestRequest())
            assert after.digest == before.digest
            assert after.revision == before.revision + len(REJECTED)
            await stub.RegisterRequest(pb.RegisterRequestRequest(request_id="another"))
            changed = await admin.GetDigest(admin_pb.GetDigestRequest())
            assert changed.digest != before.digest
    finally:
        await server.close(drain_timeout_s=5)
