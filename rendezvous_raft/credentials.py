"""Certificate, key and authorities of a listener: read from files, and again when these change.

Every new connection takes `current()`, so that a rotation needs no restart. Connections that stand
keep what they were made with. Files that cannot be used, as when only one of them has been
replaced so far, are told of once and leave what was read before in force.
"""

from __future__ import annotations

import os
import ssl
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from rendezvous_raft.certificates import (
    CERTIFICATE_BYTES_MAX,
    Certificate,
    CertificateError,
    parse_certificates,
)

READ_TRIES_MAX = 3
"""Reads of files that change meanwhile, before it is left to the next connection."""

_Fingerprint = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Where they are, all in PEM."""

    certificate: Path
    """The owner's, and then those between it and the authority, if there are any."""
    key: Path
    """The owner's private key; not encrypted, and nobody else may read it."""
    authorities: Path
    """Certificates of those that sign for the other side."""


class CredentialObserver(Protocol):
    """Is told what became of the files. Must not raise."""

    def credentials_loaded(self, expires_at_s: float) -> None:
        """They are in force; the first certificate of the chain to expire does so then."""
        ...

    def credentials_unusable(self, reason: str) -> None:
        """They have changed and cannot be used: the ones before stay in force."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one reading of the files gave."""

    certificate_pem: bytes
    key_pem: bytes
    authorities_pem: bytes
    chain: tuple[Certificate, ...]
    accepting: ssl.SSLContext
    """For who connects to us: must show a certificate that the authorities signed."""
    dialing: ssl.SSLContext
    """For whom we connect to: the same. Hosts are not compared; the caller looks at identities."""

    @property
    def expires_at_s(self) -> float:
        """Unix time at which the first certificate of the chain expires."""
        return min(certificate.not_after.timestamp() for certificate in self.chain)


class Credentials:
    """The credentials in force, for any number of threads. Reading files blocks for milliseconds.

    Args:
        files: where they are.
        observer: is told of changes.
        check: looks at the owner's certificate; raises `ValueError` when it will not do.

    Raises:
        CertificateError: the files cannot be used; only at the start, and not later.
    """

    def __init__(
        self,
        files: CredentialFiles,
        *,
        observer: CredentialObserver,
        check: Callable[[Certificate], None] = lambda _certificate: None,
    ) -> None:
        self._files = files
        self._observer = observer
        self._check = check
        self._lock = threading.Lock()
        self._seen = self._fingerprint()
        self._loaded = self._load()
        observer.credentials_loaded(self._loaded.expires_at_s)

    def current(self) -> Loaded:
        """What is in force; the same value as long as the files stay the same."""
        fingerprint = self._fingerprint()
        with self._lock:
            if fingerprint == self._seen:
                return self._loaded
            self._seen = fingerprint
            try:
                self._loaded = self._load()
            except CertificateError as error:
                self._observer.credentials_unusable(str(error))
            else:
                self._observer.credentials_loaded(self._loaded.expires_at_s)
            return self._loaded

    def expires_at_s(self) -> float:
        """Unix time at which what is in force expires."""
        return self.current().expires_at_s

    def _fingerprint(self) -> _Fingerprint:
        files = (self._files.certificate, self._files.key, self._files.authorities)
        return tuple(_stamp(file) for file in files)

    def _load(self) -> Loaded:
        for _ in range(READ_TRIES_MAX):
            loaded = _read(self._files)
            try:
                self._check(loaded.chain[0])
            except ValueError as error:
                raise CertificateError(f"{self._files.certificate}: {error}") from error
            # The contexts read the files by themselves: both must have read the same.
            fingerprint = self._fingerprint()
            if fingerprint == self._seen:
                return loaded
            self._seen = fingerprint
        raise CertificateError(f"{self._files.certificate}: changes while it is read")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(files: CredentialFiles) -> Loaded:
    certificate_pem = _content(files.certificate)
    key_pem = _content(files.key, private=True)
    authorities_pem = _content(files.authorities)
    chain = parse_certificates(certificate_pem, files.certificate)
    parse_certificates(authorities_pem, files.authorities)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No session is resumed: each connection shows a certificate that is valid now.
    accepting.num_tickets = 0
    dialing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialing.check_hostname = False
    for context in (accepting, dialing):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
        except (OSError, ValueError) as error:
            where = f"{files.certificate} with {files.key}"
            raise CertificateError(f"{where}: {_words(error)}") from error
        try:
            context.load_verify_locations(files.authorities)
        except OSError as error:
            raise CertificateError(f"{files.authorities}: {_words(error)}") from error
    return Loaded(certificate_pem, key_pem, authorities_pem, chain, accepting, dialing)


def _content(file: Path, *, private: bool = False) -> bytes:
    """What the file holds. One that everybody may read is no secret: with `private` it is refused.

    Its group may read it, as with a file of root's that a service is allowed to read.
    """
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(CERTIFICATE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror or error}") from error
    if private and mode & stat.S_IRWXO:
        raise CertificateError(f"{file}: everybody may use it (mode {mode:04o}); chmod it to 0600")
    return content


def _refuse_password() -> NoReturn:
    # Without this, the library would ask for it on the terminal and block the node.
    raise CertificateError("the key is encrypted; a node needs one that is not")


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return "certificate and key do not belong together" if reason in _MISMATCH else str(reason)


_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
