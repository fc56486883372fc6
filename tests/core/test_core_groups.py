"""Subscription groups in the state: who is a member, until when, and whose a branch is (U5)."""

from __future__ import annotations

from collections import Counter

import pytest
from core_builders import Log

from rendezvous_raft.core import snapshot
from rendezvous_raft.core.events import GroupChanged
from rendezvous_raft.core.results import MembersChanged, Reason, Rejected
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import MemberId, Region, Service

BRANCHES = [f"post-{number}" for number in range(400)]
G = GroupChanged(Service("post"), Region("eu"), "g")


def members(log: Log) -> dict[str, int]:
    """Members with the cluster time at which each ends."""
    return {m.member_id: m.expires_ms for m in log.machine.state.members.values()}


def shares(log: Log) -> dict[str, str | None]:
    return {branch_id: log.owner(branch_id) for branch_id in BRANCHES}


def test_who_joins_is_a_member_once() -> None:
    # semantics: U5, U5.1
    log = Log()
    first, again = log.join("m1", ttl_ms=50), log.join("m1", ttl_ms=70)
    assert (first.result, first.events) == (MembersChanged(known=0), (G,))
    assert (again.result, again.events) == (MembersChanged(known=1), ())
    assert members(log) == {"m1": 70}


def test_a_renewal_lengthens_and_never_shortens() -> None:
    # semantics: U5
    log = Log()
    log.join("m1", ttl_ms=50)
    log.join("m2", ttl_ms=50)
    log.pulse(40)
    renewed = log.renew("m1", "nobody", "m1", ttl_ms=50)
    assert (renewed.result, renewed.events) == (MembersChanged(known=1), ())
    log.renew("m2", ttl_ms=5)
    log.join("m2", ttl_ms=5)
    assert members(log) == {"m1": 90, "m2": 50}


def test_what_has_ended_is_not_renewed() -> None:
    # semantics: U5
    log = Log()
    log.join("m1", ttl_ms=50)
    log.pulse(50)
    assert members(log) == {}
    assert log.renew("m1").result == MembersChanged(known=0)
    assert members(log) == {}


def test_a_membership_ends_with_its_time_and_says_so_once_for_each_group() -> None:
    # semantics: U5, U5.1, U5.2
    log = Log()
    log.join("m1", ttl_ms=50)
    log.join("m2", ttl_ms=50)
    log.join("m3", ttl_ms=50, region="us")
    log.join("m4", ttl_ms=51)
    assert log.pulse(49).events == ()
    assert log.pulse(1).events == (G, GroupChanged(Service("post"), Region("us"), "g"))
    assert members(log) == {"m4": 51}
    assert log.pulse(1).events == (G,)
    assert log.machine.state.groups == {}


def test_who_leaves_is_no_member_and_may_leave_twice() -> None:
    # semantics: U5, U5.1
    log = Log()
    for name in ("m1", "m2", "m3"):
        log.join(name)
    left = log.leave("m2", "m1", "m2", "nobody")
    assert (left.result, left.events) == (MembersChanged(known=2), (G,))
    assert (log.leave("m1").result, log.leave("m1").events) == (MembersChanged(known=0), ())
    assert [*members(log)] == ["m3"]
    assert log.leave("m3").events == (G,)
    assert log.machine.state.groups == {}


@pytest.mark.parametrize("limit", ["group_members_max", "members_per_group_max"])
def test_a_group_that_is_full_refuses_others_and_renews_its_members(limit: str) -> None:
    # semantics: U5, L3
    log = Log(StateLimits(**{limit: 2}))
    log.join("m1")
    log.join("m2", ttl_ms=10)
    before = log.digest
    assert log.join("m3").result == Rejected(Reason.LIMIT, limit)
    assert log.digest == before
    assert log.join("m2", ttl_ms=90).result == MembersChanged(known=1)
    other = log.join("m3", group="other")
    assert isinstance(other.result, Rejected) == (limit == "group_members_max")
    log.leave("m1")
    assert log.join("m4").result == MembersChanged(known=0)


def test_members_end_apart_from_waits() -> None:
    # semantics: U5
    log = Log()
    log.register()
    log.join("m1")
    log.expire()
    assert [*members(log)] == ["m1"]


def test_every_branch_is_one_members_and_shares_are_even() -> None:
    # semantics: U5
    log = Log()
    assert log.owner("b") is None
    for name in ("m1", "m2", "m3", "m4"):
        log.join(name)
    counts = Counter(shares(log).values())
    assert set(counts) == {"m1", "m2", "m3", "m4"}
    assert all(60 <= count <= 140 for count in counts.values())


def test_a_join_moves_branches_to_the_newcomer_only_and_its_leave_moves_them_back() -> None:
    # semantics: U5.1
    log = Log()
    for name in ("m1", "m2", "m3"):
        log.join(name)
    before = shares(log)
    log.join("m4")
    with_four = shares(log)
    moved = {b for b in BRANCHES if before[b] != with_four[b]}
    assert {with_four[b] for b in moved} == {"m4"}
    assert 60 <= len(moved) <= 140
    assert {before[b] for b in moved} == {"m1", "m2", "m3"}
    log.leave("m4")
    assert shares(log) == before
    log.leave("m1")
    without = shares(log)
    assert all(without[b] == before[b] for b in BRANCHES if before[b] != "m1")


def test_the_order_of_joining_decides_nothing() -> None:
    # semantics: U5
    one, other = Log(), Log()
    for name in ("m1", "m2", "m3"):
        one.join(name)
    for name in ("m3", "m9", "m1", "m2"):
        other.join(name)
    other.leave("m9")
    assert shares(one) == shares(other)


def test_only_members_whose_filter_lets_the_tag_pass_take_part() -> None:
    # semantics: U5, U1.2
    log = Log()
    log.join("all")
    log.join("some", tags=("a", "b"))
    assert {log.owner(b, "c") for b in BRANCHES} == {"all"}
    assert {log.owner(b, "b") for b in BRANCHES} == {"all", "some"}
    log.leave("all")
    assert {log.owner(b, "c") for b in BRANCHES} == {None}
    assert {log.owner(b, "a") for b in BRANCHES} == {"some"}


def test_the_hash_is_for_ever() -> None:
    """Pinned: nodes of two versions that divide otherwise would leave branches to nobody."""
    # semantics: U5
    log = Log()
    for name in ("member-a", "member-b", "member-ü"):
        log.join(name)
    drawn = [log.owner(f"post-storage-{number}") for number in range(12)]
    assert [str(name)[-1] for name in drawn] == [*"übbbbüüaüüüü"]


def test_a_snapshot_divides_as_its_source_does() -> None:
    # semantics: U5
    log = Log()
    for name in ("m2", "m1", "m3"):
        log.join(name)
    before = shares(log)
    log.machine = snapshot.load(snapshot.rows(log.machine.state))
    assert shares(log) == before
    assert MemberId("m2") in log.machine.state.members


def test_who_has_no_groups_has_the_digest_that_there_always_was() -> None:
    log = Log()
    log.register()
    before = log.digest
    log.join("m1")
    assert log.digest != before
    log.leave("m1")
    assert log.digest == before
