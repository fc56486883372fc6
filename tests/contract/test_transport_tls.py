"""Links over TLS with real sockets: a member is who its certificate says (F14)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from both_loops import on_both_loops
from contract_cluster import reserved_ports, until
from keyring import Keyring, Reports, dialer, replace
from link_ends import HELLO, READ, Member, Stranger, linked, opened
from pysyncobj.node import Node

from rendezvous_raft.credentials import CredentialFiles, Credentials
from rendezvous_raft.replication.raft import connections
from rendezvous_raft.replication.raft.frames import GREETING_BYTES_MAX, encode_frame
from rendezvous_raft.replication.raft.tls import LinkTls


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with reserved_ports(2) as found:
        yield dict(zip(("a", "b"), found, strict=True))


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "certs")


@on_both_loops
async def test_members_talk_in_tls_1_3(keyring: Keyring, ports: dict[str, int]) -> None:
    async with linked(keyring, ports) as (a, b):
        for read_id in range(500):
            a.send("b", read_id=read_id)
        large = {"type": "forward", "term": 1, "origin": b"o", "sequence": 1}
        large["payload"] = bytes(3_000_000)
        b.links.send(Node("a"), large)
        await until(lambda: len(b.received) == 500 and len(a.received) == 1, "messages")
        assert a.received == [("b", large)]
        for member in (a, b):
            for inbound in member.links._inbound:
                assert inbound._transport is not None
                connection = inbound._transport.get_extra_info("ssl_object")
                assert connection.version() == "TLSv1.3"
                assert not connection.session_reused
    assert b.received == [("a", {**READ, "read_id": read_id}) for read_id in range(500)]
    assert a.refused == b.refused == []


def no_certificate(_keyring: Keyring, _tmp_path: Path) -> None:
    return None


def of_another_authority(_keyring: Keyring, tmp_path: Path) -> CredentialFiles:
    return Keyring(tmp_path / "others").issue("b")


def expired(keyring: Keyring, _tmp_path: Path) -> CredentialFiles:
    return keyring.issue("b", valid_for=timedelta(seconds=-5))


def of_another_cluster(keyring: Keyring, _tmp_path: Path) -> CredentialFiles:
    keyring.authority.cluster_id = "d"
    return keyring.issue("b")


def of_a_client(keyring: Keyring, _tmp_path: Path) -> CredentialFiles:
    return keyring.issue("b", "client")


def of_another_member(keyring: Keyring, _tmp_path: Path) -> CredentialFiles:
    return keyring.issue("c")


def of_the_listener(keyring: Keyring, _tmp_path: Path) -> CredentialFiles:
    return keyring.issue("a")


def of_a_host(keyring: Keyring, tmp_path: Path) -> CredentialFiles:
    """Signed by an authority that is trusted, for a host and nobody of ours."""
    trusted = trustme.CA()
    issued = trusted.issue_cert("localhost", "127.0.0.1")
    files = CredentialFiles(tmp_path / "h.pem", tmp_path / "h-key.pem", keyring.authority_file)
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    with keyring.authority_file.open("ab") as bundle:
        bundle.write(trusted.cert_pem.bytes())
    return files


Made = Callable[[Keyring, Path], CredentialFiles | None]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (no_certificate, None),
        (of_another_authority, None),
        (expired, None),
        (of_another_cluster, "is for rendezvous://d/member/b, not for rendezvous://c/member/NAME"),
        (of_a_client, "is for rendezvous://c/client/b, not for rendezvous://c/member/NAME"),
        (of_another_member, "calls itself 'b' and has the certificate of 'c'"),
        (of_the_listener, "calls itself 'b' and has the certificate of 'a'"),
        (of_a_host, "must have one rendezvous:// identity, not: none"),
    ],
)
@on_both_loops
async def test_who_is_no_other_member_is_not_heard(
    keyring: Keyring, ports: dict[str, int], tmp_path: Path, made: Made, reason: str | None
) -> None:
    """Where there is no reason, the handshake of TLS fails already."""
    files = made(keyring, tmp_path)
    keyring.authority.cluster_id = "c"
    authorities = keyring.authority_file
    a = Member("a", ports, tls=keyring.link_tls("a"))
    async with opened(a):
        context = dialer(files, authorities)
        try:
            stranger = await Stranger.connect(ports, context)
            await stranger.say(HELLO, READ)
        except (ConnectionError, ssl.SSLError):
            assert reason is None
        else:
            assert await stranger.is_cut_off()
        good = await Stranger.connect(ports, dialer(keyring.issue("b"), authorities))
        await good.say(HELLO)
        assert await good.hear() == {"type": "welcome"}
        good.writer.close()
    assert a.received == []
    assert (reason or "") in a.why("127.0.0.1")
    assert bool(a.refused) is (reason is not None)


@on_both_loops
async def test_who_lies_in_its_greeting_is_not_heard(
    keyring: Keyring, ports: dict[str, int]
) -> None:
    """A member of the cluster, in the name of another member."""
    a = Member("a", {**ports, "c": 1}, tls=keyring.link_tls("a"))
    async with opened(a):
        stranger = await Stranger.connect(ports, dialer(keyring.issue("c"), keyring.authority_file))
        await stranger.say({**HELLO, "from": "b"}, READ)
        assert await stranger.is_cut_off()
    assert "calls itself 'b' and has the certificate of 'c'" in a.why("127.0.0.1")
    assert a.received == []


@on_both_loops
async def test_who_answers_in_the_place_of_another_gets_no_greeting(
    keyring: Keyring, ports: dict[str, int]
) -> None:
    """The member c has taken the address of b, and says that it is b."""
    a = Member("a", ports, tls=keyring.link_tls("a"))
    b = Member("b", ports, tls=keyring.link_tls("c"))
    async with opened(a, b):
        await until(lambda: "'c' answers at" in a.why("b"), "a refusal")
        assert a.connected == []
        assert not a.links.is_open(Node("b"))
        assert b.links.refused_greetings == 0


@pytest.mark.parametrize("made", [of_another_authority, expired, of_a_client, of_another_cluster])
@on_both_loops
async def test_an_answer_of_who_is_no_member_is_not_believed(
    keyring: Keyring, ports: dict[str, int], tmp_path: Path, made: Made
) -> None:
    files = made(keyring, tmp_path)
    assert files is not None
    keyring.authority.cluster_id = "c"
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(files.certificate, files.key)
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.extend(await reader.read())
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", ports["b"], ssl=listening)
    a = Member("a", ports, tls=keyring.link_tls("a"))
    async with server, opened(a):
        await until(lambda: len(a.refused) > 1, "refusals")
        assert a.connected == []
    assert not heard


@on_both_loops
async def test_the_older_tls_is_refused(keyring: Keyring, ports: dict[str, int]) -> None:
    context = dialer(keyring.issue("b"), keyring.authority_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with opened(Member("a", ports, tls=keyring.link_tls("a"))):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await Stranger.connect(ports, context)


@on_both_loops
async def test_plain_text_is_not_heard(keyring: Keyring, ports: dict[str, int]) -> None:
    a = Member("a", ports, tls=keyring.link_tls("a"))
    async with opened(a):
        stranger = await Stranger.connect(ports)
        await stranger.say(HELLO, READ)
        assert await stranger.is_cut_off()
    assert a.received == []
    assert a.links.refused_greetings == 0


@pytest.mark.parametrize("secure", ["a", "b"])
@on_both_loops
async def test_a_member_with_tls_and_one_without_never_talk(
    keyring: Keyring, ports: dict[str, int], secure: str
) -> None:
    members = {
        name: Member(name, ports, tls=keyring.link_tls(name) if name == secure else None)
        for name in ports
    }
    plain = members["b" if secure == "a" else "a"]
    async with opened(*members.values()):
        await until(
            lambda: "a frame of" in plain.why("127.0.0.1") and bool(members[secure].refused),
            "refusals",
        )
        assert [member.connected for member in members.values()] == [[], []]
        assert [member.received for member in members.values()] == [[], []]


@on_both_loops
async def test_renewed_certificates_are_taken_for_new_connections(
    keyring: Keyring, ports: dict[str, int], tmp_path: Path
) -> None:
    """Of another authority, too, and the one before is trusted no more. Nothing is restarted."""
    reports = Reports()
    files = {name: keyring.issue(name) for name in ports}
    authorities = tmp_path / "trusted.pem"
    authorities.write_bytes(keyring.authority_file.read_bytes())
    placed = {
        name: CredentialFiles(found.certificate, found.key, authorities)
        for name, found in files.items()
    }
    a, b = (
        Member(
            name,
            ports,
            tls=LinkTls(Credentials(placed[name], observer=reports), cluster_id="c"),
        )
        for name in ports
    )
    old = tmp_path / "old"
    old.mkdir()
    of_old = CredentialFiles(old / "b.pem", old / "b-key.pem", old / "ca.pem")
    for target, source in zip(
        (of_old.certificate, of_old.key, of_old.authorities),
        (files["b"].certificate, files["b"].key, keyring.authority_file),
        strict=True,
    ):
        target.write_bytes(source.read_bytes())
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        renewed = Keyring(tmp_path / "renewed")
        for name in ports:
            replace(placed[name], renewed.issue(name))
        assert a.links.is_open(Node("b"))  # connections that stand, stand
        for member in (a, b):
            for inbound in list(member.links._inbound):
                inbound.abort()
        await until(lambda: a.connected == ["b"] * 2 and b.connected == ["a"] * 2, "new links")
        (inbound,) = a.links._inbound
        assert inbound._transport is not None
        issuer = inbound._transport.get_extra_info("peercert")["serialNumber"]
        assert int(issuer, 16) == serial_of(renewed.directory / "b.pem")
        both = tmp_path / "both.pem"
        both.write_bytes(authorities.read_bytes() + of_old.authorities.read_bytes())
        stranger = await Stranger.connect(ports, dialer(of_old, both))
        await stranger.say(HELLO, READ)
        assert await stranger.is_cut_off()
    assert a.received == []
    assert len(reports.loaded) == 4
    assert reports.unusable == []


def serial_of(file: Path) -> int:
    from rendezvous_raft.certificates import read_certificates

    return int(read_certificates(file)[0].serial, 16)


@on_both_loops
async def test_broken_files_leave_those_before_in_force(
    keyring: Keyring, ports: dict[str, int]
) -> None:
    reports = Reports()
    a = Member("a", ports, tls=keyring.link_tls("a", reports=reports))
    b = Member("b", ports, tls=keyring.link_tls("b"))
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        (keyring.directory / "a.pem").write_text("nonsense")
        for count in (2, 3):
            for inbound in [*a.links._inbound, *b.links._inbound]:
                inbound.abort()
            await until(
                lambda count=count: len(a.connected) == len(b.connected) == count, "links again"
            )
        (reason,) = reports.unusable
        assert "a.pem: holds no certificate" in reason
        keyring.issue("a")
        for inbound in [*a.links._inbound, *b.links._inbound]:
            inbound.abort()
        await until(lambda: len(a.connected) == len(b.connected) == 4, "links again")
    assert len(reports.loaded) == 2


NONSENSE = [
    b"\xff" * 64,
    b"GET / HTTP/1.1\r\n\r\n",
    (GREETING_BYTES_MAX + 1).to_bytes(4, "big"),
    encode_frame({**HELLO, "padding": bytes(GREETING_BYTES_MAX)}),
    encode_frame(READ),
]


@pytest.mark.parametrize("said", NONSENSE, ids=lambda said: repr(said[:12]))
@on_both_loops
async def test_nonsense_within_tls_ends_the_connection(
    keyring: Keyring, ports: dict[str, int], said: bytes
) -> None:
    a = Member("a", ports, tls=keyring.link_tls("a"))
    context = dialer(keyring.issue("b"), keyring.authority_file)
    async with opened(a):
        stranger = await Stranger.connect(ports, context)
        stranger.writer.write(said)
        assert await stranger.is_cut_off()
        stranger = await Stranger.connect(ports, context)
        await stranger.say(HELLO)
        assert await stranger.hear() == {"type": "welcome"}
        stranger.writer.write(b"\xff" * 64)
        assert await stranger.is_cut_off()
    assert a.received == []
    assert a.links.refused_greetings == 1


@on_both_loops
async def test_who_does_not_shake_hands_is_cut_off(
    keyring: Keyring, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GREETING_TIMEOUT_S", 0.05)
    async with opened(Member("a", ports, tls=keyring.link_tls("a"))):
        assert await (await Stranger.connect(ports)).is_cut_off()


@on_both_loops
async def test_who_does_not_greet_is_cut_off(
    keyring: Keyring, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Member("a", ports, tls=keyring.link_tls("a"))
    async with opened(a):
        monkeypatch.setattr(connections, "GREETING_TIMEOUT_S", 0.05)
        context = dialer(keyring.issue("b"), keyring.authority_file)
        assert await (await Stranger.connect(ports, context)).is_cut_off()
    assert "no greeting within" in a.why("127.0.0.1")


@on_both_loops
async def test_a_connection_that_hangs_is_replaced(keyring: Keyring, ports: dict[str, int]) -> None:
    a = Member("a", ports, tls=keyring.link_tls("a"))
    context = dialer(keyring.issue("b"), keyring.authority_file)
    async with opened(a):
        older, newer = [await Stranger.connect(ports, context) for _ in range(2)]
        for stranger in (older, newer):
            await stranger.say(HELLO)
            assert await stranger.hear() == {"type": "welcome"}
        assert await older.is_cut_off()
        await newer.say(READ)
        await until(lambda: a.received == [("b", READ)], "a message")
        newer.writer.close()
