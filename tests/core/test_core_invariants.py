"""The invariants see what is broken: each is broken once by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from core_builders import Log, branch, scope

from rendezvous_raft.core.invariants import History, check_basic, check_delta
from rendezvous_raft.core.model import State, Tombstone
from rendezvous_raft.types import (
    BranchId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Revision,
    Service,
)

R1, R2, B1 = RequestId("r1"), RequestId("r2"), BranchId("b1")
GONE = RequestId("gone")


@pytest.fixture
def state() -> State:
    """r1 is open in eu, closed in us; r2 is settled; one lease, one tombstone."""
    log = Log()
    log.add(branch("dead"), request_id=GONE)
    log.expire()
    log.pulse(5)
    log.add(branch("b1", "eu", "us"), branch("b2", "eu"))
    log.close("b1", "us")
    log.add(branch("b3", "eu"), request_id="r2")
    log.close("b3", "eu")
    log.register("r3")
    log.begin_wait("w", scope(zone=""))
    log.join("m", service="post")
    return log.machine.state


def swap(order: dict[RequestId, None]) -> None:
    first = next(iter(order))
    order[first] = order.pop(first)


def add_order(state: State) -> None:
    state.settled_order[R1] = None


def drop_order(state: State) -> None:
    del state.open_order[R1]


def wrong_order(state: State) -> None:
    del state.open_order[R1]
    state.settled_order[R1] = None


def future(state: State) -> None:
    state.requests[R1].last_activity_ms = 6


def unsorted(state: State) -> None:
    state.requests[R2].last_activity_ms = 3
    swap(state.settled_order)


def mask(state: State) -> None:
    state.branches[B1].open_mask = 0


def high_bit(state: State) -> None:
    state.branches[B1].open_mask |= 1 << 2


def stolen(state: State) -> None:
    state.branches[B1].request_id = R2


def regions(state: State) -> None:
    state.branches[B1].regions = (Region("us"), Region("eu"))


def index(state: State) -> None:
    del state.branches[B1]


def queue(state: State) -> None:
    state.queues[Service("post"), Region("eu")].pop(B1)


def queue_order(state: State) -> None:
    swap(state.queues[Service("post"), Region("eu")])  # type: ignore[arg-type]


def counts(state: State) -> None:
    state.open_by_region[Region("eu")] = 9


def branches_open(state: State) -> None:
    state.branches_open = 9


def leases(state: State) -> None:
    del state.leases[LeaseId("w")]


def members(state: State) -> None:
    del state.members[MemberId("m")]


def other_group(state: State) -> None:
    state.members[MemberId("m")].key = (Service("post"), Region("us"), "g")


def empty_group(state: State) -> None:
    state.groups[Service("post"), Region("us"), "g"] = {}


def ghost(state: State) -> None:
    state.open_order[RequestId("ghost")] = None


def risen(state: State) -> None:
    state.tombstones[R1] = Tombstone(R1, 0, ())


def stone(state: State) -> None:
    state.expired_branches.clear()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (add_order, "r1 is not in exactly one order"),
        (drop_order, "r1 is not in exactly one order"),
        (wrong_order, "r1 is in the order of the other state"),
        (future, "r1 was active in the future"),
        (unsorted, "an order is not by activity"),
        (mask, "r1: open branches differ from the masks"),
        (high_bit, "b1 is open in a region that it does not have"),
        (stolen, "b1 is in the wrong request"),
        (regions, "b1: regions are not a sorted set"),
        (index, "the index of branches differs from the requests"),
        (queue, "the queues differ from the open branches"),
        (queue_order, "the queues differ from the open branches"),
        (counts, "the counts per region differ from the open branches"),
        (branches_open, "the count of open branches is wrong"),
        (leases, "the indexes of leases differ"),
        (members, "the indexes of group members differ"),
        (other_group, "the indexes of group members differ"),
        (empty_group, "a group without members is kept"),
        (ghost, "an order names a request that is not there"),
        (risen, "r1 is both alive and expired"),
        (stone, "the index of expired branches differs from the tombstones"),
    ],
)
def test_a_broken_state_is_seen(
    state: State, damage: Callable[[State], None], sentence: str
) -> None:
    assert check_basic(state) == []
    damage(state)
    assert sentence in check_basic(state)


def revision(state: State) -> None:
    state.revision = Revision(0)


def time_back(state: State) -> None:
    state.time_ms = 0


def version(state: State) -> None:
    state.version = 0


def opened(state: State) -> None:
    state.branches[B1].open_mask = 3


def back(state: State) -> None:
    state.requests[GONE] = state.requests[R1]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (revision, "the revision went back"),
        (time_back, "cluster time went back"),
        (version, "the version went back"),
        (opened, "b1 was opened again"),
        (back, "gone came back"),
    ],
)
def test_a_step_backwards_is_seen(
    state: State, damage: Callable[[State], None], sentence: str
) -> None:
    before = History(state)
    assert check_delta(before, state) == []
    damage(state)
    assert sentence in check_delta(before, state)
