"""Files with the certificates that a client shows to nodes and expects of them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rendezvous_raft.errors import InvalidArgument

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM; empty: not given. Without any, a client speaks plain text."""

    tls_ca: str = ""
    """Of the authorities that nodes must be signed by."""
    tls_cert: str = ""
    """Chain of the client, itself first."""
    tls_key: str = ""
    """Of `tls_cert`; not encrypted."""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel; None: plain text. Reads the files: whoever renews them makes a new client.

        Raises:
            InvalidArgument: a file cannot be used, or one of them is not given.
        """
        if not (self.tls_ca or self.tls_cert or self.tls_key):
            return None
        import grpc  # noqa: PLC0415 - loaded only when needed

        authorities = _content("tls_ca", self.tls_ca)
        has_pair = bool(self.tls_cert or self.tls_key)
        key = _content("tls_key", self.tls_key) if has_pair else None
        chain = _content("tls_cert", self.tls_cert) if has_pair else None
        self._check(has_pair=has_pair)
        return grpc.ssl_channel_credentials(authorities, key, chain)

    def _check(self, *, has_pair: bool) -> None:
        """Files that cannot be used: gRPC says of them only that no connection comes about."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.tls_ca)
        except ssl.SSLError as error:
            raise _unusable("tls_ca", self.tls_ca, error) from error
        if not has_pair:
            return
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key, password=_no_password)
        except ssl.SSLError as error:
            raise _unusable("tls_cert, tls_key", self.tls_key, error) from error


def _content(field: str, file: str) -> bytes:
    if not file:
        raise InvalidArgument.for_field(field, "a file, for TLS is asked for by the others")
    try:
        return Path(file).read_bytes()
    except OSError as error:
        reason = f"a file that can be read, not {file}: {error.strerror}"
        raise InvalidArgument.for_field(field, reason) from error


def _no_password() -> str:
    """Nobody is there to type one."""
    return ""


def _unusable(field: str, file: str, error: ssl.SSLError) -> InvalidArgument:
    reason = error.reason or error.strerror or "no such thing in it"
    return InvalidArgument.for_field(field, f"{file} cannot be used: {reason}")
