"""An authority of one's own, for development and for clusters that have no other.

A directory holds one authority and what it has signed:

    ca.pem, ca-key.pem              the authority; the key stays with whoever signs
    NAME.pem, NAME-key.pem          of a member or a client

Keys are on the curve P-256 and belong to their owner alone (0600), as the directory does (0700).
Certificates of members are good for both sides of a connection, those of clients for theirs only.
Needs `cryptography` (the extra `tls`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rendezvous_raft.certificates import CertificateError, read_certificates
from rendezvous_raft.identities import (
    authority_cluster,
    authority_identity,
    client_identity,
    member_identity,
)

AUTHORITY_NAME = "ca"
AUTHORITY_DAYS = 3650
CLOCK_SKEW = timedelta(hours=1)
"""How far before now a certificate becomes valid, for machines whose clocks are behind."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Every member's certificate is good for its own machine."""

_HOST = re.compile(r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}\.?)*")


class FileInTheWay(CertificateError):
    """A file exists already, and nothing was written."""


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to make."""

    kind: Literal["member", "client"]
    name: str
    hosts: tuple[str, ...] = ()
    """Names and addresses where a member is reached, beside those of its own machine."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was made."""

    kind: Literal["member", "client"]
    name: str
    identity: str
    certificate: Path
    key: Path
    expires_at: datetime


class Authority:
    """Signs for the members and clients of one cluster. Blocks while it works."""

    def __init__(
        self,
        directory: Path,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        cluster_id: str,
        created: bool,
    ) -> None:
        self.directory = directory
        self.cluster_id = cluster_id
        self.created = created
        """Whether it was made just now."""
        self._certificate = certificate
        self._key = key

    @property
    def file(self) -> Path:
        """Its certificate: what the others trust."""
        return self.directory / f"{AUTHORITY_NAME}.pem"

    @property
    def expires_at(self) -> datetime:
        """When it and everything that it signed is worth nothing."""
        return self._certificate.not_valid_after_utc

    @classmethod
    def open(
        cls, directory: Path, *, cluster_id: str | None = None, default_cluster_id: str = ""
    ) -> Authority:
        """The authority of a directory; made if there is none. An existing one stays as it is.

        Args:
            directory: where it is; made with mode 0700.
            cluster_id: for which cluster; None: the one that it was made for.
            default_cluster_id: for a new one when `cluster_id` is None.

        Raises:
            CertificateError: its files cannot be used, or are those of another cluster.
            OSError: they cannot be written.
        """
        file = directory / f"{AUTHORITY_NAME}.pem"
        key_file = _key_file(directory, AUTHORITY_NAME)
        if not file.exists() and not key_file.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls._create(directory, cluster_id or default_cluster_id)
        certificate, key = _load(file, key_file)
        (facts, *_) = read_certificates(file)
        found = authority_cluster(facts.identities)
        if not facts.is_authority or found is None:
            raise CertificateError(f"{file}: was not made by this command; it cannot be used here")
        if cluster_id is not None and cluster_id != found:
            raise CertificateError(f"{file}: signs for the cluster {found!r}, not {cluster_id!r}")
        return cls(directory, certificate, key, cluster_id=found, created=False)

    @classmethod
    def _create(cls, directory: Path, cluster_id: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject(f"rendezvous {cluster_id} CA")
        names = [x509.UniformResourceIdentifier(authority_identity(cluster_id))]
        usage = {**_NO_USAGE, "key_cert_sign": True, "crl_sign": True}
        now = datetime.now(UTC)
        builder = (
            _begin(name, name, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        _write_pair(directory, AUTHORITY_NAME, certificate, key, replace=False)
        return cls(directory, certificate, key, cluster_id=cluster_id, created=True)

    def issue(
        self, orders: Sequence[Order], *, valid_for: timedelta, replace: bool = False
    ) -> tuple[Issued, ...]:
        """Makes certificates and keys, all or, when one is in the way, none.

        A running node may have its files replaced: each is whole at every moment.

        Args:
            orders: for whom.
            valid_for: from now; a certificate ends with its authority at the latest.
            replace: whether files of the same name are replaced. Those of the authority never are.

        Raises:
            FileInTheWay: there are some, and `replace` is not set.
            CertificateError: a name or host cannot stand in a certificate.
            OSError: a file cannot be written.
        """
        names = [order.name for order in orders]
        for name in names:
            if names.count(name) > 1 or name in {AUTHORITY_NAME, f"{AUTHORITY_NAME}-key"}:
                raise CertificateError(f"{name}: this name is taken")
            if f"{name}-key" in names:
                raise CertificateError(f"{name}-key: its certificate would be the key of {name}")
            files = (self.directory / f"{name}.pem", _key_file(self.directory, name))
            for file in files:
                if file.exists() and not replace:
                    raise FileInTheWay(f"{file}: exists already")
        prepared = [(order, *self._sign(order, valid_for)) for order in orders]
        return tuple(self._write(*parts, replace=replace) for parts in prepared)

    def _sign(
        self, order: Order, valid_for: timedelta
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        is_member = order.kind == "member"
        hosts = tuple(dict.fromkeys((*LOCAL_HOSTS, *order.hosts))) if is_member else order.hosts
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if is_member:
            purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        names = [*map(_host, hosts), x509.UniformResourceIdentifier(self._identity(order))]
        now = datetime.now(UTC)
        until = min(now + valid_for, self.expires_at)
        usage = {**_NO_USAGE, "digital_signature": True}
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _begin(_subject(order.name), self._certificate.subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(by, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()), key

    def _identity(self, order: Order) -> str:
        make = member_identity if order.kind == "member" else client_identity
        return make(self.cluster_id, order.name)

    def _write(
        self,
        order: Order,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        replace: bool,
    ) -> Issued:
        files = _write_pair(self.directory, order.name, certificate, key, replace=replace)
        return Issued(
            kind=order.kind,
            name=order.name,
            identity=self._identity(order),
            certificate=files[0],
            key=files[1],
            expires_at=certificate.not_valid_after_utc,
        )


_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(text: str) -> x509.Name:
    # A common name holds 64 characters; nothing of ours looks at it.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise CertificateError(f"{text!r} is no name or address of a host") from None
        return x509.DNSName(text)


def _load(file: Path, key_file: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{file} with {key_file.name}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != (
        key.public_key()
    ):
        raise CertificateError(f"{file} with {key_file.name}: they do not belong together")
    return certificate, key


def _key_file(directory: Path, name: str) -> Path:
    return directory / f"{name}-key.pem"


def _write_pair(
    directory: Path,
    name: str,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    *,
    replace: bool,
) -> tuple[Path, Path]:
    """Writes both files; a reader in between sees a pair that does not fit, and tries again."""
    certificate_file, key_file = directory / f"{name}.pem", _key_file(directory, name)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_file, key_pem, mode=0o600, replace=replace)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    _write(certificate_file, pem, mode=0o644, replace=replace)
    return certificate_file, key_file


def _write(file: Path, content: bytes, *, mode: int, replace: bool) -> None:
    """Makes a file that is whole from the first moment."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, mode), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        if replace:
            temporary.replace(file)
        else:
            os.link(temporary, file)  # fails when somebody else was quicker
    except FileExistsError as error:
        raise FileInTheWay(f"{file}: exists already") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
