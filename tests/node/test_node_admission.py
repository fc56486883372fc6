"""Bounds of one node: beyond them it says so at once (semantics L3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from node_bench import R1, NodeBench, branch, close, failure_of

from rendezvous_raft import errors, limits
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.testing.virtual_time import settle


async def test_waits_in_progress_are_bounded() -> None:
    # semantics: L3
    bench = NodeBench(limits=NodeLimits(waiters_max=2))
    bench.opened(branch("b1"))
    calls = [await bench.blocked(bench.wait()) for _ in range(2)]
    error = await failure_of(bench.wait())
    assert isinstance(error, errors.Overloaded)
    assert error.definite
    assert error.retryable
    assert error.details == {"limit": "waiters_max"}
    assert bench.book.limits == ["waiters_max"]
    assert bench.book.waits == [("overloaded", "", False)]
    calls[0].cancel()
    await settle()
    await bench.blocked(bench.wait())
    await bench.close()


async def test_who_awaits_a_registration_counts_as_a_wait_and_not_as_a_proposal() -> None:
    # semantics: L3, W2.4, W4.5
    bench = NodeBench(limits=NodeLimits(proposals_in_flight_max=2, waiters_max=2))
    calls = [
        await bench.blocked(bench.close_all(close("unknown", "eu"), await_s=60)),
        await bench.blocked(bench.register(branch("b1", parent="unknown"), await_s=60)),
    ]
    assert await bench.register(branch("b2")) > 0
    error = await failure_of(bench.close_all(close("unknown", "eu"), await_s=60))
    assert isinstance(error, errors.Overloaded)
    assert error.details == {"limit": "waiters_max"}
    bench.opened(branch("unknown", "eu"))
    assert await calls[0] == ["closed"]
    assert await calls[1] > 0
    bench.nothing_is_left()
    await bench.close()


@pytest.mark.parametrize("kind", ["request", "branches", "closes"])
async def test_proposals_in_flight_are_bounded(kind: str) -> None:
    # semantics: L3
    bench = NodeBench(limits=NodeLimits(proposals_in_flight_max=2))
    bench.engine.holding = True
    calls = [await bench.blocked(bench.register(branch(f"b{i}"))) for i in range(2)]
    again = {
        "request": bench.node.register_request(R1, deadline_s=bench.deadline_s),
        "branches": bench.register(branch("b9")),
        "closes": bench.close_all(close("b9")),
    }
    for name, call in again.items():
        if name != kind:
            call.close()
    error = await failure_of(again[kind])
    assert isinstance(error, errors.Overloaded)
    assert error.details == {"limit": "proposals_in_flight_max"}
    assert bench.node.statistics().proposals_in_flight == 2
    bench.engine.commit()
    for call in calls:
        await call
    assert bench.node.statistics().proposals_in_flight == 0
    await bench.close()


async def test_a_limit_of_the_state_is_counted(bench: NodeBench) -> None:
    # semantics: L3
    bench.engine.state.limits = bench.engine.state.limits.__class__(requests_open_max=1)
    await bench.register(branch("b1"))
    error = await failure_of(bench.register(branch("b2"), request_id="r2"))
    assert isinstance(error, errors.LimitExceeded)
    assert error.details == {"limit": "requests_open_max"}
    assert bench.book.limits == ["requests_open_max"]
    assert bench.book.proposals == ["applied", "rejected"]


async def test_a_fault_gives_its_place_back(bench: NodeBench) -> None:
    bench.engine.fail_next(errors.NoLeader("none"))
    assert isinstance(await failure_of(bench.register(branch("b1"))), errors.NoLeader)
    assert isinstance(await failure_of(bench.wait()), errors.RequestNotFound)
    bench.nothing_is_left()


def test_every_limit_that_is_refused_by_stands_in_the_table() -> None:
    # semantics: L3.1
    product = Path(limits.__file__).parent
    named: set[str] = set()
    for path in product.rglob("*.py"):
        if "testing" not in path.parts:
            text = path.read_text(encoding="utf-8")
            named |= set(re.findall(r'"limit": "(\w+)"', text))
            named |= set(re.findall(r'Reason\.LIMIT, "(\w+)"', text))
    assert {"requests_open_max", "command_bytes_max", "leases_max"} <= named
    assert named <= limits.as_table().keys()
    # Units stand in the names; what has none is a count.
    for name, value in limits.as_table().items():
        assert value > 0
        assert re.search(r"_(max|ms|default)$", name), name
