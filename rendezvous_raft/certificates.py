"""What stands in a certificate. Needs `cryptography` (the extra `tls`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509

_T = TypeVar("_T", bound=x509.ExtensionType)

CERTIFICATE_BYTES_MAX = 1024 * 1024
"""Of a file; bundles of authorities are large, and this is larger."""


class CertificateError(ValueError):
    """A file holds no certificate, key or authority that can be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The parts of a certificate that matter here."""

    subject: str
    issuer: str
    serial: str
    """Hexadecimal."""
    not_before: datetime
    not_after: datetime
    is_authority: bool
    hosts: tuple[str, ...]
    """DNS names and addresses."""
    identities: tuple[str, ...]
    """URIs; see `identities.py`."""


def read_certificates(file: Path) -> tuple[Certificate, ...]:
    """The certificates of a PEM file, at least one; of a chain, the first is its owner's.

    Raises:
        CertificateError: it cannot be read, or holds none.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(CERTIFICATE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror or error}") from error
    return parse_certificates(content, file)


def parse_certificates(content: bytes, file: Path) -> tuple[Certificate, ...]:
    """The same of what was read from `file` already.

    Raises:
        CertificateError: the content is too long, or holds no certificate.
    """
    if len(content) > CERTIFICATE_BYTES_MAX:
        raise CertificateError(f"{file}: more than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        return tuple(_describe(found) for found in x509.load_pem_x509_certificates(content))
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"{file}: holds no certificate in PEM") from error


def _describe(found: x509.Certificate) -> Certificate:
    hosts: list[str] = []
    identities: list[str] = []
    names = _extension(found, x509.SubjectAlternativeName)
    if names is not None:
        hosts += names.get_values_for_type(x509.DNSName)
        hosts += map(str, names.get_values_for_type(x509.IPAddress))
        identities += names.get_values_for_type(x509.UniformResourceIdentifier)
    constraints = _extension(found, x509.BasicConstraints)
    return Certificate(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        serial=f"{found.serial_number:x}",
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        is_authority=constraints is not None and constraints.ca,
        hosts=tuple(hosts),
        identities=tuple(identities),
    )


def _extension(found: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return found.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
