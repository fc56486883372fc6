"""TLS of a node: opens the files that its settings name, and tells what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rendezvous_raft.certificates import Certificate, CertificateError
from rendezvous_raft.config import ConfigError
from rendezvous_raft.credentials import CredentialFiles, CredentialObserver, Credentials
from rendezvous_raft.identities import member_named

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.config import NodeConfig
    from rendezvous_raft.observability.metrics import SecurityMetrics

REFUSALS_LOGGED_MAX = 10
"""Lines on refused connections per interval: whoever reaches the port can cause any number."""
REFUSALS_INTERVAL_S = 60.0


class CredentialReports:
    """Writes to the log what became of the files of one plane."""

    def __init__(self, plane: str, logger: FilteringBoundLogger) -> None:
        self._plane = plane
        self._logger = logger

    def credentials_loaded(self, expires_at_s: float) -> None:
        """See `CredentialObserver`."""
        expires_at = datetime.fromtimestamp(expires_at_s, UTC).isoformat()
        self._logger.info("certificate_loaded", plane=self._plane, expires_at=expires_at)
        if expires_at_s < time.time():
            self._logger.error("certificate_expired", plane=self._plane, expires_at=expires_at)

    def credentials_unusable(self, reason: str) -> None:
        """See `CredentialObserver`."""
        self._logger.error(
            "certificate_unusable",
            plane=self._plane,
            reason=reason,
            consequence="what was loaded before stays in force",
        )


class LinkReports:
    """Counts refused connections between members, and logs some of them."""

    def __init__(
        self,
        metrics: SecurityMetrics,
        logger: FilteringBoundLogger,
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._logger = logger
        self._monotonic_s = monotonic_s
        self._interval_ends_s = float("-inf")
        self._in_interval = 0

    def peer_refused(self, peer: str, reason: str) -> None:
        """See `LinkObserver`."""
        self._metrics.connection_refused()
        now_s = self._monotonic_s()
        if now_s >= self._interval_ends_s:
            unlogged = max(0, self._in_interval - REFUSALS_LOGGED_MAX)
            if unlogged:
                self._logger.warning("peers_refused", unlogged=unlogged)
            self._interval_ends_s, self._in_interval = now_s + REFUSALS_INTERVAL_S, 0
        self._in_interval += 1
        if self._in_interval <= REFUSALS_LOGGED_MAX:
            self._logger.warning("peer_refused", peer=peer, reason=reason)


def client_credentials(
    config: NodeConfig, metrics: SecurityMetrics, logger: FilteringBoundLogger
) -> Credentials | None:
    """What clients are met with; None: plain text.

    Raises:
        ConfigError: a file cannot be used.
    """
    paths = {
        "grpc_tls_cert": config.grpc_tls_cert,
        "grpc_tls_key": config.grpc_tls_key,
        "grpc_tls_client_ca": config.grpc_tls_client_ca,
    }
    found = _open(paths, CredentialReports("grpc", logger), lambda _certificate: None)
    if found is not None:
        metrics.watch_expiry("grpc", found.expires_at_s)
    return found


def member_credentials(
    config: NodeConfig, metrics: SecurityMetrics, logger: FilteringBoundLogger
) -> Credentials | None:
    """What the other members are met with; None: plain text.

    Raises:
        ConfigError: a file cannot be used, or the certificate is another member's.
    """
    paths = {
        "raft_tls_cert": config.raft_tls_cert,
        "raft_tls_key": config.raft_tls_key,
        "raft_tls_ca": config.raft_tls_ca,
    }

    def check(certificate: Certificate) -> None:
        name = member_named(certificate.identities, config.cluster_id)
        if name != config.name:
            raise ValueError(f"the certificate is for {name!r}, and this is {config.name!r}")

    found = _open(paths, CredentialReports("raft", logger), check)
    if found is not None:
        metrics.watch_expiry("raft", found.expires_at_s)
    return found


def _open(
    paths: dict[str, Path | None],
    observer: CredentialObserver,
    check: Callable[[Certificate], None],
) -> Credentials | None:
    given = [path for path in paths.values() if path is not None]
    if len(given) < len(paths):  # the settings have been checked: all or none
        return None
    try:
        return Credentials(CredentialFiles(*given), observer=observer, check=check)
    except CertificateError as error:
        # The message begins with the file that it is about.
        starts = {field: (f"{path}: ", f"{path} with ") for field, path in paths.items()}
        about = (field for field, start in starts.items() if str(error).startswith(start))
        field = next(about, next(iter(paths)))
        raise ConfigError((f"{field}: {error}",)) from error
