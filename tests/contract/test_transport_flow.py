"""Peers that are slow, stuck, or gone: windows and silence, over TLS with real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from both_loops import on_both_loops
from contract_cluster import reserved_ports, until
from keyring import Keyring
from link_ends import Member, linked
from pysyncobj.node import Node

from rendezvous_raft.replication.raft import transport


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with reserved_ports(2) as found:
        yield dict(zip(("a", "b"), found, strict=True))


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "certs")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a matter of the kernel")
@on_both_loops
async def test_sockets_give_up_on_a_peer_that_is_gone(
    keyring: Keyring, ports: dict[str, int]
) -> None:
    async with linked(keyring, ports, silence_s=0.25) as (a, b):
        outbound = a.links._links["b"]._connection
        assert outbound is not None
        (inbound,) = b.links._inbound
        for end in (outbound._transport, inbound._transport):
            assert end is not None
            found = end.get_extra_info("socket")
            for name, value in (
                ("TCP_USER_TIMEOUT", 250),
                ("TCP_KEEPIDLE", 1),
                ("TCP_KEEPINTVL", 1),
                ("TCP_NODELAY", 1),
            ):
                option = getattr(socket, name)
                assert found.getsockopt(socket.IPPROTO_TCP, option) == value, name
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def stall(member: Member) -> None:
    """The peers of a member find that it takes nothing any more."""
    for inbound in member.links._inbound:
        assert inbound._transport is not None
        inbound._transport.pause_reading()


def shrink(member: Member, peer: str) -> None:
    """Lets the operating system hold next to nothing on the way to a peer."""
    outbound = member.links._links[peer]._connection
    assert outbound is not None
    assert outbound._transport is not None
    found = outbound._transport.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a matter of the kernel")
@on_both_loops
async def test_a_link_to_a_peer_that_takes_nothing_is_broken_and_made_anew(
    keyring: Keyring, ports: dict[str, int]
) -> None:
    async with linked(keyring, ports, silence_s=0.2) as (a, b):
        stall(b)
        for _ in range(300):
            a.links.send(Node("b"), {"type": "forward", "term": 1, "payload": bytes(200_000)})
        await until(lambda: a.connected == ["b", "b"], "another link")
        assert a.links.has_room(Node("b"))


@on_both_loops
async def test_the_window_counts_what_tls_has_handed_on(
    keyring: Keyring, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One burst passes through TLS into the socket's buffer; it waits there, and counts."""
    monkeypatch.setattr(transport, "WINDOW_BYTES", 100_000)
    monkeypatch.setattr(transport, "BUFFER_BYTES_MAX", 5_000_000)
    async with linked(keyring, ports, silence_s=60) as (a, b):
        stall(b)
        shrink(a, "b")
        link = a.links._links["b"]
        burst = {"type": "forward", "term": 1, "payload": bytes(3_900_000)}
        # The receiver's buffers take some megabytes; then what is sent stays here.
        for _ in range(4):
            a.links.send(Node("b"), burst)
            if not a.links.has_room(Node("b")):
                break
        outbound = link._connection
        assert outbound is not None
        assert outbound._transport is not None
        assert not a.links.has_room(Node("b"))
        assert outbound._transport.get_write_buffer_size() < 100_000  # what TLS knows of it
        assert link.waiting_bytes() > 100_000
        for _ in range(300):
            a.links.send(Node("b"), {"type": "forward", "term": 1, "payload": bytes(50_000)})
        assert link.dropped
        assert link.waiting_bytes() < 10_000_000
        for inbound in b.links._inbound:
            assert inbound._transport is not None
            inbound._transport.resume_reading()
        await until(lambda: a.links.has_room(Node("b")), "room")
        await until(lambda: link.waiting_bytes() < 100_000, "all of it to be read")
