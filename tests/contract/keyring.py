"""Certificates for tests: an authority of the cluster `c`, and those it and others have signed."""

from __future__ import annotations

import os
import shutil
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from rendezvous_raft.authority import Authority, Order
from rendezvous_raft.credentials import CredentialFiles, Credentials
from rendezvous_raft.replication.raft.tls import LinkTls


@dataclass
class Reports:
    """What a `CredentialObserver` was told."""

    loaded: list[float] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def credentials_loaded(self, expires_at_s: float) -> None:
        self.loaded.append(expires_at_s)

    def credentials_unusable(self, reason: str) -> None:
        self.unusable.append(reason)


class Keyring:
    """One authority and what it signs."""

    def __init__(self, directory: Path, cluster_id: str = "c") -> None:
        self.directory = directory
        self.authority = Authority.open(directory, cluster_id=cluster_id)

    @property
    def authority_file(self) -> Path:
        return self.authority.file

    def issue(
        self,
        name: str,
        kind: Literal["member", "client"] = "member",
        *,
        valid_for: timedelta = timedelta(days=1),
    ) -> CredentialFiles:
        """The files of a new certificate; an older one of this name is replaced."""
        order = Order(kind, name)
        (issued,) = self.authority.issue([order], valid_for=valid_for, replace=True)
        return CredentialFiles(issued.certificate, issued.key, self.authority_file)

    def link_tls(
        self, name: str, *, cluster_id: str = "c", reports: Reports | None = None
    ) -> LinkTls:
        credentials = Credentials(self.issue(name), observer=reports or Reports())
        return LinkTls(credentials, cluster_id=cluster_id)


def dialer(files: CredentialFiles | None, authorities: Path) -> ssl.SSLContext:
    """The TLS of a stranger who connects, with a certificate or without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authorities)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def replace(old: CredentialFiles, new: CredentialFiles) -> None:
    """Puts new files where the old ones are, each whole, as a careful operator does."""
    for target, source in (
        (old.key, new.key),
        (old.certificate, new.certificate),
        (old.authorities, new.authorities),
    ):
        temporary = target.with_suffix(".new")
        shutil.copy2(source, temporary)
        os.utime(temporary)
        temporary.replace(target)
