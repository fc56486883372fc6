"""Wait leases: only when needed, kept alive, ended however the wait ends (semantics R7, S5)."""

from __future__ import annotations

import pytest
from node_bench import R1, NodeBench, branch, close, scope

from rendezvous_raft import errors
from rendezvous_raft.core.commands import BeginWait, Command, EndWait, Pulse, Scope
from rendezvous_raft.testing.virtual_time import advance, now_s, settle
from rendezvous_raft.types import LeaseId, RequestId, WaitOutcome

USING_S5 = [scope(zone="a"), scope("post", waiter="reader"), scope(zone="", waiter="reader")]
NOT_USING_S5 = [scope(), scope("post", zone="a"), scope(region="eu")]


def begun(bench: NodeBench) -> list[BeginWait]:
    return [command for command in bench.engine.proposed if isinstance(command, BeginWait)]


def ended(bench: NodeBench) -> list[Command]:
    return bench.engine.proposed_of(EndWait)


@pytest.mark.parametrize("in_scope", USING_S5, ids=str)
async def test_a_blocked_wait_that_uses_s5_is_told_to_all(
    bench: NodeBench, in_scope: Scope
) -> None:
    # semantics: R7
    bench.opened(branch("b1", "eu", zone="z"))
    call = await bench.blocked(bench.wait(in_scope))
    (lease,) = bench.engine.state.state.leases.values()
    assert (lease.request_id, lease.node, lease.scope) == ("r1", "n1", in_scope)
    bench.elsewhere(bench.closing(close("b1", "eu")))
    await call
    await settle()
    assert bench.engine.state.state.leases == {}
    assert (len(begun(bench)), len(ended(bench))) == (1, 1)


@pytest.mark.parametrize("in_scope", NOT_USING_S5, ids=str)
async def test_a_blocked_wait_that_does_not_use_s5_is_not_told(
    bench: NodeBench, in_scope: Scope
) -> None:
    # semantics: R7
    bench.opened(branch("b1", "eu", zone="z"))
    await bench.blocked(bench.wait(in_scope))
    assert bench.engine.proposed == []


@pytest.mark.parametrize("in_scope", USING_S5, ids=str)
async def test_a_wait_that_is_not_blocked_is_not_told(bench: NodeBench, in_scope: Scope) -> None:
    # semantics: R7
    bench.opened(branch("b1", "eu", service="other", zone="a"))
    bench.elsewhere(bench.closing(close("b1", "eu")))
    assert (await bench.wait(in_scope)).outcome is WaitOutcome.IMMEDIATE
    await settle()
    assert bench.engine.proposed == []


async def test_a_lease_is_renewed_while_the_wait_lasts(bench: NodeBench) -> None:
    # semantics: R7
    bench.opened(branch("b1", zone="z"))
    await bench.blocked(bench.wait(scope(zone="a"), timeout_s=28))
    for _ in range(4):
        await advance(4.9)
        bench.elsewhere(Pulse(bench.ids.command_id(), 4_900))
        assert len(bench.engine.state.state.leases) == 1
    ids = {command.lease_id for command in begun(bench)}
    assert len(ids) == 1
    assert len({command.command_id for command in begun(bench)}) == len(begun(bench)) == 6


async def test_a_lease_of_a_dead_node_ends_by_the_pulse(bench: NodeBench) -> None:
    # semantics: R7, R7.2
    bench.opened(branch("b1", zone="z"))
    dead = BeginWait(
        bench.ids.command_id(), LeaseId("l"), RequestId("r1"), "n9", scope(zone="z"), 10_000
    )
    bench.elsewhere(dead)
    bench.elsewhere(Pulse(bench.ids.command_id(), 9_999))
    assert list(bench.engine.state.state.leases) == ["l"]
    bench.elsewhere(Pulse(bench.ids.command_id(), 1))
    assert bench.engine.state.state.leases == {}


async def test_a_wait_is_released_when_another_node_tells_of_its_own(bench: NodeBench) -> None:
    """Two zones that wait for each other: the lesser goes on when the greater is blocked too."""
    # semantics: S5, R7
    bench.opened(branch("x", zone="b"), branch("y", zone="a"))
    lesser = await bench.blocked(bench.wait(scope(zone="a")))
    greater = await bench.blocked(bench.wait(scope(zone="b")))
    assert (await lesser).outcome is WaitOutcome.BLOCKED
    assert now_s() == 1_000
    assert not greater.done()
    bench.elsewhere(bench.closing(close("y")))
    assert (await greater).outcome is WaitOutcome.BLOCKED


async def test_a_cancelled_wait_ends_its_lease(bench: NodeBench) -> None:
    # semantics: R7, G7, G7.1, R7.1
    bench.opened(branch("b1", zone="z"))
    call = await bench.blocked(bench.wait(scope(zone="a")))
    call.cancel()
    await settle()
    assert bench.engine.state.state.leases == {}
    assert len(ended(bench)) == 1
    await advance(60)
    assert len(begun(bench)) == 1


async def test_a_timed_out_wait_ends_its_lease(bench: NodeBench) -> None:
    # semantics: R7, R7.1
    bench.opened(branch("b1", zone="z"))
    answer = await bench.wait(scope(zone="a"), timeout_s=1)
    assert answer.outcome is WaitOutcome.TIMED_OUT
    await settle()
    assert bench.engine.state.state.leases == {}


async def test_a_wait_does_not_wait_for_its_lease(bench: NodeBench) -> None:
    # semantics: R5, R7
    bench.opened(branch("b1", zone="z"))
    bench.engine.holding = True
    call = await bench.blocked(bench.wait(scope(zone="a")))
    bench.elsewhere(bench.closing(close("b1")))
    assert (await call).outcome is WaitOutcome.BLOCKED
    assert now_s() == 1_000


async def test_a_lease_that_could_not_be_told_is_told_at_the_next_renewal(
    bench: NodeBench,
) -> None:
    # semantics: R7
    bench.opened(branch("b1", zone="z"))
    bench.engine.fail_next(errors.NoLeader("none"))
    await bench.blocked(bench.wait(scope(zone="a")))
    assert bench.engine.state.state.leases == {}
    await advance(3.4)
    assert len(bench.engine.state.state.leases) == 1


async def test_an_end_that_got_lost_is_said_again(bench: NodeBench) -> None:
    """The wait is over, so its lease masks nothing for longer than it takes to say so."""
    # semantics: R7.1, G7.1
    bench.opened(branch("x", zone="a"), branch("y", zone="z"))
    call = await bench.blocked(bench.wait(scope(zone="z")))
    bench.engine.fail_next(errors.LeaderChanged("lost"))
    call.cancel()
    await settle()
    assert len(bench.engine.state.state.leases) == 1
    bench.engine.fail_next(errors.NoLeader("none yet"))
    for left in (1, 0):
        await bench.node._expiry.pulse()
        await settle()
        assert len(bench.engine.state.state.leases) == left
    assert now_s() == 1_000
    await bench.blocked(bench.wait(scope(zone="a")))


async def test_a_lease_whose_begin_is_never_answered_ends_with_its_wait(bench: NodeBench) -> None:
    """A snapshot is installed instead of the entry that would have answered."""
    # semantics: R7.1, G7.1
    bench.opened(branch("b1", "eu", zone="z"))
    bench.engine.holding = True
    call = await bench.blocked(bench.wait(scope(zone="a")))
    (begin,) = begun(bench)
    bench.engine.lose()
    bench.elsewhere(begin)
    bench.engine.holding = False
    call.cancel()
    await settle()
    assert len(bench.engine.state.state.leases) == 1
    bench.node._leases.end_strays()
    await settle()
    assert bench.engine.state.state.leases == {}


async def test_a_node_that_starts_anew_ends_the_leases_of_its_earlier_life(
    bench: NodeBench,
) -> None:
    # semantics: R7, R7.1
    bench.opened(branch("b1", zone="z"))
    for name, lease_id in (("n1", "before"), ("n9", "other")):
        told = BeginWait(
            bench.ids.command_id(), LeaseId(lease_id), R1, name, scope(zone="y"), 10_000
        )
        bench.elsewhere(told)
    mine = await bench.blocked(bench.wait(scope(zone="a")))
    await bench.node._expiry.pulse()
    await settle()
    assert [lease.node for lease in bench.engine.state.state.leases.values()] == ["n9", "n1"]
    assert len(ended(bench)) == 1
    assert not mine.done()
    await bench.node._expiry.pulse()
    await settle()
    assert len(ended(bench)) == 1


async def test_strays_are_ended_once_at_a_time(bench: NodeBench) -> None:
    # semantics: R7.1
    bench.opened(branch("b1", zone="z"))
    lease = BeginWait(bench.ids.command_id(), LeaseId("before"), R1, "n1", scope(zone="y"), 10_000)
    bench.elsewhere(lease)
    bench.engine.holding = True
    for _ in range(3):
        bench.node._leases.end_strays()
        await settle()
    assert len(ended(bench)) == 1
    bench.engine.holding = False
    bench.engine.commit()
    await settle()
    assert bench.engine.state.state.leases == {}


async def test_an_end_that_got_lost_with_its_node_is_ended_by_the_pulse(bench: NodeBench) -> None:
    # semantics: R7, R7.2
    bench.opened(branch("b1", zone="z"))
    call = await bench.blocked(bench.wait(scope(zone="a")))
    bench.engine.fail_next(errors.LeaderChanged("lost"))
    call.cancel()
    await settle()
    assert len(bench.engine.state.state.leases) == 1
    bench.elsewhere(Pulse(bench.ids.command_id(), 10_000))
    assert bench.engine.state.state.leases == {}
