"""The pulse: who sends it, how much time it brings, what it drops (semantics L1, L2, 5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from node_bench import NodeBench, branch, close, failure_of, scope

from rendezvous_raft import errors
from rendezvous_raft.core.commands import ExpireRequests, Pulse
from rendezvous_raft.limits import COMMAND_BYTES_MAX, NodeLimits
from rendezvous_raft.replication.codec import encode_command
from rendezvous_raft.testing.virtual_time import advance, now_s
from rendezvous_raft.types import RequestId, Role

LIMITS = NodeLimits(settled_ttl_ms=20_000, open_ttl_ms=40_000, tombstone_ttl_ms=100_000)


@pytest.fixture
async def bench() -> AsyncIterator[NodeBench]:
    """A node with short lives, whose pulse is given by hand."""
    bench = NodeBench(limits=LIMITS)
    yield bench
    await bench.close()


async def pulse(bench: NodeBench, seconds: float = 1.0) -> None:
    await advance(seconds)
    await bench.node._expiry.pulse()


async def live(bench: NodeBench, seconds: int) -> None:
    for _ in range(seconds):
        await pulse(bench)


def elapsed(bench: NodeBench) -> list[int]:
    return [command.elapsed_ms for command in bench.engine.proposed if isinstance(command, Pulse)]


def expiries(bench: NodeBench) -> list[ExpireRequests]:
    return [command for command in bench.engine.proposed if isinstance(command, ExpireRequests)]


async def test_time_is_what_the_leader_has_measured_since_its_last_pulse(bench: NodeBench) -> None:
    # semantics: L1
    bench.opened(branch("b1"))
    await pulse(bench)
    await pulse(bench, 1.0)
    await pulse(bench, 1.25)
    assert elapsed(bench) == [1_000, 1_250]
    assert bench.engine.state.state.time_ms == 2_250


async def test_a_long_pause_brings_no_more_than_the_cap(bench: NodeBench) -> None:
    # semantics: L1
    bench.opened(branch("b1"))
    await pulse(bench)
    await pulse(bench, 3_600)
    assert elapsed(bench) == [LIMITS.pulse_elapsed_ms_max]


async def test_a_wall_clock_that_jumps_moves_nothing(bench: NodeBench) -> None:
    # semantics: L1, L1.1
    bench.opened(branch("b1"))
    await pulse(bench)
    bench.clock.wall_jump_ms = 10**9
    await pulse(bench)
    assert elapsed(bench) == [1_000]


async def test_only_the_leader_pulses(bench: NodeBench) -> None:
    # semantics: L1
    bench.opened(branch("b1"))
    bench.engine.role = Role.FOLLOWER
    await live(bench, 3)
    bench.engine.role = Role.CANDIDATE
    await live(bench, 3)
    assert bench.engine.proposed == []


async def test_a_new_leader_starts_from_zero(bench: NodeBench) -> None:
    """Time that nobody measured as a leader does not exist."""
    # semantics: L1
    bench.opened(branch("b1"))
    await live(bench, 2)
    bench.engine.role = Role.FOLLOWER
    await live(bench, 5)
    bench.engine.role = Role.LEADER
    await live(bench, 2)
    assert elapsed(bench) == [1_000, 1_000]


async def test_an_empty_cluster_gets_no_pulses(bench: NodeBench) -> None:
    # semantics: L1
    await live(bench, 5)
    assert bench.engine.proposed == []
    bench.opened(branch("b1"))
    await pulse(bench)
    assert elapsed(bench) == [1_000]


async def test_a_pulse_of_unknown_outcome_is_not_sent_again(bench: NodeBench) -> None:
    """Time may lag, it must not run ahead."""
    # semantics: L1
    bench.opened(branch("b1"))
    await pulse(bench)
    bench.engine.fail_next(errors.LeaderChanged("unknown"), takes_effect=True)
    await pulse(bench)
    bench.engine.fail_next(errors.ProposalTimeout("unknown"))
    await pulse(bench)
    await pulse(bench)
    assert elapsed(bench) == [1_000, 1_000, 1_000]
    assert len({command.command_id for command in bench.engine.proposed}) == 3
    assert bench.engine.state.state.time_ms == 2_000


async def test_without_a_majority_time_stands_still_and_the_pulse_goes_on(
    bench: NodeBench,
) -> None:
    # semantics: L1
    bench.opened(branch("b1"))
    await bench.node.open()
    await advance(2.5)
    bench.engine.holding = True
    await advance(20)
    bench.engine.lose()
    bench.engine.holding = False
    before_ms = bench.engine.state.state.time_ms
    await advance(5)
    assert before_ms == 1_000
    assert bench.engine.state.state.time_ms > before_ms


async def test_settled_requests_go_first_open_ones_later(bench: NodeBench) -> None:
    # semantics: L2
    bench.opened(branch("b1"), request_id="settled")
    bench.opened(branch("b2"), request_id="open")
    bench.elsewhere(bench.closing(close("b1")))
    await live(bench, 20)
    assert list(bench.engine.state.state.requests) == ["settled", "open"]
    await live(bench, 1)
    assert list(bench.engine.state.state.requests) == ["open"]
    await live(bench, 20)
    assert list(bench.engine.state.state.requests) == []
    assert bench.book.expired == [("settled", 1), ("open", 1)]


async def test_nothing_is_proposed_while_nothing_is_old(bench: NodeBench) -> None:
    # semantics: L2
    bench.opened(branch("b1"))
    await live(bench, 40)
    assert expiries(bench) == []
    await live(bench, 1)
    assert len(expiries(bench)) == 1


async def test_tombstones_end_and_then_the_pulses_do(bench: NodeBench) -> None:
    # semantics: L2, L2.3
    bench.opened(branch("b1"))
    await live(bench, 41)
    assert list(bench.engine.state.state.tombstones) == ["r1"]
    await live(bench, 100)
    assert bench.engine.state.state.tombstones == {}
    proposed = len(bench.engine.proposed)
    await live(bench, 5)
    assert len(bench.engine.proposed) == proposed


async def test_a_request_with_a_waiter_here_stays(bench: NodeBench) -> None:
    # semantics: L2, 5.2, L2.2
    bench.opened(branch("b1"))
    bench.opened(branch("b2"), request_id="r2")
    call = await bench.blocked(bench.wait(scope(), timeout_s=300, deadline_s=now_s() + 300))
    await live(bench, 60)
    assert list(bench.engine.state.state.requests) == ["r1"]
    call.cancel()
    await live(bench, 1)
    assert bench.engine.state.state.requests == {}


async def test_a_request_with_a_waiter_elsewhere_stays(bench: NodeBench) -> None:
    # semantics: L2, 5.2, L2.2
    bench.opened(branch("b1"))
    bench.engine.parked_by_others = (RequestId("r1"), RequestId("gone"))
    await live(bench, 60)
    assert list(bench.engine.state.state.requests) == ["r1"]
    assert expiries(bench) == []
    bench.engine.parked_by_others = ()
    await live(bench, 1)
    assert bench.engine.state.state.requests == {}


async def test_a_waiter_that_parks_during_the_pulse_is_seen(bench: NodeBench) -> None:
    # semantics: L2, L2.2
    bench.opened(branch("b1"))
    await live(bench, 40)
    bench.engine.holding = True
    await advance(1)
    pulsing = await bench.blocked(bench.node._expiry.pulse())
    await bench.blocked(bench.wait(timeout_s=300, deadline_s=now_s() + 300))
    bench.engine.holding = False
    bench.engine.commit()
    await pulsing
    assert list(bench.engine.state.state.requests) == ["r1"]


async def test_followers_report_what_is_waited_for(bench: NodeBench) -> None:
    # semantics: 5.2
    bench.engine.role = Role.FOLLOWER
    await pulse(bench)
    bench.opened(branch("b1"))
    await bench.blocked(bench.wait())
    await bench.blocked(bench.wait())
    await pulse(bench)
    assert bench.engine.reported == [(), ("r1",)]


async def test_leaders_report_to_nobody(bench: NodeBench) -> None:
    # semantics: 5.2
    bench.opened(branch("b1"))
    await bench.blocked(bench.wait())
    await live(bench, 2)
    assert bench.engine.reported == []


async def test_an_expiry_fits_into_a_command_however_many_wait(bench: NodeBench) -> None:
    """Only what is old enough to be dropped is named."""
    # semantics: L2, L3
    waited = tuple(RequestId(f"{i:0128}") for i in range(5_000))
    bench.opened(branch("b0"), request_id="old")
    await live(bench, 32)
    for request_id in waited:
        bench.opened(branch(f"b{request_id[-9:]}"), request_id=request_id)
    bench.engine.parked_by_others = waited
    await live(bench, 10)
    (command,) = expiries(bench)
    assert command.keep == ()
    assert len(encode_command(command)) < COMMAND_BYTES_MAX
    assert "old" not in bench.engine.state.state.requests


async def test_what_is_too_much_for_one_command_takes_more(bench: NodeBench) -> None:
    # semantics: L2
    bench = NodeBench(limits=NodeLimits(open_ttl_ms=10_000, expire_requests_max=2))
    for i in range(5):
        bench.opened(branch(f"b{i}"), request_id=f"r{i}")
    await live(bench, 11)
    assert len(expiries(bench)) == 3
    assert bench.engine.state.state.requests == {}


async def test_an_expiry_that_fails_is_tried_at_the_next_pulse(bench: NodeBench) -> None:
    # semantics: L2
    bench.opened(branch("b1"))
    await live(bench, 40)
    bench.engine.holding = True
    await advance(1)
    pulsing = await bench.blocked(bench.node._expiry.pulse())
    bench.engine.fail_next(errors.NoLeader("none"))
    bench.engine.commit()
    assert await failure_of(pulsing) is None
    assert len(expiries(bench)) == 1
    assert list(bench.engine.state.state.requests) == ["r1"]
    bench.engine.holding = False
    await live(bench, 1)
    assert len(expiries(bench)) == 2
    assert bench.engine.state.state.requests == {}


async def test_the_pulse_ends_when_it_is_cancelled(bench: NodeBench) -> None:
    running = bench.start(bench.node._expiry.run())
    await advance(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_a_pulse_that_fails_is_told_of_and_time_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were the pulse's task to end, nothing would ever expire, and nobody would know why."""
    # semantics: L1
    bench = NodeBench(limits=LIMITS)
    await bench.node.open()
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, report: told.append(report["exception"]))
    fault, keep = RuntimeError("a bug"), bench.node._groups.keep

    def fail_once() -> None:
        monkeypatch.setattr(bench.node._groups, "keep", keep)
        raise fault

    monkeypatch.setattr(bench.node._groups, "keep", fail_once)
    bench.opened(branch("b1"))
    await advance(3.5)
    assert told == [fault]
    assert bench.engine.state.state.time_ms >= 1_000
    loop.set_exception_handler(None)
    await bench.close()
