"""Certificates for a cluster on one machine: made anew at each start, by one authority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rendezvous_raft.authority import Authority, Order

CLIENT_NAME = "dev"
VALID_FOR = timedelta(days=90)
"""More than such a cluster lives between two starts."""


@dataclass(frozen=True, slots=True)
class ClusterCertificates:
    """Where everything is."""

    directory: Path

    @property
    def authority(self) -> str:
        """The file of the authority."""
        return str(self.directory / "ca.pem")

    @property
    def client(self) -> tuple[str, str]:
        """Certificate and key of a client."""
        return self._pair(CLIENT_NAME)

    def settings_of(self, name: str) -> dict[str, str]:
        """The settings of a node: one certificate for its peers and its clients."""
        certificate, key = self._pair(name)
        return {
            "raft_tls_cert": certificate,
            "raft_tls_key": key,
            "raft_tls_ca": self.authority,
            "grpc_tls_cert": certificate,
            "grpc_tls_key": key,
            "grpc_tls_client_ca": self.authority,
        }

    def _pair(self, name: str) -> tuple[str, str]:
        return str(self.directory / f"{name}.pem"), str(self.directory / f"{name}-key.pem")


def make_certificates(
    directory: Path, *, cluster_id: str, names: Sequence[str]
) -> ClusterCertificates:
    """Makes certificates for nodes of these names and for a client. Blocks for milliseconds.

    Args:
        directory: where; the authority that is there already signs, or one is made.
        cluster_id: of the nodes.
        names: of the nodes.

    Raises:
        OSError: a file cannot be written.
        CertificateError: the authority that is there is another cluster's.
    """
    authority = Authority.open(directory, cluster_id=cluster_id)
    orders = [Order("member", name) for name in names]
    authority.issue([*orders, Order("client", CLIENT_NAME)], valid_for=VALID_FOR, replace=True)
    return ClusterCertificates(directory)
