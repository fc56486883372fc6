"""The gRPC server of a node: options, transport security, and the port it got."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from rendezvous_raft.config import Address, ConfigError
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rendezvous_raft.config import NodeConfig

METADATA_BYTES_MAX = 16 * 1024
"""Of one call."""


async def create_grpc_server(config: NodeConfig) -> tuple[grpc.aio.Server, Address]:
    """A server that is bound but not started, and where it listens.

    Raises:
        ConfigError: the address is taken, or a certificate cannot be used.
    """
    server = grpc.aio.server(options=server_options(config))
    try:
        port = _add_port(server, config)
    except BaseException:
        await server.stop(None)  # one that was never stopped complains at its collection
        raise
    return server, Address(host=config.grpc_bind.host, port=port)


def _add_port(server: grpc.aio.Server, config: NodeConfig) -> int:
    bind = config.grpc_bind
    try:
        if config.has_tls:
            return server.add_secure_port(str(bind), _credentials(config))
        return server.add_insecure_port(str(bind))
    except RuntimeError as error:
        raise ConfigError((f"grpc_address: cannot listen on {bind}: {error}",)) from error


def server_options(config: NodeConfig) -> Sequence[tuple[str, int]]:
    """Caps, keep-alive and its enforcement; every number is a defence or keeps a line alive."""
    return (
        ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", config.grpc_streams_per_connection_max),
        ("grpc.so_reuseport", 0),  # a second node on the port must fail, not share it
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 2),
    )


def enable_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Lets tools list the services; for development."""
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)


def _credentials(config: NodeConfig) -> grpc.ServerCredentials:
    """TLS on which a client must prove who it is too."""
    key = _read("grpc_tls_key", config.grpc_tls_key)
    chain = _read("grpc_tls_cert", config.grpc_tls_cert)
    return grpc.ssl_server_credentials(
        [(key, chain)],
        root_certificates=_read("grpc_tls_client_ca", config.grpc_tls_client_ca),
        require_client_auth=True,
    )


def _read(field: str, path: Path | None) -> bytes:
    if path is None:
        raise ConfigError((f"{field}: must be set",))
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError((f"{field}: {error}",)) from error
