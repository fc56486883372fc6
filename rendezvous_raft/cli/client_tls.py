"""The certificates that commands show to nodes and expect of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rendezvous_raft.errors import InvalidArgument

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files in PEM; empty: not given. Without any, commands speak plain text."""

    tls_ca: str = ""
    """Of the authorities that nodes must be signed by."""
    tls_cert: str = ""
    tls_key: str = ""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel; None: plain text.

        Raises:
            InvalidArgument: a file cannot be read, or one of them is not given.
        """
        if not (self.tls_ca or self.tls_cert or self.tls_key):
            return None
        import grpc  # noqa: PLC0415 - loaded only when needed

        authorities = _content("tls_ca", self.tls_ca)
        if not (self.tls_cert or self.tls_key):
            return grpc.ssl_channel_credentials(authorities)
        key, chain = _content("tls_key", self.tls_key), _content("tls_cert", self.tls_cert)
        return grpc.ssl_channel_credentials(authorities, key, chain)


def _content(field: str, file: str) -> bytes:
    if not file:
        raise InvalidArgument.for_field(field, "a file, for TLS is asked for by the others")
    try:
        return Path(file).read_bytes()
    except OSError as error:
        reason = f"a file that can be read, not {file}: {error.strerror}"
        raise InvalidArgument.for_field(field, reason) from error
