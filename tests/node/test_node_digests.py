"""The digest of a state is made in slices, of the state as it was when it began."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from node_bench import NodeBench, branch, close

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.model import Request
from rendezvous_raft.node.slices import REST_S, ROWS_AT_ONCE
from rendezvous_raft.testing.virtual_time import now_s, take_turns
from rendezvous_raft.types import Revision

SLICES = 5


def fill(bench: NodeBench) -> tuple[Revision, str]:
    """A state of several slices, and its digest."""
    for number in range(SLICES * ROWS_AT_ONCE):
        bench.opened(branch(f"b{number}", "eu"), request_id=f"r{number}")
    machine = bench.engine.state
    return machine.revision, snapshot.digest(machine.state)


async def test_others_get_their_turn_and_change_nothing_of_it(bench: NodeBench) -> None:
    expected = fill(bench)
    began_s = now_s()
    digest = bench.start(bench.node.digest(Revision(0), deadline_s=bench.deadline_s))
    await take_turns(2)
    last = f"b{SLICES * ROWS_AT_ONCE - 1}"
    assert await bench.close_all(close("b0", "eu"), close(last, "eu")) == ["closed", "closed"]
    bench.opened(branch("new"), request_id="new")
    assert not digest.done()
    assert await digest == expected
    assert now_s() - began_s >= SLICES * REST_S  # for the threads beside the loop
    assert bench.engine.state.watchers == []
    assert snapshot.digest(bench.engine.state.state) != expected[1]


async def test_one_is_made_at_a_time(bench: NodeBench) -> None:
    """Each copies a part of the state."""
    first_of = fill(bench)
    first, second = (
        bench.start(bench.node.digest(Revision(0), deadline_s=bench.deadline_s)) for _ in range(2)
    )
    await take_turns(2)
    assert len(bench.engine.state.watchers) == 1
    bench.opened(branch("new"), request_id="new")
    machine = bench.engine.state
    second_of = machine.revision, snapshot.digest(machine.state)
    assert (await first, await second) == (first_of, second_of)


async def test_one_that_takes_too_long_is_given_up(bench: NodeBench) -> None:
    fill(bench)
    with pytest.raises(errors.DeadlineExceeded) as failed:
        await bench.node.digest(Revision(0), deadline_s=now_s())
    assert failed.value.definite
    assert bench.engine.state.watchers == []


async def test_one_whose_time_ends_behind_another_copies_nothing(bench: NodeBench) -> None:
    expected = fill(bench)
    first = bench.start(bench.node.digest(Revision(0), deadline_s=bench.deadline_s))
    late = bench.start(bench.node.digest(Revision(0), deadline_s=now_s() + REST_S))
    await take_turns(2)
    bench.engine.state.watchers = Refusing(bench.engine.state.watchers)
    assert await first == expected
    with pytest.raises(errors.DeadlineExceeded):
        await late


class Refusing(list[Callable[[Request], None]]):
    """No other capture may begin."""

    def append(self, watcher: Callable[[Request], None]) -> None:
        raise AssertionError(f"{watcher} captures the state")


async def test_one_that_is_cancelled_leaves_nothing_behind(bench: NodeBench) -> None:
    expected = fill(bench)
    digest = bench.start(bench.node.digest(Revision(0), deadline_s=bench.deadline_s))
    await take_turns(2)
    digest.cancel()
    await take_turns(2)
    assert bench.engine.state.watchers == []
    assert await bench.node.digest(Revision(0), deadline_s=bench.deadline_s) == expected
