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

    from rendezvous_raft.config import NodeConfig
    from rendezvous_raft.credentials import Credentials, Loaded

METADATA_BYTES_MAX = 16 * 1024
"""Of one call."""


async def create_grpc_server(
    config: NodeConfig,
    credentials: Credentials | None,
    *,
    bind: Address,
    setting: str = "grpc_address",
) -> tuple[grpc.aio.Server, Address]:
    """A server that is bound but not started, and where it listens.

    Args:
        config: the settings.
        credentials: for TLS; None for plain text.
        bind: where to listen; port 0 takes a free one.
        setting: what the address is called in the settings, to complain.

    Raises:
        ConfigError: the address is taken.
    """
    server = grpc.aio.server(options=server_options(config))
    try:
        port = _add_port(server, bind, credentials, setting)
    except BaseException:
        await server.stop(None)  # one that was never stopped complains at its collection
        raise
    return server, Address(host=bind.host, port=port)


def _add_port(
    server: grpc.aio.Server, bind: Address, credentials: Credentials | None, setting: str
) -> int:
    try:
        if credentials is not None:
            return server.add_secure_port(str(bind), _server_credentials(credentials))
        return server.add_insecure_port(str(bind))
    except RuntimeError as error:
        raise ConfigError((f"{setting}: cannot listen on {bind}: {error}",)) from error


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


def _server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """TLS on which a client must prove who it is too; a new connection takes changed files."""
    told = credentials.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        newest = credentials.current()
        if newest is told:
            return None  # what is in force stays so
        told = newest
        return _certificates_of(newest)

    return grpc.dynamic_ssl_server_credentials(
        _certificates_of(told),
        fetch,  # type: ignore[arg-type]  # None is documented, and missing in the stubs
        require_client_authentication=True,
    )


def _certificates_of(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key_pem, loaded.certificate_pem)], root_certificates=loaded.authorities_pem
    )
