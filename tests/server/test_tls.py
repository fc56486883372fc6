"""Clients must prove who they are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from front_end import failure_of, scripted_server
from scripted_node import ScriptedNode

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.config import ConfigError
from rendezvous_raft.server.lifecycle import Server

REQUEST = pb.RegisterRequestRequest(request_id="r")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca`, and `server`, `client` and (of another authority) `stranger`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("ca", "other"):
        files = ("-keyout", f"{authority}.key", "-out", f"{authority}.pem")
        openssl("req", "-x509", *key, *files, "-subj", f"/CN={authority}", "-days", "1")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", *key, *files, "-subj", f"/CN={name}")
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        request = ("-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "1")
        openssl("x509", *request, *signer, "-extfile", "names")
    return directory


@pytest.fixture
async def tls_server(node: ScriptedNode, certificates: Path) -> AsyncIterator[Server]:
    server = await scripted_server(
        node,
        grpc_tls_cert=certificates / "server.pem",
        grpc_tls_key=certificates / "server.key",
        grpc_tls_client_ca=certificates / "ca.pem",
    )
    await server.start()
    yield server
    await server.close(drain_timeout_s=5)


def channel_to(server: Server, certificates: Path, client: str | None) -> grpc.aio.Channel:
    pair = (None, None)
    if client is not None:
        pair = tuple((certificates / f"{client}.{kind}").read_bytes() for kind in ("key", "pem"))
    authority = (certificates / "ca.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(authority, *pair)
    return grpc.aio.secure_channel(server.grpc_address, credentials)


async def test_a_client_with_a_certificate_is_served(
    tls_server: Server, certificates: Path
) -> None:
    async with channel_to(tls_server, certificates, "client") as channel:
        response = await MetadataServiceStub(channel).RegisterRequest(REQUEST)
    assert response.created


@pytest.mark.parametrize("client", [None, "stranger"])
async def test_others_are_not(
    tls_server: Server, certificates: Path, node: ScriptedNode, client: str | None
) -> None:
    async with channel_to(tls_server, certificates, client) as channel:
        error = await failure_of(MetadataServiceStub(channel).RegisterRequest(REQUEST))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert node.calls == []


async def test_plain_text_is_not_served(tls_server: Server, node: ScriptedNode) -> None:
    async with grpc.aio.insecure_channel(tls_server.grpc_address) as channel:
        error = await failure_of(MetadataServiceStub(channel).RegisterRequest(REQUEST))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert node.calls == []


async def test_a_key_that_is_none_is_refused(node: ScriptedNode, certificates: Path) -> None:
    broken = certificates / "broken.key"
    broken.write_text("no key")
    with pytest.raises(ConfigError, match=r"grpc_tls_key: .*broken\.key"):
        await scripted_server(
            node,
            grpc_tls_cert=certificates / "server.pem",
            grpc_tls_key=broken,
            grpc_tls_client_ca=certificates / "ca.pem",
        )
