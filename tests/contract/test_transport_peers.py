"""Peers that come, move and go while the links are open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from both_loops import on_both_loops
from contract_cluster import reserved_ports, until
from keyring import Keyring
from link_ends import HELLO, READ, Member, Stranger, opened
from pysyncobj.node import Node

from rendezvous_raft.replication.raft import transport
from rendezvous_raft.replication.raft.metadata import Birth


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with reserved_ports(3) as found:
        yield dict(zip(("a", "b", "c"), found, strict=True))


@pytest.fixture(params=["plain", "tls"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Keyring | None:
    return Keyring(tmp_path / "certs") if request.param == "tls" else None


def member(name: str, ports: dict[str, int], keyring: Keyring | None, *peers: str) -> Member:
    """A member that knows of these others."""
    known = {other: port for other, port in ports.items() if other in {name, *peers}}
    return Member(name, known, tls=None if keyring is None else keyring.link_tls(name))


def addresses(ports: dict[str, int], *names: str) -> dict[str, str]:
    return {name: f"127.0.0.1:{ports[name]}" for name in names}


@on_both_loops
async def test_a_new_peer_is_linked_both_ways(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    a, b = member("a", ports, keyring, "b"), member("b", ports, keyring, "a")
    c = member("c", ports, keyring, "a", "b")
    async with opened(a, b, c):
        await until(lambda: a.links.is_open(Node("b")) and b.links.is_open(Node("a")), "links")
        before = a.links._links["b"]
        for old in (a, b):
            old.links.set_peers(addresses(ports, *({"a", "b", "c"} - {old.links.name})))
        await until(lambda: set(a.links._links) == {"b", "c"}, "the new link")
        await until(lambda: a.links.is_open(Node("c")), "the new link")
        await until(lambda: {"a", "b"} <= set(c.connected), "the links of the new one")
        assert a.links._guests == {}
        assert a.links._links["b"] is before  # who stays keeps its connection
        a.send("c", read_id=1)
        c.send("a", read_id=2)
        await until(lambda: bool(c.received) and bool(a.received), "messages")
    assert c.received == [("a", {**READ, "read_id": 1})]
    assert a.received == [("c", {**READ, "read_id": 2})]


@on_both_loops
async def test_one_that_is_no_peer_is_heard_and_answered_where_it_says(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    """It may be a leader of whom this node does not know yet."""
    a, b = member("a", ports, keyring), member("b", ports, keyring, "a")
    async with opened(a):
        async with opened(b):
            await until(lambda: a.links.is_open(Node("b")), "a link to the guest")
            b.send("a")
            a.send("b")
            await until(lambda: bool(a.received and b.received), "messages")
        await until(lambda: not a.links._guests, "the end of the visit")
        a.send("b")  # dropped
        assert not a.links.has_room(Node("b"))
        assert not a.links.is_open(Node("b"))


@on_both_loops
async def test_two_who_do_not_count_each_other_as_members_part(ports: dict[str, int]) -> None:
    a = member("a", ports, None)
    async with opened(a):
        stranger = await Stranger.connect(ports)
        await stranger.say({**HELLO, "answering": True})
        assert await stranger.is_cut_off()


@on_both_loops
async def test_guests_are_few(ports: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "GUESTS_MAX", 1)
    a = member("a", ports, None)
    async with opened(a):
        first, second = await Stranger.connect(ports), await Stranger.connect(ports)
        await first.say({**HELLO, "from": "x"})
        assert await first.hear() == {"type": "welcome"}
        await second.say({**HELLO, "from": "y"})
        assert await second.is_cut_off()
        first.writer.close()


@on_both_loops
async def test_each_side_learns_whose_directory_it_speaks_with(ports: dict[str, int]) -> None:
    a, b = member("a", ports, None, "b"), member("b", ports, None, "a")
    async with opened(a):
        async with opened(b):
            await until(lambda: bool(a.greeted and b.greeted), "greetings")
            assert a.lost == []
        await until(lambda: bool(a.lost), "the word that b is not heard any more")
    assert a.greeted == [("b", Birth(ports["b"], founding=True))]
    assert a.lost == ["b"]


@on_both_loops
async def test_a_peer_that_is_removed_and_does_not_speak_is_parted_with(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    names = {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
    a, b, c = (member(name, ports, keyring, *others) for name, others in names.items())
    gone: list[str] = []
    a.links.setOnNodeDisconnectedCallback(lambda node: gone.append(str(node.id)))
    async with opened(a, b, c):
        await until(lambda: all(len(each.connected) == 2 for each in (a, b, c)), "links")
        a.links.set_peers(addresses(ports, "b"))
        assert gone == ["c"]
        assert not a.links.is_open(Node("c"))
        # What it has open is cut at once, though it says nothing.
        assert {inbound.sender for inbound in a.links._inbound} == {"b"}
        a.send("c")
        c.links.set_peers(addresses(ports, "b"))
        a.send("b")
        await until(lambda: bool(b.received), "a message")
        await until(lambda: not a.links._dropped_links, "the end of the link")
        await until(lambda: not a.links._guests and not c.links._guests, "the end of visits")
    assert c.received == []


@on_both_loops
async def test_a_peer_that_has_moved_is_dialed_at_its_new_address(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    a, b = member("a", ports, keyring, "b"), member("b", ports, keyring, "a")
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        moved = member("b", {"b": ports["c"], "a": ports["a"]}, keyring, "a")
        await b.links.close()
        async with opened(moved):
            a.links.set_peers({"b": f"127.0.0.1:{ports['c']}"})
            await until(lambda: a.links.is_open(Node("b")), "a link to the new address")
            a.send("b", read_id=4)
            await until(lambda: moved.received == [("a", {**READ, "read_id": 4})], "a message")


@on_both_loops
async def test_peers_may_be_set_before_the_links_are_open(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    a, b = member("a", ports, keyring), member("b", ports, keyring, "a")
    a.links.set_peers(addresses(ports, "b", "c"))
    a.links.set_peers(addresses(ports, "b"))
    assert a.links._dropped_links == {}
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")


@on_both_loops
async def test_a_member_that_has_halted_dials_nobody_new(
    ports: dict[str, int], keyring: Keyring | None
) -> None:
    a, b = member("a", ports, keyring), member("b", ports, keyring, "a")
    async with opened(a, b):
        a.links.silence()
        a.links.set_peers(addresses(ports, "b"))
        assert a.links._links["b"].has_ended


@on_both_loops
async def test_a_peer_that_comes_back_is_dialed_at_once(ports: dict[str, int]) -> None:
    """It greets, so it is there: the pause between tries, however long, ends."""
    a = member("a", ports, None, "b")
    a.links.reconnect_delay_s = lambda _tries: 3_600.0  # type: ignore[method-assign]
    async with opened(a):
        link = a.links._links["b"]
        await until(lambda: link.tries == 1, "a try in vain")
        async with opened(member("b", ports, None, "a")):
            await until(lambda: a.connected == ["b"], "a link")
        assert link.tries == 0


@on_both_loops
async def test_greetings_of_strangers_hurry_nobody(ports: dict[str, int]) -> None:
    a = member("a", ports, None, "b")
    async with opened(a):
        link = a.links._links["b"]
        await until(lambda: link.tries > 0, "a try in vain")
        stranger = await Stranger.connect(ports)
        await stranger.say({**HELLO, "from": "x"})
        assert await stranger.hear() == {"type": "welcome"}
        assert not link._hurry.is_set()
        stranger.writer.close()
