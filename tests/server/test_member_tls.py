"""Nodes with TLS as their settings say: wiring, refusals, renewal, and what operators are told."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from structlog.testing import capture_logs

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.authority import Authority, Issued, Order
from rendezvous_raft.certificates import read_certificates
from rendezvous_raft.config import ConfigError, NodeConfig
from rendezvous_raft.observability.logs import get_logger
from rendezvous_raft.observability.metrics import MetricsRegistry, SecurityMetrics
from rendezvous_raft.server.build import _warn_of_risks, build_server
from rendezvous_raft.server.lifecycle import Server
from rendezvous_raft.server.security import REFUSALS_INTERVAL_S, REFUSALS_LOGGED_MAX, LinkReports

NAMES = ("n1", "n2", "n3")
DAY = timedelta(days=1)


class Certificates:
    """Those of three members and a client."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority.open(directory, cluster_id="shop")
        self.of = {name: self.issue(name) for name in NAMES}
        (self.client,) = self.authority.issue([Order("client", "post")], valid_for=DAY)

    def issue(self, name: str, valid_for: timedelta = DAY) -> Issued:
        orders = [Order("member", name)]
        return self.authority.issue(orders, valid_for=valid_for, replace=True)[0]

    def settings(self, name: str) -> dict[str, object]:
        one, ca = self.of[name], self.authority.file
        return {
            "raft_tls_cert": one.certificate,
            "raft_tls_key": one.key,
            "raft_tls_ca": ca,
            "grpc_tls_cert": one.certificate,
            "grpc_tls_key": one.key,
            "grpc_tls_client_ca": ca,
        }

    def channel(self, server: Server) -> grpc.aio.Channel:
        pair = self.client.key.read_bytes(), self.client.certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *pair)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(server.grpc_address, credentials, options)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certs")


@pytest.fixture
def members() -> Iterator[list[dict[str, str]]]:
    """Three members; their Raft ports are kept for them, the others are never used."""
    with ExitStack() as stack:
        found = []
        for number, name in enumerate(NAMES, 1):
            port = stack.enter_context(socket.socket())
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.bind(("127.0.0.1", 0))
            found.append(
                {
                    "name": name,
                    "region": "eu",
                    "raft_address": f"127.0.0.1:{port.getsockname()[1]}",
                    "grpc_address": f"127.0.0.1:{number}",
                    "http_address": f"127.0.0.2:{number}",
                }
            )
        yield found


def config_of(
    name: str, tmp_path: Path, members: list[dict[str, str]], settings: dict[str, object]
) -> NodeConfig:
    return NodeConfig(
        name=name,
        cluster_id="shop",
        data_dir=tmp_path / name,
        members=members,
        grpc_address="127.0.0.1:0",
        http_address="127.0.0.1:0",
        **settings,
    )


async def scraped(server: Server) -> str:
    url = f"http://{server.http_address}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.text()


def expiry_in(text: str) -> dict[str, float]:
    metric = r'^rendezvous_tls_certificate_expiry_timestamp_seconds\{plane="(\w+)"\} (\S+)$'
    return {plane: float(value) for plane, value in re.findall(metric, text, re.MULTILINE)}


@pytest.mark.slow
async def test_a_cluster_with_tls_everywhere(
    tmp_path: Path, members: list[dict[str, str]], certificates: Certificates
) -> None:
    async with AsyncExitStack() as stack:
        servers = []
        for name in NAMES:
            config = config_of(name, tmp_path, members, certificates.settings(name))
            server = await build_server(config)
            stack.push_async_callback(server.close, drain_timeout_s=0)
            await server.start()
            servers.append(server)
        for number, server in enumerate(servers):
            async with certificates.channel(server) as channel:
                request = pb.RegisterRequestRequest(request_id=f"r{number}")
                answer = await MetadataServiceStub(channel).RegisterRequest(
                    request, timeout=20, wait_for_ready=True
                )
                assert answer.created
        text = await scraped(servers[0])
        own = read_certificates(certificates.of["n1"].certificate)[0].not_after.timestamp()
        assert expiry_in(text) == {"grpc": own, "raft": own}
        assert 'rendezvous_raft_peer_connected{peer="n2"} 1.0' in text
        # Renewed while it runs: the next scrape and the next connections know.
        renewed = certificates.issue("n1", 2 * DAY)
        later = read_certificates(renewed.certificate)[0].not_after.timestamp()
        assert expiry_in(await scraped(servers[0])) == {"grpc": later, "raft": later}
        async with certificates.channel(servers[0]) as channel:
            request = pb.RegisterRequestRequest(request_id="r0")
            again = await MetadataServiceStub(channel).RegisterRequest(request, timeout=20)
            assert not again.created
        assert served_serial(servers[0], certificates) == serial(renewed)


def serial(issued: Issued) -> int:
    return int(read_certificates(issued.certificate)[0].serial, 16)


def served_serial(server: Server, certificates: Certificates) -> int:
    """The serial number of what the gRPC listener shows now."""
    import ssl

    context = ssl.create_default_context(cafile=str(certificates.authority.file))
    context.load_cert_chain(certificates.client.certificate, certificates.client.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = server.grpc_address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        shown = secure.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)


@pytest.mark.parametrize(
    ("fault", "beginning"),
    [
        ("other member", "raft_tls_cert: {certs}/n2.pem: the certificate is for 'n2', and this is"),
        ("client", "raft_tls_cert: {certs}/post.pem: the certificate is for rendezvous://shop/cl"),
        ("other cluster", "raft_tls_cert: {certs}/n1.pem: the certificate is for rendezvous://sh"),
        ("wrong key", "raft_tls_cert: {certs}/n1.pem with {certs}/n2-key.pem: "),
        ("open key", "raft_tls_key: {certs}/n1-key.pem: everybody may use it (mode 0644)"),
        ("no authority", "raft_tls_ca: {certs}/n2-key.pem: holds no certificate"),
    ],
)
async def test_files_that_will_not_do_are_named_with_their_setting(
    tmp_path: Path,
    members: list[dict[str, str]],
    certificates: Certificates,
    fault: str,
    beginning: str,
) -> None:
    of = certificates.of
    settings = {k: v for k, v in certificates.settings("n1").items() if k.startswith("raft")}
    match fault:
        case "other member":
            settings |= {"raft_tls_cert": of["n2"].certificate, "raft_tls_key": of["n2"].key}
        case "client":
            client = certificates.client
            settings |= {"raft_tls_cert": client.certificate, "raft_tls_key": client.key}
        case "wrong key":
            settings["raft_tls_key"] = of["n2"].key
        case "open key":
            of["n1"].key.chmod(0o644)
        case "no authority":
            settings["raft_tls_ca"] = of["n2"].key
    config = config_of("n1", tmp_path, members, settings)
    if fault == "other cluster":
        config = config.model_copy(update={"cluster_id": "other"})
    with pytest.raises(ConfigError) as caught:
        await build_server(config)
    (problem,) = caught.value.problems
    assert problem.startswith(beginning.format(certs=tmp_path / "certs")), problem


async def test_a_broken_file_is_logged_once_and_the_one_before_goes_on(
    tmp_path: Path, certificates: Certificates
) -> None:
    settings = certificates.settings("n1")
    config = NodeConfig(
        name="n1", grpc_address="127.0.0.1:0", http_address="127.0.0.1:0", **settings
    )
    with capture_logs() as logs:
        server = await build_server(config)
        await server.start()
        before = serial(certificates.of["n1"])
        certificates.of["n1"].certificate.write_text("nonsense")
        try:
            for _ in range(3):
                # The listener's own threads do the handshake: this one may block.
                assert served_serial(server, certificates) == before
                assert set(expiry_in(await scraped(server))) == {"grpc"}
        finally:
            await server.close(drain_timeout_s=0)
    events = [entry for entry in logs if entry["event"].startswith("certificate")]
    assert [entry["event"] for entry in events] == ["certificate_loaded", "certificate_unusable"]
    assert events[1]["plane"] == "grpc"
    assert "n1.pem: holds no certificate" in events[1]["reason"]


def test_plain_text_is_warned_of_and_tls_is_not(
    tmp_path: Path, members: list[dict[str, str]], certificates: Certificates
) -> None:
    told = []
    for settings in ({}, certificates.settings("n1")):
        with capture_logs() as logs:
            _warn_of_risks(config_of("n1", tmp_path, members, settings))
        told.append([entry["event"] for entry in logs])
    assert told == [["grpc_without_tls", "raft_without_tls"], []]


def test_an_expired_certificate_is_shouted_about(
    tmp_path: Path, members: list[dict[str, str]], certificates: Certificates
) -> None:
    certificates.issue("n1", timedelta(seconds=-5))
    config = config_of("n1", tmp_path, members, certificates.settings("n1"))

    async def build() -> None:
        server = await build_server(config)
        await server.close(drain_timeout_s=0)

    with capture_logs() as logs:
        asyncio.run(build())
    expired = [entry["plane"] for entry in logs if entry["event"] == "certificate_expired"]
    assert expired == ["grpc", "raft"]


def test_refusals_are_all_counted_and_some_logged() -> None:
    registry = MetricsRegistry()
    now_s = 5.0
    reports = LinkReports(
        SecurityMetrics(registry), get_logger(node="n1"), monotonic_s=lambda: now_s
    )
    with capture_logs() as logs:
        for number in range(REFUSALS_LOGGED_MAX + 7):
            reports.peer_refused("127.0.0.1:9", f"reason {number}")
        now_s += REFUSALS_INTERVAL_S
        reports.peer_refused("127.0.0.1:9", "later")
    assert len(logs) == REFUSALS_LOGGED_MAX + 2
    assert logs[-2:] == [
        {"event": "peers_refused", "unlogged": 7, "node": "n1", "log_level": "warning"},
        {
            "event": "peer_refused",
            "peer": "127.0.0.1:9",
            "reason": "later",
            "node": "n1",
            "log_level": "warning",
        },
    ]
    refused = b"rendezvous_raft_connections_refused_total 18.0"
    assert refused in registry.render()
