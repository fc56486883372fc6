"""Registration: requests, branches, batches, parents, limits and retries."""

from __future__ import annotations

import dataclasses

import pytest
from core_builders import Log, branch

from rendezvous_raft.core.commands import NewBranch
from rendezvous_raft.core.events import BranchOpened, RequestOpened
from rendezvous_raft.core.results import (
    Applied,
    BranchesRegistered,
    CloseOutcome,
    Reason,
    Rejected,
    RequestRegistered,
)
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    Region,
    RequestId,
    Revision,
    Service,
    Tag,
    Zone,
)

R1 = RequestId("r1")


def assert_rejected(log: Log, before: str, applied: Applied, reason: Reason, detail: str) -> None:
    """A rejection says why and leaves nothing behind."""
    assert applied.result == Rejected(reason, detail)
    assert applied.events == ()
    assert log.digest == before


def test_a_request_is_created_once() -> None:
    # semantics: W1
    log = Log()
    first = log.register()
    assert first == Applied(Revision(1), RequestRegistered(R1, created=True), (RequestOpened(R1),))
    second = log.register()
    assert second == Applied(Revision(2), RequestRegistered(R1, created=False))


def test_a_branch_creates_its_request_and_is_told_to_all() -> None:
    # semantics: W2
    log = Log()
    applied = log.add(branch("b1", "us", "eu", tag="write", locator=b"bucket/key"))
    assert applied.result == BranchesRegistered(R1, (BranchId("b1"),), already_existed=False)
    assert applied.events == (
        RequestOpened(R1),
        BranchOpened(
            request_id=R1,
            branch_id=BranchId("b1"),
            service=Service("post"),
            tag=Tag("write"),
            regions=(Region("eu"), Region("us")),
            is_global=False,
            monitored=True,
            locator=b"bucket/key",
            at_ms=1_000,
            revision=Revision(1),
        ),
    )


def test_a_branch_of_a_known_request_opens_it() -> None:
    # semantics: W2, W6
    log = Log()
    log.register()
    applied = log.add(branch("b1", "eu"))
    assert [type(event) for event in applied.events] == [BranchOpened]
    assert list(log.machine.state.open_order) == [R1]


@pytest.mark.parametrize(
    ("new", "is_global"),
    [(branch("b1"), True), (branch("b1", regionless=True), False), (branch("b1", "eu"), False)],
)
def test_the_event_says_where_the_branch_is_open(new: NewBranch, is_global: bool) -> None:
    # semantics: W2
    opened = Log().add(new).events[-1]
    assert isinstance(opened, BranchOpened)
    assert opened.is_global is is_global
    assert opened.regions == new.regions


def test_the_same_branch_again_is_known_and_changes_nothing_but_the_memory() -> None:
    # semantics: G2
    log = Log()
    log.add(branch("b1", "eu"))
    log.close("b1", "eu")
    activity = log.request().last_activity_ms
    log.pulse(5)
    applied = log.add(branch("b1", "eu"))
    assert applied.result == BranchesRegistered(R1, (BranchId("b1"),), already_existed=True)
    assert applied.events == ()
    assert not log.request().open_branches
    assert log.request().last_activity_ms == activity


CONTENT = branch("b1", "eu", service="post", tag="t", zone="z", parent="p", locator=b"k")


@pytest.mark.parametrize(
    "change",
    [
        {"service": Service("other")},
        {"tag": Tag("other")},
        {"kind": BranchKind.GLOBAL, "regions": ()},
        {"regions": (Region("eu"), Region("us"))},
        {"zone": Zone("other")},
        {"parent_branch_id": BranchId("")},
        {"monitored": False},
        {"locator": b"other"},
    ],
    ids=str,
)
def test_the_same_id_with_other_content_is_a_conflict(change: dict[str, object]) -> None:
    # semantics: G2, G2.1
    log = Log()
    log.add(branch("p"), CONTENT)
    before = log.digest
    other = dataclasses.replace(CONTENT, **change)  # type: ignore[arg-type]
    assert_rejected(log, before, log.add(other), Reason.BRANCH_CONFLICT, "b1")


def test_kinds_without_regions_are_different_content() -> None:
    # semantics: G2, G2.1
    log = Log()
    log.add(branch("b1"))
    before = log.digest
    applied = log.add(branch("b1", regionless=True))
    assert_rejected(log, before, applied, Reason.BRANCH_CONFLICT, "b1")


def test_a_branch_id_belongs_to_one_request() -> None:
    # semantics: G2, G2.1
    log = Log()
    log.add(branch("b1", "eu"))
    before = log.digest
    applied = log.add(branch("b1", "eu"), request_id="r2")
    assert_rejected(log, before, applied, Reason.BRANCH_CONFLICT, "b1")


def test_a_batch_is_one_command() -> None:
    # semantics: W3
    log = Log()
    applied = log.add(branch("b1", "eu"), branch("b2"), branch("b1", "eu"))
    ids = (BranchId("b1"), BranchId("b2"), BranchId("b1"))
    assert applied.result == BranchesRegistered(R1, ids, already_existed=False)
    assert len(applied.events) == 3
    assert len(log.request().branches) == 2


def test_a_batch_may_repeat_what_is_there() -> None:
    # semantics: W3, G2
    log = Log()
    log.add(branch("b1"))
    applied = log.add(branch("b1"), branch("b2"))
    ids = (BranchId("b1"), BranchId("b2"))
    assert applied.result == BranchesRegistered(R1, ids, already_existed=False)
    assert [event.branch_id for event in applied.events] == ["b2"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("faulty", "reason", "detail"),
    [
        (branch("b1", "us"), Reason.BRANCH_CONFLICT, "b1"),
        (branch("b8", "us"), Reason.BRANCH_CONFLICT, "b8"),
        (branch("b9", parent="nobody"), Reason.PARENT_UNKNOWN, "nobody"),
        (branch("b9", parent="b9"), Reason.PARENT_UNKNOWN, "b9"),
        (branch("b9", parent="elsewhere"), Reason.PARENT_OF_OTHER_REQUEST, "elsewhere"),
        (branch("gone"), Reason.REQUEST_EXPIRED, "r0"),
    ],
)
def test_one_faulty_branch_fails_the_batch(faulty: NewBranch, reason: Reason, detail: str) -> None:
    # semantics: W3, W2.3, W2.5
    log = Log()
    log.add(branch("gone"), request_id="r0")
    log.expire()
    log.add(branch("elsewhere"), request_id="r2")
    log.add(branch("b1", "eu"))
    before = log.digest
    for batch in (
        (branch("b8", "eu"), branch("b9", "eu"), faulty),
        (branch("b7"), branch("b8", "eu"), faulty, branch("b6")),
    ):
        unique = [new for new in batch if new is faulty or new.branch_id != faulty.branch_id]
        if detail == "b8":
            unique = list(batch)
        assert_rejected(log, before, log.add(*unique), reason, detail)


def test_a_parent_may_stand_earlier_in_the_batch_but_not_later() -> None:
    # semantics: W3, W3.1, 3.1
    log = Log()
    parent, child = branch("p", service="a"), branch("c", service="b", parent="p")
    before = log.digest
    assert_rejected(log, before, log.add(child, parent), Reason.PARENT_UNKNOWN, "p")
    applied = log.add(parent, child)
    assert isinstance(applied.result, BranchesRegistered)
    assert log.request().dependants == {"a": {"b": None}}


def test_a_parent_may_be_closed_already() -> None:
    # semantics: W2
    log = Log()
    log.add(branch("p", "eu"))
    log.close("p", "eu")
    assert isinstance(log.add(branch("c", parent="p")).result, BranchesRegistered)


def test_an_expired_request_takes_no_branch() -> None:
    # semantics: G5, G5.1
    log = Log()
    log.add(branch("b1", "eu"))
    log.expire()
    before = log.digest
    assert_rejected(log, before, log.add(branch("b2")), Reason.REQUEST_EXPIRED, "r1")
    assert_rejected(log, before, log.register(), Reason.REQUEST_EXPIRED, "r1")


def test_a_retry_gets_the_first_answer() -> None:
    # semantics: G2, 5.3
    log = Log()
    for first in (log.register(), log.add(branch("b1", "eu")), log.close("b1", "eu")):
        command = log.commands[first.revision - 1]
        again = log.apply(command)
        assert again.result == first.result
        assert again.events == ()
        log.commands.pop()
    assert log.machine.revision == 6
    closed = log.close("b1", "eu").result.outcomes  # type: ignore[union-attr]
    assert closed == (CloseOutcome.ALREADY_CLOSED,)


def test_a_retry_gets_the_first_answer_after_expiry_too() -> None:
    # semantics: G2, 5.3
    log = Log()
    created = log.register()
    command = log.commands[-1]
    log.expire()
    assert log.apply(command).result == created.result


def test_a_second_copy_of_a_rejected_proposal_is_rejected_too() -> None:
    # semantics: G6, G6.1. Definite: it never happens, also when a copy is still in the log.
    log = Log()
    first = log.add(branch("c", parent="p")).result
    assert isinstance(first, Rejected)
    rejected = log.commands[-1]
    log.add(branch("p"))
    assert log.apply(rejected).result == first
    assert "c" not in log.machine.state.branches


def test_an_expired_parent_says_so() -> None:
    # semantics: G5, G5.1
    log = Log()
    log.add(branch("p"))
    log.pulse(10)
    log.expire(settled_ttl_ms=1, open_ttl_ms=1)
    assert log.add(branch("c", parent="p"), request_id="r2").result == Rejected(
        Reason.REQUEST_EXPIRED, "r1"
    )


def test_the_memory_of_answers_is_bounded_and_forgets_the_oldest() -> None:
    # semantics: L3, 5.3
    log = Log(StateLimits(command_results_max=2))
    for request_id in ("r1", "r2", "r3"):
        log.register(request_id)
    r1, r2, _ = log.commands
    assert log.apply(r2).result == RequestRegistered(RequestId("r2"), created=True)
    assert log.apply(r1).result == RequestRegistered(R1, created=False)
    assert len(log.machine.state.results) == 2


def test_requests_are_bounded() -> None:
    # semantics: L3
    log = Log(StateLimits(requests_open_max=1))
    log.register("r1")
    before = log.digest
    assert_rejected(log, before, log.register("r2"), Reason.LIMIT, "requests_open_max")
    added = log.add(branch("b1"), request_id="r2")
    assert_rejected(log, before, added, Reason.LIMIT, "requests_open_max")
    assert isinstance(log.add(branch("b1")).result, BranchesRegistered)
    assert log.register("r1").result == RequestRegistered(R1, created=False)


def test_branches_of_a_request_are_bounded_closed_ones_too() -> None:
    # semantics: L3
    log = Log(StateLimits(branches_per_request_max=2))
    before = log.digest
    batch = [branch(name) for name in ("b1", "b2", "b3")]
    assert_rejected(log, before, log.add(*batch), Reason.LIMIT, "branches_per_request_max")
    log.add(*batch[:2])
    log.close("b1")
    before = log.digest
    assert_rejected(log, before, log.add(batch[2]), Reason.LIMIT, "branches_per_request_max")
    assert isinstance(log.add(*batch[:2]).result, BranchesRegistered)


def test_regions_of_a_branch_are_bounded() -> None:
    # semantics: L3
    log = Log(StateLimits(regions_per_branch_max=2))
    before = log.digest
    applied = log.add(branch("b1", "ap", "eu", "us"))
    assert_rejected(log, before, applied, Reason.LIMIT, "regions_per_branch_max")
    assert isinstance(log.add(branch("b1", "eu", "us")).result, BranchesRegistered)


def test_a_branch_may_have_as_many_regions_as_the_limit_says() -> None:
    # semantics: L3. More bits than a machine word.
    log = Log()
    regions = [f"region-{number:03}" for number in range(128)]
    log.add(branch("b1", *regions))
    for region in regions[:-1]:
        log.close("b1", region)
    assert log.request().branches[0].open_regions() == (Region("region-127"),)
    log.close("b1", "region-127")
    assert log.request().branches[0].open_mask == 0


def test_a_registration_in_a_settled_request_opens_it_again() -> None:
    # semantics: W6, W6.1
    log = Log()
    log.add(branch("b1", "eu"))
    log.close("b1", "eu")
    assert list(log.machine.state.settled_order) == [R1]
    log.add(branch("b2", "eu"))
    assert list(log.machine.state.open_order) == [R1]
    assert not log.machine.state.settled_order
    assert log.machine.state.branches[BranchId("b1")].open_mask == 0
