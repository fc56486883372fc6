"""Links over real sockets: who may speak, and what is done about nonsense (F14, F17)."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable

import pytest
from contract_cluster import reserved_ports, until
from link_ends import HELLO, READ, Member, Stranger, opened
from pysyncobj.node import Node

from rendezvous_raft.replication.raft import connections, transport
from rendezvous_raft.replication.raft.connections import split_address
from rendezvous_raft.replication.raft.frames import FRAME_VERSION, encode_frame


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, int]]:
    with reserved_ports(2) as found:
        yield dict(zip(("a", "b"), found, strict=True))


async def test_messages_arrive_in_order_both_ways(ports: dict[str, int]) -> None:
    a, b = Member("a", ports), Member("b", ports)
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        for read_id in range(500):
            a.send("b", read_id=read_id)
        b.send("a", read_id=9)
        await until(lambda: len(b.received) == 500 and len(a.received) == 1, "messages")
    assert b.received == [("a", {**READ, "read_id": read_id}) for read_id in range(500)]
    assert a.received == [("b", {**READ, "read_id": 9})]


async def test_what_is_sent_without_a_link_is_lost_and_links_come_back(
    ports: dict[str, int],
) -> None:
    a, b = Member("a", ports), Member("b", ports)
    async with opened(a):
        assert not a.links.is_open(Node("b"))
        assert a.links.has_room(Node("b"))
        a.send("b", read_id=1)
        async with opened(b):
            await until(lambda: a.links.is_open(Node("b")), "a link")
            a.send("b", read_id=2)
            await until(lambda: bool(b.received), "a message")
        await until(lambda: not a.links.is_open(Node("b")), "the end of the link")
        again = Member("b", ports)
        async with opened(again):
            await until(lambda: a.connected == ["b", "b"], "another link")
            a.send("b", read_id=3)
            await until(lambda: bool(again.received), "a message")
    assert [message["read_id"] for _, message in b.received] == [2]
    assert [message["read_id"] for _, message in again.received] == [3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": "other"},
        {"to": "c"},
        {"from": "a"},
        {"from": 5},
        {"address": None},
        {"address": "nowhere"},
        {"address": "127.0.0.1:65536"},
        {"address": "127.0.0.1:-1"},
        {"incarnation": "7"},
        {"founding": 1},
        {"answering": None},
        {"version": FRAME_VERSION + 1},
        {"type": "append"},
    ],
    ids=str,
)
async def test_a_greeting_that_is_not_meant_for_us_ends_the_connection(
    ports: dict[str, int], wrong: dict[str, object]
) -> None:
    a = Member("a", ports)
    async with opened(a):
        stranger = await Stranger.connect(ports)
        await stranger.say({**HELLO, **wrong}, READ)
        assert await stranger.is_cut_off()
    assert a.links.refused_greetings == 1
    assert a.received == []


async def test_members_of_two_clusters_never_mix(ports: dict[str, int]) -> None:
    a, b = Member("a", ports), Member("b", ports, cluster_id="other")
    async with opened(a, b):
        await until(lambda: min(a.links.refused_greetings, b.links.refused_greetings) > 1, "tries")
    assert a.connected == b.connected == []


async def test_a_greeting_is_answered(ports: dict[str, int]) -> None:
    a = Member("a", ports)
    async with opened(a):
        stranger = await Stranger.connect(ports)
        await stranger.say(HELLO)
        assert await stranger.hear() == {"type": "welcome"}
        await stranger.say(READ)
        await until(lambda: a.received == [("b", READ)], "a message")
        stranger.writer.close()


def executed() -> None:
    raise AssertionError("bytes of a stranger were executed")


class Bomb:
    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return executed, ()


PICKLED = pickle.dumps(Bomb())


@pytest.mark.parametrize(
    "said",
    [
        PICKLED,
        len(PICKLED).to_bytes(4, "big") + PICKLED,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        encode_frame({"type": "status"}),
        encode_frame({**READ, "read_id": -1}),
        encode_frame({**READ, "read_id": "1"}),
    ],
    ids=lambda said: repr(said[:12]),
)
@pytest.mark.parametrize("greeted", [True, False])
async def test_nonsense_ends_the_connection_and_nothing_else(
    ports: dict[str, int], said: bytes, *, greeted: bool
) -> None:
    a = Member("a", ports)
    async with opened(a):
        stranger = await Stranger.connect(ports)
        if greeted:
            await stranger.say(HELLO)
            assert await stranger.hear() == {"type": "welcome"}
        stranger.writer.write(said)
        assert await stranger.is_cut_off()
        assert a.received == []
        another = await Stranger.connect(ports)
        await another.say(HELLO)
        assert await another.hear() == {"type": "welcome"}
        another.writer.close()


async def test_who_says_nothing_is_cut_off(
    ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GREETING_TIMEOUT_S", 0.02)
    a = Member("a", ports)
    async with opened(a):
        stranger = await Stranger.connect(ports)
        assert await stranger.is_cut_off()


async def test_a_newer_connection_of_a_peer_replaces_the_older(ports: dict[str, int]) -> None:
    a = Member("a", ports)
    async with opened(a):
        older, newer = await Stranger.connect(ports), await Stranger.connect(ports)
        for stranger in (older, newer):
            await stranger.say(HELLO)
            assert await stranger.hear() == {"type": "welcome"}
        assert await older.is_cut_off()
        await newer.say(READ)
        await until(lambda: a.received == [("b", READ)], "a message")
        newer.writer.close()


async def test_a_halted_member_neither_speaks_nor_listens(ports: dict[str, int]) -> None:
    a, b = Member("a", ports), Member("b", ports)
    async with opened(a, b):
        await until(lambda: a.connected == ["b"] and b.connected == ["a"], "links")
        a.links.silence()
        await until(lambda: not b.links.is_open(Node("a")), "the end of the link")
        a.send("b")
        b.send("a")
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", ports["a"])
    assert a.received == b.received == []


async def test_a_slow_peer_gets_no_more_than_its_buffer(
    ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "BUFFER_BYTES_MAX", 100_000)
    a, b = Member("a", ports), Member("b", ports)
    a.links._window_bytes = 1_000
    async with opened(a, b):
        await until(lambda: a.connected == ["b"], "a link")
        for inbound in b.links._inbound:
            assert inbound._transport is not None
            inbound._transport.pause_reading()
        link = a.links._links["b"]
        while not link.dropped:
            a.links.send(Node("b"), {"type": "forward", "term": 1, "payload": bytes(50_000)})
        assert not a.links.has_room(Node("b"))
        assert link.waiting_bytes() < 200_000


def test_pauses_between_tries_grow_with_jitter_up_to_a_bound() -> None:
    links = Member("a", {"a": 1, "b": 2}).links
    for tries in range(8):
        cap_s = min(transport.RECONNECT_MAX_S, transport.RECONNECT_S * 2**tries)
        found = {links.reconnect_delay_s(tries) for _ in range(50)}
        assert len(found) > 1
        assert cap_s / 2 <= min(found) <= max(found) <= cap_s


@pytest.mark.parametrize(
    ("address", "split"),
    [("h:1", ("h", 1)), ("127.0.0.1:7000", ("127.0.0.1", 7000)), ("[::1]:80", ("::1", 80))],
)
def test_addresses(address: str, split: tuple[str, int]) -> None:
    assert split_address(address) == split
