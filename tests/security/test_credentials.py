"""Files of a listener: read again when they change, and refused when they will not do."""

from __future__ import annotations

import ssl
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from rendezvous_raft.authority import Authority, Order
from rendezvous_raft.certificates import (
    CERTIFICATE_BYTES_MAX,
    Certificate,
    CertificateError,
    read_certificates,
)
from rendezvous_raft.credentials import CredentialFiles, Credentials

DAY = timedelta(days=1)


class Reports:
    def __init__(self) -> None:
        self.loaded: list[float] = []
        self.unusable: list[str] = []

    def credentials_loaded(self, expires_at_s: float) -> None:
        self.loaded.append(expires_at_s)

    def credentials_unusable(self, reason: str) -> None:
        self.unusable.append(reason)


def issue(directory: Path, name: str = "a", valid_for: timedelta = DAY) -> CredentialFiles:
    authority = Authority.open(directory, cluster_id="c")
    (issued,) = authority.issue([Order("member", name)], valid_for=valid_for, replace=True)
    return CredentialFiles(issued.certificate, issued.key, authority.file)


def test_contexts_want_a_certificate_and_the_newest_tls(tmp_path: Path) -> None:
    loaded = Credentials(issue(tmp_path), observer=Reports()).current()
    for context in (loaded.accepting, loaded.dialing):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert loaded.accepting.num_tickets == 0


def test_the_same_files_are_read_once(tmp_path: Path) -> None:
    reports = Reports()
    credentials = Credentials(issue(tmp_path), observer=reports)
    assert credentials.current() is credentials.current()
    assert reports.loaded == [credentials.expires_at_s()]


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    reports = Reports()
    credentials = Credentials(issue(tmp_path), observer=reports)
    before = credentials.current()
    issue(tmp_path, valid_for=2 * DAY)
    assert credentials.expires_at_s() > before.expires_at_s
    assert credentials.current() is not before
    assert len(reports.loaded) == 2


@pytest.mark.parametrize("lost", ["certificate", "key", "authorities"])
@pytest.mark.parametrize("how", ["removed", "nonsense", "empty"])
def test_what_has_become_unusable_is_told_once_and_not_taken(
    tmp_path: Path, lost: str, how: str
) -> None:
    reports = Reports()
    files = issue(tmp_path)
    credentials = Credentials(files, observer=reports)
    before = credentials.current()
    file: Path = getattr(files, lost)
    content = file.read_bytes()
    if how == "removed":
        file.unlink()
    else:
        file.write_text("" if how == "empty" else "nonsense")
    for _ in range(3):
        assert credentials.current() is before
    (reason,) = reports.unusable
    assert str(file) in reason
    file.write_bytes(content)
    file.chmod(0o600)
    assert credentials.current() is not before
    assert len(reports.loaded) == 2
    assert len(reports.unusable) == 1


def test_a_rotation_that_is_half_done_waits_for_the_other_half(tmp_path: Path) -> None:
    reports = Reports()
    files = issue(tmp_path / "old")
    credentials = Credentials(files, observer=reports)
    before = credentials.current()
    new = issue(tmp_path / "new")
    files.certificate.write_bytes(new.certificate.read_bytes())
    assert credentials.current() is before
    assert "do not belong together" in reports.unusable[0]
    files.key.write_bytes(new.key.read_bytes())
    assert credentials.current().certificate_pem == new.certificate.read_bytes()


def test_a_chain_expires_with_its_first(tmp_path: Path) -> None:
    files = issue(tmp_path, valid_for=30 * DAY)
    short = issue(tmp_path, "short", valid_for=DAY)
    with files.certificate.open("ab") as chain:
        chain.write(short.certificate.read_bytes())
    expires_at_s = Credentials(files, observer=Reports()).expires_at_s()
    assert expires_at_s == read_certificates(short.certificate)[0].not_after.timestamp()


def test_a_key_for_everybody_is_refused(tmp_path: Path) -> None:
    files = issue(tmp_path)
    for mode in (0o604, 0o666, 0o602):
        files.key.chmod(mode)
        with pytest.raises(
            CertificateError, match=f"a-key.pem: everybody may use it .mode {mode:04o}"
        ):
            Credentials(files, observer=Reports())
    files.key.chmod(0o640)
    Credentials(files, observer=Reports())


def test_an_encrypted_key_asks_nobody_for_a_password(tmp_path: Path) -> None:
    files = issue(tmp_path)
    encrypted = tmp_path / "encrypted.pem"
    command = ["openssl", "pkey", "-in", files.key, "-aes128", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", encrypted], check=True, capture_output=True, timeout=30)
    encrypted.chmod(0o600)
    with pytest.raises(CertificateError, match="the key is encrypted"):
        Credentials(
            CredentialFiles(files.certificate, encrypted, files.authorities), observer=Reports()
        )


def test_a_certificate_that_will_not_do_is_refused_and_later_not_taken(tmp_path: Path) -> None:
    def check(certificate: Certificate) -> None:
        if certificate.subject != "CN=a":
            raise ValueError(f"{certificate.subject} is not ours")

    reports = Reports()
    files, other = issue(tmp_path), issue(tmp_path, "b")
    with pytest.raises(CertificateError, match=r"b\.pem: CN=b is not ours"):
        Credentials(other, observer=reports, check=check)
    credentials = Credentials(files, observer=reports, check=check)
    before = credentials.current()
    files.certificate.write_bytes(other.certificate.read_bytes())
    files.key.write_bytes(other.key.read_bytes())
    assert credentials.current() is before
    assert "CN=b is not ours" in reports.unusable[0]


def test_threads_share_one_reading(tmp_path: Path) -> None:
    reports = Reports()
    credentials = Credentials(issue(tmp_path), observer=reports)
    issue(tmp_path)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(credentials.current())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert len(reports.loaded) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(CERTIFICATE_BYTES_MAX + 1)])
def test_a_file_without_a_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.pem"
    file.write_bytes(content)
    with pytest.raises(CertificateError, match=r"x\.pem: "):
        read_certificates(file)
    with pytest.raises(CertificateError, match=r"absent\.pem: No such file"):
        read_certificates(tmp_path / "absent.pem")
