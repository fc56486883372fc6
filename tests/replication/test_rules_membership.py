"""Changing the members of a group, on the bench: one at a time, and no forgotten promise counts.

F11: stock PySyncObj lets an isolated leader accept one change after the other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from rendezvous_raft import errors
from rendezvous_raft.membership import MemberConfig, Membership, RemoveMember
from rendezvous_raft.replication.raft.handover import choose_successor
from rendezvous_raft.replication.raft.links import Node
from rendezvous_raft.replication.raft.membership_change import changed
from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.testing.raft_bench import Letter, RaftBench
from rendezvous_raft.types import NodeName, Region, Standing


@pytest.fixture
def bench() -> RaftBench:
    """Three voters whose directories are known; `a` leads."""
    return named_directories("a", "b", "c")


def named_directories(*names: str) -> RaftBench:
    bench = RaftBench(*names)
    for number, name in enumerate(names, start=1):
        bench.begin_anew(name, Birth(number, founding=True))
    bench.elect(names[0])
    bench.live(0.2)
    return bench


def newcomer(name: str, standing: Standing = Standing.JOINING) -> MemberConfig:
    return MemberConfig(NodeName(name), Region("eu"), f"{name}:1", standing=standing)


def add(bench: RaftBench, name: str, standing: Standing = Standing.JOINING) -> None:
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.with_member(newcomer(name, standing)))
    bench.settle()


def standing(bench: RaftBench, name: str, of: str) -> Standing | None:
    member = bench[name].raft.membership.find(of)
    return None if member is None else member.standing


def agreed(bench: RaftBench) -> Membership:
    """The membership that all have."""
    (membership,) = {member.raft.membership for member in bench}
    return membership


def test_the_leader_writes_down_whose_directory_speaks_for_whom(bench: RaftBench) -> None:
    assert {m.name: m.incarnation for m in agreed(bench).members} == {"a": 1, "b": 2, "c": 3}
    assert agreed(bench).voters() == ("a", "b", "c")


def test_a_newcomer_catches_up_before_it_votes(bench: RaftBench) -> None:
    for number in range(500):
        bench.propose("a", b"%d" % number)
    bench.settle()
    add(bench, "d")
    assert agreed(bench).voters() == ("a", "b", "c")
    bench.begin_anew("d", Birth(44, founding=False))
    assert not bench["d"].raft.is_voter
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c", "d")
    assert bench["d"].applied == bench["a"].applied
    assert bench["a"].raft.quorum == 3


def test_one_that_is_far_behind_waits_for_its_vote(bench: RaftBench) -> None:
    """What it was sent last took longer than an election time-out to arrive."""
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    for _ in range(20):
        bench.propose("a", b"x")
        held = bench.take("append_reply", sender="d")
        bench.advance(bench.timers.election_min_s)
        held += bench.take("append_reply", sender="d")
        bench.propose("a", b"y")
        for letter in held:
            bench["a"].receive(letter)
        for letter in [x for x in bench.letters if "d" not in (x.sender, x.receiver)]:
            bench.deliver(letter)
    assert standing(bench, "a", "d") is Standing.JOINING


def test_a_non_voter_stays_one_and_counts_for_nothing(bench: RaftBench) -> None:
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    assert standing(bench, "d", "d") is Standing.NON_VOTER
    bench.cut("b")
    bench.cut("c")
    bench["a"].raft.propose(b"alone with d")
    bench.settle()
    assert bench["a"].applied == []
    bench.live(3)
    assert bench.leaders() == []
    assert bench["d"].raft.term == bench["a"].raft.term, "it never stands"


def test_one_change_at_a_time(bench: RaftBench) -> None:
    """F11."""
    bench.cut("a")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.with_member(newcomer("d")))
    with pytest.raises(ValueError, match="not committed yet"):
        leader.propose_membership(leader.membership.with_member(newcomer("e")))


def test_no_change_before_the_leader_committed_in_its_term(bench: RaftBench) -> None:
    bench.cut("a")
    bench.campaign("b")
    for letter in bench.take():
        if letter.kind in ("pre_vote", "vote", "pre_vote_reply", "vote_reply"):
            bench.deliver(letter)
    while not bench["b"].raft.is_leader:
        for letter in bench.take():
            bench.deliver(letter)
    with pytest.raises(ValueError, match="has not committed anything"):
        bench["b"].raft.propose_membership(Membership(()))


def test_a_change_that_is_overwritten_is_taken_back(bench: RaftBench) -> None:
    bench.cut("a")
    before = bench["b"].raft.membership
    leader = bench["a"].raft
    leader.propose_membership(before.without("c"))
    assert leader.membership.voters() == ("a", "b")
    bench.live(2)
    assert not bench["a"].raft.is_leader
    bench.elect("b")
    bench.heal()
    bench.live(1)
    assert agreed(bench) == before
    assert bench["a"].raft.quorum == 2


def test_a_change_counts_from_where_it_stands_in_the_log(bench: RaftBench) -> None:
    """4.1: the new majority decides about the change itself."""
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(0.5)
    leader = bench["a"].raft
    bench.cut("c")
    bench.cut("d")
    member = replace(newcomer("d", Standing.VOTER), incarnation=44)
    index = leader.propose_membership(leader.membership.with_member(member))
    bench.settle()
    assert leader.commit_index < index, "a and b are two of four"
    bench.heal_between("a", "d")
    bench.settle()
    assert leader.commit_index == index


def test_one_that_is_removed_neither_votes_nor_disturbs(bench: RaftBench) -> None:
    bench.propose("a", b"x")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.settle()
    term = leader.term
    bench.live(5)
    assert bench["a"].raft.is_leader
    assert bench["a"].raft.term == term
    assert bench["a"].raft.membership.voters() == ("a", "b")


def test_one_that_is_removed_while_away_is_told(bench: RaftBench) -> None:
    bench.cut("c")
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.live(1)
    bench.heal()
    bench.live(3)
    assert bench["c"].told_not_member
    assert bench["a"].raft.is_leader


def test_one_that_nobody_added_is_told(bench: RaftBench) -> None:
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    assert bench["d"].told_not_member
    assert agreed_among(bench, "a", "b", "c").voters() == ("a", "b", "c")


def agreed_among(bench: RaftBench, *names: str) -> Membership:
    (membership,) = {bench[name].raft.membership for name in names}
    return membership


def test_one_that_was_removed_can_be_added_again_with_its_files(bench: RaftBench) -> None:
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("c"))
    bench.live(1)
    bench.propose("a", b"x")
    bench.settle()
    assert bench["c"].applied == []
    add(bench, "c")
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c")
    assert bench["c"].applied == [b"x"]


# Rejoining


def test_who_lost_its_files_comes_back_without_a_vote_and_gets_it_again(bench: RaftBench) -> None:
    bench.propose("a", b"x")
    bench.settle()
    bench.begin_anew("c", Birth(33, founding=False))
    assert not bench["c"].raft.is_voter
    bench["c"].raft.tick()
    seen: list[Standing | None] = []
    for _ in range(60):
        bench.advance(bench.timers.heartbeat_s)
        for letter in list(bench.letters):
            bench.deliver(letter)
            seen.append(standing(bench, "a", "c"))
    assert Standing.JOINING in seen
    bench.live(1)
    member = agreed(bench).find("c")
    assert member is not None
    assert (member.standing, member.incarnation) == (Standing.VOTER, 33)
    assert bench["c"].applied == [b"x"]
    assert bench["c"].raft.is_voter


def test_a_forgotten_acknowledgement_is_not_lost(bench: RaftBench) -> None:
    """An entry is committed on a and c only; c forgets it; b and c must not elect b without it."""
    bench.cut("b")
    bench.propose("a", b"acknowledged")
    bench.settle()
    assert bench["a"].applied == [b"acknowledged"]
    bench.cut("a")
    bench.heal_between("b", "c")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(10)
    assert bench.leaders() == []
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["a"]
    for member in bench:
        assert member.applied == [b"acknowledged"]


def test_a_forgotten_vote_is_not_given_twice(bench: RaftBench) -> None:
    """C votes for b and forgets it; the same term comes to ask again for another."""
    request = {"type": "vote", "last_index": 99, "last_term": 99, "transfer": True}
    term = bench["c"].raft.term + 1
    bench.deliver(Letter("b", "c", {**request, "term": term}))
    assert bench.take("vote_reply", sender="c")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.deliver(Letter("a", "c", {**request, "term": term}))
    assert bench.take("vote_reply", sender="c") == []


def test_it_votes_again_once_its_return_is_committed(bench: RaftBench) -> None:
    """It may have caught up, and know of no vote yet, when the leader that promoted it dies."""
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.cut("a")
    bench.live(3)
    assert len(bench.leaders()) == 1
    assert bench.leaders() != ["a"]


def test_one_whose_admission_was_overwritten_asks_again() -> None:
    """Its log names it, the leader's does not, and that log cannot reach it before it is let in."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("a")
    bench.begin_anew("c", Birth(33, founding=False))
    for other in ("b", "d", "e"):
        bench.cut_between("c", other)
    bench.heal_between("a", "c")
    bench.settle()
    own = bench["c"].raft.membership.find("c")
    assert own is not None
    assert own.incarnation == 33
    bench.cut("a")
    bench.elect("b")
    bench.propose("b", b"x")
    bench.settle()
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["b"]
    assert agreed(bench).voters() == ("a", "b", "c", "d", "e")
    assert bench["c"].applied == [b"x"]


def test_one_that_was_removed_can_be_added_again_though_its_log_names_it(bench: RaftBench) -> None:
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(3)
    leader = bench["a"].raft
    leader.propose_membership(leader.membership.without("d"))
    bench.settle()
    named = bench["d"].raft.membership.find("d")
    assert named is not None
    assert named.incarnation == 44
    add(bench, "d")
    bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c", "d")


def test_one_that_knows_none_of_the_members_asks_who_leads(bench: RaftBench) -> None:
    """Since it was founded, its cluster has got other members, and they reach it."""
    for number, name in enumerate(("d", "e", "f"), start=41):
        add(bench, name)
        bench.begin_anew(name, Birth(number, founding=False))
        bench.live(3)
    bench.elect("d")
    for name in ("a", "b"):
        leader = bench["d"].raft
        leader.propose_membership(leader.membership.without(name))
        bench.live(1)
        bench.cut(name)
    bench.begin_anew("c", Birth(33, founding=False))
    assert [str(peer.id) for peer in bench["c"].raft.peers] == ["a", "b"]
    bench.live(3)
    assert agreed_among(bench, "c", "d", "e", "f").voters() == ("c", "d", "e", "f")


def test_those_who_came_back_vote_after_a_restart_of_all(bench: RaftBench) -> None:
    """Nobody leads, so nobody can tell them what is committed."""
    for number, name in enumerate(("b", "c"), start=1):
        bench.begin_anew(name, Birth(30 + number, founding=False))
        bench.live(3)
    assert agreed(bench).voters() == ("a", "b", "c")
    for name in bench.names:
        bench.crash(name)
    bench.cut("a")
    bench.live(3)
    assert len(bench.leaders()) == 1


def test_a_directory_that_was_emptied_by_hand_stops(bench: RaftBench) -> None:
    """Its configuration says that it is a voter, and it has forgotten what it promised."""
    bench.begin_anew("c", Birth(33, founding=True))
    bench.live(1)
    assert "rejoin" in (bench["c"].halted or "")
    assert bench["a"].raft.is_leader
    member = bench["a"].raft.membership.find("c")
    assert member is not None
    assert member.incarnation == 3


def test_votes_of_an_emptied_directory_do_not_count(bench: RaftBench) -> None:
    bench.begin_anew("c", Birth(33, founding=True))
    bench.cut("a")
    bench.campaign("b")
    bench.settle()
    assert bench.leaders() != ["b"]


def test_one_that_rejoins_starts_with_nothing_known_of_its_log(bench: RaftBench) -> None:
    """What its earlier directory had acknowledged must not be taken for what this one has."""
    for number in range(10):
        bench.propose("a", b"%d" % number)
    bench.settle()
    bench.begin_anew("c", Birth(33, founding=False))
    bench["a"].raft._asked_in["c"] = 33
    bench["a"].turn()
    assert bench["a"].raft.match_index[Node("c")] == 0
    bench.live(3)
    assert bench["c"].applied == bench["a"].applied


def test_one_that_was_away_meanwhile_follows_who_came_back() -> None:
    """Its membership still names the lost directory of the one that leads now."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("e")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.elect("c")
    bench.propose("c", b"x")
    bench.settle()
    bench.heal()
    bench.live(3)
    assert bench.leaders() == ["c"]
    assert bench["e"].applied == [b"x"]


def test_one_that_was_away_meanwhile_votes_for_who_came_back() -> None:
    """Of five, two are down, and only one has everything: the one that came back."""
    bench = named_directories("a", "b", "c", "d", "e")
    bench.cut("e")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.live(3)
    bench.cut("b")
    bench.propose("a", b"x")
    bench.settle()
    bench.cut("a")
    bench.cut("d")
    for name in ("b", "e"):
        bench.heal_between("c", name)
        bench["c"].raft.peer_connected(Node(name))
    bench.heal_between("b", "e")
    bench.live(5)
    assert bench.leaders() == ["c"]


def test_one_that_came_back_counts_for_nothing_before_it_is_let_in() -> None:
    """Nor where no directory was ever named for it: it may have voted in a later term."""
    bench = RaftBench("a", "b", "c")
    for number, name in enumerate(("a", "b"), start=1):
        bench.begin_anew(name, Birth(number, founding=True))
    bench.cut("c")
    bench.elect("a")
    bench.live(0.2)
    known = bench["a"].raft.membership.find("c")
    assert known is not None
    assert known.incarnation == 0
    bench.cut("b")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.heal_between("a", "c")
    bench.propose("a", b"x")
    for _ in range(10):
        bench.take("join")
        for letter in list(bench.letters):
            bench.deliver(letter)
    assert bench["a"].applied == []
    bench.heal()
    bench.live(3)
    assert bench["c"].applied == bench["a"].applied == [b"x"]
    assert agreed(bench).voters() == ("a", "b", "c")


def test_none_is_removed_while_another_is_coming_back(bench: RaftBench) -> None:
    """The one that is coming back can be reached, and cannot agree to anything yet."""
    bench.cut("b")
    bench.begin_anew("c", Birth(33, founding=False))
    bench.heal_between("a", "c")
    with pytest.raises(errors.Unavailable, match="only 1 of 2 voters"):
        changed(bench["a"].raft, RemoveMember(NodeName("b")))


def test_leadership_is_handed_to_a_voter(bench: RaftBench) -> None:
    """Of those whose logs are complete the last by name would be the non-voter."""
    add(bench, "d", Standing.NON_VOTER)
    bench.begin_anew("d", Birth(44, founding=False))
    bench.live(1)
    assert str(choose_successor(bench["a"].raft, None).id) == "c"
    with pytest.raises(errors.InvalidArgument, match="does not vote"):
        choose_successor(bench["a"].raft, NodeName("d"))


def test_a_request_to_join_finds_the_leader(bench: RaftBench) -> None:
    add(bench, "d")
    bench.begin_anew("d", Birth(44, founding=False))
    bench.cut_between("a", "d")
    bench.live(3)
    member = bench["a"].raft.membership.find("d")
    assert member is not None
    assert member.incarnation == 44
