"""An authority of one's own: what it writes, and what it never does."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rendezvous_raft import authority as authority_module
from rendezvous_raft.authority import Authority, FileInTheWay, Order
from rendezvous_raft.certificates import CertificateError, read_certificates

YEAR = timedelta(days=365)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


def test_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "certs"
    Authority.open(directory, cluster_id="c").issue([Order("member", "a")], valid_for=YEAR)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(contents(directory)) == ["a-key.pem", "a.pem", "ca-key.pem", "ca.pem"]
    for file in directory.glob("*-key.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_member_is_good_for_both_sides_and_its_hosts(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    order = Order("member", "a", ("eu.example", "10.0.1.10", "[2001:db8::1]", "localhost"))
    (issued,) = authority.issue([order], valid_for=YEAR)
    (found,) = read_certificates(issued.certificate)
    assert found.identities == ("rendezvous://c/member/a",) == (issued.identity,)
    assert set(found.hosts) == {
        *("localhost", "127.0.0.1", "::1"),
        *("eu.example", "10.0.1.10", "2001:db8::1"),
    }
    assert not found.is_authority
    left = found.not_after - datetime.now(UTC)
    assert YEAR - timedelta(minutes=5) < left <= YEAR
    assert found.not_before < datetime.now(UTC) - timedelta(minutes=30)
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    (signer,) = read_certificates(authority.file)
    assert signer.is_authority
    assert signer.identities == ("rendezvous://c/authority",)


def test_a_client_is_good_for_its_side_only(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    (issued,) = authority.issue([Order("client", "post")], valid_for=YEAR)
    (found,) = read_certificates(issued.certificate)
    assert (found.identities, found.hosts) == (("rendezvous://c/client/post",), ())
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_the_strictest_verification_passes(tmp_path: Path) -> None:
    """What newer versions of Python do by default."""
    authority = Authority.open(tmp_path, cluster_id="c")
    (issued,) = authority.issue([Order("member", "a")], valid_for=YEAR)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.certificate, issued.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(authority.file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = 0
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done += 1
    assert done >= 2


def test_an_authority_signs_on_and_stays_as_it_is(tmp_path: Path) -> None:
    first = Authority.open(tmp_path, cluster_id="c")
    first.issue([Order("member", "a")], valid_for=YEAR)
    before = contents(tmp_path)
    again = Authority.open(tmp_path)
    assert (first.created, again.created, again.cluster_id) == (True, False, "c")
    again.issue([Order("member", "b")], valid_for=YEAR)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"b.pem", "b-key.pem"}


def test_nothing_is_replaced_unasked_and_then_nothing_is_made(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    authority.issue([Order("member", "b")], valid_for=YEAR)
    before = contents(tmp_path)
    with pytest.raises(FileInTheWay, match=r"b\.pem: exists"):
        authority.issue([Order("member", "a"), Order("member", "b")], valid_for=YEAR)
    assert contents(tmp_path) == before
    authority.issue([Order("member", "b")], valid_for=YEAR, replace=True)
    after = contents(tmp_path)
    assert [name for name in before if before[name] != after[name]] == ["b-key.pem", "b.pem"]
    (tmp_path / "b.pem").unlink()
    with pytest.raises(FileInTheWay, match=r"b-key\.pem: exists"):
        authority.issue([Order("member", "b")], valid_for=YEAR)


def test_who_is_quicker_keeps_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the writing, somebody else has made the file."""
    authority = Authority.open(tmp_path, cluster_id="c")
    write = authority_module._write

    def late(file: Path, content: bytes, *, mode: int, replace: bool) -> None:
        file.write_text("mine")
        write(file, content, mode=mode, replace=replace)

    monkeypatch.setattr(authority_module, "_write", late)
    with pytest.raises(FileInTheWay):
        authority.issue([Order("member", "a")], valid_for=YEAR)
    assert (tmp_path / "a-key.pem").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["ca", "ca-key"])
def test_the_authority_is_never_replaced(tmp_path: Path, name: str) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    before = contents(tmp_path)
    with pytest.raises(CertificateError, match="taken"):
        authority.issue([Order("member", name)], valid_for=YEAR, replace=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a-key")])
def test_two_of_one_file_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    with pytest.raises(CertificateError):
        authority.issue([Order("member", name) for name in names], valid_for=YEAR)


@pytest.mark.parametrize("host", ["", "a b", "é.example", "a/b", "-", "x" * 254, "a\nb"])
def test_a_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    with pytest.raises(CertificateError, match="name or address"):
        authority.issue([Order("member", "a", (host,))], valid_for=YEAR)


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, cluster_id="c")
    (issued,) = authority.issue([Order("member", "a")], valid_for=50 * YEAR)
    assert issued.expires_at == authority.expires_at


def test_another_cluster_needs_another_authority(tmp_path: Path) -> None:
    Authority.open(tmp_path, cluster_id="c")
    with pytest.raises(CertificateError, match="signs for the cluster 'c', not 'd'"):
        Authority.open(tmp_path, cluster_id="d")


@pytest.mark.parametrize("lost", ["ca.pem", "ca-key.pem"])
def test_half_an_authority_is_not_made_whole(tmp_path: Path, lost: str) -> None:
    Authority.open(tmp_path, cluster_id="c")
    (tmp_path / lost).unlink()
    before = contents(tmp_path)
    with pytest.raises(CertificateError, match=lost):
        Authority.open(tmp_path, cluster_id="c")
    assert contents(tmp_path) == before


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Authority.open(tmp_path / "one", cluster_id="c")
    Authority.open(tmp_path / "two", cluster_id="c")
    (tmp_path / "one" / "ca-key.pem").write_bytes((tmp_path / "two" / "ca-key.pem").read_bytes())
    with pytest.raises(CertificateError, match="belong together"):
        Authority.open(tmp_path / "one")
    (tmp_path / "one" / "ca-key.pem").write_text("nonsense")
    with pytest.raises(CertificateError, match=r"ca\.pem with ca-key\.pem"):
        Authority.open(tmp_path / "one")


def test_an_authority_of_somebody_else_is_refused(tmp_path: Path) -> None:
    other = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(other.cert_pem.bytes())
    (tmp_path / "ca-key.pem").write_bytes(other.private_key_pem.bytes())
    with pytest.raises(CertificateError, match="was not made by this command"):
        Authority.open(tmp_path, cluster_id="c")
