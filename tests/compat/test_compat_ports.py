"""The ports: off by default, under the rules and the TLS of the native one."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme
from wire_tables import OriginalClient

from rendezvous_raft.config import ConfigError, NodeConfig, load_node_config
from rendezvous_raft.server.build import build_server
from rendezvous_raft.server.lifecycle import Server

ADDRESSES = ("grpc_address", "http_address", "compat_main_address", "compat_words23_address")
PORTS = dict.fromkeys(ADDRESSES, "127.0.0.1:0")
WIRES = ["main", "words23"]


async def test_they_are_off_by_default(server: Server) -> None:
    # semantics: 4.3
    assert NodeConfig().compat_binds == {}
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        refused = await OriginalClient("main", channel).refused("RegisterRequest")
    assert refused[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("wire", WIRES)
def test_other_machines_need_tls_or_an_explicit_word(wire: str) -> None:
    # semantics: 4.3
    exposed = {f"compat_{wire}_address": "192.0.2.1:7603"}
    with pytest.raises(ConfigError, match=f"compat_{wire}_address: .* other machines"):
        load_node_config(overrides=exposed)
    assert load_node_config(overrides={**exposed, "insecure": True}).compat_binds


@pytest.mark.parametrize("wire", WIRES)
def test_a_name_that_is_too_long_for_the_ids_is_refused(wire: str) -> None:
    # semantics: 4.3
    address = {f"compat_{wire}_address": "127.0.0.1:0"}
    with pytest.raises(ConfigError, match="name: at most 48"):
        load_node_config(overrides={**address, "name": "n" * 49})
    load_node_config(overrides={**address, "name": "n" * 48})


@pytest.mark.parametrize("wire", WIRES)
async def test_a_port_that_is_taken_is_named_by_its_setting(wire: str) -> None:
    # semantics: 4.3
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = NodeConfig(**{**PORTS, f"compat_{wire}_address": address})
        with pytest.raises(ConfigError, match=f"compat_{wire}_address: cannot listen"):
            await build_server(config)


@pytest.mark.parametrize("wire", WIRES)
async def test_clients_must_prove_who_they_are(wire: str, tmp_path: Path) -> None:
    # semantics: 4.3
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    pair.private_key_pem.write_to_path(tmp_path / "node.key")
    (tmp_path / "node.key").chmod(0o600)
    server = await build_server(
        NodeConfig(
            **PORTS,
            grpc_tls_cert=tmp_path / "node.pem",
            grpc_tls_key=tmp_path / "node.key",
            grpc_tls_client_ca=tmp_path / "ca.pem",
        )
    )
    await server.start()
    address = server.compat_addresses[f"compat_{wire}_address"]
    own = authority.issue_cert("client")
    good = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    )
    async with grpc.aio.secure_channel(address, good) as channel:
        assert (await OriginalClient(wire, channel).call("RegisterRequest")).rid
    nobody = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with grpc.aio.secure_channel(address, nobody) as channel:
        refused = await OriginalClient(wire, channel).refused("RegisterRequest")
        assert refused[0] == "UNAVAILABLE"
    async with grpc.aio.insecure_channel(address) as channel:
        refused = await OriginalClient(wire, channel).refused("RegisterRequest")
        assert refused[0] == "UNAVAILABLE"
    await server.close(drain_timeout_s=5)
