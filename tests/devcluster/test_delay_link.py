"""The delayed link: order, delay, bounds, half-close, cut and heal. Only lower bounds of time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rendezvous_raft.devcluster.delay_link import DelayLink
from rendezvous_raft.devcluster.link_connection import LinkConnection

SECONDS = 10.0
"""Bound of every wait; nothing is asserted about it."""
TICK_S = 0.001


class Target:
    """A server that gives its connections to the test."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue(64)
        )
        self.server: asyncio.Server | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.close()
        await self.server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.accepted.put_nowait((reader, writer))


@asynccontextmanager
async def link_to_target(
    one_way_s: float, *, jitter_s: float = 0.0, held_bytes_max: int = 16 * 1024 * 1024
) -> AsyncIterator[tuple[DelayLink, Target]]:
    target = Target()
    port = await target.start()
    link = DelayLink(
        target_host="127.0.0.1",
        target_port=port,
        one_way_s=one_way_s,
        jitter_s=jitter_s,
        held_bytes_max=held_bytes_max,
    )
    async with asyncio.timeout(SECONDS):
        try:
            await link.start()
            yield link, target
        finally:
            await link.stop()
            await target.stop()


async def connect(link: DelayLink) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = link.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def spin(link: DelayLink, turns: int = 20) -> None:
    """Some turns of the loop, so that whatever could happen now has happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


def clock() -> float:
    return asyncio.get_running_loop().time()


async def test_nothing_arrives_before_its_delay_in_either_direction() -> None:
    async with link_to_target(0.05) as (link, target):
        reader, writer = await connect(link)
        sent_at = clock()
        writer.write(b"ping")
        far_reader, far_writer = await target.accepted.get()
        assert await far_reader.readexactly(4) == b"ping"
        assert clock() - sent_at >= 0.05 - TICK_S
        answered_at = clock()
        far_writer.write(b"pong")
        assert await reader.readexactly(4) == b"pong"
        assert clock() - answered_at >= 0.05 - TICK_S
        statistics = link.statistics()
        assert (statistics.bytes_to_target, statistics.bytes_from_target) == (4, 4)
        assert (statistics.connections_open, statistics.connections_total) == (1, 1)
        assert statistics.bytes_held == 0
        writer.close()


async def test_jitter_keeps_the_order_of_bytes() -> None:
    payload = bytes(range(256)) * 200
    async with link_to_target(0.0, jitter_s=0.02) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        for begin in range(0, len(payload), 512):
            writer.write(payload[begin : begin + 512])
            await asyncio.sleep(0)
        assert await far_reader.readexactly(len(payload)) == payload
        writer.close()


async def test_the_delay_does_not_limit_throughput() -> None:
    """Everything is under way at once: many times what fits into one chunk per delay."""
    payload = bytes(range(256)) * 4 * 4_096  # 4 MiB; 64 chunks of 64 KiB would take 64 delays
    async with link_to_target(0.2) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        writer.write(payload)
        while link.statistics().bytes_held < len(payload):
            await asyncio.sleep(0)
        assert link.statistics().bytes_to_target == 0
        assert await far_reader.readexactly(len(payload)) == payload
        assert link.statistics().bytes_to_target == len(payload)
        writer.close()


async def test_what_a_link_holds_is_bounded_and_everything_arrives() -> None:
    payload = bytes(range(256)) * 4_096 * 8  # 8 MiB
    bound = 256 * 1024
    async with link_to_target(0.01, held_bytes_max=bound) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        writer.write(payload)
        received = bytearray()
        held_max = 0
        while len(received) < len(payload):
            received += await far_reader.read(65_536)
            held_max = max(held_max, link.statistics().bytes_held)
        assert received == payload
        assert 0 < held_max <= bound + 256 * 1024, "one more chunk may come than fits"
        writer.close()


async def test_a_receiver_that_does_not_read_slows_the_sender_down() -> None:
    bound = 64 * 1024
    async with link_to_target(0.0, held_bytes_max=bound) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        total = 64 * 1024 * 1024
        sent = 0
        drain = asyncio.create_task(asyncio.sleep(0))
        while drain.done() or sent == 0:
            writer.write(bytes(1024 * 1024))
            sent += 1024 * 1024
            assert sent < total, "nothing holds the sender back"
            drain = asyncio.create_task(writer.drain())
            await spin(link, 50)
        assert link.statistics().bytes_held <= bound + 256 * 1024
        drain.cancel()
        received = 0
        while received < sent:
            received += len(await far_reader.read(1024 * 1024))
        writer.close()


async def test_half_of_a_connection_may_be_closed() -> None:
    async with link_to_target(0.01) as (link, target):
        reader, writer = await connect(link)
        far_reader, far_writer = await target.accepted.get()
        writer.write(b"question")
        writer.write_eof()
        assert await far_reader.read() == b"question"
        assert link.statistics().connections_open == 1
        far_writer.write(b"answer")
        far_writer.write_eof()
        assert await reader.read() == b"answer"
        while link.statistics().connections_open:
            await asyncio.sleep(0)
        writer.close()


async def test_what_was_sent_before_a_close_arrives() -> None:
    async with link_to_target(0.02) as (link, target):
        _, writer = await connect(link)
        writer.write(b"last words")
        writer.close()
        far_reader, far_writer = await target.accepted.get()
        assert await far_reader.read() == b"last words"
        far_writer.close()
        while link.statistics().connections_open:
            await asyncio.sleep(0)


async def test_a_reset_arrives_as_a_reset() -> None:
    async with link_to_target(0.01) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        writer.write(b"x")
        assert await far_reader.readexactly(1) == b"x"
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        reset_at = clock()
        writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await far_reader.readexactly(1)
        assert clock() - reset_at >= 0.01 - TICK_S
        assert link.statistics().connections_open == 0


async def test_a_cut_link_is_silent_and_delivers_after_it_heals() -> None:
    async with link_to_target(0.01) as (link, target):
        reader, writer = await connect(link)
        far_reader, far_writer = await target.accepted.get()
        writer.write(b"1")
        assert await far_reader.readexactly(1) == b"1"
        link.cut()
        assert link.statistics().cut
        writer.write(b"23")
        far_writer.write(b"45")
        while link.statistics().bytes_held < 4:
            await asyncio.sleep(0)
        silent = asyncio.create_task(far_reader.read(1))
        await asyncio.wait((silent,), timeout=0.05)
        assert not silent.done()
        assert link.statistics().bytes_to_target == 1
        healed_at = clock()
        link.heal()
        assert await silent == b"2"
        assert clock() - healed_at >= 0.01 - TICK_S
        assert await far_reader.readexactly(1) == b"3"
        assert await reader.readexactly(2) == b"45"
        writer.close()


async def test_what_was_under_way_when_the_link_was_cut_waits() -> None:
    async with link_to_target(0.02) as (link, target):
        _, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        writer.write(b"x")
        while not link.statistics().bytes_held:
            await asyncio.sleep(0)
        link.cut()
        silent = asyncio.create_task(far_reader.read(1))
        await asyncio.wait((silent,), timeout=0.06)
        assert not silent.done()
        link.heal()
        assert await silent == b"x"
        writer.close()


async def test_a_connection_made_while_the_link_is_cut_works_after_it_heals() -> None:
    async with link_to_target(0.0) as (link, target):
        link.cut()
        _, writer = await connect(link)
        writer.write(b"hello")
        while not link.statistics().bytes_held:
            await asyncio.sleep(0)
        assert target.accepted.empty()
        link.heal()
        far_reader, _ = await target.accepted.get()
        assert await far_reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_link_cut_with_reset_breaks_and_refuses() -> None:
    async with link_to_target(0.0) as (link, target):
        reader, writer = await connect(link)
        far_reader, _ = await target.accepted.get()
        link.cut(reset=True)
        for side in (reader, far_reader):
            with pytest.raises(ConnectionResetError):
                await side.readexactly(1)
        assert link.statistics().connections_open == 0
        refused, refused_writer = await connect(link)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await refused.readexactly(1)
        assert link.statistics().connections_refused == 1
        link.heal()
        _, again = await connect(link)
        again.write(b"x")
        far_reader, _ = await target.accepted.get()
        assert await far_reader.readexactly(1) == b"x"
        for one in (writer, refused_writer, again):
            one.close()


async def test_a_target_that_does_not_listen_refuses() -> None:
    async with link_to_target(0.0) as (link, target):
        await target.stop()
        reader, writer = await connect(link)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        while link.statistics().connections_open:
            await asyncio.sleep(0)
        assert link.statistics().connections_refused == 1
        writer.close()


async def test_many_connections_do_not_mix() -> None:
    async with link_to_target(0.005, jitter_s=0.01) as (link, target):
        pairs = [await connect(link) for _ in range(30)]
        for number, (_, writer) in enumerate(pairs):
            writer.write(bytes([number]) * 1_000)
            writer.write_eof()
        bodies = set()
        for _ in pairs:
            far_reader, _ = await target.accepted.get()
            bodies.add(await far_reader.read())
        assert bodies == {bytes([number]) * 1_000 for number in range(30)}
        assert link.statistics().bytes_to_target == 30_000
        for _, writer in pairs:
            writer.close()


async def test_a_stopped_link_has_no_address_and_may_be_stopped_again() -> None:
    async with link_to_target(0.0) as (link, _):
        reader, writer = await connect(link)
        await link.stop()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        with pytest.raises(RuntimeError):
            _ = link.address
        await link.stop()
        writer.close()


def test_a_link_runs_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        async with link_to_target(0.01) as (link, target):
            reader, writer = await connect(link)
            writer.write(b"ping")
            writer.write_eof()
            far_reader, far_writer = await target.accepted.get()
            assert await far_reader.read() == b"ping"
            far_writer.write(b"pong")
            far_writer.close()
            assert await reader.read() == b"pong"
            while link.statistics().connections_open:
                await asyncio.sleep(0)
            writer.close()
            refused, refused_writer = await connect(link)
            link.cut(reset=True)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await refused.readexactly(1)
            refused_writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_impossible_delays_are_refused() -> None:
    with pytest.raises(ValueError, match="delays"):
        DelayLink(target_host="127.0.0.1", target_port=1, one_way_s=-1.0)
    assert LinkConnection.__doc__
