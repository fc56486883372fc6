"""Long calls do not queue behind each other on one connection."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from fake_node import FakeNode, Hang

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client._channel import LONG_CALLS_PER_CONNECTION, Lines


def test_short_calls_share_the_first_line() -> None:
    lines = Lines()
    with lines.line("a:1", is_long=False) as first, lines.line("a:1", is_long=False) as second:
        assert first == second == 0


def test_long_calls_fill_one_line_after_another() -> None:
    lines = Lines()
    with ExitStack() as stack:
        taken = [
            stack.enter_context(lines.line("a:1", is_long=True))
            for _ in range(2 * LONG_CALLS_PER_CONNECTION + 1)
        ]
        assert taken[0] == 1
        assert [taken.count(n) for n in (1, 2, 3)] == [
            LONG_CALLS_PER_CONNECTION,
            LONG_CALLS_PER_CONNECTION,
            1,
        ]
        assert stack.enter_context(lines.line("b:1", is_long=True)) == 1
    with lines.line("a:1", is_long=True) as again:
        assert again == 1


def test_a_line_is_free_again_when_its_call_failed() -> None:
    lines = Lines()
    for _ in range(LONG_CALLS_PER_CONNECTION + 1):
        with pytest.raises(ZeroDivisionError), lines.line("a:1", is_long=True) as number:
            assert number / 0
    assert lines._calls == {"a:1": [0]}


async def test_more_waits_than_a_connection_allows_are_all_served() -> None:
    node = await FakeNode().start(options=(("grpc.max_concurrent_streams", 120),))
    count = 300
    node.script["WaitRequest"].extend([Hang] * count)
    async with AsyncClient(node.address) as client:
        waits = [asyncio.create_task(client.wait_request("r")) for _ in range(count)]
        async with asyncio.timeout(20):
            while len(node.received_of(pb.WaitRequestRequest)) < count:
                node.call_arrived.clear()
                await node.call_arrived.wait()
            await client.register_branch("s")  # and a short call is not behind them
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    await node.stop()
