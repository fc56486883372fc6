"""A directory that was lost asked to be let in, and its request arrives when another has its place.

A late request must not take the vote of the directory that lives (DESIGN.md, Rejoining).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_members import named_directories, standing

from rendezvous_raft.membership import MemberConfig
from rendezvous_raft.replication.raft.links import Node
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP, decode_membership
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.testing.raft_bench import Letter, RaftBench
from rendezvous_raft.types import Standing

LOST = Birth(22, founding=False)
LIVING = Birth(33, founding=False)


@pytest.fixture
def bench() -> RaftBench:
    """Three voters whose directories are known; `a` leads."""
    return named_directories("a", "b", "c")


def asks(bench: RaftBench, birth: Birth, *, of: str = "a") -> None:
    """A request of one of the directories of `c` arrives, by whomever it was passed on."""
    message = {"type": "join", "term": 0, "name": "c", "incarnation": birth.incarnation}
    bench.deliver(Letter("b", of, message))


def comes_back(bench: RaftBench, birth: Birth) -> None:
    bench.begin_anew("c", birth)
    bench.live(3)
    assert member_c(bench).incarnation == birth.incarnation


def member_c(bench: RaftBench, of: str = "a") -> MemberConfig:
    member = bench[of].raft.membership.find("c")
    assert member is not None
    return member


def directories_of_c(bench: RaftBench) -> list[int]:
    """Those that the log of `a` names, one after the other."""
    memberships = [
        decode_membership(payload[1:])
        for payload, _ in bench["a"].entries()
        if payload[:1] == MEMBERSHIP
    ]
    found = [member.incarnation for each in memberships if (member := each.find("c")) is not None]
    return [each for each, before in zip(found, [0, *found], strict=False) if each != before]


def test_a_late_request_does_not_take_the_vote_of_the_directory_that_lives(
    bench: RaftBench,
) -> None:
    """Without b, a and c are the majority: c without its vote would leave nobody to agree."""
    comes_back(bench, LOST)
    comes_back(bench, LIVING)
    bench.cut("b")
    bench.live(0.2)
    asks(bench, LOST)
    bench.live(3)
    assert bench.leaders() == ["a"]
    assert standing(bench, "a", "c") is Standing.VOTER
    assert directories_of_c(bench) == [3, 22, 33]
    bench.propose("a", b"x")
    bench.settle()
    assert bench["c"].applied == [b"x"]


@pytest.mark.parametrize("votes", [True, False])
def test_a_request_that_was_kept_ends_with_the_leadership(bench: RaftBench, *, votes: bool) -> None:
    """It arrived while a handed over; b let that directory in, and the next one after it."""
    leader = bench["a"].raft
    if not votes:
        known = member_c(bench)
        leader.propose_membership(leader.membership.without("c"))
        bench.settle()
        member = replace(known, standing=Standing.NON_VOTER)
        leader.propose_membership(leader.membership.with_member(member))
        bench.settle()
    leader.successor = Node("b")
    bench.begin_anew("c", LOST)
    bench.live(0.05)
    assert directories_of_c(bench) == [3]
    leader.tell_to_stand(Node("b"))
    bench.settle()
    leader.successor = None
    bench.live(3)
    assert bench.leaders() == ["b"]
    comes_back(bench, LIVING)
    bench.live(60)
    bench.cut("b")
    bench["a"].raft.election_deadline = bench.clock.now_s
    bench.live(3)
    assert [name for name in bench.leaders() if name != "b"] == (["a"] if votes else [])
    bench.heal()
    bench.elect("a")
    bench.live(3)
    assert directories_of_c(bench) == [3, 22, 33]


def test_a_directory_that_is_silent_is_replaced_after_an_election_timeout(
    bench: RaftBench,
) -> None:
    """Also if the new one asks more often than that."""
    bench.cut("c")
    begun_s = bench.clock.now_s
    while directories_of_c(bench) == [3]:
        asks(bench, LIVING)
        bench.live(0.05)
        assert bench.clock.now_s - begun_s < 2 * bench.timers.election_min_s
    assert bench.clock.now_s - begun_s >= bench.timers.election_min_s
    assert standing(bench, "a", "c") is Standing.JOINING
    assert directories_of_c(bench) == [3, 33]


def test_a_request_of_another_directory_begins_to_wait_anew(bench: RaftBench) -> None:
    """Its time must not be that of one before it: the directory that is named was heard since."""
    bench["a"].raft.successor = Node("b")
    asks(bench, LOST)
    bench.live(0.2)
    bench.cut("c")
    asks(bench, LIVING)
    bench["a"].raft.successor = None
    bench.live(2 * bench.timers.election_min_s)
    assert directories_of_c(bench) == [3, 33]
