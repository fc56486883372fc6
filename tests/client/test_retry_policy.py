"""The policy driven by hand: no network, no clock, no chance."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from rendezvous_raft.client._policy import Attempt, CallKind, Outcome, Retries, RetryPolicy, finish
from rendezvous_raft.errors import (
    BranchNotFound,
    DeadlineExceeded,
    Disconnected,
    Draining,
    InternalError,
    InvalidArgument,
    LeaderChanged,
    LimitExceeded,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ProposalTimeout,
    RendezvousError,
    Unavailable,
    all_error_classes,
)

POLICY = RetryPolicy(
    pause_s_base=0.1,
    pause_s_max=1.0,
    attempt_s_max=3.0,
    endpoint_rest_s_base=1.0,
    endpoint_rest_s_max=8.0,
    budget_max=10.0,
    budget_per_success=0.5,
    budget_per_s=0.0,
)


class Rig:
    """One call under the policy; `fail` and `succeed` play the driver."""

    def __init__(
        self,
        retries: Retries,
        kind: CallKind,
        *,
        timeout_s: float = 10.0,
        now: float = 0.0,
        **more: float,
    ) -> None:
        self.now = now
        self.plan: Generator[Attempt, Outcome, None] = retries.attempts(
            kind, now=now, deadline=now + timeout_s, **more
        )
        self.attempt = next(self.plan)
        self.attempts = [self.attempt]

    def fail(self, error: RendezvousError, *, after_s: float = 0.0) -> Attempt:
        self.now += self.attempt.pause_s + after_s
        self.attempt = self.plan.send(Outcome(error, self.now))
        self.attempts.append(self.attempt)
        return self.attempt


def retries(*endpoints: str, policy: RetryPolicy = POLICY, chance: float = 1.0) -> Retries:
    return Retries(endpoints or ("a:1", "b:1", "c:1"), policy, chance=lambda: chance)


def deadline_exceeded(*, definite: bool) -> DeadlineExceeded:
    return DeadlineExceeded("late", definite=definite)


def test_the_nearest_endpoint_comes_first() -> None:
    for _ in range(3):
        rig = Rig(retries(), CallKind.READ)
        assert rig.attempt == Attempt("a:1", 3.0, 0.0, 1)


def test_success_ends_the_plan() -> None:
    plan = Rig(retries(), CallKind.READ).plan
    finish(plan, 1.0)
    with pytest.raises(StopIteration):
        plan.send(Outcome(None, 1.0))


@pytest.mark.parametrize("code", sorted(all_error_classes()))
@pytest.mark.parametrize("kind", [CallKind.WRITE, CallKind.READ])
def test_only_what_may_help_is_tried_again(code: str, kind: CallKind) -> None:
    cls = all_error_classes()[code]
    extra = {"definite": kind is CallKind.READ} if cls is DeadlineExceeded else {}
    error = cls("no", **extra)
    rig = Rig(retries(), kind)
    # A deadline of one attempt that is not the deadline of the call is worth another try.
    if cls.retryable or cls is DeadlineExceeded:
        assert rig.fail(error).number == 2
    else:
        with pytest.raises(cls) as caught:
            rig.fail(error)
        assert caught.value is error


def test_fail_over_is_immediate_until_every_endpoint_was_tried() -> None:
    rig = Rig(retries(), CallKind.WRITE)
    second = rig.fail(Unavailable("down"))
    third = rig.fail(Disconnected("down"))
    fourth = rig.fail(NoLeader("down"))
    assert [second.endpoint, third.endpoint] == ["b:1", "c:1"]
    assert second.pause_s == third.pause_s == 0
    assert fourth.pause_s > 0
    assert fourth.endpoint == "a:1"


def test_pauses_grow_and_are_capped() -> None:
    rig = Rig(retries("a:1"), CallKind.WRITE, timeout_s=60.0)
    pauses = [rig.fail(Disconnected("down")).pause_s for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]


def test_chance_shortens_a_pause_by_half_at_most() -> None:
    longest = Rig(retries("a:1", chance=1.0), CallKind.WRITE).fail(Overloaded("busy"))
    shortest = Rig(retries("a:1", chance=0.0), CallKind.WRITE).fail(Overloaded("busy"))
    assert (shortest.pause_s, longest.pause_s) == (0.05, 0.1)


@pytest.mark.parametrize("error", [Overloaded("x"), LeaderChanged("x"), ProposalTimeout("x")])
def test_a_cluster_in_trouble_gets_a_pause_and_not_another_node(error: RendezvousError) -> None:
    attempt = Rig(retries(), CallKind.WRITE).fail(error)
    assert attempt.endpoint == "a:1"
    assert attempt.pause_s > 0


def test_a_hint_is_followed_if_it_is_a_configured_endpoint() -> None:
    assert Rig(retries(), CallKind.WRITE).fail(NoLeader("x", leader="c:1")).endpoint == "c:1"
    assert Rig(retries(), CallKind.WRITE).fail(NoLeader("x", leader="n3")).endpoint == "b:1"
    assert Rig(retries(), CallKind.WRITE).fail(NoLeader("x", leader="a:1")).endpoint == "b:1"
    changed = Rig(retries(), CallKind.WRITE).fail(LeaderChanged("x", leader="b:1"))
    assert changed.endpoint == "b:1"
    assert changed.pause_s > 0


def test_hints_are_not_for_reads_nor_away_from_a_node_that_sheds_load() -> None:
    assert Rig(retries(), CallKind.READ).fail(NoLeader("x", leader="c:1")).endpoint == "b:1"
    assert Rig(retries(), CallKind.WRITE).fail(Overloaded("x", leader="c:1")).endpoint == "a:1"


def test_nodes_that_point_at_each_other_make_no_busy_loop() -> None:
    rig = Rig(retries("a:1", "b:1"), CallKind.WRITE)
    for _ in range(4):
        other = "b:1" if rig.attempt.endpoint == "a:1" else "a:1"
        rig.fail(Unavailable("ask the other", leader=other))
    paused = [attempt.pause_s > 0 for attempt in rig.attempts]
    assert paused == [False, False, True, False, True]


def test_one_slow_endpoint_does_not_eat_the_whole_call() -> None:
    rig = Rig(retries(), CallKind.WRITE)
    assert rig.attempt.deadline == 3.0
    following = rig.fail(deadline_exceeded(definite=False), after_s=3.0)
    assert (following.endpoint, following.deadline) == ("b:1", 6.0)


def test_a_single_endpoint_gets_all_the_time() -> None:
    assert Rig(retries("a:1"), CallKind.WRITE).attempt.deadline == 10.0
    assert Rig(retries("a:1"), CallKind.READ, blocked_until=8.0).attempt.deadline == 10.0


def test_an_order_gets_all_the_time() -> None:
    """It is not tried again once it may have happened, so a shorter attempt is of no use."""
    rig = Rig(retries(), CallKind.ORDER, timeout_s=60.0)
    assert rig.attempt.deadline == 60.0
    assert rig.fail(NoLeader("x"), after_s=4.0).deadline == 60.0


def test_a_blocking_call_leaves_time_for_another_endpoint() -> None:
    rig = Rig(retries(), CallKind.READ, blocked_until=8.0)
    assert rig.attempt.deadline == 9.0
    assert rig.fail(Draining("bye"), after_s=4.0).deadline == 9.0
    silent = rig.fail(deadline_exceeded(definite=True), after_s=5.0)
    assert (silent.endpoint, silent.deadline) == ("c:1", 10.0)


def test_a_blocking_call_has_the_patience_of_others_beside_the_block() -> None:
    rig = Rig(retries(), CallKind.WRITE, timeout_s=15.0, blocked_until=5.0)
    assert rig.attempt.deadline == 8.0
    following = rig.fail(deadline_exceeded(definite=False), after_s=8.0)
    assert (following.endpoint, following.deadline) == ("b:1", 11.0)


def test_a_block_that_takes_all_the_time_gets_it() -> None:
    assert Rig(retries(), CallKind.WRITE, blocked_until=10.0).attempt.deadline == 10.0
    assert Rig(retries(), CallKind.WRITE, blocked_until=20.0).attempt.deadline == 10.0


def test_at_the_deadline_the_last_error_is_raised() -> None:
    rig = Rig(retries(), CallKind.READ)
    error = NoLeader("none")
    with pytest.raises(NoLeader) as caught:
        rig.fail(error, after_s=10.0)
    assert caught.value is error


def test_no_pause_goes_beyond_the_deadline() -> None:
    rig = Rig(retries("a:1"), CallKind.READ, timeout_s=1.0)
    with pytest.raises(NoLeader):
        rig.fail(NoLeader("none"), after_s=0.95)


def test_an_indefinite_write_is_tried_until_the_deadline() -> None:
    rig = Rig(retries("a:1"), CallKind.WRITE)

    def fail_often() -> None:
        for _ in range(100):
            rig.fail(Disconnected("gone"))

    with pytest.raises(Disconnected):
        fail_often()
    assert 9.0 <= rig.now < 10.0
    assert len(rig.attempts) > 10  # more than the budget: not knowing is worse than trying


def test_after_an_indefinite_attempt_a_write_never_ends_definitely() -> None:
    """The first attempt may have been done, whatever the last one says."""
    rig = Rig(retries(), CallKind.WRITE)
    unknown = OutcomeUnknown("who knows")
    rig.fail(unknown)
    with pytest.raises(OutcomeUnknown) as caught:
        rig.fail(NoLeader("none"), after_s=10.0)
    assert caught.value is unknown

    rig = Rig(retries(), CallKind.WRITE)
    rig.fail(Disconnected("gone"))
    with pytest.raises(LimitExceeded) as limited:
        rig.fail(LimitExceeded("full"))
    assert limited.value.definite is False
    assert LimitExceeded.definite is True


def test_a_read_ends_with_what_was_said_last() -> None:
    rig = Rig(retries(), CallKind.READ)
    rig.fail(Unavailable("down"))
    with pytest.raises(BranchNotFound) as caught:
        rig.fail(BranchNotFound("none"))
    assert caught.value.definite


def test_an_order_is_repeated_only_when_it_was_not_done() -> None:
    assert Rig(retries(), CallKind.ORDER).fail(NoLeader("x")).number == 2
    for error in (Disconnected("x"), deadline_exceeded(definite=False), InternalError("x")):
        with pytest.raises(type(error)):
            Rig(retries(), CallKind.ORDER).fail(error)


def test_an_empty_budget_ends_definite_retries() -> None:
    shared = retries("a:1")
    rig = Rig(shared, CallKind.WRITE, timeout_s=1_000.0)
    for _ in range(10):
        rig.fail(Overloaded("busy"))
    with pytest.raises(Overloaded):
        rig.fail(Overloaded("busy"))
    with pytest.raises(NoLeader):
        Rig(shared, CallKind.READ).fail(NoLeader("none"))
    for _ in range(2):  # each success gives half a token back
        finish(Rig(shared, CallKind.READ).plan, 0.0)
    assert Rig(shared, CallKind.READ).fail(NoLeader("none")).number == 2


def test_time_fills_the_budget_again() -> None:
    shared = retries("a:1", policy=RetryPolicy(budget_max=2.0, budget_per_s=1.0))
    budget = shared.budget
    assert [budget.withdraw(0.0) for _ in range(3)] == [True, True, False]
    assert [budget.withdraw(1.0), budget.withdraw(1.0)] == [True, False]
    assert budget.withdraw(1_000.0)
    assert budget.tokens == 1.0


def test_the_next_calls_leave_a_failing_endpoint_alone_and_come_back() -> None:
    shared = retries()
    shared.endpoints.failed("a:1", 0.0)
    assert shared.endpoints.choose(0.9) == "b:1"
    assert shared.endpoints.choose(1.0) == "a:1"  # one call looks whether it is back
    assert shared.endpoints.choose(1.0) == "b:1"
    shared.endpoints.succeeded("a:1")
    assert [shared.endpoints.choose(1.1) for _ in range(2)] == ["a:1", "a:1"]


def test_rests_grow_while_failures_follow_each_other() -> None:
    endpoints = retries("a:1", "b:1").endpoints
    now = 0.0
    for rest_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        endpoints.failed("a:1", now)
        assert endpoints.choose(now + rest_s - 0.01) == "b:1"
        assert endpoints.choose(now + rest_s) == "a:1"
        now += rest_s


def test_calls_that_fail_together_count_as_one_failure() -> None:
    endpoints = retries("a:1", "b:1").endpoints
    for _ in range(1_000):
        endpoints.failed("a:1", 0.0)
    assert endpoints.choose(1.0) == "a:1"


def test_with_every_endpoint_resting_the_first_to_be_rested_is_used() -> None:
    endpoints = retries("a:1", "b:1").endpoints
    endpoints.failed("b:1", 0.0)
    endpoints.failed("a:1", 0.5)
    assert endpoints.choose(0.6) == "b:1"


def test_a_refusal_is_not_the_fault_of_the_endpoint() -> None:
    shared = retries()
    for error in (InvalidArgument("no"), PermissionDenied("no")):
        with pytest.raises(type(error)):
            Rig(shared, CallKind.WRITE).fail(error)
    assert shared.endpoints.choose(0.0) == "a:1"


@pytest.mark.parametrize("error", [BranchNotFound("none"), InvalidArgument("no")])
def test_an_endpoint_that_says_that_the_call_is_wrong_is_back(error: RendezvousError) -> None:
    """Else calls that fail by themselves kept the nearest endpoint out of service for ever."""
    shared = retries()
    shared.endpoints.failed("a:1", 0.0)
    rig = Rig(shared, CallKind.READ, now=1.0)
    assert rig.attempt.endpoint == "a:1"
    assert shared.endpoints.choose(1.0) == "b:1"  # one call looks whether it is back
    with pytest.raises(type(error)):
        rig.fail(error)
    assert shared.endpoints.choose(1.0) == "a:1"


def test_an_error_that_may_be_of_this_side_says_nothing_of_the_endpoint() -> None:
    shared = retries()
    shared.endpoints.failed("a:1", 0.0)
    Rig(shared, CallKind.WRITE, now=1.0).fail(Overloaded("10000 writes of this client"))
    assert shared.endpoints.choose(1.0) == "b:1"
