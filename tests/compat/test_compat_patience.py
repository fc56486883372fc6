"""The time-out of a wait covers all of it, becoming fresh included."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from lone_node import LoneNode

from rendezvous_raft import errors
from rendezvous_raft._proto.compat import main_pb2, words23_pb2
from rendezvous_raft.server.compat.main_service import MainService
from rendezvous_raft.server.compat.words23_service import Words23Service
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.testing.virtual_time import advance, now_s, run_virtual

WIRES = [(MainService, main_pb2, {"acsl": "z"}), (Words23Service, words23_pb2, {})]
wires = pytest.mark.parametrize(("wire", "pb", "fields"), WIRES, ids=["main", "words23"])


class Call:
    """Of a client whose own deadline is far away."""

    def __init__(self, clock: LoopClock) -> None:
        self.deadline_s = clock.monotonic_s() + 30.0


def waiting(wire: Any, pb: Any, **fields: Any) -> tuple[LoneNode, Coroutine[Any, Any, Any]]:
    """A wait of two seconds at a node with an open branch and no leader."""
    lone = LoneNode()
    lone.register("b:r", "r")
    lone.engine.confirming = False
    request = pb.WaitRequestMessage(rid="r", timeout=2, **fields)
    return lone, wire(lone.node).wait_request(request, Call(lone.clock))


def times_out_in_time(wire: Any, pb: Any, **fields: Any) -> None:
    """Fails unless a wait that becomes fresh late ends by its time-out all the same."""

    async def story() -> None:
        lone, call = waiting(wire, pb, **fields)
        begun_s = now_s()
        wait = asyncio.ensure_future(call)
        await advance(1.5)
        lone.engine.confirm()
        assert (await wait).timed_out
        assert now_s() - begun_s == pytest.approx(2.0)
        await lone.node.close()

    run_virtual(story())


@wires
def test_a_wait_that_cannot_become_fresh_ends_with_its_timeout(
    wire: Any, pb: Any, fields: dict[str, str]
) -> None:
    # semantics: R3.2
    async def story() -> None:
        lone, call = waiting(wire, pb, **fields)
        begun_s = now_s()
        with pytest.raises(errors.NoLeader):
            await call
        assert now_s() - begun_s == pytest.approx(2.0)
        await lone.node.close()

    run_virtual(story())


@wires
def test_becoming_fresh_is_part_of_the_timeout(wire: Any, pb: Any, fields: dict[str, str]) -> None:
    # semantics: R3.2
    times_out_in_time(wire, pb, **fields)


def test_becoming_fresh_is_part_of_what_async_waits() -> None:
    # semantics: R3.2
    times_out_in_time(Words23Service, words23_pb2, **{"service": "later", "async": True})
