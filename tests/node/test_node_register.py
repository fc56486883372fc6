"""Registering: ids, stamps, all or nothing, waiting for parents (semantics W1 to W3)."""

from __future__ import annotations

import pytest
from node_bench import R1, NodeBench, branch, close, failure_of

from rendezvous_raft import errors
from rendezvous_raft.core.commands import RegisterBranches
from rendezvous_raft.core.results import RequestRegistered
from rendezvous_raft.testing.virtual_time import advance, now_s
from rendezvous_raft.types import BranchId


async def test_a_request_is_registered_once(bench: NodeBench) -> None:
    # semantics: W1, G2, G3
    first = await bench.node.register_request(R1, deadline_s=bench.deadline_s)
    again = await bench.node.register_request(R1, deadline_s=bench.deadline_s)
    assert first == (RequestRegistered(R1, created=True), 1)
    assert again == (RequestRegistered(R1, created=False), 2)


async def test_branches_create_their_request_and_are_stamped(bench: NodeBench) -> None:
    # semantics: W2, W3, L1
    revision = await bench.register(branch("b1", "eu"), branch("b2", parent="b1"))
    assert revision == 1
    (command,) = bench.engine.proposed
    assert isinstance(command, RegisterBranches)
    assert command.at_ms == bench.clock.wall_ms()
    assert list(bench.engine.state.state.branches) == ["b1", "b2"]
    assert bench.book.registered == [("post", 1), ("post", 1)]
    assert bench.book.proposals == ["applied"]


async def test_a_rejection_is_an_error_and_changes_nothing(bench: NodeBench) -> None:
    # semantics: G2, W3, G2.1
    await bench.register(branch("b1", "eu"))
    with pytest.raises(errors.AlreadyExists) as failed:
        await bench.register(branch("b2", "eu"), branch("b1", "us"))
    assert failed.value.revision == 2
    assert list(bench.engine.state.state.branches) == ["b1"]
    assert bench.book.proposals == ["applied", "rejected"]


async def test_every_try_has_a_command_id_of_its_own(bench: NodeBench) -> None:
    # semantics: 5.3
    await bench.register(branch("b1", "eu"))
    await bench.register(branch("b1", "eu"))
    ids = [command.command_id for command in bench.engine.proposed]
    assert len(set(ids)) == 2


async def test_an_unknown_parent_is_not_found_at_once(bench: NodeBench) -> None:
    # semantics: W2, W2.3
    with pytest.raises(errors.BranchNotFound, match="p1"):
        await bench.register(branch("b1", parent="p1"))
    assert R1 not in bench.engine.state.state.requests
    assert len(bench.engine.proposed) == 1


async def test_a_parent_is_awaited_and_the_registration_tried_again(bench: NodeBench) -> None:
    # semantics: W2, W2.4
    call = await bench.blocked(bench.register(branch("b1", parent="p1"), await_s=5))
    await advance(4.9)
    assert not call.done()
    bench.opened(branch("p1"))
    assert await call == 3
    assert "b1" in bench.engine.state.state.branches
    assert len(bench.engine.proposed) == 2
    bench.nothing_is_left()


async def test_every_parent_is_awaited(bench: NodeBench) -> None:
    # semantics: W2, W3, W2.4
    batch = [branch("b1", parent="p1"), branch("b2", parent="p2"), branch("b3", parent="b1")]
    call = await bench.blocked(bench.register(*batch, await_s=5))
    bench.opened(branch("p2"))
    await advance(1)
    assert not call.done()
    bench.opened(branch("p1"))
    await call
    assert list(bench.engine.state.state.branches) == ["p2", "p1", "b1", "b2", "b3"]


async def test_patience_ends(bench: NodeBench) -> None:
    # semantics: W2, G7, W2.4
    started_s = now_s()
    with pytest.raises(errors.BranchNotFound):
        await bench.register(branch("b1", parent="p1"), await_s=5)
    assert now_s() - started_s == pytest.approx(5)
    bench.nothing_is_left()


@pytest.mark.parametrize("parent", ["b1", "b2"], ids=["itself", "a later one"])
async def test_a_parent_that_does_not_come_before_is_awaited_like_any_other(
    bench: NodeBench, parent: str
) -> None:
    """Trying again and again would fill the log, and the memory of answers."""
    # semantics: W2.3, W3.1
    call = await bench.blocked(bench.register(branch("b1", parent=parent), branch("b2"), await_s=5))
    await advance(4.9)
    assert len(bench.engine.proposed) == 1
    await advance(0.2)
    assert isinstance(await failure_of(call), errors.BranchNotFound)
    assert len(bench.engine.proposed) == 1
    bench.nothing_is_left()


async def test_patience_ends_with_the_deadline_of_the_call(bench: NodeBench) -> None:
    # semantics: W2.4, W4.5
    bench.timeout_s = 2.0
    started_s = now_s()
    with pytest.raises(errors.BranchNotFound):
        await bench.register(branch("b1", parent="p1"), await_s=1e9)
    assert now_s() - started_s == pytest.approx(2)
    assert await bench.close_all(close("p1", "eu"), await_s=1e9) == ["branch_unknown"]
    assert now_s() - started_s == pytest.approx(4)
    bench.nothing_is_left()


async def test_a_cancelled_registration_awaits_no_more(bench: NodeBench) -> None:
    # semantics: G7
    call = await bench.blocked(bench.register(branch("b1", parent="p1"), await_s=5))
    call.cancel()
    await advance(0)
    bench.nothing_is_left()
    bench.opened(branch("p1"))
    await advance(10)
    assert len(bench.engine.proposed) == 1


async def test_a_parent_of_another_request_is_not_awaited(bench: NodeBench) -> None:
    # semantics: W2, W2.5
    bench.opened(branch("p1"), request_id="other")
    started_s = now_s()
    with pytest.raises(errors.InvalidArgument, match="another request"):
        await bench.register(branch("b1", parent="p1"), await_s=5)
    assert now_s() == started_s


async def test_a_parent_that_a_snapshot_brings_ends_the_patience(bench: NodeBench) -> None:
    # semantics: W2, W2.4
    call = await bench.blocked(bench.register(branch("b1", parent="p1"), await_s=5))
    bench.engine.lagging = True
    bench.opened(branch("p1"))
    bench.engine.catch_up_by_snapshot()
    bench.engine.lagging = False
    await call
    assert bench.engine.state.state.branches[BranchId("b1")].parent_branch_id == "p1"


async def test_the_outcome_of_a_failed_proposal_is_told(bench: NodeBench) -> None:
    # semantics: G6
    bench.engine.fail_next(errors.LeaderChanged("lost"), takes_effect=True)
    with pytest.raises(errors.LeaderChanged) as failed:
        await bench.register(branch("b1", "eu"))
    assert not failed.value.definite
    assert failed.value.retryable
    assert await bench.register(branch("b1", "eu")) == 2
    assert bench.book.proposals == ["leader_changed", "applied"]
    bench.nothing_is_left()


async def test_a_lost_proposal_ends_at_the_deadline(bench: NodeBench) -> None:
    # semantics: G6, G7
    bench.engine.holding = True
    call = await bench.blocked(bench.register(branch("b1", "eu")))
    bench.engine.lose()
    with pytest.raises(errors.ProposalTimeout):
        await call
    assert bench.book.proposals == ["proposal_timeout"]
    bench.nothing_is_left()


async def test_a_cancelled_proposal_is_counted_as_such(bench: NodeBench) -> None:
    # semantics: G7
    bench.engine.holding = True
    call = await bench.blocked(bench.register(branch("b1", "eu")))
    call.cancel()
    await advance(0)
    assert bench.book.proposals == ["cancelled"]
    bench.nothing_is_left()
